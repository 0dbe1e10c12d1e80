package weight

import (
	"math"
	"strconv"
	"testing"

	"github.com/turnwise-rl/turnwise/algos/fact/facttest"
	"github.com/turnwise-rl/turnwise/algos/scored"
	"github.com/turnwise-rl/turnwise/rollout"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"pgregory.net/rapid"
)

type (
	episode = facttest.Episode
	turn    = facttest.Turn
	facts   = map[string]float64
)

var (
	within = cmp.Options{cmpopts.EquateApprox(0, 1e-9), cmpopts.EquateNaNs()}
	ok     = facttest.Calls(rollout.CallOK)
)

func weigh(t *testing.T, rule Rule, g *scored.Group) {
	t.Helper()
	if err := rule.Weigh(g); err != nil {
		t.Fatal(err)
	}
}

// Four tools: 10 11 12 and 10 11 13 part at their third token, 10 11 is a prefix of both, 20 21 shares nothing.
var tools = [][]int32{{10, 11, 12}, {10, 11, 13}, {10, 11}, {20, 21}}

func TestKeyTokensOfNames(t *testing.T) {
	rule := KeyTokens{Tools: tools, Max: 9}
	for j, want := range [][]int{{0, 2}, {0, 2}, {0}, {0}} {
		if diff := cmp.Diff(want, rule.keys(j)); diff != "" {
			t.Errorf("tool %v (-want +got):\n%s", tools[j], diff)
		}
	}
	first := KeyTokens{Tools: [][]int32{{1, 2, 3}, {1, 5, 3}, {1, 2, 6}, {4}}, Max: 9}
	if diff := cmp.Diff([]int{0, 1, 2}, first.keys(0)); diff != "" {
		t.Errorf("a name that parts at several tokens (-want +got):\n%s", diff)
	}
}

func TestKeyTokensWeights(t *testing.T) {
	g := facttest.Group(t, rollout.Gold{},
		// 2 key tokens of 8: 6/2 = 3. The last turn issues no call, so that 20 21 is no name there.
		episode{Turns: []turn{{IDs: []int32{9, 10, 11, 12, 9}, Calls: ok}, {IDs: []int32{20, 21, 9}}}},
		// 1 of 3: 2.
		episode{Turns: []turn{{IDs: []int32{10, 11, 14}, Calls: ok}}},
		// 1 of 40: bounded by 9.
		episode{Turns: []turn{{IDs: append([]int32{20, 21}, make([]int32, 38)...), Calls: ok}}},
		// 2 of 4: as many as others.
		episode{Turns: []turn{{IDs: []int32{20, 21, 20, 21}, Calls: ok}}},
		// Nothing to weigh: no names; an unparsable call; no turns.
		episode{Turns: []turn{{IDs: []int32{1, 2, 3}, Calls: ok}}},
		episode{Turns: []turn{{IDs: []int32{20, 21, 9}, Calls: facttest.Calls(rollout.CallUnparsable)}}},
		episode{},
		// The second turn is masked: 1 of 3 in the loss, which leaves a weight of 2.
		episode{Turns: []turn{{IDs: []int32{20, 21, 9}, Calls: ok}, {IDs: []int32{20, 21, 9, 9, 9}, Calls: ok}}},
	)
	clear(g.WritableLossWeights(7)[5:10])
	weigh(t, KeyTokens{Tools: tools, Max: 9}, g)
	want := [][]float64{
		{1, 1, 3, 1, 3, 1, 1, 1, 1, 1, 1},
		{1, 2, 1, 1, 1},
		{1, 9},
		{1, 1, 1, 1, 1, 1},
		{1, 1, 1, 1, 1},
		{1, 1, 1, 1, 1},
		{1},
		{1, 2, 1, 1, 1, 0, 0, 0, 0, 0, 1},
	}
	for len(want[2]) < len(g.LossWeights[2]) {
		want[2] = append(want[2], 1)
	}
	if diff := cmp.Diff(want, g.LossWeights, within); diff != "" {
		t.Errorf("weights (-want +got):\n%s", diff)
	}
	const missing = "tools: empty: list the token ids of each tool's name"
	if err := (KeyTokens{Max: 9}).Weigh(g); err == nil || err.Error() != missing {
		t.Errorf("no tools: got %v, want %s", err, missing)
	}
}

// Key tokens together never weigh more than the others, and the others keep their weight.
func TestKeyTokensNeverOutweighOthers(t *testing.T) {
	rapid.Check(t, func(r *rapid.T) {
		ids := rapid.SliceOfN(rapid.SampledFrom([]int32{9, 10, 11, 12, 13, 20, 21}), 1, 40).Draw(r, "ids")
		g := facttest.Group(t, rollout.Gold{}, episode{Turns: []turn{{IDs: ids, Calls: ok}}})
		if err := (KeyTokens{Tools: tools, Max: 9}).Weigh(g); err != nil {
			r.Fatal(err)
		}
		key, other := 0.0, 0.0
		for p, weight := range g.LossWeights[0] {
			switch {
			case !g.Trajectories[0].Sampled[p] && weight != 1 || weight < 1 || weight > 9:
				r.Fatalf("token %d: weight %v", p, weight)
			case weight > 1:
				key += weight
			case g.Trajectories[0].Sampled[p]:
				other++
			}
		}
		if key > other+1e-9 {
			r.Fatalf("key tokens weigh %v, others %v", key, other)
		}
	})
}

func TestImitate(t *testing.T) {
	build := func() *scored.Group {
		g := facttest.Group(t, rollout.Gold{}, episode{Turns: []turn{{}, {}}}, episode{Turns: []turn{{}}}, episode{Turns: []turn{{}}}, episode{})
		g.Outcome = []float64{1, 0.9, 1, 1}
		g.Reason[2] = "overlong"
		clear(g.WritableLossWeights(0)[1:3]) // the first turn is masked
		return g
	}
	rule, g := NewImitate(), build()
	rule.Weight = 0.5
	weigh(t, rule, g)
	if diff := cmp.Diff([][]float64{{0, 0, 0, 0, 0.5, 0.5, 0}, {0, 0, 0, 0}, nil, {0}}, g.CEWeights); diff != "" {
		t.Errorf("ce (-want +got):\n%s", diff)
	}
	rule.Stream, g = StreamLoss, build()
	weigh(t, rule, g)
	if diff := cmp.Diff([][]float64{{0.5, 0, 0, 0.5, 0.5, 0.5, 0.5}, {0, 0, 0, 0}, nil, {0.5}}, g.LossWeights); diff != "" {
		t.Errorf("loss (-want +got):\n%s", diff)
	}
	if g.CEWeights != nil {
		t.Error("stream loss wrote weights of the auxiliary loss")
	}
}

func TestDistill(t *testing.T) {
	g := facttest.Group(t, rollout.Gold{}, episode{Turns: []turn{{}}}, episode{Turns: []turn{{}}})
	g.Reason[1] = "overlong"
	weigh(t, Distill{Weight: 2}, g)
	if diff := cmp.Diff([][]float64{{0, 2, 2, 0}, nil}, g.ReferenceKLWeights); diff != "" {
		t.Errorf("reference (-want +got):\n%s", diff)
	}
}

func TestTrustClipVector(t *testing.T) {
	var v struct {
		High map[string]float64 `json:"eps_high"`
	}
	facttest.Vector(t, "adpo", &v)
	rule := NewTrustClip()
	if len(v.High) != 3 {
		t.Fatalf("%d reference values, want 3", len(v.High))
	}
	rule.Score = "share"
	for text, want := range v.High {
		share, err := strconv.ParseFloat(text, 64)
		if err != nil {
			t.Fatal(err)
		}
		g := facttest.Group(t, rollout.Gold{}, episode{Scores: facts{"share": share}}, episode{}, episode{Scores: facts{"share": 1}}, episode{Scores: facts{"share": 0}})
		g.Reason[1] = "tool_failure"
		weigh(t, rule, g)
		if diff := cmp.Diff([]float64{want, math.NaN(), 0.2, 0.3}, g.ClipHigh, within); diff != "" {
			t.Errorf("share %v (-want +got):\n%s", share, diff)
		}
	}
	// Without a score p̂ is the share of the majority answer, of all members whatever masks have dropped.
	rule.Score = ""
	g := facttest.Group(t, rollout.Gold{}, episode{Answer: "1"}, episode{Answer: "2"}, episode{Answer: "1"}, episode{Stop: rollout.StopMaxTurns})
	g.Reason[3] = "over_turn"
	weigh(t, rule, g)
	if diff := cmp.Diff([]float64{0.26, 0.26, 0.26, math.NaN()}, g.ClipHigh, within); diff != "" {
		t.Errorf("majority (-want +got):\n%s", diff)
	}
}

func TestBadInputIsAnError(t *testing.T) {
	rule := NewTrustClip()
	rule.Score = "share"
	for want, scores := range map[string]facts{
		`trajectory g/0: no score named "share": record it with the trajectory, which has none`: nil,
		`trajectory g/0: score "share" is 30, outside [0, 1]`:                                   {"share": 30},
	} {
		if err := rule.Weigh(facttest.Group(t, rollout.Gold{}, episode{Scores: scores})); err == nil || err.Error() != want {
			t.Errorf("got %v, want %s", err, want)
		}
	}
	type validator interface{ Validate() error }
	for _, test := range []struct {
		rule validator
		want string
	}{
		{KeyTokens{Tools: [][]int32{{1}, {}}, Max: 9}, "tools[1]: empty: list the token ids of the tool's name"},
		{KeyTokens{Tools: [][]int32{{1}, {2}, {1}}, Max: 9}, "tools[2]: the same name as tools[0]: remove one"},
		{KeyTokens{Max: 0.5}, "max: 0.5 must be at least 1: key tokens never weigh less than others"},
		{Imitate{Weight: -1, Stream: StreamCE}, "weight: -1 must be a finite number, at least 0"},
		{Imitate{Stream: "kl"}, `stream: unknown value "kl": use ce or loss`},
		{Distill{Weight: -1}, "weight: -1 must be a finite number, at least 0"},
		{TrustClip{Width: 1}, `normalize: unknown value "": use text or words`},
		{TrustClip{}, "width: 0 must be a finite number greater than 0"},
	} {
		if err := test.rule.Validate(); err == nil || err.Error() != test.want {
			t.Errorf("%T: got %v, want %s", test.rule, err, test.want)
		}
	}
	for _, variant := range Table {
		if v, ok := variant.New().(validator); ok && v.Validate() != nil {
			t.Errorf("%s: the default settings are not valid: %v", variant.Name, v.Validate())
		}
	}
}
