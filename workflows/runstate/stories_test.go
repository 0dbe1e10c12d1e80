package runstate

import (
	"encoding/json"
	"fmt"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/datadriven"
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
//	serve 0 1
//	+30s ready 0 1
//
// feeds it one event a line; +30s lets time pass before. `ready 4@1` is a group whose oldest token is of
// version 1, else it is of the version published. `short 4 2=tool` says that member 2 failed in the round
// last published. `quiet 0 1 3` answers control object 3, `quiet 0 1` the last one. `set again` repeats the last
// change. The line `continue` takes the state through JSON into a new machine, as continue-as-new
// does; `restart` forgets everything, as a run does whose history is gone; `status` shows all of it.
// A request for a lease is granted at once, unless the story begins with `run devices=0`: then it says
// `granted 7 GPU-a` itself, for a lease with fence 7.
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
			return indented(t, story.machine.State())
		}
		d.Fatalf(t, "unknown directive %q", d.Cmd)
		return ""
	})
}

type story struct {
	spec    Spec
	machine *Machine
	now     time.Time
	control Control
	devices int // granted at once
}

func newStory(t *testing.T, d *datadriven.TestData) *story {
	t.Helper()
	spec := Spec{GroupsPerStep: 2, GroupSize: 2, Pools: 1, Slots: 8, CheckpointEvery: 5,
		Failures: Failures{Retries: 1, Replacements: 1, MaxShare: 0.5, Window: 8}, StepTimeout: time.Hour, StallAfter: 10 * time.Minute}
	for key, into := range map[string]*int{"warm": &spec.WarmSteps, "train": &spec.TrainSteps, "groups": &spec.GroupsPerStep,
		"size": &spec.GroupSize, "staleness": &spec.Staleness, "concurrency": &spec.Concurrency, "evaluate": &spec.EvaluateEvery,
		"pools": &spec.Pools, "slots": &spec.Slots, "checkpoint": &spec.CheckpointEvery, "retries": &spec.Failures.Retries,
		"replacements": &spec.Failures.Replacements, "window": &spec.Failures.Window} {
		d.MaybeScanArgs(t, key, into)
	}
	devices := 1
	d.MaybeScanArgs(t, "devices", &devices)
	if err := spec.Validate(); err != nil {
		d.Fatalf(t, "%v", err)
	}
	return &story{spec: spec, machine: New(spec), now: time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC), devices: devices}
}

func (s *story) status() string {
	status := s.machine.Status(s.now)
	line := fmt.Sprintf("= %s %d/%d", status.Phase, status.Committed, status.LastStep)
	if status.WaitingFor != "" {
		line += ", waiting for " + status.WaitingFor
	}
	if status.Reason != "" {
		line += ", because " + status.Reason
	}
	return line + "\n"
}

func indented(t *testing.T, value any) string {
	t.Helper()
	data, err := json.MarshalIndent(value, "", " ")
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
	if wait, rest, found := strings.Cut(line, " "); found && strings.HasPrefix(wait, "+") {
		passed, err := time.ParseDuration(wait[1:])
		if err != nil {
			t.Fatalf("%q: %v", line, err)
		}
		s.now, line = s.now.Add(passed), rest
	}
	var events []Event
	switch line {
	case "continue":
		s.machine = Restore(s.spec, roundTrip(t, s.machine.State()))
		events = []Event{ContinuedAsNew{}}
	case "restart":
		s.machine = New(s.spec)
	case "status":
		return out.String() + indented(t, s.machine.Status(s.now))
	default:
		events = s.parse(t, line)
	}
	for ; len(events) > 0; events = events[1:] {
		for _, command := range s.machine.Step(s.now, events[0]) {
			switch c := command.(type) {
			case PublishControl:
				s.control = c.Control
			case AskLease:
				if s.devices > 0 {
					events = append(events, LeaseGranted{Lease: someLease(c.Above+1, "CPU-a")})
				}
			}
			fmt.Fprintf(&out, "  %s\n", describe(command))
		}
	}
	out.WriteString("  " + s.status())
	return out.String()
}

// someLease is a lease of devices of a host.
func someLease(fence int, devices ...string) Lease {
	return Lease{Fence: fence, Agent: "host-a", Host: "host-a", Devices: devices}
}

// words reads one line of a story.
type words struct {
	t    *testing.T
	line string
	rest []string
}

func (w words) number(i int) int {
	w.t.Helper()
	if i >= len(w.rest) {
		w.t.Fatalf("%q: number %d is missing", w.line, i+1)
	}
	n, err := strconv.Atoi(w.rest[i])
	if err != nil {
		w.t.Fatalf("%q: %v", w.line, err)
	}
	return n
}

func (w words) from(i int) string { return strings.Join(w.rest[min(i, len(w.rest)):], " ") }

// parse reads one line of a story: an event, or several for lines that take several numbers.
func (s *story) parse(t *testing.T, line string) []Event {
	t.Helper()
	all := strings.Fields(line)
	if len(all) == 0 {
		t.Fatal("empty line in a story")
	}
	w := words{t, line, all[1:]}
	switch all[0] {
	case "prepared":
		return []Event{w.prepared()}
	case "committed":
		e := StepCommitted{Step: w.number(0), Weights: weights(w.number(0))}
		if took, err := time.ParseDuration(w.from(1)); err == nil {
			e.Took = took
		}
		return []Event{e}
	case "ready":
		return s.ready(w)
	case "short":
		return []Event{s.short(w)}
	case "serve":
		return []Event{PoolServing{Pool: w.number(0), Tenure: w.number(1), Worker: "worker-" + w.rest[1]}}
	case "quiet":
		e := PoolQuiet{Pool: w.number(0), Tenure: w.number(1), Revision: s.control.Revision}
		if len(w.rest) > 2 {
			e.Revision = w.number(2)
		}
		return []Event{e}
	case "corrupt":
		e := StepCorrupt{Step: w.number(0)}
		for i := range w.rest[1:] {
			e.Groups = append(e.Groups, w.number(i+1))
		}
		return []Event{e}
	case "set":
		return []Event{s.set(w)}
	}
	return []Event{w.simple(all[0])}
}

// simple reads events that need nothing but their line.
func (w words) simple(verb string) Event {
	switch verb {
	case "step-failed":
		return StepFailed{Step: w.number(0), Reason: w.from(1)}
	case "late":
		return StepTimedOut{Step: w.number(0)}
	case "granted":
		devices, reason, _ := strings.Cut(w.from(1), " because ")
		return LeaseGranted{Lease: someLease(w.number(0), strings.Fields(devices)...), Reason: reason}
	case "waiting":
		return LeaseWaiting{Reason: w.from(0)}
	case "yield":
		return LeaseYield{Fence: w.number(0), Reason: w.from(1)}
	case "revoked":
		return LeaseRevoked{Fence: w.number(0), Reason: w.from(1)}
	case "left":
		return WorkLeft{Fence: w.number(0), Reason: w.from(1)}
	case "weights-corrupt":
		return WeightsCorrupt{Key: w.from(0)}
	case "repaired":
		return Repaired{Key: w.rest[0], Reason: w.from(1)}
	case "lose":
		return PoolLost{Pool: w.number(0), Tenure: w.number(1), Reason: w.from(2)}
	case "dropped":
		return GroupDropped{Number: w.number(0), Reason: w.from(1)}
	case "evaluated":
		return Evaluated{Version: w.number(0), Took: time.Second}
	case "evaluation-waiting":
		return EvaluationWaiting{Version: w.number(0), Reason: w.from(1)}
	case "evaluation-failed":
		return EvaluationFailed{Version: w.number(0), Reason: w.from(1)}
	case "pool-failed":
		return PoolFailed{Pool: w.number(0), Reason: w.from(1)}
	case "broken":
		return Broken{Reason: w.from(0)}
	case "tick":
		return Tick{}
	case "pause":
		return PauseAsked{}
	case "resume":
		return ResumeAsked{}
	case "cancel":
		return CancelAsked{}
	case "handover":
		return HandoverAsked{}
	}
	w.t.Fatalf("unknown event %q", w.line)
	return nil
}

func (s *story) ready(w words) []Event {
	var events []Event
	for _, word := range w.rest {
		number, version, dated := strings.Cut(word, "@")
		n, err := strconv.Atoi(number)
		if err != nil {
			w.t.Fatalf("%q: %v", w.line, err)
		}
		oldest := s.control.Version
		if dated {
			if oldest, err = strconv.Atoi(version); err != nil {
				w.t.Fatalf("%q: %v", w.line, err)
			}
		}
		events = append(events, GroupReady{Group: group(n, oldest, s.control.Version)})
	}
	return events
}

func (s *story) short(w words) Event {
	e := GroupShort{Number: w.number(0)}
	for _, share := range s.control.Shares {
		for _, a := range share.Groups {
			if a.Group == e.Number {
				e.Round = a.Round
			}
		}
	}
	for _, word := range w.rest[1:] {
		member, kind, _ := strings.Cut(word, "=")
		n, err := strconv.Atoi(member)
		if err != nil {
			w.t.Fatalf("%q: %v", w.line, err)
		}
		e.Failed = append(e.Failed, MemberFailure{Member: n, Kind: kind, Reason: "it broke"})
	}
	return e
}

func (s *story) set(w words) Event {
	spec := *s.machine.spec()
	if w.from(0) == "again" {
		return Changed{Config: s.machine.state.Config, Spec: spec, Summary: "again"}
	}
	for _, word := range w.rest {
		key, value, _ := strings.Cut(word, "=")
		n, err := strconv.Atoi(value)
		if err != nil {
			w.t.Fatalf("%q: %v", w.line, err)
		}
		switch key {
		case "staleness":
			spec.Staleness = n
		case "concurrency":
			spec.Concurrency = n
		default:
			w.t.Fatalf("%q: unknown setting %q", w.line, key)
		}
	}
	return Changed{Config: s.machine.state.Config + 1, Spec: spec, Summary: w.from(0)}
}

func (w words) prepared() Prepared {
	w.t.Helper()
	var event Prepared
	for _, word := range w.rest {
		key, value, _ := strings.Cut(word, "=")
		for _, part := range strings.Split(value, ",") {
			n, err := strconv.Atoi(part)
			if err != nil {
				w.t.Fatalf("%q: %v", w.line, err)
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
			case "next":
				event.NextGroup = n
			case "open":
				event.Open = append(event.Open, n)
			default:
				w.t.Fatalf("%q: unknown setting %q", w.line, key)
			}
		}
	}
	return event
}

func describe(command Command) string {
	switch c := command.(type) {
	case StartPools:
		return fmt.Sprintf("start pools %d to %d", c.From, c.To-1)
	case PublishControl:
		return fmt.Sprintf("publish #%d: %s", c.Control.Revision, describeControl(c.Control))
	case TrainStep:
		return describeStep(c)
	case Evaluate:
		return fmt.Sprintf("evaluate version %d (%s), at most %s", c.Version, c.Weights.Key, c.Timeout)
	case AskLease:
		return fmt.Sprintf("ask for a lease above %d", c.Above)
	case GiveLease:
		return fmt.Sprintf("give lease %d back", c.Fence)
	case Abandon:
		return fmt.Sprintf("abandon step %d, repairs %v", c.Step, c.Repairs)
	case Repair:
		return fmt.Sprintf("repair %s under lease %d", c.Key, c.Lease.Fence)
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

func describeControl(c Control) string {
	line := fmt.Sprintf("version %d (%s)", c.Version, c.Weights.Key)
	if c.Paused {
		line += ", paused"
	}
	if c.Stopped {
		line += ", stopped"
	}
	for _, share := range c.Shares {
		line += fmt.Sprintf("; pool %d, tenure %d:", share.Pool, share.Tenure)
		for _, a := range share.Groups {
			line += fmt.Sprintf(" %d", a.Group)
			if a.Round > 0 {
				line += fmt.Sprintf(" (round %d)", a.Round)
			}
			if a.Members != nil {
				line += fmt.Sprintf(" %v", a.Members)
			}
			if a.Moved {
				line += " (moved)"
			}
		}
	}
	return line
}

func describeStep(c TrainStep) string {
	line := fmt.Sprintf("train step %d (%s)", c.Step, c.Kind)
	var numbers []int
	for _, g := range c.Batch {
		numbers = append(numbers, g.Number)
	}
	if c.Kind == Reinforce {
		line += fmt.Sprintf(" on groups %v", numbers)
	}
	for _, d := range c.Dropped {
		line += fmt.Sprintf(", without %d (%s)", d.Number, d.Reason)
	}
	line += fmt.Sprintf(", fence %d, lease %d, at most %s", c.Fence, c.Lease.Fence, c.Timeout)
	if c.Config > 0 {
		line += fmt.Sprintf(", revision %d of the config", c.Config)
	}
	if c.Checkpoint {
		line += ", checkpoint"
	}
	return line
}
