package orchestrate

import (
	"context"
	"errors"
	"fmt"
	"math"
	"time"

	"github.com/turnwise-rl/turnwise/workflows/runstate"
)

// Config is a run to simulate.
type Config struct {
	Preset Preset
	// Staleness bounds version trained − oldest version that sampled a trained token; 0 is synchronous.
	Staleness int
	// Slots is how many episodes are played at once over all Pools, which divide them evenly.
	Slots, Pools int
	// Steps is how many training steps the run has.
	Steps int
	// Batch is the trajectories of a step, in groups of GroupSize, which divides it.
	Batch, GroupSize int
	// Contention is α: with every slot decoding, a sequence takes 1 + α times as long as alone.
	Contention float64
	// Sync is the seconds that publishing a version adds to each step.
	Sync float64
	// Seed is where latencies come from.
	Seed uint64
	// Clock measures what deciding costs, as the time since any fixed moment; nil leaves it unmeasured.
	Clock func() time.Duration
}

// Validate reports the first impossible setting.
func (c Config) Validate() error {
	switch {
	case c.Staleness < 0:
		return fmt.Errorf("staleness %d: must not be negative", c.Staleness)
	case c.Steps < 1:
		return fmt.Errorf("steps %d: must be at least 1", c.Steps)
	case c.Pools < 1 || c.Slots < c.Pools || c.Slots%c.Pools != 0:
		return fmt.Errorf("slots %d in %d pools: every pool needs as many, at least one", c.Slots, c.Pools)
	case c.GroupSize < 1 || c.Batch < c.GroupSize || c.Batch%c.GroupSize != 0:
		return fmt.Errorf("batch %d in groups of %d: must be whole groups, at least one", c.Batch, c.GroupSize)
	case !(c.Contention >= 0) || math.IsInf(c.Contention, 0):
		return fmt.Errorf("contention %g: must be at least 0 and finite", c.Contention)
	case !(c.Sync >= 0) || math.IsInf(c.Sync, 0):
		return fmt.Errorf("sync %g: must be at least 0 and finite", c.Sync)
	}
	if err := c.Preset.check(); err != nil {
		return fmt.Errorf("preset %s: %w", c.Preset.Name, err)
	}
	return nil
}

// spec is the plan as the machine wants it. A pool plays twice the groups that fill its slots: most groups in
// play have only their longest members left, and with no more groups than that slots would stand empty.
func (c Config) spec() runstate.Spec {
	groups := max(2*c.Slots/c.Pools/c.GroupSize, 1)
	return runstate.Spec{
		TrainSteps: c.Steps, GroupsPerStep: c.Batch / c.GroupSize, GroupSize: c.GroupSize, Staleness: c.Staleness,
		Pools: c.Pools, Slots: groups, CheckpointEvery: c.Steps,
		Failures:    runstate.Failures{Retries: 1, Replacements: 1, MaxShare: 0.5, Window: 64},
		StepTimeout: forever, StallAfter: forever,
	}
}

// forever outlasts any simulated run.
const forever = 1000 * time.Hour

// occurrence is something that comes due at a time.
type occurrence struct {
	kind    occurs
	pool    *pool
	episode *episode
	stamp   int
	step    int
}

type occurs int

const (
	turnEnds    occurs = iota // of the pool, unless its speed has changed since
	waitEnds                  // of the episode: its environment is there, or its tool has answered
	capEnds                   // the episode's
	stepCommits               // the learner's
)

// simulation is a run under way.
type simulation struct {
	config  Config
	machine *runstate.Machine
	now     float64 // seconds since the start
	due     queue[occurrence]
	// inbox are events that the machine has not taken.
	inbox    []runstate.Event
	control  runstate.Control
	pools    []*pool
	finished *runstate.Finish
	tally
}

// tally is what is counted on the way.
type tally struct {
	learnerSeconds float64
	groups         int // trained
	staleness      int // summed over trained groups
	maxStaleness   int
	dropped        int // groups settled without training
	capped, played int // episodes
	cost           Cost
}

// errStuck says that nothing is under way and the run has not ended.
var errStuck = errors.New("nothing is under way, and the run has not ended")

// Simulate plays the run to its end, or until the context ends.
func Simulate(ctx context.Context, c Config) (Outcome, error) {
	if err := c.Validate(); err != nil {
		return Outcome{}, err
	}
	s := &simulation{config: c, machine: runstate.New(c.spec())}
	for number := range c.Pools {
		s.pools = append(s.pools, &pool{number: number, slots: c.Slots / c.Pools, contention: c.Contention})
	}
	s.inbox = append(s.inbox, runstate.Prepared{})
	if err := s.decide(); err != nil {
		return Outcome{}, err
	}
	for s.finished == nil {
		if ctx.Err() != nil {
			return Outcome{}, context.Cause(ctx)
		}
		if s.due.empty() {
			return Outcome{}, fmt.Errorf("%w: at %g s the machine says %q", errStuck, s.now, s.machine.Status(s.time()).WaitingFor)
		}
		next := s.due.take()
		s.now = next.key
		s.happens(next.value)
		if err := s.decide(); err != nil {
			return Outcome{}, err
		}
	}
	if s.finished.Outcome != runstate.Completed {
		return Outcome{}, fmt.Errorf("the simulated run %s: %s", s.finished.Outcome, s.finished.Reason)
	}
	return s.outcome(), nil
}

// time is now as the machine sees it.
func (s *simulation) time() time.Time {
	return time.Unix(0, 0).UTC().Add(time.Duration(s.now * float64(time.Second)))
}

// decide feeds the machine and carries out what it commands, until there is no news.
func (s *simulation) decide() error {
	for len(s.inbox) > 0 && s.finished == nil {
		event := s.inbox[0]
		s.inbox = s.inbox[1:]
		for _, command := range s.step(event) {
			if err := s.carryOut(command); err != nil {
				return err
			}
		}
	}
	return nil
}

func (s *simulation) carryOut(command runstate.Command) error {
	switch c := command.(type) {
	case runstate.StartPools:
		for number := c.From; number < c.To; number++ {
			s.inbox = append(s.inbox, runstate.PoolServing{Pool: number, Tenure: number + 1, Worker: "simulated"})
		}
	case runstate.PublishControl:
		s.follow(c.Control)
	case runstate.TrainStep:
		return s.train(c)
	case runstate.Evaluate:
		s.inbox = append(s.inbox, runstate.Evaluated{Version: c.Version})
	case runstate.AskLease: // the simulated fleet has a device for its only run
		s.inbox = append(s.inbox, runstate.LeaseGranted{Lease: runstate.Lease{Fence: c.Above + 1, Agent: "simulated", Host: "simulated", Devices: []string{"simulated"}}})
	case runstate.GiveLease, runstate.Note:
	case runstate.Finish:
		s.finished = &c
	default:
		return fmt.Errorf("a simulated run was commanded %T", command)
	}
	return nil
}

// train lets the learner work. The version it makes is out when its step commits.
func (s *simulation) train(command runstate.TrainStep) error {
	seconds := s.config.Preset.Train + s.config.Sync
	s.learnerSeconds += seconds
	s.groups += len(command.Batch)
	s.dropped += len(command.Dropped)
	for _, g := range command.Batch {
		lag := command.Step - 1 - g.Oldest
		s.staleness += lag
		s.maxStaleness = max(s.maxStaleness, lag)
		if lag > s.config.Staleness {
			return fmt.Errorf("step %d trains group %d, sampled from version %d on: staleness %d where %d is allowed",
				command.Step, g.Number, g.Oldest, lag, s.config.Staleness)
		}
	}
	s.due.add(s.now+seconds, occurrence{kind: stepCommits, step: command.Step})
	return nil
}

// follow lets the pools have their shares of a new control object.
func (s *simulation) follow(control runstate.Control) {
	s.control = control
	for _, share := range control.Shares {
		p := s.pools[share.Pool]
		p.advance(s.now)
		p.follow(share.Groups)
		for at := 0; at < len(p.hand); {
			g := p.hand[at]
			if g.oldest == none || control.Version-g.oldest <= control.Staleness {
				at++
				continue
			}
			p.report(g)
			s.inbox = append(s.inbox, runstate.GroupDropped{Number: g.number, Reason: "stale"})
		}
		s.fill(p)
	}
}

// happens carries out what is due.
func (s *simulation) happens(what occurrence) {
	switch what.kind {
	case stepCommits:
		took := time.Duration((s.config.Preset.Train + s.config.Sync) * float64(time.Second))
		s.inbox = append(s.inbox, runstate.StepCommitted{Step: what.step, Weights: weights(what.step), Took: took})
	case turnEnds:
		if what.stamp != what.pool.stamp {
			return
		}
		what.pool.advance(s.now)
		e := what.pool.turns.take()
		what.pool.service = e.key // what rounding may have left
		s.endTurn(what.pool, e.value)
		s.fill(what.pool)
	case waitEnds:
		if e := what.episode; e.phase == waits {
			what.pool.advance(s.now)
			s.beginTurn(what.pool, e)
			s.wake(what.pool)
		}
	case capEnds:
		if e := what.episode; e.phase != ended {
			what.pool.advance(s.now)
			s.capped++
			s.endEpisode(what.pool, e)
			s.fill(what.pool)
		}
	}
}

// fill gives free slots to the members that wait, lowest numbers first.
func (s *simulation) fill(p *pool) {
	for p.held < p.slots && len(p.waiting) > 0 {
		g := p.waiting[0]
		e := &episode{group: g, script: s.config.Preset.script(s.config.Seed, g.number, len(g.members)), phase: waits}
		g.members = append(g.members, e)
		if len(g.members) == s.config.GroupSize {
			p.waiting = p.waiting[1:]
		}
		p.held++
		if limit := s.config.Preset.EpisodeCap; limit > 0 {
			s.due.add(s.now+limit, occurrence{kind: capEnds, pool: p, episode: e})
		}
		if e.script.start > 0 {
			s.due.add(s.now+e.script.start, occurrence{kind: waitEnds, pool: p, episode: e})
		} else {
			s.beginTurn(p, e)
		}
	}
	s.wake(p)
}

func (s *simulation) beginTurn(p *pool, e *episode) {
	if e.group.oldest == none {
		e.group.oldest = s.control.Version
	}
	p.sample(e)
}

func (s *simulation) endTurn(p *pool, e *episode) {
	e.turn++
	if e.turn == len(e.script.decode) {
		s.endEpisode(p, e)
		return
	}
	p.decoding--
	e.phase = waits
	s.due.add(s.now+e.script.tool[e.turn-1], occurrence{kind: waitEnds, pool: p, episode: e})
}

// endEpisode frees the slot, and reports the group when it is the last of it.
func (s *simulation) endEpisode(p *pool, e *episode) {
	p.release(e)
	s.played++
	g := e.group
	g.done++
	if g.done < s.config.GroupSize {
		return
	}
	p.report(g)
	oldest := g.oldest
	if oldest == none { // capped before its first turn
		oldest = s.control.Version
	}
	s.inbox = append(s.inbox, runstate.GroupReady{Group: runstate.GroupRef{
		Number: g.number, Object: segment(g.number), Oldest: oldest, Newest: s.control.Version,
	}})
}

// wake makes the pool's next turn due at what its speed has become.
func (s *simulation) wake(p *pool) {
	p.stamp++
	if at := p.next(); !math.IsInf(at, 1) {
		s.due.add(at, occurrence{kind: turnEnds, pool: p, stamp: p.stamp})
	}
}

// References have the sizes of real ones, so that state and control weigh what they weigh in production.

const digest = "sha256:0000000000000000000000000000000000000000000000000000000000000000"

func segment(group int) runstate.Ref {
	return runstate.Ref{Key: fmt.Sprintf("segments/%06d", group), Digest: digest, Size: 1 << 20}
}

func weights(version int) runstate.Ref {
	return runstate.Ref{Key: fmt.Sprintf("weights/%06d-%s", version, digest[7:19]), Digest: digest, Size: 1 << 30}
}
