package graph

import (
	"math"
	"slices"
	"sync"
	"testing"

	"github.com/turnwise-rl/turnwise/kernels"
	"github.com/turnwise-rl/turnwise/kernels/ref"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"pgregory.net/rapid"
)

// arithmetics are the implementations that every number holds for.
var arithmetics = map[string]kernels.Arithmetic{"graph": NewArithmetic(), "ref": ref.Arithmetic{}}

// drawScan draws sequences of rewards, some empty. What is not counted holds junk where the rule must not look at it.
func drawScan(t *rapid.T) (r kernels.Scan, values []float64) {
	r.Between, r.Bounds = rapid.SampledFrom(kernels.Betweens).Draw(t, "between"), []int32{0}
	number := rapid.Float64Range(-2, 2)
	for range rapid.IntRange(0, 4).Draw(t, "sequences") {
		for range rapid.IntRange(0, 8).Draw(t, "tokens") {
			counted := rapid.IntRange(0, 3).Draw(t, "counted") > 0
			reward, value := number.Draw(t, "reward"), number.Draw(t, "value")
			if !counted && r.Between != kernels.BetweenPlain {
				reward, value = math.NaN(), math.Inf(1)
			}
			r.Rewards, r.Counted, values = append(r.Rewards, reward), append(r.Counted, counted), append(values, value)
		}
		r.Bounds = append(r.Bounds, int32(len(r.Rewards)))
	}
	return r, values
}

func TestArithmeticAgreesWithOracle(t *testing.T) {
	arithmetic := NewArithmetic()
	rapid.Check(t, func(t *rapid.T) {
		r, values := drawScan(t)
		discount, lambda := rapid.Float64Range(0, 1).Draw(t, "discount"), rapid.Float64Range(0, 1).Draw(t, "lambda")
		epsilon := rapid.SampledFrom([]float64{1e-8, 1e-3}).Draw(t, "epsilon")
		for name, f := range map[string]func(kernels.Arithmetic) ([]float64, error){
			"returns": func(a kernels.Arithmetic) ([]float64, error) { return a.Returns(r, discount) },
			"gae":     func(a kernels.Arithmetic) ([]float64, error) { return a.GAE(r, values, discount, lambda) },
			"whiten":  func(a kernels.Arithmetic) ([]float64, error) { return a.Whiten(r.Rewards, r.Counted, epsilon) },
			"mean": func(a kernels.Arithmetic) ([]float64, error) {
				mean, _, err := a.Moments(nonEmpty(r))
				return mean, err
			},
			"variance": func(a kernels.Arithmetic) ([]float64, error) {
				_, variance, err := a.Moments(nonEmpty(r))
				return variance, err
			},
		} {
			want, err := f(ref.Arithmetic{})
			if err != nil {
				t.Fatal(err)
			}
			got, err := f(arithmetic)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(want, got, relative(1e-12)); diff != "" {
				t.Fatalf("%s, between %s (-ref +graph):\n%s", name, r.Between, diff)
			}
		}
	})
}

// nonEmpty are the finite rewards in segments of one to three values.
func nonEmpty(r kernels.Scan) (values []float64, bounds []int32) {
	bounds = []int32{0}
	for _, v := range r.Rewards {
		if v-v == 0 {
			values = append(values, v)
		}
	}
	for at := 0; at < len(values); {
		at = min(at+1+at%3, len(values))
		bounds = append(bounds, int32(at))
	}
	return values, bounds
}

func TestScanVectors(t *testing.T) {
	counted := func(mask ...int) []bool {
		out := make([]bool, len(mask))
		for i, m := range mask {
			out[i] = m == 1
		}
		return out
	}
	one := []float64{0, 0, 0, 0, 1}
	for _, test := range []struct {
		name             string
		rewards          []float64
		counted          []bool
		between          kernels.Between
		values           []float64 // nil for returns
		discount, lambda float64
		want             []float64
	}{
		{"GAE over an observation", one, counted(1, 1, 0, 1, 1), kernels.BetweenSkip, []float64{.5, .4, .9, .6, .7}, .99, .95, []float64{.41029227478749997, .5468285749999999, 0, .37515, .3}},
		{"GAE, Monte Carlo", one, counted(1, 1, 1, 1, 1), kernels.BetweenPlain, []float64{.5, .4, .9, .6, .7}, 1, 1, []float64{.5, .6, .1, .4, .3}},
		{"REINFORCE++ 1", []float64{0, 0, 1}, counted(1, 1, 1), kernels.BetweenSkip, nil, .9, 0, []float64{.81, .9, 1}},
		{"REINFORCE++ 2", []float64{0, .5, 0}, counted(1, 1, 0), kernels.BetweenSkip, nil, .9, 0, []float64{.45, .5, 0}},
		{"REINFORCE++ 3", []float64{0, 0, .2}, counted(1, 1, 1), kernels.BetweenSkip, nil, .9, 0, []float64{.162, .18, .2}},
		{"verl REINFORCE++", []float64{0, 0, 0, 0, 2}, counted(1, 1, 0, 0, 1), kernels.BetweenSkip, nil, .5, 0, []float64{.5, 1, 0, 0, 2}},
		{"SkyRL REINFORCE++", []float64{0, 0, 0, 0, 2}, counted(1, 1, 0, 0, 1), kernels.BetweenReset, nil, .5, 0, []float64{0, 0, 0, 0, 2}},
		{"slime REINFORCE++", []float64{0, 0, 0, 0, 2}, counted(1, 1, 0, 0, 1), kernels.BetweenPlain, nil, .5, 0, []float64{.125, .25, 0, 0, 2}},
		{"SkyRL returns", []float64{1, 2, 3}, counted(1, 1, 1), kernels.BetweenPlain, nil, .5, 0, []float64{2.75, 3.5, 3}},
		{"SkyRL returns, last masked", []float64{1, 2, 3}, counted(1, 1, 0), kernels.BetweenReset, nil, 1, 0, []float64{3, 2, 0}},
		{"SkyRL GAE", []float64{1, 2, 3}, counted(1, 0, 1), kernels.BetweenPlain, []float64{.5, 1, 1.5}, 1, 1, []float64{6 - .5, 0, 3 - 1.5}},
		{"verl GAE", []float64{1, 2, 3}, counted(1, 0, 1), kernels.BetweenSkip, []float64{.5, 1, 1.5}, 1, 1, []float64{4 - .5, 0, 3 - 1.5}},
		{"OpenRLHF GAE", []float64{1, 2, 3}, counted(1, 0, 1), kernels.BetweenZero, []float64{.5, 1, 1.5}, 1, 1, []float64{4 - .5, 0, 3 - 1.5}},
		{"SkyRL GAE, lambda", []float64{1, 2, 3}, counted(1, 1, 1), kernels.BetweenSkip, []float64{.5, 1, 1.5}, 1, .5, []float64{3.625 - .5, 4.25 - 1, 3 - 1.5}},
		{"verl multi-turn GAE", []float64{0, 0, .1, .1, .1, 0, 0, .1, 1, 0, 0}, counted(0, 0, 1, 1, 1, 0, 0, 1, 1, 0, 0), kernels.BetweenSkip,
			[]float64{-1, 8, 4, 5, 6, 3, 2, 7, 9, -4, 1}, .9, .8, []float64{0, 0, -.534651, -1.575904, -2.8832, 0, 0, -4.56, -8, 0, 0}},
		{"verl multi-turn GAE, Monte Carlo", []float64{0, 0, .1, .1, .1, 0, 0, .1, 1, 0, 0}, counted(0, 0, 1, 1, 1, 0, 0, 1, 1, 0, 0), kernels.BetweenSkip,
			[]float64{-1, 8, 4, 5, 6, 3, 2, 7, 9, -4, 1}, 1, 1, []float64{0, 0, -2.6, -3.7, -4.8, 0, 0, -5.9, -8, 0, 0}},
	} {
		for name, arithmetic := range arithmetics {
			t.Run(test.name+"/"+name, func(t *testing.T) {
				scan := kernels.Scan{Rewards: test.rewards, Bounds: []int32{0, int32(len(test.rewards))}, Counted: test.counted, Between: test.between}
				got, err := arithmetic.Returns(scan, test.discount)
				if test.values != nil {
					got, err = arithmetic.GAE(scan, test.values, test.discount, test.lambda)
				}
				if err != nil {
					t.Fatal(err)
				}
				if diff := cmp.Diff(test.want, got, cmpopts.EquateApprox(0, 1e-6)); diff != "" {
					t.Errorf("(-want +got):\n%s", diff)
				}
			})
		}
	}
}

func TestWhitenVectors(t *testing.T) {
	for _, test := range []struct {
		name    string
		values  []float64
		counted []bool
		want    []float64
	}{
		{"GAE over an observation", []float64{.41029227478749997, .5468285749999999, .37515, .37515, .3}, []bool{true, true, false, true, true},
			[]float64{.021531921894101216, 1.3430896728207684, 0, -.3186160501714513, -1.0460055050458605}},
		{"REINFORCE++", []float64{.81, .9, 1, .45, .5, 0, .162, .18, .2}, []bool{true, true, true, true, true, false, true, true, true},
			[]float64{.8370121444144296, 1.1015638312400797, 1.3955101499352467, -.22119460288817155, -.0742214435405881, 0, -1.0677600007302523, -1.0148496633651223, -.9560603996260889}},
		{"verl multi-turn GAE", []float64{-2.6, -3.7, -4.8, -5.9, -8}, slices.Repeat([]bool{true}, 5), []float64{1.154033, .625101, .096169, -.432762, -1.442541}},
		{"one value", []float64{3, 7}, []bool{false, true}, []float64{0, 7}},
		{"none", []float64{math.NaN()}, []bool{false}, []float64{0}},
	} {
		for name, arithmetic := range arithmetics {
			t.Run(test.name+"/"+name, func(t *testing.T) {
				got, err := arithmetic.Whiten(test.values, test.counted, 1e-8)
				if err != nil {
					t.Fatal(err)
				}
				if diff := cmp.Diff(test.want, got, cmpopts.EquateApprox(0, 1e-6)); diff != "" {
					t.Errorf("(-want +got):\n%s", diff)
				}
			})
		}
	}
}

// Without a variance and without an epsilon there is nothing to divide by.
func TestWhitenEqualValues(t *testing.T) {
	for name, arithmetic := range arithmetics {
		got, err := arithmetic.Whiten([]float64{2, math.NaN(), 2}, []bool{true, false, true}, 0)
		if err != nil {
			t.Fatal(err)
		}
		same(t, name, []float64{0, 0, 0}, got)
	}
}

func TestConcurrentArithmetic(t *testing.T) {
	arithmetic := NewArithmetic()
	var wg sync.WaitGroup
	for n := range 4 {
		wg.Go(func() {
			for range 20 {
				values := slices.Repeat([]float64{1, 3}, n+1)
				mean, variance, err := arithmetic.Moments(values, []int32{0, int32(len(values))})
				if err != nil || mean[0] != 2 || variance[0] != 1 {
					t.Errorf("mean %v, variance %v, error %v", mean, variance, err)
				}
			}
		})
	}
	wg.Wait()
}
