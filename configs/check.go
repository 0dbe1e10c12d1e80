package configs

import (
	"errors"
	"fmt"
	"regexp"
	"time"

	"github.com/turnwise-rl/turnwise/algos"
	"github.com/turnwise-rl/turnwise/algos/advantage"
	"github.com/turnwise-rl/turnwise/algos/pair"
)

var namePattern = regexp.MustCompile(`^[a-z0-9]([a-z0-9-]{0,46}[a-z0-9])?$`)

// check is a constraint that involves more than one section. It runs when the sections it needs are
// themselves in order, whatever else is wrong.
type check struct {
	needs []string
	run   func(r *Run) error
}

func at(path, format string, args ...any) error {
	return &PathError{Path: path, Err: fmt.Errorf(format, args...)}
}

var checks = []check{
	{[]string{"name"}, func(r *Run) error {
		if !namePattern.MatchString(r.Name) {
			return at("name", "%q is not a run's name: up to 48 lower-case letters, digits and hyphens, for example quickstart-2", shorten(r.Name))
		}
		return nil
	}},
	{[]string{"method"}, func(r *Run) error {
		for i, term := range r.Method.Advantage.Terms {
			if term.Center == advantage.Greedy {
				return at(fmt.Sprintf("method.advantage.terms[%d].center", i), "greedy compares with a rollout of each group that takes the likeliest tokens, and a run's sampling makes none: "+
					"choose another center, or give credit to recorded groups with turnwise credit")
			}
		}
		if _, recorded := r.Method.Pair.(pair.Recorded); recorded {
			return at("method.pair.type", "recorded takes pairs that are recorded with trajectories, and a run's sampling records none: choose best_worst or sorted")
		}
		return nil
	}},
	{[]string{"training.group_size", "method.pair"}, func(r *Run) error {
		if name := algos.NameOf(r.Method.Pair); name != "" && name != "none" && r.Training.GroupSize < 2 {
			return at("training.group_size", "%d trajectory in a group, but method.pair.type %s prefers one of a group's trajectories to another: raise it, or set method.pair.type to none",
				r.Training.GroupSize, name)
		}
		return nil
	}},
	{[]string{"warm_start.steps", "training.steps"}, func(r *Run) error {
		if r.WarmStart.Steps == 0 && r.Training.Steps == 0 {
			return at("training.steps", "0, and warm_start.steps is 0 too: a run needs at least one step")
		}
		return nil
	}},
	{[]string{"warm_start"}, func(r *Run) error {
		if w := r.WarmStart; w.BatchSize > w.Demonstrations {
			return at("warm_start.batch_size", "%d demonstrations in a batch but warm_start.demonstrations is %d", w.BatchSize, w.Demonstrations)
		}
		return nil
	}},
	{[]string{"training"}, func(r *Run) error {
		if all := r.Training.GroupsPerStep * r.Training.GroupSize; r.Training.Minibatches > all {
			return at("training.minibatches", "%d minibatches but a step has groups_per_step %d × group_size %d = %d trajectories",
				r.Training.Minibatches, r.Training.GroupsPerStep, r.Training.GroupSize, all)
		}
		return nil
	}},
	{[]string{"sampling.max_turn_tokens", "sampling.max_tokens"}, func(r *Run) error {
		if s := r.Sampling; s.MaxTurnTokens > s.MaxTokens {
			return at("sampling.max_turn_tokens", "%d tokens in one turn but sampling.max_tokens allows an episode %d", s.MaxTurnTokens, s.MaxTokens)
		}
		return nil
	}},
	{[]string{"sampling.max_tokens", "policy"}, func(r *Run) error {
		if r.Policy.From == "" && r.Sampling.MaxTokens > r.Policy.MaxPositions {
			return at("sampling.max_tokens", "%d tokens in an episode but policy.max_positions is %d: raise it or shorten episodes", r.Sampling.MaxTokens, r.Policy.MaxPositions)
		}
		return nil
	}},
	{[]string{"sampling.temperature"}, func(r *Run) error { return checkTemperature("sampling.temperature", r.Sampling.Temperature, "") }},
	{[]string{"evaluation.temperature"}, func(r *Run) error {
		return checkTemperature("evaluation.temperature", r.Evaluation.Temperature, ", or set it to 0 for the likeliest token")
	}},
	{[]string{"tokenizer", "policy"}, func(r *Run) error {
		if err := r.Policy.Validate(); err != nil {
			return at("policy", "with tokenizer.vocab_size %d: %w", r.Tokenizer.VocabSize, err)
		}
		return nil
	}},
	{[]string{"sampling.concurrency", "training.group_size"}, func(r *Run) error {
		if most := r.Sampling.Concurrency; most > 0 && most < r.Training.GroupSize {
			return at("sampling.concurrency", "%d episodes in flight but training.group_size is %d, and a group starts as a whole: raise it, or set it to 0 for no bound", most, r.Training.GroupSize)
		}
		return nil
	}},
	{[]string{"limits"}, func(r *Run) error { return r.Limits.order() }},
	{[]string{deviceKey}, checkDevice},
	{[]string{"policy", deviceKey}, checkStored},
}

// Temperatures other than 0 are within these. Logits are divided by them in single precision: far below, what
// differs by less than a nat is no longer told apart and quotients end as infinities; above, all tokens are alike.
const (
	coldest = 0.001
	hottest = 1000
)

// checkTemperature reports one that is not 0 and out of range.
func checkTemperature(path string, t float64, otherwise string) error {
	switch {
	case t > 0 && t < coldest:
		return at(path, "%g is below %g, where the likeliest token is all but certain: raise it%s", t, coldest, otherwise)
	case t > hottest:
		return at(path, "%g is above %d, where all tokens are about as likely: lower it", t, hottest)
	}
	return nil
}

// order reports limits that do not leave each other room: what should be noticed first would never be.
func (l Limits) order() error {
	var all []error
	const half = "half of limits.loop_timeout,"
	for _, pair := range []struct {
		key, other  string
		short, long time.Duration
		equal       bool // they may be equal
		otherwise   string
	}{
		{"limits.tool_timeout", "limits.episode_timeout", l.ToolTimeout, l.EpisodeTimeout, false, "a call that hangs would end its whole episode"},
		{"limits.tool_timeout", half, l.ToolTimeout, l.LoopTimeout / 2, false, "a call could outlast the time that a rollout loop has for handing over"},
		{"limits.heartbeat_timeout", "limits.step_timeout", l.HeartbeatTimeout, l.StepTimeout, false, "a silent worker would never be noticed first"},
		{"limits.heartbeat_timeout", half, l.HeartbeatTimeout, l.LoopTimeout / 2, false, "a silent worker would never be noticed first"},
		{"limits.episode_timeout", "limits.give_up_after", l.EpisodeTimeout, l.GiveUpAfter, true, "the run would fail before one attempt is over"},
		{"limits.step_timeout", "limits.give_up_after", l.StepTimeout, l.GiveUpAfter, true, "the run would fail before one attempt is over"},
		{"limits.stall_after", "limits.give_up_after", l.StallAfter, l.GiveUpAfter, true, "the run would fail before it says that it stalls"},
	} {
		switch {
		case pair.short < pair.long || pair.equal && pair.short == pair.long:
		case pair.equal:
			all = append(all, at(pair.key, "%s is longer than %s %s: %s", shortDuration(pair.short), pair.other, shortDuration(pair.long), pair.otherwise))
		default:
			all = append(all, at(pair.key, "%s is not shorter than %s %s: %s", shortDuration(pair.short), pair.other, shortDuration(pair.long), pair.otherwise))
		}
	}
	return errors.Join(all...)
}

// checkEnvironments refuses an environment listed twice: task ids begin with its name.
func checkEnvironments(r *Run) []error {
	var all []error
	first := make(map[string]int)
	for i, e := range r.Environments {
		name := e.Type()
		if earlier, twice := first[name]; twice {
			all = append(all, at(fmt.Sprintf("environments[%d].type", i), "%s is already environments[%d]: list an environment once and use weight", name, earlier))
			continue
		}
		first[name] = i
	}
	return all
}
