package policy

import (
	"context"
	"math"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/turnwise-rl/turnwise/kernels/device"
	"github.com/turnwise-rl/turnwise/kernels/device/devicetest"
)

// graphics likes its work as a GPU does, all rows at once and one task after the other, and counts the calls on
// which the host waits for it.
type graphics struct {
	*devicetest.Reference
	waits map[string]int
	tasks int // of all calls of Each
}

func newGraphics() *graphics {
	return &graphics{Reference: devicetest.NewReference(), waits: map[string]int{}}
}

func (*graphics) PassRows() int { return math.MaxInt32 }
func (*graphics) Cores() int    { return 1 }

func (g *graphics) Each(tasks int, run func(task int)) {
	g.tasks += tasks
	for task := range tasks {
		run(task)
	}
}

func (g *graphics) Download(dst []float32, src device.Buffer) error {
	g.waits["Download"]++
	return g.Reference.Download(dst, src)
}

func (g *graphics) DownloadInts(dst []int32, src device.Buffer) error {
	g.waits["DownloadInts"]++
	return g.Reference.DownloadInts(dst, src)
}

func (g *graphics) Sync() error {
	g.waits["Sync"]++
	return g.Reference.Sync()
}

func (g *graphics) Drawn(dst []device.Sampled, d *device.Draws) error {
	g.waits["Drawn"]++
	return g.Reference.Drawn(dst, d)
}

func (g *graphics) Update(t device.Tensors, u device.Update) (device.Updated, error) {
	g.waits["Update"]++
	return g.Reference.Update(t, u)
}

func (g *graphics) SquaredNorm(b device.Buffer) (float64, error) {
	g.waits["SquaredNorm"]++
	return g.Reference.SquaredNorm(b)
}

func (g *graphics) FirstNonFinite(b device.Buffer) (int, error) {
	g.waits["FirstNonFinite"]++
	return g.Reference.FirstNonFinite(b)
}

// reset forgets what has been counted.
func (g *graphics) reset() { clear(g.waits); g.tasks = 0 }

// TestHostSeldomWaits counts how often the host waits in a pass, which does not depend on the number of layers,
// and that all rows are one task.
func TestHostSeldomWaits(t *testing.T) {
	for name, v := range variants() {
		t.Run(name, func(t *testing.T) {
			on := newGraphics()
			v.config.Layers = 3
			m := newModelOn(t, on, v.config, inBF16(v.options))
			lengths := make([]int, 8) // more rows than the device computes at a time by itself
			for i := range lengths {
				lengths[i] = 5 + i
			}
			p := randomPacked(v.config, 1, lengths...)
			d := derivatives(v, len(p.Tokens))
			on.reset()
			if _, err := m.Score(context.Background(), p, 1); err != nil {
				t.Fatal(err)
			}
			on.wants(t, "Score", 1, map[string]int{"Download": 1})
			if err := m.Accumulate(context.Background(), p, 1, func(Scores) (Scores, error) { return d, nil }); err != nil {
				t.Fatal(err)
			}
			on.wants(t, "Accumulate", 2, map[string]int{"Download": 1, "Sync": 1})
			m.ZeroGrad()
			m.Refresh()
			on.wants(t, "ZeroGrad and Refresh", len(m.forms.frozen.slots)+len(m.forms.trained.slots), map[string]int{})
			dec := newDecoding(t, m, [][]int32{p.Tokens[:9], p.Tokens[9:12], p.Tokens[12:40]}, 1)
			on.reset()
			how := func(int) device.Sampling { return device.Sampling{Temperature: 1, TopP: 1, Uniform: 0.4} }
			dec.extend(t, []int{0, 1, 2}, []int{9, 2, 28}, how) // prompts and a part of one
			on.wants(t, "Extend over prompts", 1, map[string]int{"Drawn": 1})
			dec.extend(t, []int{2, 0, 1}, []int{1, 1, 1}, how)
			on.wants(t, "Extend by a token", 1, map[string]int{"Drawn": 1})
		})
	}
}

// wants compares what has been counted since the last call.
func (g *graphics) wants(t *testing.T, what string, tasks int, waits map[string]int) {
	t.Helper()
	if diff := cmp.Diff(waits, g.waits); diff != "" {
		t.Errorf("%s waits otherwise (-want +got):\n%s", what, diff)
	}
	if g.tasks != tasks {
		t.Errorf("%s has %d tasks, want %d", what, g.tasks, tasks)
	}
	g.reset()
}

// TestLogitRows holds few logits on a processor, and on a GPU enough for hundreds of sequences at once.
func TestLogitRows(t *testing.T) {
	for _, tc := range []struct{ passRows, vocabulary, want int }{
		{384, 512, 8192}, {384, 151936, 27}, {384, 1 << 23, 1}, {math.MaxInt32, 151936, 441}, {math.MaxInt32, 1 << 27, 1},
	} {
		if got := LogitRows(tc.passRows, tc.vocabulary); got != tc.want {
			t.Errorf("%d rows of %d tokens at once with passes of %d rows, want %d", got, tc.vocabulary, tc.passRows, tc.want)
		}
	}
}
