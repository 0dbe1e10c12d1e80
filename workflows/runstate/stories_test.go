package runstate

import (
	"encoding/json"
	"fmt"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/cockroachdb/datadriven"
	"pgregory.net/rapid"
)

// TestStories plays the scripts of testdata: events in, commands and status out. `go test -rewrite`
// accepts what the machine does.
//
//	run warm=2 train=2 groups=2 staleness=0 evaluate=0 pools=1
//
// starts a machine, and
//
//	do
//	prepared committed=0
//	ready 0 1
//
// feeds it one event a line. The line `continue` takes the state through JSON into a new machine, as
// continue-as-new does; `restart` forgets everything, as a run does whose history is gone.
func TestStories(t *testing.T) {
	paths, err := filepath.Glob("testdata/*.txt")
	if err != nil || len(paths) == 0 {
		t.Fatalf("stories: %d files, %v", len(paths), err)
	}
	for _, path := range paths {
		t.Run(filepath.Base(path), func(t *testing.T) { tell(t, path) })
	}
}

func tell(t *testing.T, path string) {
	var story *story
	datadriven.RunTest(t, path, func(t *testing.T, d *datadriven.TestData) string {
		switch d.Cmd {
		case "run":
			story = newStory(t, d)
			return story.status()
		case "do":
			var out strings.Builder
			for line := range strings.Lines(d.Input) {
				out.WriteString(story.do(t, strings.TrimSpace(line)))
			}
			return out.String()
		case "state":
			return story.state(t)
		}
		d.Fatalf(t, "unknown directive %q", d.Cmd)
		return ""
	})
}

type story struct {
	spec    Spec
	machine *Machine
}

func newStory(t *testing.T, d *datadriven.TestData) *story {
	t.Helper()
	spec := Spec{GroupsPerStep: 2, Pools: 1}
	for key, into := range map[string]*int{"warm": &spec.WarmSteps, "train": &spec.TrainSteps, "groups": &spec.GroupsPerStep,
		"staleness": &spec.Staleness, "evaluate": &spec.EvaluateEvery, "pools": &spec.Pools} {
		d.MaybeScanArgs(t, key, into)
	}
	if err := spec.Validate(); err != nil {
		d.Fatalf(t, "%v", err)
	}
	return &story{spec: spec, machine: New(spec)}
}

func (s *story) status() string {
	status := s.machine.Status()
	line := fmt.Sprintf("= %s %d/%d", status.Phase, status.Committed, status.LastStep)
	if status.WaitingFor != "" {
		line += ", waiting for " + status.WaitingFor
	}
	if status.Reason != "" {
		line += ", because " + status.Reason
	}
	return line + "\n"
}

func (s *story) state(t *testing.T) string {
	t.Helper()
	data, err := json.MarshalIndent(s.machine.State(), "", " ")
	if err != nil {
		t.Fatal(err)
	}
	return string(data) + "\n"
}

// do carries one line out and says what came of it.
func (s *story) do(t *testing.T, line string) string {
	t.Helper()
	var out strings.Builder
	fmt.Fprintf(&out, "> %s\n", line)
	var events []Event
	switch line {
	case "continue":
		s.machine = Restore(s.spec, roundTrip(t, s.machine.State()))
		events = []Event{ContinuedAsNew{}}
	case "restart":
		s.machine = New(s.spec)
	default:
		events = parse(t, line)
	}
	for _, event := range events {
		for _, command := range s.machine.Step(event) {
			fmt.Fprintf(&out, "  %s\n", describe(command))
		}
	}
	out.WriteString("  " + s.status())
	return out.String()
}

func roundTrip(t rapid.TB, state State) State {
	t.Helper()
	data, err := json.Marshal(state)
	if err != nil {
		t.Fatal(err)
	}
	var back State
	if err := json.Unmarshal(data, &back); err != nil {
		t.Fatal(err)
	}
	return back
}

func weights(version int) Ref {
	if version == 0 {
		return Ref{}
	}
	return Ref{Key: fmt.Sprintf("w%d", version), Digest: fmt.Sprintf("sha256:%d", version), Size: 1}
}

func group(number int) GroupRef {
	return GroupRef{Number: number, Object: Ref{Key: fmt.Sprintf("g%d", number), Digest: "sha256:g", Size: 1}}
}

// parse reads one line of a story: an event, or several for lines that take several numbers.
func parse(t *testing.T, line string) []Event {
	t.Helper()
	words := strings.Fields(line)
	if len(words) == 0 {
		t.Fatal("empty line in a story")
	}
	verb, rest := words[0], words[1:]
	number := func(i int) int {
		if i >= len(rest) {
			t.Fatalf("%q: number %d is missing", line, i+1)
		}
		n, err := strconv.Atoi(rest[i])
		if err != nil {
			t.Fatalf("%q: %v", line, err)
		}
		return n
	}
	reason := func(from int) string { return strings.Join(rest[min(from, len(rest)):], " ") }
	switch verb {
	case "prepared":
		return []Event{prepared(t, line, rest)}
	case "committed":
		return []Event{StepCommitted{Step: number(0), Weights: weights(number(0))}}
	case "step-failed":
		return []Event{StepFailed{Step: number(0), Reason: reason(1)}}
	case "ready":
		var events []Event
		for i := range rest {
			events = append(events, GroupReady{Group: group(number(i))})
		}
		return events
	case "evaluated":
		return []Event{Evaluated{Version: number(0)}}
	case "evaluation-failed":
		return []Event{EvaluationFailed{Version: number(0), Reason: reason(1)}}
	case "pool-failed":
		return []Event{PoolFailed{Pool: number(0), Reason: reason(1)}}
	case "broken":
		return []Event{Broken{Reason: reason(0)}}
	case "pause":
		return []Event{PauseAsked{}}
	case "resume":
		return []Event{ResumeAsked{}}
	case "cancel":
		return []Event{CancelAsked{}}
	case "handover":
		return []Event{HandoverAsked{}}
	}
	t.Fatalf("unknown event %q", line)
	return nil
}

func prepared(t *testing.T, line string, words []string) Prepared {
	t.Helper()
	var event Prepared
	for _, word := range words {
		key, value, _ := strings.Cut(word, "=")
		for _, part := range strings.Split(value, ",") {
			n, err := strconv.Atoi(part)
			if err != nil {
				t.Fatalf("%q: %v", line, err)
			}
			switch key {
			case "committed":
				event.Committed, event.Weights = n, weights(n)
			case "evaluated":
				event.Evaluated = append(event.Evaluated, n)
			case "fence":
				event.Fence = n
			case "revision":
				event.Revision = n
			default:
				t.Fatalf("%q: unknown setting %q", line, key)
			}
		}
	}
	return event
}

func describe(command Command) string {
	switch c := command.(type) {
	case StartPools:
		return fmt.Sprintf("start %d pools", c.Pools)
	case PublishControl:
		line := fmt.Sprintf("publish #%d: version %d (%s), groups %d to %d", c.Control.Revision, c.Control.Version, c.Control.Weights.Key, c.Control.Consumed, c.Control.Admitted-1)
		if c.Control.Stopped {
			line += ", stopped"
		}
		return line
	case TrainStep:
		var numbers []int
		for _, g := range c.Batch {
			numbers = append(numbers, g.Number)
		}
		if c.Kind == Warm {
			return fmt.Sprintf("train step %d (%s), fence %d", c.Step, c.Kind, c.Fence)
		}
		return fmt.Sprintf("train step %d (%s) on groups %v, fence %d", c.Step, c.Kind, numbers, c.Fence)
	case Evaluate:
		return fmt.Sprintf("evaluate version %d (%s)", c.Version, c.Weights.Key)
	case Note:
		return "note: " + c.Text
	case HandOver:
		return "hand over"
	case Finish:
		if c.Reason != "" {
			return fmt.Sprintf("finish %s: %s", c.Outcome, c.Reason)
		}
		return "finish " + string(c.Outcome)
	}
	return fmt.Sprintf("%#v", command)
}

// TestStateRoundTrip carries a state with every field set through JSON.
func TestStateRoundTrip(t *testing.T) {
	state := State{Known: true, Committed: 3, Weights: weights(3), Ready: []GroupRef{group(4), group(6)}, Evaluated: []int{1, 3},
		Training: 4, Evaluating: []int{3}, PoolsStarted: true, Control: Control{Revision: 5, Version: 3, Weights: weights(3), Admitted: 8, Consumed: 4, Stopped: true},
		Fence: 9, Paused: true, Cancelling: true, HandingOver: true, Failure: "f", Outcome: Failed}
	back := roundTrip(t, state)
	got, want := fmt.Sprintf("%+v", back), fmt.Sprintf("%+v", state)
	if got != want {
		t.Errorf("state after JSON:\n got %s\nwant %s", got, want)
	}
}

// TestStateIsACopy makes sure that a state handed out does not change with the machine.
func TestStateIsACopy(t *testing.T) {
	m := New(Spec{TrainSteps: 1, GroupsPerStep: 3, Pools: 1})
	for _, e := range []Event{Prepared{}, Evaluated{Version: 0}, GroupReady{Group: group(2)}} {
		m.Step(e)
	}
	state := m.State()
	m.Step(GroupReady{Group: group(1)})
	if want := []GroupRef{group(2)}; !slices.Equal(state.Ready, want) {
		t.Errorf("ready groups of the copy: got %v, want %v", state.Ready, want)
	}
}

func TestValidate(t *testing.T) {
	good := Spec{WarmSteps: 1, TrainSteps: 1, GroupsPerStep: 1, Pools: 1}
	for name, c := range map[string]struct {
		change func(*Spec)
		want   string
	}{
		"good":            {func(*Spec) {}, ""},
		"warm only":       {func(s *Spec) { *s = Spec{WarmSteps: 3} }, ""},
		"no steps":        {func(s *Spec) { s.WarmSteps, s.TrainSteps = 0, 0 }, "steps: a run needs at least one warm or train step"},
		"negative steps":  {func(s *Spec) { s.TrainSteps = -1 }, "steps: warm 1, train -1: must not be negative"},
		"no groups":       {func(s *Spec) { s.GroupsPerStep = 0 }, "groups_per_step 0: must be at least 1"},
		"no pools":        {func(s *Spec) { s.Pools = 0 }, "pools 0: must be at least 1"},
		"staleness":       {func(s *Spec) { s.Staleness = -1 }, "staleness -1: must not be negative"},
		"evaluation rate": {func(s *Spec) { s.EvaluateEvery = -2 }, "evaluate_every -2: must not be negative"},
	} {
		spec := good
		c.change(&spec)
		got := ""
		if err := spec.Validate(); err != nil {
			got = err.Error()
		}
		if got != c.want {
			t.Errorf("%s: got %q, want %q", name, got, c.want)
		}
	}
}
