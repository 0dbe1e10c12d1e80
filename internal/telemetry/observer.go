package telemetry

import (
	"slices"
	"strings"
	"time"

	"github.com/turnwise-rl/turnwise/internal/runfolder"
	"github.com/turnwise-rl/turnwise/rollout"
	"github.com/turnwise-rl/turnwise/trainer"
	"github.com/turnwise-rl/turnwise/workflows/activity"
	"github.com/turnwise-rl/turnwise/workflows/runstate"
)

var _ activity.Observer = (*Metrics)(nil)

// laps names the parts of a learner's step that the trainer measures.
var laps = map[trainer.Lap]string{trainer.Pack: "pack", trainer.Forward: "forward", trainer.Loss: "loss", trainer.Backward: "backward", trainer.Optimize: "optim"}

// StepCommitted writes down a step. A warm step has no rewards, so the gauges of reinforcement stay as they are.
func (m *Metrics) StepCommitted(s activity.StepSeen) {
	defer m.hear(s.Run)()
	m.runs[s.Run].ended = s.Last
	m.set("policy_version", float64(s.Step), s.Run, s.Method)
	m.set("grad_norm", s.Report.GradNorm, s.Run, s.Method)
	m.add("tokens_total", float64(s.Report.TokensTrained), s.Run, "trained")
	for lap, part := range laps {
		m.observe("learner_step_seconds", s.Laps[lap].Seconds(), s.Run, part)
	}
	m.observe("learner_step_seconds", s.Seconds.Credit, s.Run, "credit")
	m.observe("learner_step_seconds", s.Seconds.Commit, s.Run, "publish")
	if s.Wait >= 0 {
		m.observe("learner_step_seconds", s.Wait.Seconds(), s.Run, "wait")
	}
	if s.Kind != runstate.Reinforce {
		return
	}
	for name, value := range map[string]float64{
		"reward": s.Rewards.Reward, "success_ratio": s.Rewards.Success, "advantage_abs": s.AdvantageAbs, "clip_ratio": s.Report.ClipRatio,
		"behavior_kl": s.Report.BehaviorKL, "entropy": s.Report.Entropy,
	} {
		m.set(name, value, s.Run, s.Method)
	}
	m.add("groups_total", float64(s.Groups), s.Run, "trained", "")
	for _, reason := range s.Dropped {
		m.add("groups_total", 1, s.Run, "dropped", dropReason(reason))
	}
	for _, versions := range s.Staleness {
		m.observe("staleness_versions", float64(versions), s.Run)
	}
}

// dropReasons are the words with which runs say why a group was given up; a colon and more may follow them.
var dropReasons = []string{"stale", "failed", "invalid", "surplus"}

// otherReason stands for a reason that is none of them.
const otherReason = "other"

// dropReason is the word in front of a reason.
func dropReason(reason string) string {
	word, _, _ := strings.Cut(reason, ":")
	if slices.Contains(dropReasons, word) {
		return word
	}
	return otherReason
}

// TurnRecorded counts a turn and its tokens.
func (m *Metrics) TurnRecorded(s activity.TurnSeen) {
	defer m.hear(s.Run)()
	m.add("turns_total", 1, s.Run, s.Env, s.Tool)
	m.add("tokens_total", float64(s.Sampled), s.Run, "sampled")
	m.add("tokens_total", float64(s.Observed), s.Run, "observed")
}

// GroupStored counts a group.
func (m *Metrics) GroupStored(run string) {
	defer m.hear(run)()
	m.add("groups_total", 1, run, "ready", "")
}

// EpisodeFailed counts an attempt.
func (m *Metrics) EpisodeFailed(run string, kind rollout.FailureKind) {
	defer m.hear(run)()
	m.add("episode_failures_total", 1, run, string(kind))
}

// RolloutTime writes down how long something took.
func (m *Metrics) RolloutTime(run string, phase activity.Phase, tool string, took time.Duration) {
	defer m.hear(run)()
	m.observe("rollout_seconds", took.Seconds(), run, string(phase), tool)
}

// WeightsTaken writes down how long new weights took.
func (m *Metrics) WeightsTaken(run string, took time.Duration) {
	defer m.hear(run)()
	m.observe("weights_publish_seconds", took.Seconds(), run)
}

// WeightsBehind writes down how old the weights in use are.
func (m *Metrics) WeightsBehind(run string, versions int) {
	defer m.hear(run)()
	m.set("weights_ack_lag_versions", float64(versions), run)
}

// Evaluated writes down what held-out tasks say.
func (m *Metrics) Evaluated(run string, evaluation runfolder.Evaluation) {
	defer m.hear(run)()
	m.set("evaluation_version", float64(evaluation.Version), run)
	for _, score := range evaluation.ByEnvironment {
		m.set("evaluation_success_ratio", score.Success, run, score.Environment)
	}
}

// LoopLeft lets the series of a run that has ended go after a while. Weights that nobody samples with are not behind.
func (m *Metrics) LoopLeft(run string, ended bool) {
	defer m.hear(run)()
	m.gauges["weights_ack_lag_versions"].DeleteLabelValues(label(run))
	m.runs[run].ended = m.runs[run].ended || ended
}
