// Package devicetest is the conformance suite of devices: every operation of package device against a
// float64 oracle, on random and odd shapes, and, for devices that claim it, the independence of every
// bit from batch, layout, cache and cores.
//
// A device's tests call [Run]; a program without the testing framework calls [Check]. [Reference] is a
// slow device in plain Go that passes; the suite's own tests break it in one place at a time and see
// that each fault is found.
//
// Operands lie inside larger allocations, at odd offsets and with strides wider than their rows. What
// surrounds an input is NaN, which poisons a result that reads it; what surrounds an output must not
// change. An output that is written is NaN before. Activations have the tested type; parameters, their
// gradients and statistics are float32. A device that supports BF16 is held to all that a network needs which
// computes in it. Every device, whether it claims exactness or not, must compute the same bits when it computes
// the same again.
//
// The suite does not measure time and does not provoke failures of hardware.
package devicetest

import (
	"fmt"
	"hash/fnv"
	"math"
	"math/rand/v2"
	"runtime/debug"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/turnwise-rl/turnwise/kernels/device"
)

// Options say what a device is held to. The zero value holds it to the default tolerances.
type Options struct {
	// Exact demands that the bits of a row depend on its own inputs alone, and that products are chains
	// of multiply-adds in the documented order.
	Exact bool
	// Quick runs fewer shapes.
	Quick bool
	// Seed draws the random shapes and numbers. Every seed gives a valid test; 0 is one of them.
	Seed uint64
	// Threads sets the number of cores that the device uses, 0 for all; nil when it has no such setting.
	Threads func(n int)
	// F32 and BF16 replace the tolerances of the types; nil keeps [ToleranceOf].
	F32, BF16 *Tolerance

	// stopAfter is how many failures end an operation's check; 0 is enough.
	stopAfter int
}

// Tolerance bounds the distance of a result from the oracle's as a share of the sum of the absolute
// values of the terms that it is the sum of: (Fixed + PerRootTerm·√terms)·Σ|terms|. Relative to the
// result itself there is no bound, since terms may cancel. 2⁻¹⁰⁰ is always allowed.
type Tolerance struct {
	Fixed, PerRootTerm float64
}

// ToleranceOf is the tolerance of a type. Rounding errors of a chain of n additions grow like √n: they
// exceed λ·√n·u·Σ|terms| with probability below 2·exp(−λ²/2) per step (Higham and Mary, SIAM J. Sci. Comput.
// 41, 2019), u = 2⁻²⁴ for float32. λ = 8 leaves 1e-14. Fixed covers the roundings outside the chain, of
// which no operation has more than 16. BF16 adds the rounding of its results and of its weights, u = 2⁻⁸ each.
func ToleranceOf(t device.DType) Tolerance {
	const unit = 1.0 / (1 << 24)
	if t == device.BF16 {
		return Tolerance{Fixed: 2.0 / (1 << 8), PerRootTerm: 8 * unit}
	}
	return Tolerance{Fixed: 16 * unit, PerRootTerm: 8 * unit}
}

// faint is what a device may round to zero: exponentials below the least normal float32 may be flushed,
// and are multiplied by numbers of up to a few thousand afterwards.
const faint = 1.0 / (1 << 50) / (1 << 50)

func (t Tolerance) bound(terms int, magnitude float64) float64 {
	return (t.Fixed+t.PerRootTerm*math.Sqrt(float64(terms)))*magnitude + faint
}

// Failure is one thing that a device did wrong.
type Failure struct {
	// Operation is the name of the subtest, that of the method under test.
	Operation string
	Message   string
}

func (f Failure) String() string { return f.Operation + ": " + f.Message }

// Run holds a device to the suite, one subtest an operation.
func Run(t *testing.T, d device.Device, options Options) {
	t.Helper()
	t.Logf("%s, seed %d", d.Name(), options.Seed)
	for _, o := range operations() {
		t.Run(o.name, func(t *testing.T) {
			for _, f := range o.check(d, options) {
				t.Error(f.Message)
			}
		})
	}
}

// Check holds a device to the suite, or to the named operations alone, and returns what it found.
func Check(d device.Device, options Options, names ...string) []Failure {
	var found []Failure
	for _, o := range operations() {
		if len(names) == 0 || slices.Contains(names, o.name) {
			found = append(found, o.check(d, options)...)
		}
	}
	return found
}

// Operations are the names of the subtests, in order.
func Operations() []string {
	var names []string
	for _, o := range operations() {
		names = append(names, o.name)
	}
	return names
}

// operation is one subtest.
type operation struct {
	name string
	run  func(*check)
	// dtypes says that activations may have other types than float32.
	dtypes bool
}

// operations are listed in an order in which the first failure says most: memory first.
func operations() []operation {
	return []operation{
		{name: "Allocate", run: checkAllocate},
		{name: "Upload", run: checkUpload},
		{name: "Copy", run: checkCopy},
		{name: "CopyRows", run: checkCopyRows, dtypes: true},
		{name: "Zero", run: checkZero},
		{name: "Each", run: checkEach},
		{name: "Product", run: checkProduct, dtypes: true},
		{name: "ProductOnto", run: checkProductOnto, dtypes: true},
		{name: "ProductStored", run: checkProductStored, dtypes: true},
		{name: "ProductBack", run: checkProductBack, dtypes: true},
		{name: "ProductGrad", run: checkProductGrad, dtypes: true},
		{name: "AddBias", run: checkAddBias, dtypes: true},
		{name: "BiasGrad", run: checkBiasGrad, dtypes: true},
		{name: "RMSNorm", run: checkRMSNorm, dtypes: true},
		{name: "RMSNormBack", run: checkRMSNormBack, dtypes: true},
		{name: "SwiGLU", run: checkSwiGLU, dtypes: true},
		{name: "SwiGLUBack", run: checkSwiGLUBack, dtypes: true},
		{name: "Rotate", run: checkRotate, dtypes: true},
		{name: "RotateBoth", run: checkRotateBoth, dtypes: true},
		{name: "RotateBack", run: checkRotateBack, dtypes: true},
		{name: "Gather", run: checkGather, dtypes: true},
		{name: "ScatterAdd", run: checkScatterAdd, dtypes: true},
		{name: "Attend", run: checkAttend, dtypes: true},
		{name: "AttendBack", run: checkAttendBack, dtypes: true},
		{name: "AttendPages", run: checkAttendPages, dtypes: true},
		{name: "CopyPage", run: checkCopyPage, dtypes: true},
		{name: "Score", run: checkScore, dtypes: true},
		{name: "ScoreBack", run: checkScoreBack, dtypes: true},
		{name: "Draw", run: checkDraw, dtypes: true},
		{name: "DrawCuts", run: checkDrawCuts},
		{name: "DrawAgain", run: checkDrawAgain},
		{name: "Update", run: checkUpdate, dtypes: true},
		{name: "AdamW", run: checkAdamW},
		{name: "SquaredNorm", run: checkSquaredNorm},
		{name: "Scale", run: checkScale, dtypes: true},
		{name: "Add", run: checkAdd},
		{name: "FirstNonFinite", run: checkFirstNonFinite},
		{name: "NaN", run: checkNaN},
		{name: "Shapes", run: checkShapes, dtypes: true},
	}
}

func (o operation) check(d device.Device, options Options) []Failure {
	var found []Failure
	for _, t := range []device.DType{device.F32, device.BF16} {
		if t != device.F32 && (!o.dtypes || !d.Supports(t)) {
			continue
		}
		hash := fnv.New64a()
		fmt.Fprint(hash, o.name, t)
		c := &check{device: d, options: options, operation: o.name, dtype: t,
			random: rand.New(rand.NewPCG(options.Seed, hash.Sum64()))}
		c.guarded(func() { o.run(c) })
		found = append(found, c.failures...)
		if len(found) >= options.limit() {
			break
		}
	}
	return found
}

// check is one operation's test on one type.
type check struct {
	device    device.Device
	options   Options
	operation string
	dtype     device.DType
	random    *rand.Rand
	rounds    rounding
	repeats   int  // how often something has been computed again
	even      bool // matrices, and their rows when their width is one, begin at multiples of 8 elements

	mu       sync.Mutex // guards failures
	failures []Failure
}

// rounding is how a device's products round, once they have shown it.
type rounding uint8

const (
	roundsOnce  rounding = iota + 1 // fused multiply-adds
	roundsTwice                     // after the product and after the sum
)

// stop ends a check that has nothing more to say.
type stop struct{}

// enough failures name a pattern; more of them hide it.
const enough = 8

func (o Options) limit() int {
	if o.stopAfter > 0 {
		return o.stopAfter
	}
	return enough
}

func (c *check) failf(format string, args ...any) {
	message := fmt.Sprintf(format, args...)
	c.mu.Lock()
	c.failures = append(c.failures, Failure{Operation: c.operation, Message: c.dtype.String() + " " + message})
	full := len(c.failures) >= c.options.limit()
	c.mu.Unlock()
	if full {
		panic(stop{})
	}
}

// guarded turns a panic of the device into a failure of the check.
func (c *check) guarded(body func()) {
	defer func() {
		switch r := recover().(type) {
		case nil, stop:
		default:
			c.mu.Lock()
			c.failures = append(c.failures, Failure{Operation: c.operation, Message: fmt.Sprintf("%s panic: %v\n%s", c.dtype, r, origin(string(debug.Stack())))})
			c.mu.Unlock()
		}
	}()
	body()
}

// origin is the part of a stack that leads to the panic, without the frames that report it.
func origin(stack string) string {
	if _, after, ok := strings.Cut(stack, "panic("); ok {
		stack = after
	}
	lines := strings.Split(stack, "\n")
	return strings.Join(lines[:min(len(lines), 16)], "\n")
}

// tolerance is that of activations of the tested type.
func (c *check) tolerance(t device.DType) Tolerance {
	switch {
	case t == device.BF16 && c.options.BF16 != nil:
		return *c.options.BF16
	case t == device.F32 && c.options.F32 != nil:
		return *c.options.F32
	}
	return ToleranceOf(t)
}

// sync waits for the device and reports its error.
func (c *check) sync() {
	if err := c.device.Sync(); err != nil {
		c.failf("Sync: %v", err)
		panic(stop{})
	}
}
