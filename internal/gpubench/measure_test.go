package gpubench

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
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
	var data []byte
	r := measure(t, func(r Results) {
		var err error
		data, err = json.MarshalIndent(r, "", " ") // which refuses numbers that are not finite
		must(t, err)
		if *out != "" {
			must(t, os.WriteFile(*out, append(data, '\n'), 0o644))
		}
	})
	var again Results
	must(t, json.Unmarshal(data, &again))
	if !reflect.DeepEqual(r, again) {
		t.Errorf("the results read back are\n%+v, want\n%+v", again, r)
	}
	if *out == "" && !emulated {
		fmt.Printf("%s\n", data)
	}
}

// measure tells what it has measured after each measurement: a later one may fail, or have no time.
func measure(t *testing.T, tell func(Results)) Results {
	t.Helper()
	if *fresh < 2 || *prompt < 1 || *sequences < 1 || *groups < 1 || *groupSize < 1 || *steps < 1 || *warm < 0 || *micro < 1 {
		t.Fatal("-new must be at least 2, -warm at least 0, and the other numbers at least 1")
	}
	r := Results{Schema: Schema, Date: time.Now().Format(time.RFC3339), GPU: described(t)}
	c := ceilings(t)
	r.Ceilings = &c
	t.Logf("%s: a copy moves %.2f TB/s, a product does %.1f TFLOP/s", r.GPU.Name, c.BytesPerSecond/1e12, c.OperationsPerSecond/1e12)
	tell(r)
	for i, n := range chosen(t) {
		n.Parameters = Parameters(n.Config)
		r.Networks = append(r.Networks, n)
		measured := func(what any) {
			t.Logf("%s: %v", n.Name, what)
			r.Networks[i] = n
			tell(r)
		}
		ask := asked(t)
		if ask["kernels"] {
			n.Kernels = singly(t, n.Config, c)
			measured(fmt.Sprint(len(n.Kernels), " operations"))
		}
		if ask["train"] {
			for _, batch := range strings.Split(on(*lengths, "2x9;12,5"), ";") {
				n.Training = append(n.Training, train(t, n.Config, batch, c))
				measured(n.Training[len(n.Training)-1])
			}
		}
		if ask["decode"] {
			d := decodeBatch(t, n.Config, c)
			n.Decoding = &d
			measured(d)
		}
		if ask["step"] {
			s := wholeStep(t, n.Config, c)
			n.Step = &s
			measured(s)
		}
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

// TestWhatWasMeasuredIsKept has a process fail in its second measurement, and wants the first one's results.
func TestWhatWasMeasuredIsKept(t *testing.T) {
	if absent != nil || !emulated {
		t.Skip("there is no emulated GPU")
	}
	binary, err := os.Executable()
	must(t, err)
	path := filepath.Join(t.TempDir(), "out.json")
	c := exec.CommandContext(t.Context(), binary, "-test.run", "^TestMeasure$", "-measure", "kernels,train", "-stored", "nothing", "-out", path)
	c.Env = append(os.Environ(), "TURNWISE_CUDA_DRIVER="+libraries.Driver, "TURNWISE_CUBLASLT="+libraries.CuBLASLt)
	if text, err := c.CombinedOutput(); err == nil || !strings.Contains(string(text), "-stored nothing") {
		t.Fatalf("got %v and\n%s", err, text)
	}
	data, err := os.ReadFile(path)
	must(t, err)
	var r Results
	must(t, json.Unmarshal(data, &r))
	if r.Ceilings == nil || len(r.Networks) != 1 || len(r.Networks[0].Kernels) == 0 || r.Networks[0].Training != nil {
		t.Errorf("kept was %s", data)
	}
}
