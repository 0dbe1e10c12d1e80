package record

import (
	"encoding/json"
	"fmt"
	"math"
	"slices"
	"strings"

	"github.com/turnwise-rl/turnwise/rollout"
)

// Validate reports the first thing that makes a group unfit to be stored or trained on, with the
// field's path: lengths that disagree, turns that are not the maximal runs of sampled tokens, unknown
// statuses and stop reasons, numbers that are not finite, a nonzero log-probability or version where
// the policy did not sample, ids that repeat, parents that do not exist or do not share their tokens, and
// attempts that are not numbered from 1 or do not say how their trajectory came about. It returns nil for a
// valid group.
func Validate(g rollout.Group) error {
	if g.ID == "" {
		return fmt.Errorf("group: the id is empty")
	}
	if err := validateTask(g.Task); err != nil {
		return fmt.Errorf("task.%w", err)
	}
	if len(g.Trajectories) == 0 {
		return fmt.Errorf("trajectories: the group has none")
	}
	index := make(map[string]int, len(g.Trajectories))
	for i := range g.Trajectories {
		t := &g.Trajectories[i]
		if t.ID == "" {
			return fmt.Errorf("trajectories[%d].id: the id is empty", i)
		}
		if earlier, twice := index[t.ID]; twice {
			return fmt.Errorf("trajectories[%d].id: %q is also the id of trajectories[%d]", i, t.ID, earlier)
		}
		index[t.ID] = i
		if err := validateTrajectory(t); err != nil {
			return fmt.Errorf("trajectories[%d].%w", i, err)
		}
	}
	if err := validateParents(g.Trajectories, index); err != nil {
		return err
	}
	return validateAttempts(g, index)
}

func validateTask(task rollout.Task) error {
	for i, call := range task.Gold.Calls {
		if err := validateArgs(call.Args); err != nil {
			return fmt.Errorf("gold.calls[%d].args.%w", i, err)
		}
	}
	if task.World != nil && !json.Valid(task.World) {
		return fmt.Errorf("world: not valid JSON")
	}
	return nil
}

func validateArgs(args rollout.Args) error {
	for name, value := range args {
		if !json.Valid(value) {
			return fmt.Errorf("%s: %q is not valid JSON", name, value)
		}
	}
	return nil
}

func validateTrajectory(t *rollout.Trajectory) error {
	n := len(t.Tokens)
	if len(t.Sampled) != n {
		return lengthError("sampled", len(t.Sampled), n)
	}
	for i, id := range t.Tokens {
		if id < 0 {
			return fmt.Errorf("tokens[%d]: %d is negative; token ids count from 0", i, id)
		}
	}
	if err := validateColumns(t); err != nil {
		return err
	}
	if err := validateRuns(t); err != nil {
		return err
	}
	for i := range t.Turns {
		limit := n
		if i+1 < len(t.Turns) {
			limit = t.Turns[i+1].Start
		}
		if err := validateTurn(t.Turns[i], limit); err != nil {
			return fmt.Errorf("turns[%d].%w", i, err)
		}
	}
	return validateEnd(t)
}

// validateEnd checks what belongs to the trajectory as a whole.
func validateEnd(t *rollout.Trajectory) error {
	if !slices.Contains(rollout.StopReasons, t.Stop) {
		return fmt.Errorf("stop: %q is unknown; known: %s", t.Stop, list(rollout.StopReasons))
	}
	if t.Outcome != nil && !finite(*t.Outcome) {
		return fmt.Errorf("outcome: %g is not finite", *t.Outcome)
	}
	if err := finiteValues("scores", t.Scores); err != nil {
		return err
	}
	if !finite(t.ElapsedSeconds) || t.ElapsedSeconds < 0 {
		return fmt.Errorf("elapsed_seconds: %g is not a duration", t.ElapsedSeconds)
	}
	if !finite(t.Temperature) || t.Temperature < 0 {
		return fmt.Errorf("temperature: %g is not a temperature; leave it out for 1", t.Temperature)
	}
	switch t.Role {
	case "", "greedy":
		if t.Pair != "" {
			return fmt.Errorf("pair: %q needs role chosen or rejected, got %q", t.Pair, t.Role)
		}
	case "chosen", "rejected":
		if t.Pair == "" {
			return fmt.Errorf("role: %q needs a pair id", t.Role)
		}
	default:
		return fmt.Errorf("role: %q is unknown; known: greedy, chosen, rejected, or none", t.Role)
	}
	return nil
}

func validateColumns(t *rollout.Trajectory) error {
	n := len(t.Tokens)
	if t.BehaviorLogProbs != nil && len(t.BehaviorLogProbs) != n {
		return lengthError("behavior_logprobs", len(t.BehaviorLogProbs), n)
	}
	for i, p := range t.BehaviorLogProbs {
		if !t.Sampled[i] && p != 0 {
			return fmt.Errorf("behavior_logprobs[%d]: %g where sampled is 0, want 0", i, p)
		}
		if !finite(float64(p)) {
			return fmt.Errorf("behavior_logprobs[%d]: %g is not finite", i, p)
		}
	}
	if t.Versions != nil && len(t.Versions) != n {
		return lengthError("versions", len(t.Versions), n)
	}
	for i, v := range t.Versions {
		if !t.Sampled[i] && v != 0 {
			return fmt.Errorf("versions[%d]: %d where sampled is 0, want 0", i, v)
		}
		if v < 0 {
			return fmt.Errorf("versions[%d]: %d is negative; versions count from 0", i, v)
		}
	}
	for _, c := range columns(t)[1:] {
		if c.values != nil && len(c.values) != n {
			return lengthError(c.name, len(c.values), n)
		}
		for i, x := range c.values {
			if !finite(float64(x)) {
				return fmt.Errorf("%s[%d]: %g is not finite", c.name, i, x)
			}
		}
	}
	return nil
}

// validateRuns compares the turns with the maximal runs of sampled tokens.
func validateRuns(t *rollout.Trajectory) error {
	turn := 0
	for at := 0; at < len(t.Sampled); {
		if !t.Sampled[at] {
			at++
			continue
		}
		start := at
		for at < len(t.Sampled) && t.Sampled[at] {
			at++
		}
		if turn == len(t.Turns) {
			return fmt.Errorf("turns: %d turns, but sampled has another run at [%d,%d)", turn, start, at)
		}
		if got := t.Turns[turn]; got.Start != start || got.End != at {
			return fmt.Errorf("turns[%d]: [%d,%d) disagrees with sampled, whose run is [%d,%d)", turn, got.Start, got.End, start, at)
		}
		turn++
	}
	if turn < len(t.Turns) {
		return fmt.Errorf("turns[%d]: [%d,%d), but sampled has only %d runs", turn, t.Turns[turn].Start, t.Turns[turn].End, turn)
	}
	return nil
}

// validateTurn checks one turn; limit is where the next turn starts, or the number of tokens.
func validateTurn(turn rollout.Turn, limit int) error {
	if o := turn.Observation; o != nil && (o.Start < turn.End || o.End < o.Start || o.End > limit) {
		return fmt.Errorf("observation: [%d,%d) is not within [%d,%d), the tokens up to the next turn", o.Start, o.End, turn.End, limit)
	}
	for i, call := range turn.Calls {
		if !slices.Contains(rollout.CallStatuses, call.Status) {
			return fmt.Errorf("calls[%d].status: %q is unknown; known: %s", i, call.Status, list(rollout.CallStatuses))
		}
		if err := validateArgs(call.Args); err != nil {
			return fmt.Errorf("calls[%d].args.%w", i, err)
		}
	}
	if !finite(turn.Entropy) {
		return fmt.Errorf("entropy: %g is not finite", turn.Entropy)
	}
	return finiteValues("rewards", turn.Rewards)
}

// validateParents checks that branches depart from existing turns and share the tokens before them.
func validateParents(trajectories []rollout.Trajectory, index map[string]int) error {
	for i := range trajectories {
		t := &trajectories[i]
		if t.Parent == nil {
			continue
		}
		at, ok := index[t.Parent.Trajectory]
		if !ok {
			return fmt.Errorf("trajectories[%d].parent.trajectory: the group has no trajectory %q", i, t.Parent.Trajectory)
		}
		parent := &trajectories[at]
		if turns := len(parent.Turns); t.Parent.Turn < 0 || t.Parent.Turn >= turns {
			return fmt.Errorf("trajectories[%d].parent.turn: %d, but %q has %d turns", i, t.Parent.Turn, parent.ID, turns)
		}
		shared := parent.Turns[t.Parent.Turn].Start
		if len(t.Tokens) < shared || !slices.Equal(t.Tokens[:shared], parent.Tokens[:shared]) {
			return fmt.Errorf("trajectories[%d].tokens: the first %d differ from those of its parent %q", i, shared, parent.ID)
		}
		if descends(trajectories, index, i) {
			return fmt.Errorf("trajectories[%d].parent: %q descends from itself", i, t.ID)
		}
	}
	return nil
}

// descends reports whether following parents from trajectory i leads back to it.
func descends(trajectories []rollout.Trajectory, index map[string]int, i int) bool {
	at := i
	for range trajectories {
		parent := trajectories[at].Parent
		if parent == nil {
			return false
		}
		next, ok := index[parent.Trajectory]
		if !ok {
			return false
		}
		if next == i {
			return true
		}
		at = next
	}
	return false
}

func lengthError(field string, got, tokens int) error {
	return fmt.Errorf("%s: %d entries for %d tokens", field, got, tokens)
}

func finiteValues(field string, values map[string]float64) error {
	for name, value := range values {
		if !finite(value) {
			return fmt.Errorf("%s.%s: %g is not finite", field, name, value)
		}
	}
	return nil
}

func finite(x float64) bool { return !math.IsNaN(x) && !math.IsInf(x, 0) }

func list[T ~string](names []T) string {
	words := make([]string, len(names))
	for i, name := range names {
		words[i] = string(name)
	}
	return strings.Join(words, ", ")
}
