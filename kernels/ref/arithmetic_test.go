package ref

import (
	"math"
	"testing"

	"github.com/turnwise-rl/turnwise/kernels"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

var rounded = cmpopts.EquateApprox(0, 1e-6)

// counted is one sequence's mask.
func counted(mask ...int) []bool {
	out := make([]bool, len(mask))
	for i, m := range mask {
		out[i] = m == 1
	}
	return out
}

// What tokens between turns do to rewards to come, as the trainers that differ in it compute it.
func TestReturnsBetweenTurns(t *testing.T) {
	mask := counted(1, 1, 0, 0, 1)
	for between, want := range map[kernels.Between][]float64{
		kernels.BetweenSkip:  {0.5, 1, 0, 0, 2},      // verl
		kernels.BetweenReset: {0, 0, 0, 0, 2},        // SkyRL
		kernels.BetweenPlain: {0.125, 0.25, 0, 0, 2}, // slime
		kernels.BetweenZero:  {0.125, 0.25, 0, 0, 2},
	} {
		scan := kernels.Scan{Rewards: []float64{0, 0, 0, 0, 2}, Bounds: []int32{0, 5}, Counted: mask, Between: between}
		got, err := Arithmetic{}.Returns(scan, 0.5)
		if diff := cmp.Diff(want, got, rounded); err != nil || diff != "" {
			t.Errorf("%s (-want +got):\n%s%v", between, diff, err)
		}
	}
	// A reward at a token between turns counts in the plain recursion alone.
	for between, want := range map[kernels.Between]float64{
		kernels.BetweenSkip: 1 + 0.5*2, kernels.BetweenReset: 1, kernels.BetweenPlain: 1 + 0.5*4 + 0.25*2, kernels.BetweenZero: 1 + 0.25*2,
	} {
		scan := kernels.Scan{Rewards: []float64{1, 4, 2, 8}, Bounds: []int32{0, 3, 4}, Counted: counted(1, 0, 1, 1), Between: between}
		got, err := Arithmetic{}.Returns(scan, 0.5)
		if diff := cmp.Diff([]float64{want, 0, 2, 8}, got, rounded); err != nil || diff != "" {
			t.Errorf("%s (-want +got):\n%s%v", between, diff, err)
		}
	}
}

func TestGAE(t *testing.T) {
	short := kernels.Scan{Rewards: []float64{1, 2, 3}, Bounds: []int32{0, 3}, Counted: counted(1, 0, 1)}
	all := short
	all.Counted = counted(1, 1, 1)
	verl := kernels.Scan{
		Rewards: []float64{8, 8, .1, .1, .1, 8, 8, .1, 1, 8, 8}, Bounds: []int32{0, 11}, Counted: counted(0, 0, 1, 1, 1, 0, 0, 1, 1, 0, 0),
	}
	critic := []float64{8, 8, 4, 5, 6, 8, 8, 7, 9, 8, 8}
	for _, c := range []struct {
		name             string
		scan             kernels.Scan
		between          kernels.Between
		values           []float64
		discount, lambda float64
		want             []float64
	}{
		{"SkyRL, γ 1 λ 1", all, kernels.BetweenSkip, []float64{.5, 1, 1.5}, 1, 1, []float64{5.5, 4, 1.5}},
		{"SkyRL, γ ½", all, kernels.BetweenSkip, []float64{.5, 1, 1.5}, .5, 1, []float64{2.25, 2.5, 1.5}},
		{"SkyRL, λ ½", all, kernels.BetweenSkip, []float64{.5, 1, 1.5}, 1, .5, []float64{3.125, 3.25, 1.5}},
		{"verl over an observation", short, kernels.BetweenSkip, []float64{.5, 1, 1.5}, 1, 1, []float64{3.5, 0, 1.5}},
		{"SkyRL over an observation", short, kernels.BetweenPlain, []float64{.5, 1, 1.5}, 1, 1, []float64{5.5, 0, 1.5}},
		{"OpenRLHF over an observation", short, kernels.BetweenZero, []float64{.5, 1, 1.5}, 1, 1, []float64{3.5, 0, 1.5}},
		{"OpenRLHF, γ ½", short, kernels.BetweenZero, []float64{.5, 1, 1.5}, .5, 1, []float64{.5 + .5*(.75+.5*1.5), 0, 1.5}},
		{"anew after an observation", short, kernels.BetweenReset, []float64{.5, 1, 1.5}, 1, 1, []float64{.5, 0, 1.5}},
		{"verl's multi-turn test, γ 1 λ 1", verl, kernels.BetweenSkip, critic, 1, 1, []float64{0, 0, -2.6, -3.7, -4.8, 0, 0, -5.9, -8, 0, 0}},
		{"verl's multi-turn test, γ .9 λ .8", verl, kernels.BetweenSkip, critic, .9, .8, []float64{0, 0, -.534651, -1.575904, -2.8832, 0, 0, -4.56, -8, 0, 0}},
	} {
		c.scan.Between = c.between
		got, err := Arithmetic{}.GAE(c.scan, c.values, c.discount, c.lambda)
		if diff := cmp.Diff(c.want, got, rounded); err != nil || diff != "" {
			t.Errorf("%s (-want +got):\n%s%v", c.name, diff, err)
		}
	}
}

func TestWhitening(t *testing.T) {
	got, err := Arithmetic{}.Whiten([]float64{5.5, 4, 1.5}, counted(1, 0, 1), 1e-8)
	if diff := cmp.Diff([]float64{math.Sqrt2 / 2, 0, -math.Sqrt2 / 2}, got, rounded); err != nil || diff != "" {
		t.Errorf("two values (-want +got):\n%s%v", diff, err)
	}
	got, err = Arithmetic{}.Whiten([]float64{-2.6, -3.7, -4.8, -5.9, -8}, counted(1, 1, 1, 1, 1), 1e-8)
	if diff := cmp.Diff([]float64{1.154033, .625101, .096169, -.432762, -1.442541}, got, rounded); err != nil || diff != "" {
		t.Errorf("verl's multi-turn test (-want +got):\n%s%v", diff, err)
	}
	for _, mask := range [][]bool{counted(0, 0), counted(0, 1)} {
		got, err = Arithmetic{}.Whiten([]float64{3, 4}, mask, 1e-8)
		want := []float64{0, 0}
		if mask[1] {
			want[1] = 4
		}
		if diff := cmp.Diff(want, got); err != nil || diff != "" {
			t.Errorf("fewer than two values (-want +got):\n%s%v", diff, err)
		}
	}
}

func TestMoments(t *testing.T) {
	mean, variance, err := Arithmetic{}.Moments([]float64{1, 0, .2, 1, 7}, []int32{0, 4, 5})
	if diff := cmp.Diff([][]float64{{.55, 7}, {.2075, 0}}, [][]float64{mean, variance}, rounded); err != nil || diff != "" {
		t.Errorf("(-want +got):\n%s%v", diff, err)
	}
}
