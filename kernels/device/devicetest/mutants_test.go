package devicetest

import (
	"slices"
	"testing"

	"github.com/turnwise-rl/turnwise/kernels/device"
)

// mutant is a reference device with one fault, which the suite must find under the name of an operation.
type mutant struct {
	operation, fault string
	device           device.Device
}

func mutants() []mutant {
	return slices.Concat(storageMutants(), productMutants(), layerMutants(), attentionMutants(), headMutants(), optimizerMutants(), updateMutants(), nanMutants(), typeMutants())
}

// TestEveryMutantIsFound runs, for each fault, the checks of the operation that has it.
func TestEveryMutantIsFound(t *testing.T) {
	broken := map[string]bool{}
	for _, m := range mutants() {
		broken[m.operation] = true
		t.Run(m.operation+"/"+m.fault, func(t *testing.T) {
			t.Parallel()
			found := Check(m.device, Options{Exact: true, Quick: true, stopAfter: 1}, m.operation)
			if len(found) == 0 {
				t.Fatal("the suite does not find it")
			}
			t.Log(found[0])
		})
	}
	for _, name := range Operations() {
		if !broken[name] {
			t.Errorf("no mutant breaks %s: its checks may be empty", name)
		}
	}
}

// threaded is a device whose sums depend on the number of threads.
type threaded struct {
	*Reference
	parts *int
}

func (d threaded) BiasGrad(dBias device.Buffer, dy device.Rows, rows int) {
	parts := max(1, *d.parts)
	for p := range parts { // each part apart, then added: another order of additions for each number of parts
		lo, hi := p*rows/parts, (p+1)*rows/parts
		sum, _ := d.Allocate(device.ForWorkspace, device.F32, dBias.Len())
		if lo < hi {
			d.Reference.BiasGrad(sum, dy.From(lo), hi-lo)
		}
		d.Add(dBias, sum, 1)
		d.Free(sum)
	}
}

func TestDependenceOnThreadsIsFound(t *testing.T) {
	parts := 0
	d := threaded{NewReference(), &parts}
	options := Options{Exact: true, Quick: true, Threads: func(n int) { parts = n }}
	if found := Check(d, options, "BiasGrad"); len(found) == 0 {
		t.Error("sums that depend on the number of threads are not found")
	}
}

// TestInexactDevicesAreNotHeldToBits lets a device that sums in another order pass when it does not claim
// to be exact.
func TestInexactDevicesAreNotHeldToBits(t *testing.T) {
	for _, f := range Check(descending{NewReference()}, Options{Quick: true}, "Product", "ProductGrad") {
		t.Error(f)
	}
}

// TestPanicsAreFailures turns a device's panic into a failure that names the operation.
func TestPanicsAreFailures(t *testing.T) {
	found := Check(panicking{NewReference()}, Options{Quick: true, stopAfter: 1}, "Scale")
	if len(found) != 1 || found[0].Operation != "Scale" {
		t.Errorf("found %v, want one failure of Scale", found)
	}
}

type panicking struct{ *Reference }

func (panicking) Scale(device.Buffer, float32) { panic("out of order") }
