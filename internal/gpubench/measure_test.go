package gpubench

import (
	"encoding/json"
	"fmt"
	"os"
	"reflect"
	"strings"
	"testing"
	"time"
)

// TestMeasure measures what the flags ask for and writes the results. On the emulated GPU it holds that every measurement comes
// to its end and that its numbers are numbers.
func TestMeasure(t *testing.T) {
	if absent != nil {
		if *require {
			t.Fatal(absent)
		}
		t.Skipf("there is nothing to measure: %v", absent)
	}
	r := measure(t)
	data, err := json.MarshalIndent(r, "", " ") // which refuses numbers that are not finite
	must(t, err)
	var again Results
	must(t, json.Unmarshal(data, &again))
	if !reflect.DeepEqual(r, again) {
		t.Errorf("the results read back are\n%+v, want\n%+v", again, r)
	}
	switch {
	case *out != "":
		must(t, os.WriteFile(*out, append(data, '\n'), 0o644))
	case !emulated:
		fmt.Printf("%s\n", data)
	}
}

func measure(t *testing.T) Results {
	t.Helper()
	if *fresh < 2 || *prompt < 1 || *sequences < 1 || *groups < 1 || *groupSize < 1 || *steps < 1 || *warm < 0 || *micro < 1 {
		t.Fatal("-new must be at least 2, -warm at least 0, and the other numbers at least 1")
	}
	r := Results{Schema: Schema, Date: time.Now().Format(time.RFC3339), GPU: described(t)}
	c := ceilings(t)
	r.Ceilings = &c
	t.Logf("%s: a copy moves %.2f TB/s, a product does %.1f TFLOP/s", r.GPU.Name, c.BytesPerSecond/1e12, c.OperationsPerSecond/1e12)
	for _, n := range chosen(t) {
		n.Parameters = Parameters(n.Config)
		ask := asked(t)
		if ask["kernels"] {
			n.Kernels = singly(t, n.Config, c)
		}
		if ask["train"] {
			for _, batch := range strings.Split(on(*lengths, "2x9;12,5"), ";") {
				n.Training = append(n.Training, train(t, n.Config, batch, c))
				t.Logf("%s: %v", n.Name, n.Training[len(n.Training)-1])
			}
		}
		if ask["decode"] {
			d := decodeBatch(t, n.Config, c)
			n.Decoding = &d
			t.Logf("%s: %v", n.Name, d)
		}
		if ask["step"] {
			s := wholeStep(t, n.Config, c)
			n.Step = &s
			t.Logf("%s: %v", n.Name, s)
		}
		r.Networks = append(r.Networks, n)
	}
	return r
}

// described is the GPU that is measured.
func described(t *testing.T) GPU {
	t.Helper()
	d := open(t)
	defer shut(t, d)
	f := d.Found()
	return GPU{
		Name: f.Name, UUID: f.UUID, Device: d.Name(), Capability: fmt.Sprintf("%d.%d", f.Capability[0], f.Capability[1]), MemoryBytes: f.Memory,
		Emulated: emulated, NominalOperations: Nominal(f.Name),
	}
}

// TestMeasureNarrowWeights trains with weights in bf16 alone, on the emulated GPU.
func TestMeasureNarrowWeights(t *testing.T) {
	if absent != nil || !emulated {
		t.Skip("-stored bf16 measures it on a GPU")
	}
	defer func(was string) { *stored = was }(*stored)
	*stored = "bf16"
	r := train(t, tiny(), "2x9", Ceilings{OperationsPerSecond: 1})
	if r.Stored != "bf16" || !(r.FirstLoss > 0) || r.Steps != *steps {
		t.Errorf("got %+v", r)
	}
}
