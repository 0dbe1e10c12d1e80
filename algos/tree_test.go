package algos

import (
	"fmt"
	"math"
	"strings"
	"testing"

	"github.com/turnwise-rl/turnwise/algos/advantage"
	"github.com/turnwise-rl/turnwise/algos/credit"
	"github.com/turnwise-rl/turnwise/kernels/ref"
	"github.com/turnwise-rl/turnwise/rollout"
)

// tree is AT²PO's example: leaves l1 and l2 behind turn t1, leaf l3 behind turn t2.
func tree(outcomes [3]float64, entropies map[string]float64) rollout.Group {
	group := one(masked("l1", 0, 1, 0, 1), masked("l2", 0, 1, 0, 1), masked("l3", 0, 1, 0, 1))
	for i, path := range [][]string{{"t1", "l1"}, {"t1", "l2"}, {"t2", "l3"}} {
		tr := &group.Trajectories[i]
		tr.Outcome = &outcomes[i]
		for k, node := range path {
			tr.Turns[k].Entropy = entropies[node]
		}
	}
	group.Trajectories[1].Parent = &rollout.Parent{Trajectory: "l1", Turn: 1}
	return group
}

func TestTreeValue(t *testing.T) {
	var v struct {
		In map[string]struct {
			H float64
			R float64
		}
		Value     map[string]float64 `json:"value_is_advantage"`
		Expansion map[string]float64 `json:"expansion_scores"`
		Paths     map[string][]float64
	}
	vectors(t, "at2po", &v)
	entropies := map[string]float64{}
	for node, facts := range v.In {
		entropies[node] = facts.H
	}
	group := tree([3]float64{v.In["l1"].R, v.In["l2"].R, v.In["l3"].R}, entropies)
	m := termMethod(credit.NewTreeValue())
	want := [][]float64{v.Paths["root>t1>l1"], v.Paths["root>t1>l2"], v.Paths["root>t2>l3"]}
	agree(t, "values", want, turnAdvantages(t, []rollout.Group{group}, streams(t, m, group)))
	for node, siblings := range map[string]int{"t1": 1, "t2": 1} {
		agree(t, "expansion score of "+node, v.Expansion[node], credit.ExpansionScore(v.In[node].H, siblings))
	}

	// The differences follow from the values of the file.
	root, t1, t2 := v.Value["root"], v.Value["t1"], v.Value["t2"]
	for of, want := range map[credit.TreeAdvantage][][]float64{
		credit.TreeMinusParent: {{t1 - root, v.Value["l1"] - t1}, {t1 - root, v.Value["l2"] - t1}, {t2 - root, v.Value["l3"] - t2}},
		credit.TreeMinusRoot:   {{t1 - root, v.Value["l1"] - root}, {t1 - root, v.Value["l2"] - root}, {t2 - root, v.Value["l3"] - root}},
		credit.TreeBoth: {
			{2 * (t1 - root), 2*v.Value["l1"] - t1 - root}, {2 * (t1 - root), 2*v.Value["l2"] - t1 - root}, {2 * (t2 - root), 2*v.Value["l3"] - t2 - root},
		},
	} {
		rule := credit.NewTreeValue()
		rule.Advantage = of
		agree(t, string(of), want, turnAdvantages(t, []rollout.Group{group}, streams(t, termMethod(rule), group)))
	}
	// By the mean, t1 is halfway between its leaves; by leaves, so is it, and the root is 0, the mean of all leaves.
	half, low := (v.Value["l1"]+v.Value["l2"])/2, v.Value["l3"]
	for backup, root := range map[credit.Backup]float64{credit.BackupMean: (half + low) / 2, credit.BackupLeaf: 0} {
		rule := credit.TreeValue{Backup: backup, Advantage: credit.TreeMinusParent, Epsilon: 1e-6}
		got := turnAdvantages(t, []rollout.Group{group}, streams(t, termMethod(rule), group))
		agree(t, string(backup), [][]float64{{half - root, v.Value["l1"] - half}, {half - root, v.Value["l2"] - half}, {low - root, 0}}, got)
	}
}

// The entropy of a turn is −mean log μ where that is known, whatever was recorded with the turn, and a softmax of
// large ones does not overflow.
func TestTreeEntropyFromBehavior(t *testing.T) {
	recordedWith := map[string]float64{"t1": 2000, "t2": 1998, "l1": 3, "l2": 1, "l3": 0}
	want := streams(t, termMethod(credit.NewTreeValue()), tree([3]float64{1, 0, 0}, recordedWith))
	group := tree([3]float64{1, 0, 0}, map[string]float64{"t1": 9})
	for i, path := range [][]string{{"t1", "l1"}, {"t1", "l2"}, {"t2", "l3"}} {
		tr := &group.Trajectories[i]
		tr.BehaviorLogProbs = make([]float32, len(tr.Tokens))
		for k, node := range path {
			tr.BehaviorLogProbs[tr.Turns[k].Start] = float32(-recordedWith[node])
		}
	}
	got := streams(t, termMethod(credit.NewTreeValue()), group)
	for i := range got {
		agree(t, got[i].Trajectory, want[i].Advantage, got[i].Advantage)
		if math.IsNaN(got[i].Advantage[1]) || got[i].Advantage[1] == 0 {
			t.Errorf("trajectory %d: advantage %v", i, got[i].Advantage[1])
		}
	}
}

// A dropped leaf is in no value, but branches that depart from it stay.
func TestTreeWithDroppedLeaf(t *testing.T) {
	group := tree([3]float64{9, 0, 1}, map[string]float64{"t1": 0.9})
	group.Trajectories[0].Stop = rollout.StopToolFailure
	got := turnAdvantages(t, []rollout.Group{group}, streams(t, termMethod(credit.NewTreeValue()), group))
	z := 0.5 / (0.5 + 1e-6)
	agree(t, "advantages", [][]float64{{0, 0}, {-z, -z}, {z, z}}, got)
}

func TestBrokenTrees(t *testing.T) {
	for name, test := range map[string]struct {
		edit func([]rollout.Trajectory)
		want string
	}{
		"no such parent": {func(tr []rollout.Trajectory) { tr[1].Parent.Trajectory = "x" }, `group g: trajectory l2: parent: trajectory "x" is not in the group`},
		"circle": {func(tr []rollout.Trajectory) { tr[0].Parent = &rollout.Parent{Trajectory: "l2", Turn: 1} },
			"group g: trajectory l1: parent: departs from itself: parents form a circle"},
		"beyond the end": {func(tr []rollout.Trajectory) { tr[1].Parent.Turn = 2 },
			"group g: trajectory l2: parent: departs at turn 2, but it has 2 turns and its parent l1 2: a branch replaces a turn of its parent"},
		"other tokens": {func(tr []rollout.Trajectory) { tr[1].Tokens[1] = 77 },
			"group g: trajectory l2: parent: turns[0]: token 1 is 77, that of l1 2: they share it"},
	} {
		t.Run(name, func(t *testing.T) {
			group := tree([3]float64{1, 0, 0}, nil)
			test.edit(group.Trajectories)
			_, err := termMethod(credit.NewTreeValue()).Streams([]rollout.Group{group}, ref.Arithmetic{})
			if err == nil || !strings.HasSuffix(err.Error(), test.want) {
				t.Errorf("error %v\nwant  …%s", err, test.want)
			}
		})
	}
}

// ARPO: the vector's shared tokens 0..2 are a turn of their own, since a branch departs at a turn.
func TestARPO(t *testing.T) {
	var v struct {
		In struct {
			R   []float64
			Len []int
		}
		Hard, Soft [][]float64
		Branch     struct {
			In struct {
				Base, Weight float64
				DH           []float64 `json:"dH"`
			}
			P []float64
		} `json:"branch_probability"`
	}
	vectors(t, "arpo", &v)
	group := rollout.Group{ID: "g"}
	for i, n := range v.In.Len {
		mask := repeat(1, n)
		if i < 2 {
			mask = append([]int{1, 1, 1, 0}, repeat(1, n-3)...)
		}
		tr := masked(fmt.Sprint(i), mask...)
		tr.Outcome = &v.In.R[i]
		group.Trajectories = append(group.Trajectories, tr)
	}
	group.Trajectories[1].Parent = &rollout.Parent{Trajectory: "0", Turn: 1}
	soft, hard := GRPO(), GRPO()
	hard.Advantage.Transforms = []advantage.Transform{advantage.SharedPrefixMean{}}
	for name, test := range map[string]struct {
		method Method
		want   [][]float64
	}{"soft": {soft, v.Soft}, "hard": {hard, v.Hard}} {
		for i, s := range streams(t, test.method, group) {
			var sampled []float64
			for p, a := range s.Advantage {
				if group.Trajectories[i].Sampled[p] {
					sampled = append(sampled, a)
				}
			}
			agree(t, fmt.Sprintf("%s attribution to %d", name, i), test.want[i], sampled)
		}
	}
	for i, change := range v.Branch.In.DH {
		agree(t, fmt.Sprintf("branch probability at %v", change), v.Branch.P[i], credit.BranchProbability(v.Branch.In.Base, v.Branch.In.Weight, change))
	}
}

// Three rollouts share a turn and one of them failed: the mean is over the other two.
func TestSharedPrefixOfDroppedMember(t *testing.T) {
	group := one(masked("a", 1, 1, 0, 1), masked("b", 1, 1, 0, 1), masked("c", 1, 1, 0, 1))
	for i, outcome := range []float64{2, 4, 100} {
		group.Trajectories[i].Outcome = &outcome
		if i > 0 {
			group.Trajectories[i].Parent = &rollout.Parent{Trajectory: "a", Turn: 1}
		}
	}
	group.Trajectories[2].Stop = rollout.StopCancelled
	got := streams(t, rawOutcomes(advantage.SharedPrefixMean{}), group)
	for i, want := range [][]float64{{3, 3, 0, 2}, {3, 3, 0, 4}, {0, 0, 0, 0}} {
		agree(t, got[i].Trajectory, want, got[i].Advantage)
	}
}
