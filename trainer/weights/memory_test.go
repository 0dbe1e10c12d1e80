//go:build linux

package weights

import (
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"
)

const (
	// memoryTask and memoryFolder tell the test binary, started again, what to do where.
	memoryTask   = "WEIGHTS_TEST_MEMORY_TASK"
	memoryFolder = "WEIGHTS_TEST_MEMORY_FOLDER"
	// The weights are memoryTensors tensors of memoryElements elements: 256 MiB in float32.
	memoryTensors  = 4
	memoryElements = 1 << 24
	memoryBytes    = 4 * memoryTensors * memoryElements
)

// peakResident is the most memory the process has had resident, files mapped into it included.
func peakResident() (int64, error) {
	text, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return 0, err
	}
	_, rest, ok := strings.Cut(string(text), "VmHWM:")
	if !ok {
		return 0, fmt.Errorf("/proc/self/status does not say VmHWM")
	}
	kilobytes, err := strconv.ParseInt(strings.Fields(rest)[0], 10, 64)
	return kilobytes << 10, err
}

func memoryValue(tensor, i int) float32 { return float32((i*7+tensor)%(1<<20) + 1) }

// memoryTasks are run in a process of their own, whose peak nothing else has touched.
var memoryTasks = map[string]func(folder string) error{
	"save": func(folder string) error {
		var tensors []Tensor
		for k := range memoryTensors {
			tensors = append(tensors, Tensor{fmt.Sprint("x", k), []int{memoryElements}, func(from int, dst []float32) error {
				for i := range dst {
					dst[i] = memoryValue(k, from+i)
				}
				return nil
			}})
		}
		return Save(folder, tensors, Options{})
	},
	"load":         func(folder string) error { return loadAll(folder, false) },
	"load keeping": func(folder string) error { return loadAll(folder, true) },
	"upload": func(folder string) error {
		f, err := Open(folder)
		if err != nil {
			return err
		}
		buffer := make([]float32, 1<<16)
		for k := range memoryTensors {
			for from := 0; from < memoryElements; from += len(buffer) {
				if err := f.ReadRange(fmt.Sprint("x", k), from, buffer); err != nil {
					return err
				}
				if buffer[1] != memoryValue(k, from+1) {
					return fmt.Errorf("tensor %d: element %d is %v", k, from+1, buffer[1])
				}
			}
		}
		return f.Close()
	},
}

// loadAll reads everything into one slice. The process then ends without closing the folder, as a run would that keeps it open.
func loadAll(folder string, keep bool) error {
	f, err := Open(folder)
	if err != nil {
		return err
	}
	for _, c := range f.files {
		c.(*mapped).keep = keep
	}
	all := make([]float32, memoryTensors*memoryElements)
	for k := range memoryTensors {
		part := all[k*memoryElements : (k+1)*memoryElements]
		if err := f.Read(fmt.Sprint("x", k), part); err != nil {
			return err
		}
		for i, v := range part {
			if v != memoryValue(k, i) {
				return fmt.Errorf("tensor %d: element %d is %v", k, i, v)
			}
		}
	}
	return nil
}

// TestMain runs a memory task instead of the tests in the processes that TestMemory starts.
func TestMain(m *testing.M) {
	name, ok := os.LookupEnv(memoryTask)
	if !ok {
		os.Exit(m.Run())
	}
	before, err := peakResident()
	if err == nil {
		err = memoryTasks[name](os.Getenv(memoryFolder))
	}
	after, err2 := peakResident()
	if err != nil || err2 != nil {
		fmt.Fprintln(os.Stderr, err, err2)
		os.Exit(1)
	}
	fmt.Print(after - before)
}

// TestMemory shows that saving and uploading need a small buffer and loading one copy of the weights, and that it
// would be two if the pages of the file were not given back.
func TestMemory(t *testing.T) {
	if testing.Short() {
		t.Skip("writes and reads 256 MiB")
	}
	if _, err := peakResident(); err != nil {
		t.Skipf("this machine does not tell a process's peak memory: %v", err)
	}
	binary, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	folder := t.TempDir()
	for _, c := range []struct {
		task        string
		least, most float64 // in copies of the weights
	}{
		{"save", 0, 0.2}, {"load", 0.9, 1.3}, {"load keeping", 1.7, 3}, {"upload", 0, 0.2},
	} {
		command := exec.Command(binary)
		command.Env = append(os.Environ(), memoryTask+"="+c.task, memoryFolder+"="+folder)
		command.Stderr = os.Stderr
		out, err := command.Output()
		if err != nil {
			t.Fatalf("%s: %v", c.task, err)
		}
		growth, err := strconv.ParseInt(string(out), 10, 64)
		if err != nil {
			t.Fatalf("%s: %v", c.task, err)
		}
		copies := float64(growth) / memoryBytes
		t.Logf("%s: peak memory grew by %d MiB, %.2f copies of the weights", c.task, growth>>20, copies)
		if copies < c.least || copies > c.most {
			t.Errorf("%s: peak memory grew by %.2f copies of the weights, want %v to %v", c.task, copies, c.least, c.most)
		}
	}
}
