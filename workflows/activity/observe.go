package activity

import (
	"context"
	"math"
	"time"

	"github.com/turnwise-rl/turnwise/internal/runfolder"
	"github.com/turnwise-rl/turnwise/rollout"
	"github.com/turnwise-rl/turnwise/rollout/journal"
	"github.com/turnwise-rl/turnwise/rollout/sampler"
	"github.com/turnwise-rl/turnwise/trainer"
	"github.com/turnwise-rl/turnwise/workflows"
	"github.com/turnwise-rl/turnwise/workflows/runstate"
)

// Observer is told what this process did, for metrics. Its methods return at once, and any goroutine may call
// them. What an activity made is told when it is durable, by the attempt that made it: an attempt that finds it
// made already tells nothing. So a thing is told once at most; a process that dies between the two tells nothing.
type Observer interface {
	// StepCommitted tells of a step of the learner.
	StepCommitted(StepSeen)
	// TurnRecorded tells of a turn of a training episode; evaluations are not told.
	TurnRecorded(TurnSeen)
	// GroupStored tells that all members of a group are finished and in the store.
	GroupStored(run string)
	// EpisodeFailed tells of an attempt at an episode that has no trajectory; one that was withdrawn is none.
	EpisodeFailed(run string, kind rollout.FailureKind)
	// RolloutTime tells how long a phase of an episode took; tool is set in [PhaseTool].
	RolloutTime(run string, phase Phase, tool string, took time.Duration)
	// WeightsTaken tells that a rollout loop samples with new weights, and how long it took to read and load them.
	WeightsTaken(run string, took time.Duration)
	// WeightsBehind tells how many versions the weights in a rollout loop are behind those published.
	WeightsBehind(run string, versions int)
	// Evaluated tells of an evaluation that is recorded.
	Evaluated(run string, evaluation runfolder.Evaluation)
	// LoopLeft tells that a rollout loop has left, and whether it did because the run has ended.
	LoopLeft(run string, ended bool)
}

// Phase is a part of an episode that takes time.
type Phase string

// The phases.
const (
	PhaseSampling Phase = "sampling" // one turn, from asking the engine to its last token
	PhaseTool     Phase = "tool"     // one tool call
	PhaseEpisode  Phase = "episode"  // a whole episode that came to its end in this process, held time left out
)

// StepSeen is a step that was committed.
type StepSeen struct {
	Run, Method string
	Step        int
	Kind        runstate.Kind
	// Last is true for the last step of the plan.
	Last    bool
	Report  trainer.Report
	Rewards runfolder.Rewards
	// AdvantageAbs is the mean of |advantage| over the sampled tokens of trajectories that are trained.
	AdvantageAbs float64
	Seconds      runfolder.Seconds
	Laps         trainer.Laps
	// Wait is the time since the learner committed the step before that was not spent on this one; negative when
	// the step before was made elsewhere.
	Wait time.Duration
	// Groups is how many groups the step trained. Dropped are the reasons of those given up since the step before.
	Groups  int
	Dropped []string
	// Staleness is, for each trajectory trained, how many versions its oldest token is behind the weights that
	// the step began with.
	Staleness []int
}

// TurnSeen is a turn that was recorded.
type TurnSeen struct {
	Run, Env string
	// Tool is that of the turn's first call: a tool of the environment, or one of [NoTool] and [UnknownTool].
	Tool string
	// Sampled counts the tokens that the policy sampled, Observed those that it read: prompt and observations.
	Sampled, Observed int
}

// What stands for the tool of a turn that called none of the environment's.
const (
	NoTool      = "none"    // the turn made no call
	UnknownTool = "unknown" // what it called is no tool, or no call
)

// observer is never nil.
func (a *Activities) observer() Observer {
	if a.Observer == nil {
		return unobserved{}
	}
	return a.Observer
}

// unobserved hears nothing.
type unobserved struct{}

func (unobserved) StepCommitted(StepSeen)                           {}
func (unobserved) TurnRecorded(TurnSeen)                            {}
func (unobserved) GroupStored(string)                               {}
func (unobserved) EpisodeFailed(string, rollout.FailureKind)        {}
func (unobserved) RolloutTime(string, Phase, string, time.Duration) {}
func (unobserved) WeightsTaken(string, time.Duration)               {}
func (unobserved) WeightsBehind(string, int)                        {}
func (unobserved) Evaluated(string, runfolder.Evaluation)           {}
func (unobserved) LoopLeft(string, bool)                            {}

// seen tells of a step that the session has committed.
func (s *session) seen(to Observer, input workflows.TrainInput, m runfolder.Manifest, out result) {
	now := time.Now()
	seen := StepSeen{Run: input.Run, Method: s.run.config.Method.Name, Step: m.Step, Kind: m.Kind, Last: m.Step == s.run.lastStep(),
		Report: m.Report, Rewards: m.Rewards, AdvantageAbs: out.advantageAbs, Seconds: m.Seconds, Laps: out.laps, Wait: -1, Groups: len(m.Batch)}
	if !s.committed.IsZero() {
		spent := time.Duration((m.Seconds.Credit + m.Seconds.Update + m.Seconds.Commit) * float64(time.Second))
		seen.Wait = max(0, now.Sub(s.committed)-spent)
	}
	for _, drop := range m.Dropped {
		seen.Dropped = append(seen.Dropped, drop.Reason)
	}
	for _, row := range m.Ledger {
		if row.State == "trained" {
			seen.Staleness = append(seen.Staleness, m.Step-1-int(row.Versions[0]))
		}
	}
	s.committed = now
	to.StepCommitted(seen)
}

// meanAbsolute is the mean of |advantage| over sampled tokens of trajectories that are kept; 0 without any.
func meanAbsolute(groups []rollout.Group, streams []rollout.Streams) float64 {
	sum, count, next := 0.0, 0, 0
	for _, group := range groups {
		for _, trajectory := range group.Trajectories {
			stream := streams[next]
			next++
			if !stream.Kept {
				continue
			}
			for t, sampled := range trajectory.Sampled {
				if sampled {
					sum += math.Abs(stream.Advantage[t])
					count++
				}
			}
		}
	}
	return sum / math.Max(1, float64(count))
}

// turnSeen tells of the turns of one episode once they are recorded.
func (l *loop) turnSeen(task rollout.Task) func(journal.Turn) {
	return func(turn journal.Turn) {
		l.activities.observer().TurnRecorded(TurnSeen{Run: l.input.Run, Env: task.Env, Tool: firstTool(turn.Record),
			Sampled: len(turn.Tokens), Observed: len(turn.Prompt) + len(turn.Observation)})
	}
}

// groupSeen tells of a group that was put into the store.
func (l *loop) groupSeen() { l.activities.observer().GroupStored(l.input.Run) }

// firstTool names the tool of a turn's first call. What the policy makes up is no name: there may be any number of them.
func firstTool(turn rollout.Turn) string {
	if len(turn.Calls) == 0 {
		return NoTool
	}
	switch call := turn.Calls[0]; call.Status {
	case rollout.CallUnknownTool, rollout.CallUnparsable:
		return UnknownTool
	default:
		return call.Name
	}
}

// called tells how long a tool call took.
func (l *loop) called(call rollout.Call, took time.Duration) {
	l.activities.observer().RolloutTime(l.input.Run, PhaseTool, call.Name, took)
}

// timed tells how long turns take to be sampled.
type timed struct {
	sampler.Sampler
	took func(time.Duration)
}

func (t timed) Generate(ctx context.Context, request sampler.Request) (sampler.Result, error) {
	started := time.Now()
	result, err := t.Sampler.Generate(ctx, request)
	if err == nil {
		t.took(time.Since(started))
	}
	return result, err
}

// timed measures an engine.
func (l *loop) timed(engine Engine) sampler.Sampler {
	return timed{engine, func(took time.Duration) {
		l.activities.observer().RolloutTime(l.input.Run, PhaseSampling, "", took)
	}}
}

// behind tells how far the weights in the loop are behind the control object.
func (l *loop) behind() {
	if version := int(l.version.Load()); version != unknown && l.roster.control.Version >= version {
		l.activities.observer().WeightsBehind(l.input.Run, l.roster.control.Version-version)
	}
}
