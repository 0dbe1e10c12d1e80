package lease

import (
	"encoding/json"
	"fmt"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/datadriven"
)

// TestStories plays the scripts of testdata: events in, commands out. `go test -rewrite` accepts what the pool
// does.
//
//	pool restarts=1
//
// makes a pool, with a policy that differs from the default where it says so, and
//
//	do
//	agent h1 gpus=2
//	request train gpu=2
//	+5s report h1 xid=79@GPU-h1-0
//
// feeds it one event a line; +5s lets time pass before. The words of each event are those that parse reads.
// `beat 1m` lets a minute pass in which the agents report as often as they are told to and the holders renew.
// The line `continue` takes the state through JSON into a new pool, as continue-as-new does; `lose` forgets
// everything, as a pool does whose history is gone; `status` shows what a person sees, `status WORD` the lines of it
// that have the word. `hosts 100 gpus=8` is an agent on each of a hundred hosts, all in one moment.
func TestStories(t *testing.T) {
	paths, err := filepath.Glob("testdata/*.txt")
	if err != nil || len(paths) == 0 {
		t.Fatalf("stories: %d files, %v", len(paths), err)
	}
	for _, path := range paths {
		t.Run(filepath.Base(path), func(t *testing.T) { tellStory(t, path) })
	}
}

func tellStory(t *testing.T, path string) {
	var s *story
	datadriven.RunTest(t, path, func(t *testing.T, d *datadriven.TestData) string {
		switch d.Cmd {
		case "pool":
			policy := DefaultPolicy()
			for _, arg := range d.CmdArgs {
				setPolicy(t, &policy, arg.Key, arg.Vals)
			}
			s = newStory(policy)
			return ""
		case "do":
			var out strings.Builder
			for line := range strings.Lines(d.Input) {
				out.WriteString(s.do(t, strings.TrimSpace(line)))
			}
			return out.String()
		}
		d.Fatalf(t, "unknown directive %q", d.Cmd)
		return ""
	})
}

func setPolicy(t *testing.T, policy *Policy, key string, values []string) {
	t.Helper()
	if len(values) != 1 {
		t.Fatalf("%s has the values %v", key, values)
	}
	if key == "restarts" {
		policy.Restarts = int(number(t, values[0]))
		return
	}
	into := map[string]*time.Duration{"report": &policy.ReportEvery, "silent": &policy.SilentAfter, "ttl": &policy.TTL, "yield": &policy.YieldWithin,
		"quiet": &policy.Quiet, "most": &policy.QuietMost, "calm": &policy.Calm}[key]
	if into == nil {
		t.Fatalf("unknown setting %q", key)
	}
	*into = duration(t, values[0])
}

// story is a pool and those around it.
type story struct {
	policy  Policy
	pool    *Pool
	now     time.Time
	agents  map[string]*teller
	holders map[string]Lease // what each was granted last and has not lost
}

func newStory(policy Policy) *story {
	return &story{policy: policy, pool: New(policy), now: time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC), agents: map[string]*teller{}, holders: map[string]Lease{}}
}

// do carries one line out and says what came of it.
func (s *story) do(t *testing.T, line string) string {
	t.Helper()
	var out strings.Builder
	fmt.Fprintf(&out, "> %s\n", line)
	if wait, rest, found := strings.Cut(line, " "); found && strings.HasPrefix(wait, "+") {
		s.now, line = s.now.Add(duration(t, wait[1:])), rest
	}
	w := words{t, line, strings.Fields(line)}
	switch w.verb() {
	case "":
		t.Fatal("empty line in a story")
	case "continue":
		s.pool = Restore(s.policy, roundTrip(t, s.pool.State()))
	case "lose":
		s.pool = New(s.policy)
	case "status":
		for _, line := range status(s.pool.Snapshot(s.now)) {
			if len(w.rest) == 1 || strings.Contains(line, w.rest[1]) {
				fmt.Fprintf(&out, "  %s\n", line)
			}
		}
	case "beat":
		var said strings.Builder
		s.beat(t, duration(t, w.rest[1]), &said)
		gather(&out, said.String(), "")
	case "hosts":
		var said strings.Builder
		s.hosts(t, w, &said)
		gather(&out, said.String(), "host-")
	case "die":
		s.agents[w.rest[1]].dead = true
	case "forget": // the holder stops renewing
		delete(s.holders, w.rest[1])
	default:
		s.step(t, w.event(s), &out)
	}
	return out.String()
}

// hosts registers agents on so many hosts, and writes down what comes of it.
func (s *story) hosts(t *testing.T, w words, out *strings.Builder) {
	t.Helper()
	for i := range number(t, w.rest[1]) {
		line := strings.Join(append([]string{"agent", fmt.Sprintf("host-%03d", i+1)}, w.rest[2:]...), " ")
		s.step(t, words{t, line, strings.Fields(line)}.event(s), out)
	}
}

// gather writes lines that are alike once, but for the numbers after a name that many have.
func gather(out *strings.Builder, text, name string) {
	last, same := "", 0
	end := func() {
		if same > 0 {
			fmt.Fprintf(out, "  and %d times more\n", same)
		}
	}
	for line := range strings.Lines(text) {
		alike := line
		if name != "" {
			alike = regexp.MustCompile(regexp.QuoteMeta(name)+`\d+`).ReplaceAllString(line, name)
		}
		if alike == last {
			same++
			continue
		}
		end()
		out.WriteString(line)
		last, same = alike, 0
	}
	end()
}

// step feeds one event to the pool, and writes down what comes of it.
func (s *story) step(t *testing.T, event Event, out *strings.Builder) {
	t.Helper()
	if err := s.pool.Check(event); err != nil {
		fmt.Fprintf(out, "  error: %v\n", err)
	}
	for _, command := range s.pool.Step(s.now, event) {
		fmt.Fprintf(out, "  %s\n", describe(command))
		s.hear(command)
	}
	if e, is := event.(Reported); is {
		s.agents[e.Report.Agent].answer(s.pool.Reply(e.Report.Agent), out)
	}
}

// hear keeps what holders know.
func (s *story) hear(command Command) {
	tell, is := command.(Tell)
	switch {
	case is && tell.News.Kind == Granted:
		s.holders[tell.Holder] = *tell.News.Lease
	case is && tell.News.Kind == Revoked && s.holders[tell.Holder].Fence == tell.News.Fence:
		delete(s.holders, tell.Holder)
	}
}

// beat lets time pass with everybody alive doing what they do.
func (s *story) beat(t *testing.T, span time.Duration, out *strings.Builder) {
	end := s.now.Add(span)
	renewed := s.now
	for {
		next := s.now.Add(s.policy.ReportEvery)
		if wake := s.pool.Wake(s.now); !wake.IsZero() && wake.Before(next) {
			next = wake
		}
		if next.After(end) {
			s.now = end
			return
		}
		s.now = next
		s.step(t, Tick{}, out)
		for _, name := range sortedKeys(s.agents) {
			if a := s.agents[name]; !a.dead && !s.now.Before(a.last.Add(a.every)) {
				s.step(t, a.report(s.now), out)
			}
		}
		if s.now.Sub(renewed) >= s.policy.TTL/3 {
			renewed = s.now
			for _, holder := range sortedKeys(s.holders) {
				s.step(t, Renewed{s.holders[holder]}, out)
			}
		}
	}
}

func describe(command Command) string {
	switch c := command.(type) {
	case Note:
		return "note: " + c.Text
	case Tell:
		n := c.News
		line := fmt.Sprintf("tell %s: %s", c.Holder, n.Kind)
		if n.Kind == Waiting && n.Never {
			line += " (never)"
		}
		if n.Lease != nil {
			line += fmt.Sprintf(" lease %d, %s on %s at %s until %s", n.Lease.Fence, n.Lease.Role, strings.Join(n.Lease.Devices, " "), n.Lease.Agent, n.Lease.Expires.Format(time.TimeOnly))
		} else if n.Fence != 0 {
			line += fmt.Sprintf(" lease %d", n.Fence)
		}
		if n.Reason != "" {
			line += ": " + n.Reason
		}
		return line
	}
	return fmt.Sprintf("%#v", command)
}

// status is a snapshot as lines.
func status(view Snapshot) []string {
	var lines []string
	add := func(format string, args ...any) {
		lines = append(lines, strings.TrimRight(fmt.Sprintf(format, args...), " :"))
	}
	for _, a := range view.Agents {
		state := "heard " + a.Heard.Format(time.TimeOnly)
		if a.Silent {
			state = "silent, " + state
		}
		add("agent %s on %s: %s, %s %s", a.Agent, a.Host, state, a.Driver, a.Reason)
	}
	for _, d := range view.Devices {
		trainers := ""
		if d.NoTrainers {
			trainers = ", no trainers"
		}
		var faults []string
		for _, f := range d.Faults {
			faults = append(faults, f.Name)
		}
		add("%s on %s by %s: %s%s since %s, leases %v, faults %v: %s", d.UUID, d.Host, strings.Join(d.Agents, "+"), d.Health, trainers, d.Since.Format(time.TimeOnly), d.Leases, faults, d.Why)
	}
	for _, l := range view.Leases {
		yield := ""
		if l.Yield != "" {
			yield = fmt.Sprintf(", yields until %s: %s", l.Deadline.Format(time.TimeOnly), l.Yield)
		}
		add("lease %d: %s, %s at %s on %s until %s%s", l.Fence, l.Holder, strings.Join(l.Devices, " "), l.Agent, l.Host, l.Expires.Format(time.TimeOnly), yield)
	}
	for _, w := range view.Queue {
		add("waits: %s since %s: %s", w.Holder, w.Since.Format(time.TimeOnly), w.Reason)
	}
	for _, q := range view.Queues {
		add("queue %s: weight %g, holds %v, quota %v", q.Name, q.Weight, q.Holds, q.Quota)
	}
	return append(lines, fmt.Sprintf("fence %d", view.Fence))
}

func roundTrip(t interface {
	Helper()
	Fatal(...any)
}, state State) State {
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

func (w words) has(flag string) bool { return slices.Contains(w.rest[1:], flag) }
