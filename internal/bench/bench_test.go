package bench

import (
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"maps"
	"math"
	"os"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/turnwise-rl/turnwise/trainer/policy"
)

var update = flag.Bool("update", false, "write the golden files anew")

// tiny is a network that a test trains in a moment.
var tiny = Shape{Layers: 2, Hidden: 16, Heads: 4, KVHeads: 2, HeadDim: 8, FFN: 24, Vocab: 20, Batch: 3, Seq: 10}

var machine = Machine{Device: "cpu", Threads: 1}

func tinyGemm() Gemm { return Gemm{Machine: machine, M: 3, N: 5, K: 7, Samples: 3} }

func tinyTrain() Train {
	return Train{Machine: machine, Shape: tiny, DType: "f32", Steps: 4, PeakBytes: func() int64 { return 1 << 20 }}
}

func tinyGenerate() Generate {
	return Generate{Machine: machine, Shape: tiny, Prompt: 3, New: 4, Rounds: 2}
}

func TestSpreadOrdersItsSamples(t *testing.T) {
	for _, c := range []struct {
		samples []float64
		want    Spread
	}{
		{[]float64{4}, Spread{4, 4, 4}},
		{[]float64{9, 1}, Spread{1, 5, 9}},
		{[]float64{3, 1, 2}, Spread{1, 2, 3}},
		{[]float64{8, 1, 2, 4}, Spread{1, 3, 8}},
	} {
		if got := spread(c.samples); got != c.want {
			t.Errorf("%v: got %+v, want %+v", c.samples, got, c.want)
		}
	}
}

// TestHalfTheSamplesLieOnEachSideOfTheMedian is what a median means.
func TestHalfTheSamplesLieOnEachSideOfTheMedian(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		samples := rapid.SliceOfN(rapid.Float64Range(0, 1e6), 1, 40).Draw(t, "samples")
		kept := slices.Clone(samples)
		s := spread(samples)
		below, above := 0, 0
		for _, v := range samples {
			if v < s.Min || v > s.Max {
				t.Fatalf("%v lies outside %+v", v, s)
			}
			if v < s.Median {
				below++
			}
			if v > s.Median {
				above++
			}
		}
		if 2*below > len(samples) || 2*above > len(samples) {
			t.Fatalf("%d below and %d above the median of %d", below, above, len(samples))
		}
		if !slices.Equal(samples, kept) {
			t.Fatal("the samples were reordered")
		}
	})
}

// TestSettingsOutOfRangeAreNamed spoils each setting and expects an error that names it.
func TestSettingsOutOfRangeAreNamed(t *testing.T) {
	shapes := map[string]func(*Shape){
		"--layers 0: must be between 1 and":                                  func(s *Shape) { s.Layers = 0 },
		"--hidden -1: must be between 1 and":                                 func(s *Shape) { s.Hidden = -1 },
		"--heads 0: must be between 1 and":                                   func(s *Shape) { s.Heads = 0 },
		"--kv-heads 0: must be between 1 and":                                func(s *Shape) { s.KVHeads = 0 },
		"--heads 3: must be a multiple of --kv-heads 2":                      func(s *Shape) { s.Heads = 3 },
		"--head-dim 0: must be between 2 and":                                func(s *Shape) { s.HeadDim = 0 },
		"--head-dim 7: must be even":                                         func(s *Shape) { s.HeadDim = 7 },
		"--ffn 0: must be between 1 and":                                     func(s *Shape) { s.FFN = 0 },
		"--vocab 1: must be between 2 and":                                   func(s *Shape) { s.Vocab = 1 },
		"--batch 0: must be between 1 and":                                   func(s *Shape) { s.Batch = 0 },
		"--batch 4194304: times --seq must be at most 4194304 tokens, is 41": func(s *Shape) { s.Batch = maxTokens },
		"--seq 1: must be between 2 and":                                     func(s *Shape) { s.Seq = 1 },
	}
	machines := map[string]func(*Machine){
		"--threads 0: must be between 1 and":                func(m *Machine) { m.Threads = 0 },
		"--device cuda: the devices of this build are: cpu": func(m *Machine) { m.Device = "cuda" },
	}
	for want, spoil := range shapes {
		train, generate := tinyTrain(), tinyGenerate()
		spoil(&train.Shape)
		spoil(&generate.Shape)
		_, err := train.Run(t.Context())
		expectSetting(t, err, want)
		_, err = generate.Run(t.Context())
		expectSetting(t, err, want)
	}
	for want, spoil := range machines {
		gemm, train, generate := tinyGemm(), tinyTrain(), tinyGenerate()
		spoil(&gemm.Machine)
		spoil(&train.Machine)
		spoil(&generate.Machine)
		_, err := gemm.Run(t.Context())
		expectSetting(t, err, want)
		_, err = train.Run(t.Context())
		expectSetting(t, err, want)
		_, err = generate.Run(t.Context())
		expectSetting(t, err, want)
	}
	for want, spoil := range map[string]func(*Gemm){
		"--m 0: must be between 1 and":                                              func(g *Gemm) { g.M = 0 },
		"--n -3: must be between 1 and":                                             func(g *Gemm) { g.N = -3 },
		"--k 0: must be between 1 and":                                              func(g *Gemm) { g.K = 0 },
		"--samples 0: must be between 1 and":                                        func(g *Gemm) { g.Samples = 0 },
		"--m 100000: times --k must be at most 1073741824 elements, is 10000000000": func(g *Gemm) { g.M, g.K = 100000, 100000 },
		"--n 1048576: times --k must be at most":                                    func(g *Gemm) { g.N, g.K = maxSide, 1025 },
		"--m 1048576: times --n must be at most":                                    func(g *Gemm) { g.M, g.N = maxSide, 1025 },
	} {
		g := tinyGemm()
		spoil(&g)
		_, err := g.Run(t.Context())
		expectSetting(t, err, want)
	}
	train := tinyTrain()
	train.Steps = 0
	_, err := train.Run(t.Context())
	expectSetting(t, err, "--steps 0: must be between 1 and")
	train = tinyTrain()
	train.DType = "bf16"
	_, err = train.Run(t.Context())
	expectSetting(t, err, "--dtype bf16: the types that the cpu trains in are: f32")
	for want, spoil := range map[string]func(*Generate){
		"--prompt 0: must be between 1 and":                  func(g *Generate) { g.Prompt = 0 },
		"--new 0: must be between 1 and":                     func(g *Generate) { g.New = 0 },
		"--rounds 0: must be between 1 and":                  func(g *Generate) { g.Rounds = 0 },
		"--seq 10: must be at least --prompt 7 plus --new 4": func(g *Generate) { g.Prompt = 7 },
	} {
		g := tinyGenerate()
		spoil(&g)
		_, err := g.Run(t.Context())
		expectSetting(t, err, want)
	}
}

func expectSetting(t *testing.T, err error, want string) {
	t.Helper()
	var setting SettingError
	if !errors.As(err, &setting) || !strings.HasPrefix(err.Error(), want) || strings.Contains(err.Error(), "\n") {
		t.Errorf("got %v, want one line that begins with %q", err, want)
	}
}

// TestTheLossHasTheDerivativeItReturns compares with finite differences.
func TestTheLossHasTheDerivativeItReturns(t *testing.T) {
	l, err := newLearner(tiny)
	if err != nil {
		t.Fatal(err)
	}
	at := func(logProbs []float32) float64 {
		if _, err := l.crossEntropy(policy.Scores{LogProbs: logProbs}); err != nil {
			t.Fatal(err)
		}
		return l.loss
	}
	logProbs := make([]float32, tiny.Tokens())
	for i := range logProbs {
		logProbs[i] = -float32(i%5) / 4
	}
	before := at(logProbs)
	for i := range logProbs {
		if i%tiny.Seq == 0 {
			continue // nothing predicts it
		}
		moved := slices.Clone(logProbs)
		moved[i] += 0.5
		if got, want := float64(l.derivative[i]), (at(moved)-before)/0.5; math.Abs(got-want) > 1e-7 {
			t.Fatalf("token %d: derivative %v, the loss moves by %v", i, got, want)
		}
	}
}

// TestTrainingMeasuresTraining checks that what is timed learns, and that memory adds up.
func TestTrainingMeasuresTraining(t *testing.T) {
	train := tinyTrain()
	train.Steps = 40
	r, err := train.Run(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if !(r.LastLoss < r.FirstLoss-0.1) {
		t.Errorf("the loss went from %v to %v: these steps learn nothing", r.FirstLoss, r.LastLoss)
	}
	if want := 1e3 * 30 / r.StepMS.Median; r.TokensPerSecond != want {
		t.Errorf("%v tokens a second, the median step of %v ms says %v", r.TokensPerSecond, r.StepMS.Median, want)
	}
	// Two layers of 16·(32 + 2·16) projections, 32·16 out, 3·24·16 feed-forward, two norms of 16 and two of 8;
	// 20·16 embeddings and a last norm.
	parameters := int64(4 * (2*(16*64+32*16+3*24*16+2*16+2*8) + 20*16 + 16))
	if r.Accounted.Parameters != parameters || r.Accounted.Gradients != parameters || r.Accounted.Optimizer != 2*parameters {
		t.Errorf("accounted %+v, want %d bytes of parameters, as many of gradients, twice as many of moments", r.Accounted, parameters)
	}
	if a := r.Accounted; a.Total != a.Parameters+a.Gradients+a.Optimizer+a.Activations || a.Activations < int64(4*tiny.Tokens()*tiny.Layers*tiny.Hidden) {
		t.Errorf("accounted %+v does not add up", a)
	}
	if r.DevicePeakBytes < r.Accounted.Total+r.WorkspaceBytes || r.WorkspaceBytes <= 0 {
		t.Errorf("the device held at most %d bytes, %d are accounted for and %d are workspace", r.DevicePeakBytes, r.Accounted.Total, r.WorkspaceBytes)
	}
	if r.PeakRatio != float64(r.PeakBytes-r.ProcessBytes)/float64(r.Accounted.Total) {
		t.Errorf("ratio %v of %d − %d and %d", r.PeakRatio, r.PeakBytes, r.ProcessBytes, r.Accounted.Total)
	}
}

// TestPromptsAreReadAnew: what an engine still knows of an earlier round would be counted as its speed.
func TestPromptsAreReadAnew(t *testing.T) {
	g := tinyGenerate()
	g.Vocab, g.Rounds = 5000, 4
	r, err := g.Run(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if want := int64(2 * (4 + 1) * 3 * 3); r.PromptTokens != want {
		t.Errorf("%d prompt tokens, want %d", r.PromptTokens, want)
	}
	if 10*r.ReusedTokens > r.PromptTokens {
		t.Errorf("%d of %d prompt tokens were found computed", r.ReusedTokens, r.PromptTokens)
	}
	if want := 1e3 * float64(3*4) / r.RoundMS.Median; r.TokensPerSecond != want {
		t.Errorf("%v tokens a second, the median round of %v ms says %v", r.TokensPerSecond, r.RoundMS.Median, want)
	}
}

// TestResultsKeepTheirFieldNames: programs read them, so a name that is gone is a new version.
func TestResultsKeepTheirFieldNames(t *testing.T) {
	gemm, err := tinyGemm().Run(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	train, err := tinyTrain().Run(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	generate, err := tinyGenerate().Run(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	loss, err := tinyLoss().Run(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	for _, r := range []struct {
		what   string
		result any
	}{{"gemm", gemm}, {"train", train}, {"generate", generate}, {"loss", loss}} {
		data, err := json.Marshal(r.result)
		if err != nil {
			t.Fatal(err)
		}
		var value any
		if err := json.Unmarshal(data, &value); err != nil {
			t.Fatal(err)
		}
		for _, path := range fields(r.what, value) {
			fmt.Fprintln(&out, path)
		}
	}
	const golden = "testdata/fields.golden"
	if *update {
		if err := os.WriteFile(golden, out.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(out.Bytes(), want) {
		t.Errorf("fields are\n%swant\n%s`go test ./internal/bench -update` writes them anew", out.Bytes(), want)
	}
}

// fields lists the paths of an object's values with their types, in order.
func fields(path string, value any) []string {
	object, ok := value.(map[string]any)
	if !ok {
		return []string{fmt.Sprintf("%s %T", path, value)}
	}
	var out []string
	for _, name := range slices.Sorted(maps.Keys(object)) {
		out = append(out, fields(path+"."+name, object[name])...)
	}
	return out
}
