package lease

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"strings"

	"github.com/turnwise-rl/turnwise/internal/gpu"
)

// Check says why an event that a person asks for would change nothing, and what to ask for instead; nil when
// it would. Other events are not checked.
func (p *Pool) Check(event Event) error {
	switch e := event.(type) {
	case DrainAsked:
		d, err := p.known(e.UUID)
		if err != nil {
			return err
		}
		if at := slices.IndexFunc(d.Verdicts, func(v Verdict) bool { return v.Cause == drained }); at >= 0 {
			return fmt.Errorf("%s is %s already, since %s; take it back with `turnwise gpu undrain %s`", e.UUID, d.Verdicts[at].Why, clock(d.Verdicts[at].Since), e.UUID)
		}
	case UndrainAsked:
		d, err := p.known(e.UUID)
		switch {
		case err != nil:
			return err
		case len(d.Verdicts) == 0 && len(d.Agents) == 0:
			return fmt.Errorf("%s is out of sight: %s", e.UUID, p.why(d))
		case len(d.Verdicts) == 0 && p.reserved(d) != "":
			return fmt.Errorf("%s is not drained: %s", e.UUID, p.reserved(d))
		case len(d.Verdicts) == 0:
			return fmt.Errorf("%s is not drained and nothing is held against it", e.UUID)
		}
	case QueueSet:
		return checkQueue(e.Queue)
	}
	return nil
}

func checkQueue(q Queue) error {
	switch {
	case q.Name == "" || strings.TrimSpace(q.Name) != q.Name || strings.ContainsAny(q.Name, "\r\n\t"):
		return fmt.Errorf("queue %q: name it by one word", q.Name)
	case q.Weight < 0 || math.IsNaN(q.Weight) || math.IsInf(q.Weight, 0):
		return fmt.Errorf("queue %s: its weight is %g, give it a positive one", q.Name, q.Weight)
	}
	for _, kind := range sortedKeys(q.Quota) {
		switch {
		case kind != gpu.CPU && kind != gpu.GPU:
			return fmt.Errorf("queue %s: a quota of %q, which is no kind of device: cpu or gpu", q.Name, kind)
		case q.Quota[kind] < 0:
			return fmt.Errorf("queue %s: a quota of %d %s, give it 0 or more", q.Name, q.Quota[kind], kind)
		}
	}
	return nil
}

// known is the device with a UUID, or an error that names those that look like it.
func (p *Pool) known(uuid string) (*DeviceState, error) {
	if d := p.state.device(uuid); d != nil {
		return d, nil
	}
	if len(p.state.Devices) == 0 {
		return nil, fmt.Errorf("no device is named %q: no agent has reported any", uuid)
	}
	return nil, fmt.Errorf("no device is named %q: %s", uuid, p.near(uuid))
}

// mostNear is how many names are offered for one that is not known.
const mostNear = 3

// near names the devices whose names are nearest to one that nobody has.
func (p *Pool) near(uuid string) string {
	type candidate struct {
		uuid string
		off  int
	}
	var found []candidate
	for i := range p.state.Devices {
		name := p.state.Devices[i].UUID
		off := distance(strings.ToLower(uuid), strings.ToLower(name))
		if uuid != "" && strings.Contains(strings.ToLower(name), strings.ToLower(uuid)) {
			off = 0
		}
		if off <= max(len(uuid), len(name))/3 {
			found = append(found, candidate{name, off})
		}
	}
	slices.SortStableFunc(found, func(a, b candidate) int { return cmp.Compare(a.off, b.off) })
	var names []string
	for _, c := range found[:min(len(found), mostNear)] {
		names = append(names, c.uuid)
	}
	if len(names) == 0 {
		return "`turnwise gpu` lists them"
	}
	return "did you mean " + strings.Join(names, " or ") + "?"
}

// distance is how many letters have to be changed, added or left out to make one word the other (Levenshtein).
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			above := row[j+1]
			cost := diagonal
			if a[i] != b[j] {
				cost++
			}
			row[j+1], diagonal = min(cost, above+1, row[j]+1), above
		}
	}
	return row[len(b)]
}
