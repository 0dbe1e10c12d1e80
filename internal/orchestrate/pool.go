package orchestrate

import (
	"math"
	"slices"

	"github.com/turnwise-rl/turnwise/workflows/runstate"
)

// pool is one rollout loop: slots that play the episodes of its share.
type pool struct {
	number, slots int
	contention    float64
	// hand are the groups being played, waiting those of them with members that have no slot, both by
	// ascending number.
	hand, waiting []*group
	// reported are groups that left the hand by themselves, until they leave the share too: the control
	// object may be older than the report.
	reported map[int]bool
	// held slots have an episode, decoding of these sample now.
	held, decoding int
	// Sequences that decode share the device evenly, so one clock of service serves all: it advances by
	// the speed of a sequence, and a turn ends when the clock has advanced by what the turn draws.
	service float64
	turns   queue[*episode] // by the service at which their turns end
	// updated is the time up to which service and the two integrals count.
	updated                      float64
	heldSeconds, decodingSeconds float64
	// stamp tells the latest wake-up from those that a change of speed has overtaken.
	stamp int
}

// group is one that a pool plays.
type group struct {
	number  int
	members []*episode // len = members begun
	done    int        // finished
	// oldest is the version that sampled its first token; none before that.
	oldest int
	gone   bool // withdrawn: what is still queued of it means nothing
}

// none is the oldest version of a group that has sampled nothing.
const none = -1

// phase is what an episode is in the middle of.
type phase int

const (
	waits   phase = iota // for its environment or a tool
	samples              // a turn
	ended
)

// episode is one trajectory in the making.
type episode struct {
	group  *group
	script script
	phase  phase
	turn   int // turns sampled so far
}

// speed is that of one decoding sequence.
func (p *pool) speed() float64 {
	return 1 / (1 + p.contention*float64(p.decoding)/float64(p.slots))
}

// advance counts up to now.
func (p *pool) advance(now float64) {
	elapsed := now - p.updated
	p.service += elapsed * p.speed()
	p.heldSeconds += elapsed * float64(p.held)
	p.decodingSeconds += elapsed * float64(p.decoding)
	p.updated = now
}

// next is when the pool's next turn ends at the present speed.
func (p *pool) next() float64 {
	for !p.turns.empty() && p.turns.first().value.overtaken() {
		p.turns.take()
	}
	if p.turns.empty() {
		return math.Inf(1)
	}
	return p.updated + math.Max(p.turns.first().key-p.service, 0)/p.speed()
}

// overtaken says that a queued turn was ended by other means: a withdrawal or the episode's cap.
func (e *episode) overtaken() bool { return e.phase != samples }

// sample begins the episode's next turn.
func (p *pool) sample(e *episode) {
	e.phase = samples
	p.decoding++
	p.turns.add(p.service+e.script.decode[e.turn], e)
}

// release ends the episode, whatever it is in the middle of.
func (p *pool) release(e *episode) {
	if e.phase == samples {
		p.decoding--
	}
	e.phase = ended
	p.held--
}

// forget takes a group out of the pool's hands and frees its slots.
func (p *pool) forget(g *group) {
	g.gone = true
	for _, e := range g.members {
		if e.phase != ended {
			p.release(e)
		}
	}
}

// follow makes the pool's hand what the share says. Groups that left it are withdrawn.
func (p *pool) follow(share []runstate.Assignment) {
	var hand []*group
	had, reported := p.hand, map[int]bool{}
	for _, assignment := range share {
		for len(had) > 0 && had[0].number < assignment.Group {
			p.forget(had[0])
			had = had[1:]
		}
		if len(had) > 0 && had[0].number == assignment.Group {
			hand, had = append(hand, had[0]), had[1:]
			continue
		}
		if p.reported[assignment.Group] {
			reported[assignment.Group] = true
			continue
		}
		g := &group{number: assignment.Group, oldest: none}
		hand, p.waiting = append(hand, g), append(p.waiting, g)
	}
	for _, g := range had {
		p.forget(g)
	}
	p.hand, p.reported = hand, reported
	p.waiting = slices.DeleteFunc(p.waiting, func(g *group) bool { return g.gone })
	slices.SortFunc(p.waiting, func(a, b *group) int { return a.number - b.number })
}

// report takes a group out of the hand that is finished or given up.
func (p *pool) report(g *group) {
	p.forget(g)
	p.reported[g.number] = true
	at, _ := slices.BinarySearchFunc(p.hand, g.number, func(g *group, number int) int { return g.number - number })
	p.hand = slices.Delete(p.hand, at, at+1)
	p.waiting = slices.DeleteFunc(p.waiting, func(g *group) bool { return g.gone })
}
