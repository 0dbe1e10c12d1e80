package cuda

import (
	"math"
	"math/rand/v2"
	"testing"

	"github.com/turnwise-rl/turnwise/kernels/device"
)

// lines are rows of a head in BF16, and what float64 makes of them.
type lines struct {
	device.Scored
	x, w                      []float32
	targets                   []int32
	hidden, vocabulary        int
	dx, dLogProbs, dEntropies device.Buffer
}

// linesOn draws rows of a head, with hidden numbers of a size. The last token is a target.
func linesOn(t *testing.T, d *Device, rows, hidden, vocabulary int, size float64) lines {
	t.Helper()
	random := rand.New(rand.NewPCG(uint64(rows), uint64(vocabulary)))
	draw := func(n int, size float64) []float32 {
		values := make([]float32, n)
		for i := range values {
			values[i] = rounded(float32(random.NormFloat64()*size), device.BF16)
		}
		return values
	}
	l := lines{x: draw(rows*hidden, size), w: draw(vocabulary*hidden, 1), targets: make([]int32, rows), hidden: hidden, vocabulary: vocabulary}
	for i := range l.targets {
		l.targets[i] = int32((i*vocabulary + vocabulary - 1) / rows) // the last among them
	}
	head, err := d.NewWeights(brought(t, d, l.w), device.BF16, vocabulary, hidden, device.ForwardBack)
	must(t, err)
	t.Cleanup(func() { d.FreeWeights(head) })
	where, x := allocate(t, d, device.I32, rows), allocate(t, d, device.BF16, rows*hidden)
	d.UploadInts(where, l.targets)
	d.Upload(x, l.x)
	l.Scored = device.Scored{X: device.Dense(x, hidden), Rows: rows, Head: head, Targets: where, InverseTemperature: 1.25,
		LogProbs: allocate(t, d, device.F32, rows), Entropies: allocate(t, d, device.F32, rows)}
	l.dx = allocate(t, d, device.BF16, rows*hidden)
	l.dLogProbs, l.dEntropies = brought(t, d, draw(rows, 1)), brought(t, d, draw(rows, 0.3))
	return l
}

// back runs ScoreBack.
func (l lines) back(t *testing.T, d *Device, known bool, dEntropies device.Buffer) []float32 {
	t.Helper()
	s := l.Scored
	if s.Known = known; !known {
		s.LogProbs, s.Entropies = device.Buffer{}, device.Buffer{}
	}
	d.ScoreBack(device.Dense(l.dx, l.hidden), device.Buffer{}, l.dLogProbs, dEntropies, s)
	return fetched(t, d, l.dx)
}

// row is what float64 makes of a row: the log-probability of each token, and the entropy.
func (l lines) row(i int) (logProbs []float64, entropy float64) {
	logProbs = make([]float64, l.vocabulary)
	top := math.Inf(-1)
	for token := range logProbs {
		for j := range l.hidden {
			logProbs[token] += float64(l.x[i*l.hidden+j]) * float64(l.w[token*l.hidden+j]) * float64(l.InverseTemperature)
		}
		top = max(top, logProbs[token])
	}
	total := 0.0
	for _, z := range logProbs {
		total += math.Exp(z - top)
	}
	for token := range logProbs {
		logProbs[token] -= top + math.Log(total)
		entropy -= math.Exp(logProbs[token]) * logProbs[token]
	}
	return logProbs, entropy
}

// TestFastHeadOfALargeVocabulary compares log-probabilities and gradients with float64, whatever the order of threads, where
// ScoreBack knows what Score has found and where not.
func TestFastHeadOfALargeVocabulary(t *testing.T) {
	arithmetic(t)
	const rows, hidden = 3, 4
	for _, vocabulary := range []int{151_936, 8192, 4099, 1030, 70, 3} {
		d := open(t, Options{})
		l := linesOn(t, d, rows, hidden, vocabulary, 1)
		for name, order := range orders {
			set(t, "order", order)
			defer set(t, "order", 0)
			d.Score(l.Scored)
			logProbs, entropies := fetched(t, d, l.LogProbs), fetched(t, d, l.Entropies)
			dl, dh := fetched(t, d, l.dLogProbs), fetched(t, d, l.dEntropies)
			for _, known := range []bool{true, false} {
				both, alone := l.back(t, d, known, l.dEntropies), l.back(t, d, known, device.Buffer{})
				for i := range rows {
					all, entropy := l.row(i)
					target := l.targets[i]
					if math.Abs(float64(logProbs[i])-all[target]) > 2e-6 || math.Abs(float64(entropies[i])-entropy) > 5e-6 || logProbs[i] > 0 {
						t.Errorf("%d tokens, %s, row %d: log-probability %v and entropy %v, want %v and %v", vocabulary, name, i, logProbs[i], entropies[i], all[target], entropy)
					}
					l.compare(t, all, i, float64(dl[i]), 0, 0, alone)
					l.compare(t, all, i, float64(dl[i]), float64(dh[i]), entropy, both)
				}
			}
		}
	}
}

// compare compares a row of dx with what float64 makes of it.
func (l lines) compare(t *testing.T, logProbs []float64, i int, dLogProb, dEntropy, entropy float64, dx []float32) {
	t.Helper()
	want, size := make([]float64, l.hidden), make([]float64, l.hidden)
	for token, logProb := range logProbs {
		p := math.Exp(logProb)
		g := -dLogProb*p - dEntropy*p*(logProb+entropy)
		if token == int(l.targets[i]) {
			g += dLogProb
		}
		for j := range want {
			term := g * float64(l.InverseTemperature) * float64(l.w[token*l.hidden+j])
			want[j] += term
			size[j] += math.Abs(term)
		}
	}
	for j := range want {
		if got := float64(dx[i*l.hidden+j]); !(math.Abs(got-want[j]) <= size[j]/128) {
			t.Errorf("%d tokens, row %d, column %d: gradient %v, want %v ± %v", l.vocabulary, i, j, got, want[j], size[j]/128)
		}
	}
}

// TestFastHeadOfTargetsThatHardlyAre has log-probabilities of −1000 and less, and logits that are infinite.
func TestFastHeadOfTargetsThatHardlyAre(t *testing.T) {
	arithmetic(t)
	const rows, hidden, vocabulary = 4, 8, 5000
	d := open(t, Options{})
	l := linesOn(t, d, rows, hidden, vocabulary, 300)
	for i := range l.targets {
		all, _ := l.row(i)
		for token, logProb := range all {
			if logProb < all[l.targets[i]] {
				l.targets[i] = int32(token)
			}
		}
	}
	d.UploadInts(l.Targets, l.targets)
	d.Score(l.Scored)
	for i, v := range fetched(t, d, l.LogProbs) {
		if v > -1100 {
			t.Fatalf("row %d has a target that may well be: %v", i, v)
		}
	}
	known, summed := l.back(t, d, true, l.dEntropies), l.back(t, d, false, l.dEntropies)
	dl := fetched(t, d, l.dLogProbs)
	for i := range rows {
		all, entropy := l.row(i)
		l.compare(t, all, i, float64(dl[i]), float64(fetched(t, d, l.dEntropies)[i]), entropy, known)
	}
	for i := range known {
		if known[i] != summed[i] {
			t.Errorf("element %d: %v where the sums are made of each row alone, and %v of parts", i, known[i], summed[i])
		}
	}
}

// TestFastScoreBackIsZeroWithoutDerivatives says so of rows that no loss looks at, even of one that is not a number.
func TestFastScoreBackIsZeroWithoutDerivatives(t *testing.T) {
	arithmetic(t)
	const rows, hidden, vocabulary = 3, 8, 5000
	d := open(t, Options{})
	l := linesOn(t, d, rows, hidden, vocabulary, 1)
	derivatives := []float32{1, 0, -0.5}
	d.Upload(l.dLogProbs, derivatives)
	d.Upload(l.dEntropies, derivatives)
	d.Score(l.Scored)
	for _, known := range []bool{true, false} {
		sound := l.back(t, d, known, l.dEntropies)
		d.Upload(l.X.Data.Slice(hidden, hidden+1), []float32{float32(math.NaN())})
		got := l.back(t, d, known, l.dEntropies)
		d.Upload(l.X.Data.Slice(hidden, hidden+1), []float32{1})
		for i := range got {
			if got[i] != sound[i] || i/hidden == 1 && got[i] != 0 || i/hidden != 1 && got[i] == 0 {
				t.Errorf("known %v: row %d, column %d: %v with a NaN in row 1, %v without", known, i/hidden, i%hidden, got[i], sound[i])
			}
		}
	}
}
