package decode

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/cockroachdb/datadriven"
)

// stage tells stories about a schedule. Every sequence samples a token of its own, so that members of a
// group part after their prompt, unless the story says that all sample the same.
type stage struct {
	t        *testing.T
	schedule *schedule
	byName   map[string]*sequence
	out      strings.Builder
}

func TestScheduleStories(t *testing.T) {
	datadriven.Walk(t, "testdata/schedule", func(t *testing.T, path string) {
		s := &stage{t: t, byName: map[string]*sequence{}}
		datadriven.RunTest(t, path, s.tell)
	})
}

func (s *stage) tell(t *testing.T, d *datadriven.TestData) string {
	s.t = t
	s.out.Reset()
	switch d.Cmd {
	case "new":
		var pages, slots, pass int
		d.ScanArgs(t, "pages", &pages)
		d.ScanArgs(t, "slots", &slots)
		d.ScanArgs(t, "pass", &pass)
		s.schedule = newSchedule(pages, slots, pass)
	case "add":
		s.add(d)
	case "pass":
		s.pass(d)
	case "end":
		for _, arg := range d.CmdArgs {
			q := s.byName[arg.Key]
			delete(s.byName, arg.Key)
			s.schedule.end(q)
		}
	case "release":
		for _, arg := range d.CmdArgs {
			s.schedule.release(arg.Key)
		}
	case "invalidate":
		s.schedule.invalidate()
	case "pages":
		s.printPages(s.schedule.pool.roots, "")
		p := s.schedule.pool
		fmt.Fprintf(&s.out, "%d used, %d cached, %d free\n", len(p.pages)-p.available(), p.unreferenced, len(p.free))
	default:
		d.Fatalf(t, "no command %q", d.Cmd)
	}
	checkSchedule(t, s.schedule)
	s.printQueue()
	return s.out.String()
}

// add queues the sequence named first: "add x of=(a40,b3)" has 40 tokens a, then 3 tokens b. "after=y" puts
// the tokens of y in front.
func (s *stage) add(d *datadriven.TestData) {
	q := &sequence{name: d.CmdArgs[0].Key}
	for _, arg := range d.CmdArgs[1:] {
		for _, run := range arg.Vals {
			switch arg.Key {
			case "after":
				q.tokens = append(q.tokens, s.byName[run].tokens...)
			case "of":
				n, err := strconv.Atoi(run[1:])
				if err != nil {
					d.Fatalf(s.t, "%v", err)
				}
				q.tokens = append(q.tokens, slices.Repeat([]int32{int32(run[0])}, n)...)
			}
		}
	}
	s.byName[q.name] = q
	s.schedule.add(q)
}

// pass plans and commits "times" passes and prints the last.
func (s *stage) pass(d *datadriven.TestData) {
	times := 1
	d.MaybeScanArgs(s.t, "times", &times)
	for range times {
		s.out.Reset()
		before := s.schedule.counts
		batch := s.schedule.plan()
		if n := s.schedule.counts.preempted - before.preempted; n > 0 {
			fmt.Fprintf(&s.out, "%d preempted\n", n)
		}
		for _, c := range s.schedule.copies {
			fmt.Fprintf(&s.out, "copy page %d to %d\n", c.from, c.to)
		}
		var sampling []*sequence
		for _, q := range batch {
			fmt.Fprintf(&s.out, "%s: %d cached, %d new, pages %v", q.name, q.cached, q.rows, q.table)
			if q.sampling() {
				s.out.WriteString(", samples")
				sampling = append(sampling, q)
			}
			s.out.WriteString("\n")
		}
		s.schedule.commit(&flight{planned: batch})
		for _, q := range sampling {
			token := int32(strings.ToUpper(q.name)[0])
			if d.HasArg("same") {
				token = '='
			}
			q.tokens = append(q.tokens, token)
		}
		checkSchedule(s.t, s.schedule)
	}
}

// printPages prints the tree of pages with contents.
func (s *stage) printPages(id int32, indent string) {
	for ; id != none; id = s.schedule.pool.pages[id].next {
		x := &s.schedule.pool.pages[id]
		fmt.Fprintf(&s.out, "%spage %d: %s, %d references\n", indent, id, runs(x.tokens[:x.filled]), x.refs)
		s.printPages(x.child, indent+"  ")
	}
}

// runs writes tokens as a story does.
func runs(tokens []int32) string {
	var out []string
	for i := 0; i < len(tokens); {
		n := 1
		for i+n < len(tokens) && tokens[i+n] == tokens[i] {
			n++
		}
		out = append(out, fmt.Sprintf("%c%d", tokens[i], n))
		i += n
	}
	return strings.Join(out, " ")
}

func (s *stage) printQueue() {
	if len(s.schedule.waiting) > 0 {
		s.out.WriteString("waiting:")
		for _, q := range s.schedule.waiting {
			s.out.WriteString(" " + q.name)
		}
		s.out.WriteString("\n")
	}
	if s.out.Len() == 0 {
		s.out.WriteString("ok\n")
	}
}
