package env

import (
	"slices"
	"strings"

	"github.com/turnwise-rl/turnwise/rollout"
)

const entityCount = 64

var (
	entityNames   = syllablePairs("mi ta no ri se ka lu be", "ra vo ko lo la nu si ti")
	relationNames = strings.Fields("friend rival mentor cousin guest boss tutor partner")

	entityIndex   = indexOf(entityNames)
	relationIndex = indexOf(relationNames)
)

// syllablePairs joins every first syllable with every second one.
func syllablePairs(first, second string) []string {
	var names []string
	for _, a := range strings.Fields(first) {
		for _, b := range strings.Fields(second) {
			names = append(names, a+b)
		}
	}
	return names
}

func indexOf(names []string) map[string]int {
	index := make(map[string]int, len(names))
	for i, name := range names {
		index[name] = i
	}
	return index
}

// factTable lists, for each split, entity and relation, the entities that a knowledge base of the
// split may relate the entity to. The two splits' lists part the other 63 entities between them.
type factTable struct {
	train, heldOut [entityCount][][]uint8 // [entity][relation]
}

func newFactTable() *factTable {
	var table factTable
	for e, entity := range entityNames {
		table.train[e] = make([][]uint8, len(relationNames))
		table.heldOut[e] = make([][]uint8, len(relationNames))
		for r, relation := range relationNames {
			for o, other := range entityNames {
				switch {
				case o == e:
				case inSplit(rollout.HeldOut, hash("lookup fact", entity, relation, other)):
					table.heldOut[e][r] = append(table.heldOut[e][r], uint8(o))
				default:
					table.train[e][r] = append(table.train[e][r], uint8(o))
				}
			}
		}
	}
	return &table
}

// world is the knowledge base of one task: a function, not a table.
type world struct {
	objects *[entityCount][][]uint8
	key     uint64
}

func (t *factTable) world(o origin) world {
	w := world{objects: &t.train, key: o.draws("lookup world").next()}
	if o.Split == rollout.HeldOut {
		w.objects = &t.heldOut
	}
	return w
}

// fact returns the entity that a relation leads to from an entity.
func (w world) fact(entity, relation int) int {
	objects := w.objects[entity][relation]
	h := mix(w.key ^ mix(uint64(entity)<<8|uint64(relation)))
	return int(objects[h%uint64(len(objects))])
}

// fact is one line of a search result.
type fact struct{ entity, relation, object int }

// search returns the asked fact among distractors, in an order that depends on the world and the
// question alone.
func (w world) search(entity, relation, distractors int) []fact {
	d := &draws{mix(w.key ^ mix(1<<16|uint64(entity)<<8|uint64(relation)))}
	asked := func(entity, relation int) fact { return fact{entity, relation, w.fact(entity, relation)} }
	facts := []fact{asked(entity, relation)}
	for len(facts) <= distractors {
		next := asked(entity, d.below(len(relationNames)))
		if len(facts)%2 == 0 {
			next = asked(d.below(entityCount), relation)
		}
		if !slices.Contains(facts, next) {
			facts = append(facts, next)
		}
	}
	return shuffle(d, facts)
}

// factsText writes a search result. A fact that was not asked for begins with the word near, as a
// search engine sets near matches apart; facts stand in any order.
func factsText(facts []fact, entity, relation int) string {
	var b strings.Builder
	for _, f := range facts {
		if f.entity != entity || f.relation != relation {
			b.WriteString(" near")
		}
		b.WriteString(" " + relationNames[f.relation] + " of " + entityNames[f.entity] + " is " + entityNames[f.object] + " .")
	}
	return b.String()
}

// neighbors lists the entities related to an entity in the order of their names' index, so that the
// order does not tell the relation.
func (w world) neighbors(entity int) string {
	var objects []int
	for r := range relationNames {
		objects = append(objects, w.fact(entity, r))
	}
	slices.Sort(objects)
	var b strings.Builder
	b.WriteString(" near " + entityNames[entity] + " :")
	for _, object := range slices.Compact(objects) {
		b.WriteString(" " + entityNames[object])
	}
	return b.String()
}
