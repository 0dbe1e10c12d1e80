package chaos

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"time"
)

// Options say what a plan may hold.
type Options struct {
	// Faults is how many faults the plan has.
	Faults int
	Kinds  []Kind
	Roles  []Role
	// Seed draws everything; the same options give the same plan.
	Seed uint64
	// Gap is the mean time before a fault strikes; 0 means DefaultGap.
	Gap time.Duration
}

// DefaultGap lets a small run make a few steps between two faults.
const DefaultGap = 1500 * time.Millisecond

// killShare is the least share of a plan that is SIGKILL, when that is among its kinds: the other faults
// are rarer in life and longer.
const killShare = 0.6

// hurriedShare is the share of faults that do not wait until the one before them is recovered from.
const hurriedShare = 0.2

// lasting bounds how long a fault of a kind stays. The longest freeze is longer than the heartbeat
// time-out of the preset chaos, so that its victim wakes up to a world that went on without it.
var lasting = map[Kind][2]time.Duration{
	Freeze:    {500 * time.Millisecond, 6 * time.Second},
	Partition: {500 * time.Millisecond, 4 * time.Second},
	Delay:     {time.Second, 3 * time.Second},
	DiskFull:  {300 * time.Millisecond, 2 * time.Second},
	HungTool:  {500 * time.Millisecond, 2 * time.Second},
}

// Plan draws a plan. Kinds that strike none of the roles are an error. Every kind but SIGKILL has its
// turn before one of them comes again, and so has every role within a kind.
func Plan(o Options) ([]Fault, error) {
	if o.Faults < 1 {
		return nil, fmt.Errorf("%d faults: plan at least one", o.Faults)
	}
	draw := rand.New(rand.NewPCG(o.Seed, 0x6368616f73))
	roles := map[Kind]*deck[Role]{}
	for _, kind := range o.Kinds {
		var fit []Role
		for _, role := range suits[kind] {
			if role == Store || slices.Contains(o.Roles, role) {
				fit = append(fit, role)
			}
		}
		if len(fit) == 0 {
			return nil, fmt.Errorf("fault %s strikes %v alone: add one of them to the roles or leave the fault out", kind, suits[kind])
		}
		roles[kind] = &deck[Role]{cards: fit, draw: draw}
	}
	gap := o.Gap
	if gap == 0 {
		gap = DefaultGap
	}
	plan := make([]Fault, 0, o.Faults)
	for i, kind := range kinds(o, draw) {
		fault := Fault{Number: i + 1, Kind: kind, Role: roles[kind].next(), Pick: draw.Uint64(),
			Gap: time.Duration(2 * draw.Float64() * float64(gap)), Hurried: i > 0 && draw.Float64() < hurriedShare}
		if bounds, ok := lasting[kind]; ok {
			fault.Lasts = bounds[0] + time.Duration(draw.Float64()*float64(bounds[1]-bounds[0]))
		}
		switch kind {
		case Partition:
			fault.Silent = draw.IntN(2) == 0
		case Delay:
			fault.Wait = 20*time.Millisecond + time.Duration(draw.Float64()*float64(280*time.Millisecond))
		}
		plan = append(plan, fault)
	}
	return plan, nil
}

// kinds draws the kinds of a plan in the order they strike.
func kinds(o Options, draw *rand.Rand) []Kind {
	others := slices.DeleteFunc(slices.Clone(o.Kinds), func(k Kind) bool { return k == SIGKILL })
	var out []Kind
	if slices.Contains(o.Kinds, SIGKILL) {
		kills := o.Faults - int(float64(o.Faults)*(1-killShare))
		if len(others) == 0 {
			kills = o.Faults
		}
		out = slices.Repeat([]Kind{SIGKILL}, kills)
	}
	rest := deck[Kind]{cards: others, draw: draw}
	for len(out) < o.Faults {
		out = append(out, rest.next())
	}
	draw.Shuffle(len(out), func(i, j int) { out[i], out[j] = out[j], out[i] })
	return out
}

// deck deals cards in shuffled rounds, each card once a round.
type deck[T any] struct {
	cards []T
	dealt int
	draw  *rand.Rand
}

func (d *deck[T]) next() T {
	at := d.dealt % len(d.cards)
	if at == 0 {
		d.draw.Shuffle(len(d.cards), func(i, j int) { d.cards[i], d.cards[j] = d.cards[j], d.cards[i] })
	}
	d.dealt++
	return d.cards[at]
}
