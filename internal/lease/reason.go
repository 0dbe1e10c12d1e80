package lease

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/turnwise-rl/turnwise/internal/gpu"
)

// never says why a request has no chance: for good, when it asks for more than the known fleet is, or for as
// long as nobody serves it. The reason is "" when agents are heard that could do it.
func (b *board) never(r Request) (reason string, never bool) {
	if r.Count < 1 {
		return fmt.Sprintf("asks for %d devices: ask for 1 or more", r.Count), true
	}
	if len(b.agents) == 0 {
		return "no worker has reported yet: start one with `turnwise worker`", false
	}
	serving := filter(b.agents, func(a *boardAgent) bool { return a.capacity(r.Role) > 0 })
	if len(serving) == 0 {
		return oneLine(fmt.Sprintf("no agent serves %s: start one with `turnwise worker --roles %s`", r.Role, served(r.Role))), false
	}
	silent := b.able(r, true)
	switch heard := b.able(r, false); {
	case len(silent)+len(heard) == 0:
		return oneLine(b.beyond(r, serving)), true
	case len(heard) == 0:
		return oneLine(fmt.Sprintf("%s; free 0: %s", needed(r), isSilent(silent))), false
	}
	return "", false
}

// served is the role of the worker processes that serve a role: those that play rollouts evaluate as well.
func served(r Role) Role {
	if r == Evaluate {
		return Rollout
	}
	return r
}

// able are the agents, silent or heard, that could do a request if all of their devices were healthy and free.
func (b *board) able(r Request, silent bool) []*boardAgent {
	return filter(b.agents, func(a *boardAgent) bool {
		return a.Silent == silent && a.capacity(r.Role) > 0 && a.computes(r) && a.largest(r, r.MemoryBytes) >= r.Count
	})
}

func isSilent(agents []*boardAgent) string {
	verb := "is"
	if len(agents) > 1 {
		verb = "are"
	}
	return fmt.Sprintf("%s %s silent", listed("agent", names(agents), 3), verb)
}

// largest is how many devices with so much memory the agent's largest domain has, or its host.
func (a *boardAgent) largest(r Request, bytes int64) int {
	all, most := 0, 0
	for _, group := range a.groups[r.Kind] {
		n := 0
		for _, d := range group {
			if d.MemoryTotalBytes >= bytes {
				n++
			}
		}
		all += n
		if group[0].domain != nil || r.Count == 1 {
			most = max(most, n)
		}
	}
	if r.OneDomain {
		return most
	}
	return all
}

// beyond says what the known fleet lacks.
func (b *board) beyond(r Request, serving []*boardAgent) string {
	computing := filter(serving, func(a *boardAgent) bool { return a.computes(r) })
	if len(computing) == 0 {
		a := serving[0]
		hosts := hostsOf(filter(serving, func(other *boardAgent) bool {
			return slices.Equal(other.Computes, a.Computes) && slices.Equal(other.Lacks, a.Lacks)
		}))
		return fmt.Sprintf("needs %s; %s", counted(r.Count, r.Kind), lacking(r, a, hosts))
	}
	most, largest, where := 0, int64(0), computing[0]
	for _, a := range computing {
		if n := a.largest(r, 0); n > most {
			most, where = n, a
		}
		for _, group := range a.groups[r.Kind] {
			for _, d := range group {
				largest = max(largest, d.MemoryTotalBytes)
			}
		}
	}
	switch {
	case most == 0 && r.OneDomain && r.Count > 1:
		return needed(r) + "; there is none"
	case most == 0:
		note := ""
		for _, a := range computing {
			note = cmp.Or(note, a.hidden(r), a.Reason)
		}
		if note != "" {
			note = ": " + note
		}
		return fmt.Sprintf("needs %s; %s no %s%s", counted(r.Count, r.Kind), has(hostsOf(computing)), r.Kind, note)
	case largest < r.MemoryBytes:
		need, have := sizes(r.MemoryBytes, largest)
		return fmt.Sprintf("needs %s on one %s; the largest has %s", need, r.Kind, have)
	case most < r.Count:
		return fmt.Sprintf("%s; the largest has %d, on host %s", needed(r), most, where.Host)
	default:
		most = 0
		for _, a := range computing {
			if n := a.largest(r, r.MemoryBytes); n > most {
				most, where = n, a
			}
		}
		need, _ := sizes(r.MemoryBytes, largest)
		return fmt.Sprintf("%s with %s each; the largest has %d, on host %s", needed(r), need, most, where.Host)
	}
}

// why says what stands in the way of a request that the fleet could do.
func (b *board) why(r Request) string {
	q := b.queue(r.Queue)
	if quota, bounded := q.Quota[r.Kind]; bounded && r.Count > quota {
		return oneLine(fmt.Sprintf("needs %s; the quota of queue %s is %d: raise it with `turnwise gpu queue`", counted(r.Count, r.Kind), r.Queue, quota))
	} else if bounded && q.left(r.Kind) < r.Count {
		more := ""
		if kept := q.claimed[kindIndex(r.Kind)] - q.held[kindIndex(r.Kind)]; kept > 0 {
			more = fmt.Sprintf(", %d kept for what comes first", kept)
		}
		if r.Count > 1 {
			more += fmt.Sprintf("; this needs %d", r.Count)
		}
		return oneLine(fmt.Sprintf("queue %s holds %d of its quota of %d %s%s", r.Queue, q.held[kindIndex(r.Kind)], quota, r.Kind, more))
	}
	return oneLine(b.obstacles(r))
}

// whyYield says which leases have to yield.
func (b *board) whyYield(r Request, c clearing) string {
	var parts []string
	for _, l := range c.gone {
		var on []string
		for _, d := range l.devices {
			on = append(on, b.short[d.UUID])
		}
		slices.Sort(on)
		parts = append(parts, fmt.Sprintf("%s (%s, priority %d) to yield %s", l.Holder, l.Role, l.Priority, listed("", on, 2)))
	}
	return oneLine(fmt.Sprintf("%s; waits for %s", needed(r), listed("", parts, 3)))
}

// needed says what a request asks for.
func needed(r Request) string {
	switch {
	case r.Count == 1:
		return "needs " + counted(1, r.Kind)
	case r.OneDomain:
		return fmt.Sprintf("needs %d in one NVLink domain", r.Count)
	}
	return fmt.Sprintf("needs %s of one host", counted(r.Count, r.Kind))
}

func counted(n int, kind gpu.Kind) string {
	if n == 1 {
		return fmt.Sprintf("1 %s", kind)
	}
	return fmt.Sprintf("%d %ss", n, kind)
}

func kinds(computes []gpu.Kind) string {
	if len(computes) == 0 {
		return "nothing"
	}
	var out []string
	for _, kind := range computes {
		out = append(out, string(kind))
	}
	slices.Sort(out)
	return strings.Join(out, ", ")
}

func has(hosts []string) string {
	if len(hosts) == 1 {
		return listed("host", hosts, 3) + " has"
	}
	return listed("host", hosts, 3) + " have"
}

func names(agents []*boardAgent) []string {
	var out []string
	for _, a := range agents {
		out = append(out, a.Agent)
	}
	return out
}

func hostsOf(agents []*boardAgent) []string {
	var out []string
	for _, a := range agents {
		out = append(out, a.Host)
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// listed names the first few: "hosts a, b and 3 more".
func listed(noun string, items []string, most int) string {
	if noun != "" && len(items) > 1 {
		noun += "s"
	}
	if noun != "" {
		noun += " "
	}
	if len(items) > most {
		return fmt.Sprintf("%s%s and %d more", noun, strings.Join(items[:most], ", "), len(items)-most)
	}
	return noun + strings.Join(items, ", ")
}

func filter(agents []*boardAgent, keep func(*boardAgent) bool) []*boardAgent {
	var out []*boardAgent
	for _, a := range agents {
		if keep(a) {
			out = append(out, a)
		}
	}
	return out
}

// oneLine keeps names that others have chosen from breaking a line.
func oneLine(text string) string { return strings.Join(strings.Fields(text), " ") }

// sizes says two amounts of memory in the unit of the larger, to the byte when they would read the same.
func sizes(x, y int64) (string, string) {
	for _, unit := range []struct {
		bytes float64
		name  string
	}{{1 << 30, "GiB"}, {1 << 20, "MiB"}, {1 << 10, "KiB"}} {
		if float64(max(x, y)) < unit.bytes {
			continue
		}
		first, second := fmt.Sprintf("%.1f %s", float64(x)/unit.bytes, unit.name), fmt.Sprintf("%.1f %s", float64(y)/unit.bytes, unit.name)
		if first != second || x == y {
			return first, second
		}
		break
	}
	return fmt.Sprintf("%d bytes", x), fmt.Sprintf("%d bytes", y)
}

// shortest is how much of a UUID people read at least: "GPU-1f2e".
const shortest = 8

// shorten gives for each UUID the shortest prefix that no other one has, of at least 8 bytes, that does not
// end in a dash or in the middle of a letter.
func shorten(uuids []string) map[string]string {
	sorted := slices.Clone(uuids)
	slices.Sort(sorted)
	sorted = slices.Compact(sorted)
	out := map[string]string{}
	for i, uuid := range sorted {
		n := shortest
		for _, j := range []int{i - 1, i + 1} {
			if j >= 0 && j < len(sorted) {
				n = max(n, alike(uuid, sorted[j])+1)
			}
		}
		for n < len(uuid) && (uuid[n-1] == '-' || !utf8.RuneStart(uuid[n])) {
			n++
		}
		out[uuid] = uuid[:min(n, len(uuid))]
	}
	return out
}

// alike is how many bytes two names have in common at their beginnings.
func alike(x, y string) int {
	n := 0
	for n < min(len(x), len(y)) && x[n] == y[n] {
		n++
	}
	return n
}
