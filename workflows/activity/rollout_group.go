package activity

import (
	"context"
	"errors"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/turnwise-rl/turnwise/rollout"
	"github.com/turnwise-rl/turnwise/rollout/journal"
	"github.com/turnwise-rl/turnwise/rollout/worker"
	"github.com/turnwise-rl/turnwise/workflows"
	"github.com/turnwise-rl/turnwise/workflows/runstate"
)

// table is what a loop keeps of a group in its hands. Its fields belong to the goroutine that serves,
// but for oldest.
type table struct {
	ctx        context.Context
	cancel     context.CancelFunc
	assignment runstate.Assignment
	// logs are those of all members that anything is recorded of, or that are played.
	logs         map[int]*journal.Log
	trajectories map[int]rollout.Trajectory // of the members that are finished
	// oldest is the oldest version that sampled a turn, as the goroutines that play see it.
	oldest atomic.Int64
}

const noVersion = 1 << 62

// open looks groups up: in the store, where another tenure may have put them, and in the records of turns.
func (l *loop) open(assignments []runstate.Assignment) {
	dir := l.run.folder.TurnsPath()
	past := &pastReader{log: l.log, read: func(wanted func(int) bool) (*journal.History, error) { return journal.ReadGroups(dir, wanted) }}
	for _, assignment := range assignments {
		number := assignment.Group
		t := l.tables[number]
		if t == nil {
			t = &table{assignment: assignment, logs: map[int]*journal.Log{}, trajectories: map[int]rollout.Trajectory{}}
			t.ctx, t.cancel = context.WithCancel(l.ctx)
			t.oldest.Store(noVersion)
			l.tables[number] = t
		}
		if (assignment.Moved || l.touched[number]) && len(t.logs) == 0 {
			past.wanted = append(past.wanted, number)
		}
		l.touched[number] = true
	}
	for _, assignment := range assignments { // wanted is complete
		t, recorded := l.tables[assignment.Group], slices.Contains(past.wanted, assignment.Group)
		l.work.Go(func() { l.lookUp(t, recorded, past) })
	}
}

// lookUp finds out how far a group is and posts it.
func (l *loop) lookUp(t *table, recorded bool, past *pastReader) {
	number := t.assignment.Group
	var ready workflows.ReadyGroup
	found, history := false, (*journal.History)(nil)
	err := persist(t.ctx, l.log.With("group", number), "a group cannot be looked up", always, func() (err error) {
		if ready, found, err = findGroup(t.ctx, l.run.folder, l.log, number); err == nil && !found && recorded {
			history, err = past.get()
		}
		if err != nil {
			l.mail.post(func() { l.roster.delayed(number) })
		}
		return err
	})
	l.mail.post(func() {
		switch {
		case err != nil:
			l.roster.gaveUp(number)
		case found:
			l.roster.found(number, ready)
		default:
			l.roster.opened(number, l.recall(t, history))
		}
	})
}

func always(error) bool { return true }

// recall takes over what is recorded of a group and returns the oldest version that sampled a turn.
func (l *loop) recall(t *table, history *journal.History) int {
	first := unknown
	if history == nil {
		return first
	}
	for _, member := range history.Members(t.assignment.Group) {
		episode := journal.Episode{Group: t.assignment.Group, Member: member}
		past := history.Past(episode)
		t.logs[member] = l.writer.Log(episode, past)
		for _, turn := range past.Turns {
			for _, version := range turn.Versions {
				if first == unknown || int(version) < first {
					first = int(version)
				}
			}
		}
	}
	return first
}

// pastReader reads the records of turns once for several groups.
type pastReader struct {
	log    *slog.Logger
	wanted []int // does not change once any goroutine reads
	read   func(wanted func(group int) bool) (*journal.History, error)

	mu      sync.Mutex
	history *journal.History // guarded by mu; nil before it is read
}

func (p *pastReader) get() (*journal.History, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.history != nil {
		return p.history, nil
	}
	history, err := p.read(func(group int) bool { return slices.Contains(p.wanted, group) })
	if history == nil {
		return nil, err
	}
	if err != nil {
		p.log.Warn("records of turns are damaged; the turns that are lost are sampled again", "error", err)
	}
	p.history = history
	return history, nil
}

// start plays an attempt at one member of a group.
func (l *loop) start(at place) {
	t := l.tables[at.group]
	log := t.logs[at.member]
	if log == nil {
		log = l.writer.Log(journal.Episode{Group: at.group, Member: at.member}, journal.Past{})
		t.logs[at.member] = log
	}
	settings := l.run.config.Sampling
	sampling := worker.Sampling{
		Sampler:     versioned{l.timed(l.engine), &l.version, func(version int) { l.began(t, version) }},
		Temperature: settings.Temperature, TopK: settings.TopK, TopP: settings.TopP, MinP: settings.MinP,
		Seed: rollout.Seed(rollout.Seed(l.run.config.Seed, rolloutStream, uint64(at.group)), uint64(at.member)),
	}
	player := l.run.player()
	player.Gate, player.Intercept, player.Called = l.gate.pass, l.activities.Intercept, l.called
	task, id := l.run.trainTask(at.group), journal.Episode{Group: at.group, Member: at.member}.String()
	l.work.Go(func() {
		trajectory, err := player.Play(t.ctx, task, id, sampling, &patientLog{log, l.log.With("trajectory", id), l.activities.recordFault, l.turnSeen(task)})
		l.mail.post(func() { l.landed(t, at, trajectory, err) })
	})
}

// began notes which version samples a turn of a group, when it is older than those before.
func (l *loop) began(t *table, version int) {
	for version != unknown {
		oldest := t.oldest.Load()
		if int64(version) >= oldest {
			return
		}
		if t.oldest.CompareAndSwap(oldest, int64(version)) {
			l.mail.post(func() { l.roster.began(t.assignment.Group, version) })
			return
		}
	}
}

// landed takes what became of an attempt.
func (l *loop) landed(t *table, at place, trajectory rollout.Trajectory, err error) {
	var failure *rollout.Failure
	switch {
	case err == nil:
		t.trajectories[at.member] = trajectory
		l.activities.observer().RolloutTime(l.input.Run, PhaseEpisode, "", time.Duration(trajectory.ElapsedSeconds*float64(time.Second)))
		l.roster.finished(at)
	case errors.As(err, &failure) && failure.Kind == rollout.FailedCancelled:
		l.roster.withdrawn(at)
	default:
		kind, cause := rollout.FailedEnvironment, err
		if failure != nil {
			kind, cause = failure.Kind, failure.Err
		}
		l.activities.observer().EpisodeFailed(l.input.Run, kind)
		l.log.Warn("an attempt at an episode failed", "group", at.group, "member", at.member, "kind", string(kind), "error", cause)
		l.roster.failed(at, runstate.MemberFailure{Member: at.member, Kind: string(kind), Reason: cut(cause.Error())})
	}
}

// store puts a group whose members are all finished into the store.
func (l *loop) store(number int) {
	t := l.tables[number]
	group, unreported := l.assemble(number, t)
	l.work.Go(func() {
		var ready workflows.ReadyGroup
		err := persist(t.ctx, l.log.With("group", number), "a finished group cannot be stored", passing, func() (err error) {
			ready, err = storeGroup(t.ctx, l.run.folder, l.log, number, group, l.groupSeen)
			return err
		})
		ready.Failed = unreported
		l.mail.post(func() {
			switch {
			case err == nil:
				l.roster.found(number, ready)
			case passing(err):
				l.roster.gaveUp(number)
			default:
				l.log.Error("a finished group is not valid and is dropped", "group", number, "error", err)
				l.roster.spoiled(number, "invalid: "+cut(err.Error()))
			}
		})
	})
}

// passing says whether trying again may help.
func passing(err error) bool {
	var broken *contractError
	return !errors.As(err, &broken)
}

// assemble puts a group together: the finished members of its round in order, and the attempts at all
// members, those that were replaced too. unreported counts failed attempts that no tenure can have
// reported, because the run knows of no round but the first.
func (l *loop) assemble(number int, t *table) (group rollout.Group, unreported int) {
	held := l.roster.held[number].assignment
	group = rollout.Group{ID: groupID(number), Task: l.run.trainTask(number)}
	asked := slices.Sorted(slices.Values(members(held, l.roster.size)))
	for _, member := range asked {
		group.Trajectories = append(group.Trajectories, t.trajectories[member])
	}
	for _, member := range slices.Sorted(maps.Keys(t.logs)) {
		for _, attempt := range t.logs[member].Past().Attempts {
			group.Attempts = append(group.Attempts, attempt)
			if held.Round == 0 && attempt.Tenure != l.result.Tenure && isFault(attempt.Failure) {
				unreported++
			}
		}
	}
	return group, unreported
}

// isFault says whether a failure is one of the episode, and not of the process that played it.
func isFault(kind rollout.FailureKind) bool {
	return kind != "" && kind != rollout.FailedCancelled && kind != rollout.FailedLost
}

// patientLog records turns however long that takes: a disk that is full holds episodes up and loses
// nothing.
//
// A failed attempt is another matter: it has failed whether or not that can be recorded, and the run is
// told.
type patientLog struct {
	*journal.Log
	log *slog.Logger
	// fault makes recording fail in tests; nil otherwise.
	fault func() error
	// seen is told of each turn that is recorded.
	seen func(journal.Turn)
}

func (p *patientLog) Begin(ctx context.Context, begin journal.Begin) error {
	return p.persist(ctx, func() error { return p.Log.Begin(ctx, begin) })
}

func (p *patientLog) Finish(ctx context.Context, turn journal.Turn) error {
	err := p.persist(ctx, func() error { return p.Log.Finish(ctx, turn) })
	if err == nil {
		p.seen(turn)
	}
	return err
}

func (p *patientLog) persist(ctx context.Context, do func() error) error {
	return persist(ctx, p.log, "a turn cannot be recorded", func(err error) bool { return !errors.Is(err, journal.ErrClosed) }, func() error {
		if p.fault != nil {
			if err := p.fault(); err != nil {
				return err
			}
		}
		return do()
	})
}
