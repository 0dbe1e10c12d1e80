package env

import (
	"context"
	"slices"
	"strings"
	"testing"

	"github.com/turnwise-rl/turnwise/rollout"
)

// reachable adds every fact of a task's world to facts, read through the tool.
func reachable(t *testing.T, e Environment, task rollout.Task, facts map[string]bool) {
	t.Helper()
	episode, err := e.Open(task)
	if err != nil {
		t.Fatal(err)
	}
	defer episode.Close()
	for _, call := range task.Gold.Calls {
		result, err := episode.Call(context.Background(), rollout.Call{Name: call.Name, Args: call.Args})
		if err != nil {
			t.Fatal(err)
		}
		for _, sentence := range strings.Split(strings.TrimSuffix(result.Text, " ."), " .") {
			facts[sentence] = true
		}
	}
}

func TestSplitsShareNoFact(t *testing.T) {
	e, _ := Build(lookupName, nil)
	train, heldOut := map[string]bool{}, map[string]bool{}
	for index := range 4000 {
		reachable(t, e, e.Task(rollout.Train, uint64(index%7), index), train)
		reachable(t, e, e.Task(rollout.HeldOut, uint64(index%7), index), heldOut)
	}
	shared := 0
	for fact := range heldOut {
		if train[fact] {
			shared++
		}
	}
	if shared != 0 || len(heldOut) < 4000 || len(train) < 15000 {
		t.Errorf("%d facts of %d held-out and %d training ones are shared, want 0 of thousands", shared, len(heldOut), len(train))
	}
}

func TestSplitsPartAllPossibleFacts(t *testing.T) {
	table := newFactTable()
	least, heldOut, all := entityCount, 0, 0
	for e := range entityNames {
		for r := range relationNames {
			for _, o := range table.heldOut[e][r] {
				if slices.Contains(table.train[e][r], o) || int(o) == e {
					t.Fatalf("%s of %s is %s: in both splits, or of itself", relationNames[r], entityNames[e], entityNames[o])
				}
			}
			least = min(least, len(table.heldOut[e][r]), len(table.train[e][r]))
			heldOut += len(table.heldOut[e][r])
			all += len(table.heldOut[e][r]) + len(table.train[e][r])
		}
	}
	if want := entityCount * (entityCount - 1) * len(relationNames); all != want {
		t.Errorf("%d facts are possible, want %d", all, want)
	}
	if share := float64(heldOut) / float64(all); share < 0.19 || share > 0.21 || least < 2 {
		t.Errorf("%.3f of the facts are held out and the shortest list has %d entries, want 0.2 and at least 2", share, least)
	}
}

func TestNamesAreDistinctWords(t *testing.T) {
	words := append(slices.Clone(entityNames), relationNames...)
	if len(entityIndex) != entityCount || len(relationIndex) != 8 {
		t.Fatalf("%d entities and %d relations, want %d and 8", len(entityIndex), len(relationIndex), entityCount)
	}
	for _, template := range templates {
		words = append(words, slices.Compact(slices.Sorted(slices.Values(strings.Fields(strings.ToLower(template.text)))))...)
	}
	for _, name := range entityNames {
		if n := strings.Count(" "+strings.Join(words, " ")+" ", " "+name+" "); n != 1 {
			t.Errorf("%q is an entity and %d other words", name, n-1)
		}
	}
}

func TestQuestionsFollowTheChain(t *testing.T) {
	e, _ := Build(lookupName, nil)
	hops := map[int]int{}
	for index := range 3000 {
		task := e.Task(rollout.HeldOut, 2, index)
		hops[len(task.Gold.Calls)]++
		words := strings.Fields(task.Prompt)
		if slices.Contains(words, task.Gold.Answer) {
			t.Fatalf("%s: the question holds its answer %s: %s", task.ID, task.Gold.Answer, task.Prompt)
		}
		want := words[len(words)-2]
		visited := map[string]bool{}
		for i, call := range task.Gold.Calls {
			entity, _ := call.Args.StringArg("entity")
			relation, _ := call.Args.StringArg("relation")
			if i == 0 && entity != want || visited[entity] || entity == task.Gold.Answer {
				t.Fatalf("%s: call %d asks for %s: %s", task.ID, i, entity, task.Prompt)
			}
			visited[entity] = true
			if at := len(words) - 4 - 3*i; words[at] != relation {
				t.Fatalf("%s: call %d asks for %s where the question says %s: %s", task.ID, i, relation, words[at], task.Prompt)
			}
		}
	}
	for n := 2; n <= 4; n++ {
		if hops[n] < 900 || hops[n] > 1100 {
			t.Errorf("%d of 3000 questions have %d hops, want a third", hops[n], n)
		}
	}
}

func TestHopWeightsShapeTheCurriculum(t *testing.T) {
	config := DefaultLookupConfig()
	config.MinHops, config.MaxHops, config.HopWeights = 1, 3, []float64{3, 0, 1}
	e, err := NewLookup(config)
	if err != nil {
		t.Fatal(err)
	}
	hops := map[int]int{}
	for index := range 2000 {
		hops[len(e.Task(rollout.Train, 2, index).Gold.Calls)]++
	}
	if hops[2] != 0 || hops[1] < 1400 || hops[1] > 1600 || hops[1]+hops[3] != 2000 {
		t.Errorf("weights 3, 0, 1 over 1 to 3 hops give %v of 2000", hops)
	}
}

func TestSearchHidesTheFactAmongDistractors(t *testing.T) {
	table := newFactTable()
	places := map[int]int{}
	for index := range 300 {
		w := table.world(origin{rollout.Train, 4, index})
		for distractors := range 7 {
			entity, relation := index%entityCount, index%len(relationNames)
			facts := w.search(entity, relation, distractors)
			asked := fact{entity, relation, w.fact(entity, relation)}
			sameEntity, sameRelation := 0, 0
			for _, f := range facts {
				if f.object != w.fact(f.entity, f.relation) {
					t.Fatalf("search returns %v, which is not a fact", f)
				}
				if f == asked {
					continue
				}
				if f.entity == entity {
					sameEntity++
				} else if f.relation == relation {
					sameRelation++
				}
			}
			if sameEntity != (distractors+1)/2 || sameRelation != distractors/2 || !slices.Contains(facts, asked) {
				t.Fatalf("search with %d distractors returns %v for %v", distractors, facts, asked)
			}
			if again := w.search(entity, relation, distractors); !slices.Equal(facts, again) {
				t.Fatalf("two searches return %v and %v", facts, again)
			}
			if distractors == 2 {
				places[slices.Index(facts, asked)]++
			}
		}
	}
	for place := range 3 {
		if places[place] < 70 {
			t.Errorf("the asked fact is at place %d in %d of 300 searches, want about 100", place, places[place])
		}
	}
}

func TestLookupErrorsTellHowToGoOn(t *testing.T) {
	e, _ := Build(lookupName, nil)
	episode, err := e.Open(e.Task(rollout.Train, 1, 1))
	if err != nil {
		t.Fatal(err)
	}
	before := episode.State()
	for _, c := range []struct{ tool, entity, relation, want string }{
		{"search", "mary", "friend", " error: no entity mary"},
		{"search", "<|x|>\n", "friend", " error: no entity ??x???"},
		{"search", "mira", "enemy", " error: no relation enemy; relations: friend, rival, mentor, cousin, guest, boss, tutor, partner"},
		{"neighbors", "mary", "", " error: no entity mary"},
	} {
		got, err := episode.Call(context.Background(), rollout.Call{Name: c.tool, Args: rollout.StringArgs("entity", c.entity, "relation", c.relation)})
		if err != nil || got.Status != rollout.CallError || got.Text != c.want {
			t.Errorf("%s(%s, %s) answers %q (%s), %v; want %q", c.tool, c.entity, c.relation, got.Text, got.Status, err, c.want)
		}
	}
	if episode.State() != before {
		t.Error("a failed call changes the state")
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := episode.Call(ctx, rollout.Call{Name: "search"}); err == nil {
		t.Error("a call with a cancelled context is answered")
	}
}

func TestNeighborsListEveryRelatedEntityOnce(t *testing.T) {
	w := newFactTable().world(origin{rollout.HeldOut, 4, 4})
	for entity := range entityNames {
		listed := strings.Fields(w.neighbors(entity))[3:]
		if !slices.IsSortedFunc(listed, func(a, b string) int { return entityIndex[a] - entityIndex[b] }) {
			t.Errorf("neighbors of %s are %v, which tells their order", entityNames[entity], listed)
		}
		want := map[string]bool{}
		for r := range relationNames {
			want[entityNames[w.fact(entity, r)]] = true
		}
		for _, name := range listed {
			if !want[name] {
				t.Errorf("%s is listed as a neighbor of %s", name, entityNames[entity])
			}
		}
		if len(listed) != len(want) {
			t.Errorf("%d neighbors of %s are listed, want %d", len(listed), entityNames[entity], len(want))
		}
	}
}
