package cuda

import (
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/turnwise-rl/turnwise/kernels/device"
	"github.com/turnwise-rl/turnwise/kernels/device/devicetest"
)

// cramped is a device that scores few rows at a time.
type cramped struct {
	*Device
	limit int64
}

func (d cramped) Score(s device.Scored) { d.score(s, d.limit) }

func (d cramped) ScoreBack(dx device.Rows, dHead, dLogProbs, dEntropies device.Buffer, s device.Scored) {
	d.scoreBack(dx, dHead, dLogProbs, dEntropies, s, d.limit)
}

// TestHeadConformsInBlocks scores rows in blocks of one and of a few.
func TestHeadConformsInBlocks(t *testing.T) {
	arithmetic(t)
	for _, limit := range []int64{0, 8 << 10} {
		d := cramped{open(t, Options{Exact: true}), limit}
		for _, f := range devicetest.Check(d, devicetest.Options{Exact: true, Quick: true}, "Score", "ScoreBack", "Draw", "DrawAgain") {
			t.Errorf("in blocks of %d bytes: %s", limit, f)
		}
	}
}

// TestFastHeadConforms is the part of the suite about the head with products by cuBLASLt.
func TestFastHeadConforms(t *testing.T) {
	arithmetic(t)
	d := open(t, Options{})
	for _, f := range devicetest.Check(d, devicetest.Options{Quick: true}, "Score", "ScoreBack", "Draw", "DrawAgain") {
		t.Error(f)
	}
}

// scoredOn are rows of a head with normally distributed numbers. The buffers are the device's until the test ends.
func scoredOn(t *testing.T, d *Device, rows, hidden, vocabulary int) (s device.Scored, x, w []float32) {
	t.Helper()
	random := rand.New(rand.NewPCG(uint64(rows), uint64(vocabulary)))
	draw := func(n int) []float32 {
		values := make([]float32, n)
		for i := range values {
			values[i] = float32(random.NormFloat64())
		}
		return values
	}
	x, w = draw(rows*hidden), draw(vocabulary*hidden)
	targets := make([]int32, rows)
	for i := range targets {
		targets[i] = int32(random.IntN(vocabulary))
	}
	matrix := brought(t, d, w)
	head, err := d.NewWeights(matrix, device.F32, vocabulary, hidden, device.ForwardBack)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { d.FreeWeights(head) })
	where, err := d.Allocate(device.ForActivations, device.I32, rows)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { d.Free(where) })
	d.UploadInts(where, targets)
	return device.Scored{X: device.Dense(brought(t, d, x), hidden), Rows: rows, Head: head, Matrix: matrix, Targets: where, InverseTemperature: 1.25,
		LogProbs: brought(t, d, make([]float32, rows)), Entropies: brought(t, d, make([]float32, rows))}, x, w
}

func fetched(t *testing.T, d *Device, b device.Buffer) []float32 {
	t.Helper()
	values := make([]float32, b.Len())
	if err := d.Download(values, b); err != nil {
		t.Fatal(err)
	}
	return values
}

// TestScoreOfALargeVocabulary compares with sums in float64, and the gradient with theirs.
func TestScoreOfALargeVocabulary(t *testing.T) {
	arithmetic(t)
	const rows, hidden, vocabulary = 3, 4, 151_936
	d := open(t, Options{Exact: true})
	s, x, w := scoredOn(t, d, rows, hidden, vocabulary)
	targets := make([]int32, rows)
	if err := d.DownloadInts(targets, s.Targets); err != nil {
		t.Fatal(err)
	}
	dx, dLogProbs := brought(t, d, make([]float32, rows*hidden)), brought(t, d, []float32{1, 0, -2})
	d.Score(s)
	d.ScoreBack(device.Dense(dx, hidden), device.Buffer{}, dLogProbs, device.Buffer{}, s)
	logProbs, entropies, back := fetched(t, d, s.LogProbs), fetched(t, d, s.Entropies), fetched(t, d, dx)
	for i := range rows {
		total, weighted, mean, size := 0.0, 0.0, make([]float64, hidden), make([]float64, hidden)
		at := func(token int) float64 {
			z := 0.0
			for j := range hidden {
				z += float64(x[i*hidden+j]) * float64(w[token*hidden+j])
			}
			return z * float64(s.InverseTemperature)
		}
		for token := range vocabulary {
			z := at(token)
			total += math.Exp(z)
			weighted += z * math.Exp(z)
			for j := range hidden {
				mean[j] += math.Exp(z) * float64(w[token*hidden+j])
				size[j] += math.Exp(z) * math.Abs(float64(w[token*hidden+j]))
			}
		}
		target := int(targets[i])
		if want := at(target) - math.Log(total); math.Abs(float64(logProbs[i])-want) > 2e-5 {
			t.Errorf("row %d: log-probability %v, want %v", i, logProbs[i], want)
		}
		if want := math.Log(total) - weighted/total; math.Abs(float64(entropies[i])-want) > 1e-4 {
			t.Errorf("row %d: entropy %v, want %v", i, entropies[i], want)
		}
		for j := range hidden {
			factor := []float64{1, 0, -2}[i] * float64(s.InverseTemperature)
			want := factor * (float64(w[target*hidden+j]) - mean[j]/total)
			// One chain of float32 sums over the vocabulary; see devicetest.ToleranceOf.
			bound := 8 * math.Sqrt(vocabulary) / (1 << 24) * math.Abs(factor) * (math.Abs(float64(w[target*hidden+j])) + size[j]/total)
			if math.Abs(float64(back[i*hidden+j])-want) > bound {
				t.Errorf("row %d, column %d: gradient %v, want %v ± %v", i, j, back[i*hidden+j], want, bound)
			}
		}
	}
}

// TestScoreNamesTheRowOfABadTarget counts rows from the first of the call, in whichever block they come.
func TestScoreNamesTheRowOfABadTarget(t *testing.T) {
	arithmetic(t)
	for _, bad := range []int32{-1, 50, math.MaxInt32} {
		for name, call := range map[string]func(d *Device, s device.Scored){
			"Score": func(d *Device, s device.Scored) { d.score(s, 0) },
			"ScoreBack": func(d *Device, s device.Scored) {
				d.scoreBack(s.X, device.Buffer{}, s.LogProbs, device.Buffer{}, s, 0)
			},
		} {
			d := open(t, Options{Exact: true})
			s, _, _ := scoredOn(t, d, 7, 8, 50)
			d.UploadInts(s.Targets.Slice(5, 6), []int32{bad})
			call(d, s)
			var mistake *Mistake
			if err := d.Sync(); !errors.As(err, &mistake) || !strings.Contains(err.Error(), fmt.Sprintf("row 5: target %d is outside the vocabulary", bad)) {
				t.Errorf("%s: %v, want a mistake that names row 5 and target %d", name, err, bad)
			}
			if err := d.Sync(); err != nil {
				t.Errorf("%s: told twice: %v", name, err)
			}
		}
	}
}

// TestScoreTellsThatMemoryIsLacking keeps what is lacking for Sync, and goes on.
func TestScoreTellsThatMemoryIsLacking(t *testing.T) {
	arithmetic(t)
	d := open(t, Options{Exact: true})
	s, _, _ := scoredOn(t, d, 400, 1, 40_000) // 64 MB of logits
	set(t, "memory", 16<<20)
	defer set(t, "memory", 1<<30)
	d.Score(s)
	var lacking *device.OutOfMemory
	if err := d.Sync(); !errors.As(err, &lacking) || lacking.For != device.ForWorkspace {
		t.Fatalf("%v, want one about memory for a workspace", err)
	}
	s.Rows = 2
	d.Score(s)
	if err := d.Sync(); err != nil {
		t.Error(err)
	}
}

// TestScoreBackIsZeroWithoutDerivatives says so of rows that no loss looks at, even of one that is not a number.
func TestScoreBackIsZeroWithoutDerivatives(t *testing.T) {
	arithmetic(t)
	const rows, hidden, vocabulary = 3, 8, 70
	d := open(t, Options{Exact: true})
	s, _, _ := scoredOn(t, d, rows, hidden, vocabulary)
	derivatives := brought(t, d, []float32{1, 0, -0.5})
	sound, dx := brought(t, d, make([]float32, rows*hidden)), brought(t, d, make([]float32, rows*hidden))
	d.ScoreBack(device.Dense(sound, hidden), device.Buffer{}, derivatives, derivatives, s)
	d.Upload(s.X.Data.Slice(hidden, hidden+1), []float32{float32(math.NaN())})
	d.ScoreBack(device.Dense(dx, hidden), device.Buffer{}, derivatives, derivatives, s)
	want, got := fetched(t, d, sound), fetched(t, d, dx)
	for i := range got {
		if got[i] != want[i] || i/hidden == 1 && got[i] != 0 || i/hidden != 1 && got[i] == 0 {
			t.Errorf("row %d, column %d: %v with a NaN in row 1, %v without", i/hidden, i%hidden, got[i], want[i])
		}
	}
}

// TestScoreBackPassesOverImpossibleTokens has a token whose logit is −∞ in each row.
func TestScoreBackPassesOverImpossibleTokens(t *testing.T) {
	arithmetic(t)
	const rows, hidden, vocabulary = 3, 8, 70
	d := open(t, Options{Exact: true})
	s, _, _ := scoredOn(t, d, rows, hidden, vocabulary)
	d.UploadInts(s.Targets.Slice(0, rows), []int32{3, 4, 5})
	for i := range rows {
		d.Upload(s.X.Data.Slice(i*hidden, i*hidden+1), []float32{2})
	}
	d.Upload(s.Matrix.Slice(0, 1), []float32{-3e38})
	d.Refresh(s.Head)
	derivatives, dx := brought(t, d, []float32{1, 2, -0.5}), brought(t, d, make([]float32, rows*hidden))
	d.Score(s)
	d.ScoreBack(device.Dense(dx, hidden), device.Buffer{}, derivatives, derivatives, s)
	for name, b := range map[string]device.Buffer{"log-probabilities": s.LogProbs, "entropies": s.Entropies, "dx": dx} {
		for i, v := range fetched(t, d, b) {
			if v == 0 || math.Abs(float64(v)) > 100 || v != v {
				t.Errorf("%s: element %d is %v", name, i, v)
			}
		}
	}
}

// TestLogitsAreAlignedAndBounded wants rows in every type to begin at multiples of 16 bytes, as cuBLASLt does, and
// as many as fit.
func TestLogitsAreAlignedAndBounded(t *testing.T) {
	arithmetic(t)
	d := open(t, Options{Exact: true})
	for _, vocabulary := range []int{1, 70, 2047, 151_936} {
		for _, limit := range []int64{0, 100 << 10, 4 << 20} {
			if !d.enter("test") {
				t.Fatal("the device has failed")
			}
			l, err := d.newLogits(50, vocabulary, limit)
			if err != nil {
				d.leave()
				t.Fatal(err)
			}
			d.give(l.memory)
			d.leave()
			wide, narrow := l.rows.stride*4, l.narrow(device.BF16).stride*2
			if l.rows.at%16 != 0 || wide%16 != 0 || wide != narrow || l.rows.stride < vocabulary {
				t.Errorf("%d tokens: rows at %#x, %d bytes apart, %d in BF16", vocabulary, l.rows.at, wide, narrow)
			}
			each := l.memory.bytes / int64(l.capacity)
			if l.capacity < 1 || l.capacity > 50 || l.capacity > 1 && l.memory.bytes > limit || l.capacity < 50 && l.memory.bytes+each <= limit {
				t.Errorf("%d tokens: %d rows in %d bytes, with at most %d", vocabulary, l.capacity, l.memory.bytes, limit)
			}
		}
	}
}
