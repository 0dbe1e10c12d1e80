package env

import (
	"fmt"
	"slices"

	"github.com/turnwise-rl/turnwise/rollout"
	"github.com/turnwise-rl/turnwise/rollout/tool"
)

// Demonstrate implements [Demonstrator] with the flaws of the configuration. The script knows the
// world, so each turn follows from what the tools will really answer.
func (l *Lookup) Demonstrate(task rollout.Task, seed uint64) ([]string, error) {
	o, err := demonstrable(lookupName, task)
	if err != nil {
		return nil, err
	}
	entity, relations, err := goldChain(task)
	if err != nil {
		return nil, err
	}
	w, d, flaws := l.facts.world(o), newDraws(seed, "demonstration", task.ID), l.config.Flaws
	if d.chance(flaws.WrongOrder) {
		slices.Reverse(relations)
	}
	if d.chance(flaws.StopEarly) && len(relations) > 1 {
		relations = relations[:len(relations)-1]
	}
	var turns []string
	for _, relation := range relations {
		name, link := entityNames[entity], relationNames[relation]
		turns = append(turns, flaws.slips(d,
			"search "+name+" "+link,
			"lookup entity: "+name+"; relation: "+link)...)
		if d.chance(flaws.ExtraCall) {
			turns = append(turns, formatCall(neighborsSpec, "entity", name))
		}
		turns = append(turns, formatCall(searchSpec, "entity", name, "relation", link))
		right := w.fact(entity, relation)
		others := slices.DeleteFunc(w.search(entity, relation, l.config.Distractors),
			func(f fact) bool { return f.entity == entity && f.relation == relation })
		if d.chance(flaws.Distractor) && len(others) > 0 {
			entity = others[d.below(len(others))].object
		} else {
			entity = right
		}
	}
	return append(turns, tool.FormatAnswer(entityNames[entity])), nil
}

// goldChain reads the first entity and the relations from a task's gold calls.
func goldChain(task rollout.Task) (entity int, relations []int, err error) {
	for i, call := range task.Gold.Calls {
		name, _ := call.Args.StringArg("entity")
		link, _ := call.Args.StringArg("relation")
		e, knownEntity := entityIndex[name]
		r, knownRelation := relationIndex[link]
		if !knownEntity || !knownRelation {
			return 0, nil, fmt.Errorf("task %s: gold call %d asks for %q of %q, which no world holds", task.ID, i, link, name)
		}
		if i == 0 {
			entity = e
		}
		relations = append(relations, r)
	}
	if len(relations) == 0 {
		return 0, nil, fmt.Errorf("task %s has no gold calls to demonstrate", task.ID)
	}
	return entity, relations, nil
}

func formatCall(spec tool.Spec, keyValues ...string) string {
	return tool.Format(rollout.Call{Name: spec.Name, Args: rollout.StringArgs(keyValues...)}, spec)
}
