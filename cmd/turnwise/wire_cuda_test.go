//go:build slim

package main

import (
	"bytes"
	"context"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"github.com/turnwise-rl/turnwise/internal/agent"
	"github.com/turnwise-rl/turnwise/internal/gpu"
	"github.com/turnwise-rl/turnwise/kernels/device"
	"github.com/turnwise-rl/turnwise/kernels/device/cpu"
	"github.com/turnwise-rl/turnwise/kernels/device/cuda/emulator"
)

// TestComputingWithoutADriver computes on the processor alone, and says what is missing and what helps.
func TestComputingWithoutADriver(t *testing.T) {
	t.Setenv(cudaDriverVariable, t.TempDir()+"/libcuda.so.1")
	c := onMachine(cpu.New(), []gpu.Device{{UUID: "GPU-1", Kind: gpu.GPU}})
	if !slices.Equal(c.kinds, []gpu.Kind{gpu.CPU}) || len(c.lacks) != 1 || c.lacks[0].UUID != "" || c.lacks[0].Fast || !strings.Contains(c.lacks[0].Why, cudaDriverVariable) {
		t.Errorf("%v, %+v", c.kinds, c.lacks)
	}
	var notes bytes.Buffer
	d := &doctor{app: &app{err: &notes}}
	d.noteComputing([]gpu.Device{{UUID: "CPU-1", Kind: gpu.CPU}})
	if notes.Len() > 0 {
		t.Errorf("a machine without GPUs gets the note %q", notes.String())
	}
	if d.noteComputing([]gpu.Device{{UUID: "GPU-1", Kind: gpu.GPU}}); !strings.Contains(notes.String(), "do not compute here: no NVIDIA driver") {
		t.Errorf("the doctor says %q", notes.String())
	}
}

// TestComputingOnAnEmulatedGPU opens a GPU in both ways, and says which are hidden from the process and what is
// missing for the fast way.
func TestComputingOnAnEmulatedGPU(t *testing.T) {
	if _, err := exec.LookPath("cc"); err != nil {
		t.Skipf("no C compiler to build the emulated driver with: %v", err)
	}
	libraries, err := emulator.Build(context.Background(), t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Setenv(cudaDriverVariable, libraries.Driver)
	t.Setenv(cublasLtVariable, t.TempDir()+"/none")
	offered := gpu.Device{UUID: "GPU-01010101-0101-0101-0101-010101010101", Kind: gpu.GPU}
	hidden := gpu.Device{UUID: "MIG-ffffffff-0000-0000-0000-000000000000", Kind: gpu.GPU}
	processor := cpu.New()
	c := onMachine(processor, []gpu.Device{{UUID: "CPU-1", Kind: gpu.CPU}, offered, hidden})
	if !slices.Equal(c.kinds, []gpu.Kind{gpu.CPU, gpu.GPU}) || len(c.lacks) != 2 || c.lacks[0].UUID != hidden.UUID || !strings.Contains(c.lacks[0].Why, "CUDA_VISIBLE_DEVICES") ||
		!c.lacks[1].Fast || !strings.Contains(c.lacks[1].Why, cublasLtVariable) {
		t.Fatalf("%v, %+v", c.kinds, c.lacks)
	}
	if got, closing, err := c.open(gpu.Device{UUID: "CPU-1", Kind: gpu.CPU}, true); err != nil || got != device.Device(processor) || closing() != nil {
		t.Errorf("the processor opens as %v, %v", got, err)
	}
	opened, closing, err := c.open(offered, true)
	if err != nil || opened.Name() != "cuda:0" {
		t.Fatalf("%v, %v", opened, err)
	}
	if err := closing(); err != nil {
		t.Error(err)
	}
	if _, _, err := c.open(offered, false); err == nil || !strings.Contains(err.Error(), "cuBLASLt") {
		t.Errorf("the fast way without cuBLASLt: %v", err)
	}
	if _, _, err := c.open(hidden, true); err == nil || !strings.Contains(err.Error(), hidden.UUID) {
		t.Errorf("a hidden GPU: %v", err)
	}
	if err := os.Setenv(cublasLtVariable, libraries.CuBLASLt); err != nil {
		t.Fatal(err)
	}
	c = onMachine(processor, []gpu.Device{offered})
	if len(c.lacks) > 0 {
		t.Fatalf("%+v", c.lacks)
	}
	opened, closing, err = c.open(offered, false)
	if err != nil || opened.Name() != "cuda:0 fast" {
		t.Fatalf("%v, %v", opened, err)
	}
	if err := closing(); err != nil {
		t.Error(err)
	}
}

// TestExitCodeOfAFailedDevice is one of its own, so that a supervisor knows that starting again helps.
func TestExitCodeOfAFailedDevice(t *testing.T) {
	err := &agent.FailedError{Agent: "here", UUID: "GPU-1", Failure: &device.Failure{Device: "cuda:0", Operation: "Product", Reason: "CUDA_ERROR_ILLEGAL_ADDRESS"}}
	if got := exitCode(err); got != exitDevice {
		t.Errorf("exit code %d, want %d", got, exitDevice)
	}
}
