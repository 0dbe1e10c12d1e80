package record

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/turnwise-rl/turnwise/rollout"
)

// maxLine bounds one group, so that a file that is no JSON Lines at all fails instead of filling memory.
const maxLine = 512 << 20

// Reader reads groups line by line. It is used by one goroutine.
type Reader struct {
	lines *bufio.Scanner
	name  string
	line  int
	// seen are the ids of groups and trajectories read so far, and their lines.
	groups, trajectories map[string]int
}

// NewReader reads groups from r. name stands for r in errors: a file's name, or "stdin".
func NewReader(r io.Reader, name string) *Reader {
	lines := bufio.NewScanner(r)
	lines.Buffer(make([]byte, 0, 1<<16), maxLine)
	return &Reader{lines: lines, name: name, groups: make(map[string]int), trajectories: make(map[string]int)}
}

// Next returns the next group, and [io.EOF] after the last. Blank lines are skipped. Any other error
// names the input, the line and the field. After a line that is wrong reading can go on with the one
// after it; when the input itself fails, every further call returns that error.
//
// Required are schema, group, task and trajectories; of a trajectory id, tokens, sampled, turns and
// stop; of a turn start and end; of a call name and status; of an attempt trajectory and attempt. Everything else may be missing or null
// and then has its zero value. A field the format does not have is an error. Null, NaN and infinite
// entries of the numbers per token are read as 0 where sampled is 0 and are errors where it is 1.
func (r *Reader) Next() (rollout.Group, error) {
	for r.lines.Scan() {
		r.line++
		line := bytes.TrimSpace(r.lines.Bytes())
		if len(line) == 0 {
			continue
		}
		g, err := r.parse(line)
		if err != nil {
			return rollout.Group{}, fmt.Errorf("%s:%d: %w", r.name, r.line, onOneLine{err})
		}
		return g, nil
	}
	switch err := r.lines.Err(); {
	case errors.Is(err, bufio.ErrTooLong):
		return rollout.Group{}, fmt.Errorf("%s:%d: the line is longer than %d bytes; one group a line is wanted", r.name, r.line+1, maxLine)
	case err != nil:
		return rollout.Group{}, fmt.Errorf("%s:%d: %w", r.name, r.line+1, err)
	}
	return rollout.Group{}, io.EOF
}

// Line is the line of the group that Next returned last, counted from 1.
func (r *Reader) Line() int { return r.line }

// onOneLine is an error that quotes names with line breaks in them.
type onOneLine struct{ error }

func (e onOneLine) Error() string {
	return strings.NewReplacer("\n", `\n`, "\r", `\r`).Replace(e.error.Error())
}

func (e onOneLine) Unwrap() error { return e.error }

func (r *Reader) parse(line []byte) (rollout.Group, error) {
	g, err := parseGroup(line)
	if err != nil {
		return g, err
	}
	if err := Validate(g); err != nil {
		return g, err
	}
	if earlier, twice := r.groups[g.ID]; twice {
		return g, fmt.Errorf("group: %q is already on line %d", g.ID, earlier)
	}
	r.groups[g.ID] = r.line
	for i, t := range g.Trajectories {
		if earlier, twice := r.trajectories[t.ID]; twice {
			return g, fmt.Errorf("trajectories[%d].id: %q is already on line %d", i, t.ID, earlier)
		}
		r.trajectories[t.ID] = r.line
	}
	return g, nil
}

func parseGroup(line []byte) (g rollout.Group, err error) {
	if !json.Valid(line) {
		original := line
		if line = standIn(line); !json.Valid(line) {
			return g, syntaxError(original)
		}
	}
	var schema string
	err = object("", line, []field{
		{"schema", required, into(&schema)},
		{"group", required, into(&g.ID)},
		{"task", required, func(at string, raw []byte) error { return parseTask(at, raw, &g.Task) }},
		{"trajectories", required, each(&g.Trajectories, parseTrajectory)},
		{"attempts", optional, each(&g.Attempts, parseAttempt)},
	})
	if err == nil && schema != Schema {
		err = fmt.Errorf("schema: %q, want %q", schema, Schema)
	}
	return g, err
}

func parseTask(at string, raw []byte, task *rollout.Task) error {
	return object(at, raw, []field{
		{"id", optional, into(&task.ID)},
		{"env", optional, into(&task.Env)},
		{"prompt", optional, into(&task.Prompt)},
		{"gold", optional, func(at string, raw []byte) error {
			return object(at, raw, []field{
				{"answer", optional, into(&task.Gold.Answer)},
				{"calls", optional, each(&task.Gold.Calls, func(at string, raw []byte, call *rollout.GoldCall) error {
					return object(at, raw, []field{
						{"name", required, into(&call.Name)},
						{"args", optional, intoArgs(&call.Args)},
					})
				})},
			})
		}},
		{"world", optional, func(at string, raw []byte) error {
			if bytes.Contains(raw, []byte(beyond)) {
				return fmt.Errorf("%s: holds a number that is not finite", at)
			}
			return into(&task.World)(at, raw)
		}},
	})
}

func parseTrajectory(at string, raw []byte, t *rollout.Trajectory) error {
	err := object(at, raw, []field{
		{"id", required, into(&t.ID)},
		{"parent", optional, func(at string, raw []byte) error {
			t.Parent = new(rollout.Parent)
			return object(at, raw, []field{
				{"trajectory", required, into(&t.Parent.Trajectory)},
				{"turn", required, into(&t.Parent.Turn)},
			})
		}},
		{"tokens", required, intoList(&t.Tokens)},
		{"sampled", required, func(at string, raw []byte) error { return parseSampled(at, raw, &t.Sampled) }},
		{"behavior_logprobs", optional, intoColumn(&t.BehaviorLogProbs)},
		{"versions", optional, intoList(&t.Versions)},
		{"entropies", optional, intoColumn(&t.Entropies)},
		{"values", optional, intoColumn(&t.Values)},
		{"reference_logprobs", optional, intoColumn(&t.ReferenceLogProbs)},
		{"turns", required, each(&t.Turns, parseTurn)},
		{"stop", required, into(&t.Stop)},
		{"answer", optional, into(&t.Answer)},
		{"outcome", optional, into(&t.Outcome)},
		{"scores", optional, intoValues(&t.Scores)},
		{"role", optional, into(&t.Role)},
		{"pair", optional, into(&t.Pair)},
		{"temperature", optional, into(&t.Temperature)},
		{"elapsed_seconds", optional, into(&t.ElapsedSeconds)},
	})
	if err != nil {
		return err
	}
	return checkColumns(at, t)
}

func parseTurn(at string, raw []byte, turn *rollout.Turn) error {
	return object(at, raw, []field{
		{"start", required, into(&turn.Start)},
		{"end", required, into(&turn.End)},
		{"observation", optional, func(at string, raw []byte) error {
			turn.Observation = new(rollout.Span)
			return object(at, raw, []field{
				{"start", required, into(&turn.Observation.Start)},
				{"end", required, into(&turn.Observation.End)},
			})
		}},
		{"calls", optional, each(&turn.Calls, parseCall)},
		{"format_ok", optional, into(&turn.FormatOK)},
		{"state", optional, into(&turn.State)},
		{"entropy", optional, into(&turn.Entropy)},
		{"rewards", optional, intoValues(&turn.Rewards)},
	})
}

func parseCall(at string, raw []byte, call *rollout.Call) error {
	return object(at, raw, []field{
		{"name", required, into(&call.Name)},
		{"args", optional, intoArgs(&call.Args)},
		{"status", required, into(&call.Status)},
		{"key", optional, into(&call.Key)},
	})
}

func parseAttempt(at string, raw []byte, attempt *rollout.Attempt) error {
	return object(at, raw, []field{
		{"trajectory", required, into(&attempt.Trajectory)},
		{"attempt", required, into(&attempt.Number)},
		{"tenure", optional, into(&attempt.Tenure)},
		{"from", optional, into(&attempt.From)},
		{"discarded", optional, into(&attempt.Discarded)},
		{"failure", optional, into(&attempt.Failure)},
		{"reason", optional, into(&attempt.Reason)},
	})
}

// parseSampled reads a list of 0 and 1.
func parseSampled(at string, raw []byte, sampled *[]bool) error {
	var numbers []int64
	if err := intoList(&numbers)(at, raw); err != nil {
		return err
	}
	*sampled = make([]bool, len(numbers))
	for i, n := range numbers {
		if n != 0 && n != 1 {
			return fmt.Errorf("%s[%d]: %d, want 0 or 1", at, i, n)
		}
		(*sampled)[i] = n == 1
	}
	return nil
}
