package turnreward

import (
	"encoding/json"
	"math"
	"os"
	"testing"

	"github.com/turnwise-rl/turnwise/algos/scored"
	"github.com/turnwise-rl/turnwise/rollout"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"pgregory.net/rapid"
)

var within = cmpopts.EquateApprox(0, 1e-6)

// matchTIR is the reference family that an independent implementation computed.
type matchTIR struct {
	In struct {
		Pred []rollout.Call
		Gold []rollout.GoldCall
	}
	Similarity [][]float64
	Exact      struct {
		Assign []*int
		Reward []float64
	} `json:"km_exact"`
	Greedy struct {
		Assign []*int
		Reward []float64
	} `json:"km_greedy_as_released"`
	Counterexample struct {
		S             [][]float64
		Exact, Greedy []*int
	} `json:"exact_vs_greedy_counterexample"`
	Transport struct {
		Plan   [][]float64
		Reward []float64
	} `json:"ot_reg0.1"`
}

func reference(t *testing.T) matchTIR {
	t.Helper()
	raw, err := os.ReadFile("testdata/matchtir.json")
	if err != nil {
		t.Fatal(err)
	}
	var v matchTIR
	if err := json.Unmarshal(raw, &v); err != nil {
		t.Fatal(err)
	}
	return v
}

// columns writes an assignment as the reference does, nil for none.
func columns(assigned []int) []*int {
	out := make([]*int, len(assigned))
	for i, j := range assigned {
		if j >= 0 {
			out[i] = &j
		}
	}
	return out
}

func TestMatchVectors(t *testing.T) {
	v := reference(t)
	s := similarities(v.In.Pred, v.In.Gold)
	if diff := cmp.Diff(v.Similarity, s, within); diff != "" {
		t.Errorf("similarity (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(v.Exact.Assign, columns(assignExact(s))); diff != "" {
		t.Errorf("exact assignment (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(v.Greedy.Assign, columns(assignGreedy(s))); diff != "" {
		t.Errorf("greedy assignment (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(v.Transport.Plan, transportPlan(s, 0.1), within); diff != "" {
		t.Errorf("transport plan (-want +got):\n%s", diff)
	}
	for assignment, want := range map[Assignment][]float64{Exact: v.Exact.Reward, Greedy: v.Greedy.Reward, Transport: v.Transport.Reward} {
		m := NewMatch()
		m.Assignment = assignment
		if diff := cmp.Diff(want, m.callRewards(s), within); diff != "" {
			t.Errorf("%s rewards (-want +got):\n%s", assignment, diff)
		}
	}
	c := v.Counterexample
	if diff := cmp.Diff(c.Exact, columns(assignExact(c.S))); diff != "" {
		t.Errorf("exact on the counterexample (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(c.Greedy, columns(assignGreedy(c.S))); diff != "" {
		t.Errorf("greedy on the counterexample (-want +got):\n%s", diff)
	}
}

// The assignment is as good as the best found by trying all of them.
func TestExactAssignmentIsOptimal(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		rows, cols := rapid.IntRange(0, 5).Draw(t, "rows"), rapid.IntRange(1, 5).Draw(t, "columns")
		s := make([][]float64, rows)
		for i := range s {
			for range cols {
				s[i] = append(s[i], rapid.SampledFrom([]float64{0, 0, 0.25, 0.5, 0.8, 0.9, 1}).Draw(t, "s"))
			}
		}
		got, taken := 0.0, map[int]bool{}
		for i, j := range assignExact(s) {
			if j < 0 {
				continue
			}
			if taken[j] || s[i][j] == 0 {
				t.Fatalf("column %d is taken twice or has similarity 0: %v", j, s)
			}
			taken[j] = true
			got += s[i][j]
		}
		if want := best(s, 0, map[int]bool{}); math.Abs(got-want) > 1e-9 {
			t.Fatalf("total %v, best is %v: %v", got, want, s)
		}
	})
}

func best(s [][]float64, row int, taken map[int]bool) float64 {
	if row == len(s) {
		return 0
	}
	most := best(s, row+1, taken)
	for j, gain := range s[row] {
		if !taken[j] {
			taken[j] = true
			most = max(most, gain+best(s, row+1, taken))
			delete(taken, j)
		}
	}
	return most
}

func TestMatchRewardsTurns(t *testing.T) {
	gold := rollout.Gold{Answer: "Rome, Italy", Calls: []rollout.GoldCall{
		{Name: "search", Args: rollout.StringArgs("q", "cat")}, {Name: "search", Args: rollout.StringArgs("q", "dog")},
	}}
	call := func(name, q string, status rollout.CallStatus) rollout.Call {
		return rollout.Call{Name: name, Args: rollout.StringArgs("q", q), Status: status}
	}
	trajectory := rollout.Trajectory{
		ID: "g/0", Stop: rollout.StopAnswer, Answer: "rome",
		Turns: []rollout.Turn{
			{Start: 0, End: 1, Calls: []rollout.Call{call("Search", "dog", rollout.CallOK), call("search", "cat", rollout.CallUnparsable)}},
			{Start: 2, End: 3}, // neither call nor answer
			{Start: 4, End: 5, Calls: []rollout.Call{call("search", "cat", rollout.CallError)}},
			{Start: 6, End: 7},
		},
		Tokens: make([]int32, 7), Sampled: []bool{true, false, true, false, true, false, true},
	}
	g, err := scored.New(rollout.Group{ID: "g", Task: rollout.Task{Gold: gold}, Trajectories: []rollout.Trajectory{trajectory}})
	if err != nil {
		t.Fatal(err)
	}
	m := NewMatch()
	m.Unmatched = -0.5
	got, err := m.Rewards(g)
	if err != nil {
		t.Fatal(err)
	}
	// An unparsable call matches nothing even where its text would; F1 of {rome} and {rome, italy} is 2/3.
	if diff := cmp.Diff([][]float64{{0.25, 0, 1, 2.0 / 3}}, got, within); diff != "" {
		t.Errorf("turn rewards (-want +got):\n%s", diff)
	}
}

func TestArgumentsCompareAsJSON(t *testing.T) {
	for _, test := range []struct {
		a, b string
		want bool
	}{
		{`3`, `3.0`, true},
		{`1e2`, `100`, true},
		{`-0`, `0.0`, true},
		{`9007199254740993`, `9007199254740992`, false},
		{`{"a":1,"b":[2,"x"]}`, ` {"b": [2.0, "\u0078"], "a": 1}`, true},
		{`"A"`, `"\u0041"`, true},
		{`"3"`, `3`, false},
		{`[1,2]`, `[2,1]`, false},
		{`true`, `1`, false},
		{`{`, `{`, true},
		{`{`, `[`, false},
	} {
		if got := sameJSON(json.RawMessage(test.a), json.RawMessage(test.b)); got != test.want {
			t.Errorf("%s and %s: equal is %t, want %t", test.a, test.b, got, test.want)
		}
	}
}

// Whatever the arguments hold, comparing is symmetric, total and true of a value and itself.
func FuzzSameJSON(f *testing.F) {
	f.Add(`{"a":1}`, `{"a":1.0}`)
	f.Add(`"\ud800"`, `[1e999]`)
	f.Add(`{"a":1,"a":2}`, ``)
	f.Fuzz(func(t *testing.T, a, b string) {
		if !sameJSON([]byte(a), []byte(a)) {
			t.Errorf("%q differs from itself", a)
		}
		if sameJSON([]byte(a), []byte(b)) != sameJSON([]byte(b), []byte(a)) {
			t.Errorf("%q and %q: comparing is not symmetric", a, b)
		}
	})
}

func TestMatchValidates(t *testing.T) {
	m := NewMatch()
	m.Assignment, m.Unmatched = Transport, -0.5
	if err := m.Validate(); err == nil {
		t.Error("unmatched with transport is accepted, and it would have no effect")
	}
	m.Unmatched, m.Regularizer = 0, 0
	if err := m.Validate(); err == nil {
		t.Error("a regulariser of 0 is accepted, and the plan would overflow")
	}
}
