package worker

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"pgregory.net/rapid"

	"github.com/turnwise-rl/turnwise/rollout"
	"github.com/turnwise-rl/turnwise/rollout/env"
	"github.com/turnwise-rl/turnwise/rollout/journal"
	"github.com/turnwise-rl/turnwise/rollout/record"
	"github.com/turnwise-rl/turnwise/rollout/render"
	"github.com/turnwise-rl/turnwise/rollout/sampler"
	"github.com/turnwise-rl/turnwise/rollout/tool"
)

var errKilled = errors.New("killed")

// mortal is a log whose process dies in a turn: after the turn has begun, or after it is finished. Nothing
// is recorded after that.
type mortal struct {
	Log
	turn     int
	finished bool // die after the turn is finished
	dead     bool
}

func (m *mortal) Begin(ctx context.Context, begin journal.Begin) error {
	if m.dead {
		return errKilled
	}
	err := m.Log.Begin(ctx, begin)
	m.dead = !m.finished && begin.Turn == m.turn
	return err
}

func (m *mortal) Finish(ctx context.Context, turn journal.Turn) error {
	if m.dead {
		return errKilled
	}
	err := m.Log.Finish(ctx, turn)
	m.dead = m.finished && turn.Turn == m.turn
	return err
}

func (m *mortal) Fail(ctx context.Context, failed journal.Failed) error {
	if m.dead {
		return nil
	}
	return m.Log.Fail(ctx, failed)
}

// theatre is a task with everything to play it anew in each process.
type theatre struct {
	task   rollout.Task
	player func() *Player
	policy func() sampler.Sampler
	seed   uint64
}

func (th theatre) play(t testing.TB, log Log) (rollout.Trajectory, error) {
	t.Helper()
	return th.player().Play(t.Context(), th.task, "g1/0", Sampling{Sampler: th.policy(), Temperature: 0.7, Seed: th.seed}, log)
}

// find returns the theatre with the first seed whose episode stops so and has turns to die between.
func (th theatre) find(t *testing.T, stop rollout.StopReason) (theatre, rollout.Trajectory) {
	t.Helper()
	for th.seed = range uint64(1000) {
		trajectory, err := th.play(t, nil)
		if err != nil {
			t.Fatal(err)
		}
		if trajectory.Stop == stop && len(trajectory.Turns) > 2 {
			return th, trajectory
		}
	}
	t.Fatalf("no episode stops by %s", stop)
	return th, rollout.Trajectory{}
}

// life plays the episode in a process of its own: with a tenure of its own and what others recorded.
func (th theatre) life(t testing.TB, dir string, wrap func(Log) Log) (rollout.Trajectory, error) {
	t.Helper()
	writer, err := journal.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := writer.Close(); err != nil {
			t.Error(err)
		}
	}()
	history, err := journal.ReadGroups(dir, all)
	if err != nil {
		t.Fatal(err)
	}
	episode := journal.Episode{Group: 1, Member: 0}
	return th.play(t, wrap(writer.Log(episode, history.Past(episode))))
}

func alive(log Log) Log { return log }

var times = cmpopts.IgnoreFields(rollout.Trajectory{}, "ElapsedSeconds")

// byPool writes turns of a pool as a policy would: which one follows from the request's seed alone.
func byPool(format tool.TurnFormat, specs []tool.Spec, pool []string) func(sampler.Request, int) (string, bool) {
	return func(r sampler.Request, _ int) (string, bool) {
		return format.Script(pool[r.Seed%uint64(len(pool))], specs), r.Seed%11 == 0
	}
}

// theatres plays every environment of the table, in markers and by a chat template, and the lab in the
// continuations that it does not have by itself.
func theatres(t *testing.T) map[string]theatre {
	all := map[string]theatre{}
	for _, name := range env.Names() {
		environment, err := env.Build(name, nil)
		if err != nil {
			t.Fatal(err)
		}
		for _, chat := range []bool{false, true} {
			where := name + " in markers"
			if chat {
				where = name + " by template"
			}
			all[where] = newTheatre(t, environment, chat)
		}
	}
	for _, continuation := range env.Continuations {
		all["lab "+string(continuation)] = newTheatre(t, &lab{continuation: continuation}, false)
	}
	return all
}

func newTheatre(t *testing.T, environment env.Environment, chat bool) theatre {
	t.Helper()
	var renderer render.Renderer
	var err error
	name := tool.Plain
	if chat {
		name = tool.Hermes
		_, renderer = newChat(t, "qwen3", "qwen2_5", "<|im_end|>", environment.Tools())
	} else {
		trained, err := tokenizer()
		if err != nil {
			t.Fatal(err)
		}
		if renderer, err = render.NewMarkers(trained); err != nil {
			t.Fatal(err)
		}
	}
	format, err := tool.FindFormat(name)
	if err != nil {
		t.Fatal(err)
	}
	task := environment.Task(rollout.Train, 3, 5)
	pool := []string{"echo text: a", "refuse text: b\necho text: c", "What?", "sing", "answer: " + task.Gold.Answer}
	specs := environment.Tools()
	for _, gold := range task.Gold.Calls {
		for _, spec := range specs {
			if spec.Name == gold.Name {
				pool = append(pool, tool.Format(rollout.Call{Name: gold.Name, Args: gold.Args}, spec))
			}
		}
	}
	return theatre{
		task: task,
		player: func() *Player {
			return &Player{
				Environments: map[string]env.Environment{task.Env: environment}, Renderers: map[string]render.Renderer{task.Env: renderer}, Format: format,
				Limits: Limits{MaxTurns: 6, MaxTurnTokens: 200, MaxTokens: 6000, ToolTimeout: time.Minute},
			}
		},
		policy: func() sampler.Sampler { return &scripted{renderer: renderer, turn: byPool(format, specs, pool)} },
	}
}

// TestEpisodesGoOnAfterEveryTurn kills the process that plays an episode in the middle and at the end of
// each turn: the next process finishes the same trajectory, to the bit, and samples no finished turn again.
func TestEpisodesGoOnAfterEveryTurn(t *testing.T) {
	for name, th := range theatres(t) {
		t.Run(name, func(t *testing.T) {
			for _, stop := range []rollout.StopReason{rollout.StopMaxTurns, rollout.StopAnswer} {
				var want rollout.Trajectory
				th, want = th.find(t, stop)
				restarts := th.player().Environments[th.task.Env].Continuation() == env.Restarts
				for turn := range want.Turns {
					for _, finished := range []bool{false, true} {
						dir := filepath.Join(t.TempDir(), "turns")
						_, err := th.life(t, dir, func(log Log) Log { return &mortal{Log: log, turn: turn, finished: finished} })
						last := turn == len(want.Turns)-1
						if err == nil && !(finished && last) {
							t.Fatalf("killed in turn %d, the episode goes on", turn)
						}
						got, err := th.life(t, dir, alive)
						if diff := cmp.Diff(want, got, times); err != nil || diff != "" {
							t.Fatalf("killed in turn %d (finished %v): %v (-never interrupted +taken up):\n%s", turn, finished, err, diff)
						}
						th.check(t, dir, want, restarts, finished && last)
					}
				}
			}
		})
	}
}

// check compares what is recorded after one death.
func (th theatre) check(t *testing.T, dir string, want rollout.Trajectory, restarts, ended bool) {
	t.Helper()
	history, err := journal.ReadGroups(dir, all)
	if err != nil {
		t.Fatal(err)
	}
	past := history.Past(journal.Episode{Group: 1, Member: 0})
	if len(past.Turns) != len(want.Turns) || !past.Ended() {
		t.Errorf("%d turns are recorded of %d", len(past.Turns), len(want.Turns))
	}
	if twice := finishedTwice(t, dir); twice != nil {
		t.Errorf("finished twice: %v", twice)
	}
	attempts := 2
	if ended {
		attempts = 1
	}
	if len(past.Attempts) != attempts || past.Attempts[attempts-1].Failure != "" {
		t.Errorf("attempts %+v, want %d of which the last one ended", past.Attempts, attempts)
	}
	if last := past.Attempts[attempts-1]; restarts && last.From != 0 {
		t.Errorf("an episode that restarts began with turn %d", last.From)
	}
	group := rollout.Group{ID: "g1", Task: th.task, Trajectories: []rollout.Trajectory{want}, Attempts: past.Attempts}
	if err := record.Validate(group); err != nil {
		t.Error(err)
	}
}

// TestEpisodesOutliveManyDeaths lets each process live for one turn.
func TestEpisodesOutliveManyDeaths(t *testing.T) {
	for name, th := range theatres(t) {
		if name == "lab "+string(env.Restarts) {
			continue // would begin anew for ever
		}
		t.Run(name, func(t *testing.T) {
			th, want := th.find(t, rollout.StopAnswer)
			dir := filepath.Join(t.TempDir(), "turns")
			for turn := range want.Turns {
				_, _ = th.life(t, dir, func(log Log) Log { return &mortal{Log: log, turn: turn, finished: true} })
			}
			policy := th.policy().(*scripted)
			th.policy = func() sampler.Sampler { return policy }
			got, err := th.life(t, dir, alive)
			if diff := cmp.Diff(want, got, times); err != nil || diff != "" {
				t.Errorf("%v (-never interrupted +taken up):\n%s", err, diff)
			}
			if len(policy.requests) != 0 {
				t.Errorf("%d turns were sampled of an episode that is all on record", len(policy.requests))
			}
		})
	}
}

// TestDiscardedTurnsAreCounted says in the ledger what a restart threw away.
func TestDiscardedTurnsAreCounted(t *testing.T) {
	th := newTheatre(t, &lab{continuation: env.Restarts}, false)
	th.policy = func() sampler.Sampler {
		return &scripted{renderer: th.player().Renderers["lab"], turn: func(sampler.Request, int) (string, bool) { return "echo text: a", false }}
	}
	dir := filepath.Join(t.TempDir(), "turns")
	_, err := th.life(t, dir, func(log Log) Log { return &mortal{Log: log, turn: 2, finished: true} })
	if !errors.Is(err, errKilled) {
		t.Fatal(err)
	}
	if _, err := th.life(t, dir, alive); err != nil {
		t.Fatal(err)
	}
	history, err := journal.ReadGroups(dir, all)
	if err != nil {
		t.Fatal(err)
	}
	attempts := history.Past(journal.Episode{Group: 1, Member: 0}).Attempts
	if len(attempts) != 2 || attempts[1].Discarded != 3 || attempts[1].From != 0 || attempts[0].Failure != rollout.FailedLost {
		t.Errorf("attempts %+v", attempts)
	}
}

// TestOtherTurnsAreNotTakenUp refuses turns that this program would not have rendered, and environments that
// cannot be brought to where they were.
func TestOtherTurnsAreNotTakenUp(t *testing.T) {
	for name, test := range map[string]struct {
		change       func(*journal.Turn)
		says         string
		continuation env.Continuation
	}{
		"prompt":      {func(turn *journal.Turn) { turn.Prompt = turn.Prompt[1:] }, "take up turn 0: the recorded prompt has", env.Restores},
		"observation": {func(turn *journal.Turn) { turn.Replies = []journal.Reply{{Name: "echo", Text: " another"}} }, "take up turn 0: the recorded observation has", env.Restores},
		"snapshot":    {func(turn *journal.Turn) { turn.State = []byte(`"x"`) }, "turn 1: restore after turn 0: json: cannot unmarshal", env.Restores},
		"state":       {func(turn *journal.Turn) { turn.State = []byte(`7`) }, `turn 1: after turn 0 the environment had state "x"; it was brought to "xxxxxxx"`, env.Restores},
		"memory":      {func(turn *journal.Turn) { turn.After = "x" }, `turn 1: after turn 0 the environment had state "x"; it was brought to ""`, env.Replays},
	} {
		t.Run(name, func(t *testing.T) {
			s := newStage(t, texts("echo text: a", "echo text: b"))
			log := &memoryLog{}
			s.lab.continuation = test.continuation
			if _, err := s.player.Play(t.Context(), s.lab.Task(rollout.Train, 0, 0), "g1/0", Sampling{Sampler: s.sampler, Seed: 5}, log); err != nil {
				t.Fatal(err)
			}
			log.past.Turns = log.past.Turns[:1]
			test.change(&log.past.Turns[0])
			_, err := s.player.Play(t.Context(), s.lab.Task(rollout.Train, 0, 0), "g1/0", Sampling{Sampler: s.sampler, Seed: 5}, log)
			checkFailure(t, err, rollout.FailedEnvironment, test.says)
			if len(log.failed) != 1 || log.failed[0].Kind != rollout.FailedEnvironment || log.failed[0].From != 1 {
				t.Errorf("recorded failures %+v", log.failed)
			}
		})
	}
}

// memoryLog keeps turns in memory and can fail.
type memoryLog struct {
	past                journal.Past
	begun               []journal.Begin
	failed              []journal.Failed
	beginErr, finishErr error
	failErr             error
}

func (m *memoryLog) Past() journal.Past { return m.past }

func (m *memoryLog) Begin(_ context.Context, begin journal.Begin) error {
	m.begun = append(m.begun, begin)
	return m.beginErr
}

func (m *memoryLog) Finish(_ context.Context, turn journal.Turn) error {
	if m.finishErr == nil {
		m.past.Turns = append(m.past.Turns, turn)
	}
	return m.finishErr
}

func (m *memoryLog) Fail(_ context.Context, failed journal.Failed) error {
	m.failed = append(m.failed, failed)
	m.past.Attempts = append(m.past.Attempts, rollout.Attempt{Number: failed.Attempt, Failure: failed.Kind})
	return m.failErr
}

// TestRandomLives lets processes die and tools break at random, some in the same process as the attempt
// before: the trajectory is always that of the episode that was never interrupted.
func TestRandomLives(t *testing.T) {
	th, want := newTheatre(t, &lab{}, false).find(t, rollout.StopMaxTurns)
	rapid.Check(t, func(rt *rapid.T) {
		dir, err := os.MkdirTemp(t.TempDir(), "")
		if err != nil {
			rt.Fatal(err)
		}
		lives := rapid.IntRange(0, 4).Draw(rt, "lives")
		for range lives {
			_, _ = th.life(t, dir, func(log Log) Log {
				if rapid.Bool().Draw(rt, "an attempt fails") {
					_, _ = th.breaking(rapid.IntRange(0, 9).Draw(rt, "call")).play(t, log)
				}
				return &mortal{Log: log, turn: rapid.IntRange(0, len(want.Turns)).Draw(rt, "turn"), finished: rapid.Bool().Draw(rt, "finished")}
			})
		}
		got, err := th.life(t, dir, alive)
		if diff := cmp.Diff(want, got, times); err != nil || diff != "" {
			rt.Fatalf("%v (-never interrupted +taken up):\n%s", err, diff)
		}
		history, err := journal.ReadGroups(dir, all)
		if err != nil {
			rt.Fatal(err)
		}
		if twice := finishedTwice(t, dir); twice != nil {
			rt.Fatalf("finished twice: %v", twice)
		}
		past := history.Past(journal.Episode{Group: 1, Member: 0})
		group := rollout.Group{ID: "g1", Task: th.task, Trajectories: []rollout.Trajectory{got}, Attempts: past.Attempts}
		if err := record.Validate(group); err != nil {
			rt.Fatalf("%v: %+v", err, past.Attempts)
		}
	})
}

// breaking is the theatre with tools that break after some calls.
func (th theatre) breaking(calls int) theatre {
	whole := th.player
	th.player = func() *Player {
		player := whole()
		player.Intercept = func(context.Context, rollout.Call) error {
			if calls--; calls < 0 {
				return errors.New("away")
			}
			return nil
		}
		return player
	}
	return th
}
