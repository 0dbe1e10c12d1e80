package chaos

import (
	"fmt"
	"math"
	"slices"
)

// Result is what a whole trial came to.
type Result struct {
	// Kills counts the faults that struck, of every kind; Faults counts them by kind.
	Kills  int          `json:"kills"`
	Faults map[Kind]int `json:"faults"`
	// StepsCommitted counts the steps that the disturbed runs committed, the untrained policy's aside.
	StepsCommitted   int `json:"steps_committed"`
	StepsLost        int `json:"steps_lost"`
	TrajectoriesLost int `json:"trajectories_lost"`
	TrainedTwice     int `json:"trained_twice"`
	// Resampled counts turns that were finished and then begun again.
	Resampled int `json:"finished_turns_resampled"`
	// RestartedMax is the most unfinished turns that one kill of a rollout process made begin again, and
	// InFlight the episodes that were in flight on that process.
	RestartedMax int             `json:"unfinished_turns_restarted_max_per_kill"`
	InFlight     int             `json:"episodes_in_flight"`
	Recovery     RecoverySeconds `json:"recovery_seconds"`
	// TrainingTimeRatio is the time that the undisturbed runs took for a committed step over the time that
	// the disturbed ones took; nil when nothing was compared.
	TrainingTimeRatio *float64 `json:"effective_training_time_ratio"`
	// DigestEqual says whether each run came to the weights of its undisturbed run; nil when asynchronous
	// or when nothing was compared.
	DigestEqual *bool `json:"digest_equal"`

	// Broken says in words which promises were not kept.
	Broken []string `json:"-"`
}

// RecoverySeconds are quantiles over all faults, by nearest rank; 0 when there was none.
type RecoverySeconds struct {
	P50 float64 `json:"p50"`
	P99 float64 `json:"p99"`
}

// Compared is a disturbed run and, when there is one, the undisturbed run with the same config.
type Compared struct {
	Disturbed *Evidence
	Calm      *Evidence
	// Synchronous runs must come to the same weights.
	Synchronous bool
}

// Sum audits every run of a trial and adds up.
func Sum(runs []Compared) Result {
	result := Result{Faults: map[Kind]int{}}
	var seconds []float64
	var calm, disturbed, steps float64
	for _, run := range runs {
		e := run.Disturbed
		found := Audit(e)
		result.StepsCommitted += max(0, len(e.Steps)-1)
		result.StepsLost += found.StepsLost
		result.TrajectoriesLost += found.TrajectoriesLost
		result.TrainedTwice += found.TrainedTwice
		result.Resampled += found.Resampled
		result.Broken = append(result.Broken, found.Broken...)
		for _, restart := range found.Restarts {
			if restart.Turns > result.RestartedMax || restart.Turns == result.RestartedMax && restart.InFlight > result.InFlight {
				result.RestartedMax, result.InFlight = restart.Turns, restart.InFlight
			}
		}
		for _, strike := range e.Strikes {
			result.Kills++
			result.Faults[strike.Kind]++
			seconds = append(seconds, strike.Seconds())
		}
		if run.Calm == nil {
			continue
		}
		n := float64(len(e.Steps) - 1)
		calm += n * run.Calm.SecondsPerStep()
		disturbed += n * e.SecondsPerStep()
		steps += n
		result.compare(run)
	}
	slices.Sort(seconds)
	result.Recovery = RecoverySeconds{P50: thousandths(quantile(seconds, 0.5)), P99: thousandths(quantile(seconds, 0.99))}
	if steps > 0 && disturbed > 0 {
		ratio := thousandths(calm / disturbed)
		result.TrainingTimeRatio = &ratio
	}
	return result
}

// compare holds a synchronous run's weights to those of its undisturbed run, step by step.
func (r *Result) compare(run Compared) {
	if run.Calm.Outcome != "completed" {
		r.Broken = append(r.Broken, fmt.Sprintf("the undisturbed run %s ended %s: nothing to compare with", run.Calm.Run, run.Calm.Outcome))
	}
	if !run.Synchronous {
		return
	}
	equal := run.Calm.Final() == run.Disturbed.Final() && len(run.Calm.Steps) == len(run.Disturbed.Steps)
	if r.DigestEqual == nil {
		all := true
		r.DigestEqual = &all
	}
	*r.DigestEqual = *r.DigestEqual && equal
	if equal {
		return
	}
	for i := range min(len(run.Calm.Steps), len(run.Disturbed.Steps)) {
		if calm, disturbed := run.Calm.Steps[i].Weights, run.Disturbed.Steps[i].Weights; calm != disturbed {
			r.Broken = append(r.Broken, fmt.Sprintf("run %s: from step %d on its weights are others (%s) than without faults (%s)",
				run.Disturbed.Run, run.Disturbed.Steps[i].Number, disturbed, calm))
			return
		}
	}
	r.Broken = append(r.Broken, fmt.Sprintf("run %s: %d steps, %d without faults", run.Disturbed.Run, len(run.Disturbed.Steps)-1, len(run.Calm.Steps)-1))
}

// quantile is the smallest of the sorted values that at least a share of them does not exceed; 0 of none.
func quantile(sorted []float64, share float64) float64 {
	if len(sorted) == 0 {
		return 0
	}
	rank := int(math.Ceil(share * float64(len(sorted))))
	return sorted[max(rank, 1)-1]
}

// thousandths rounds: nothing here is measured better.
func thousandths(x float64) float64 { return math.Round(1000*x) / 1000 }
