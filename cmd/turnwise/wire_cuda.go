package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/turnwise-rl/turnwise/internal/agent"
	"github.com/turnwise-rl/turnwise/internal/gpu"
	"github.com/turnwise-rl/turnwise/internal/lease"
	"github.com/turnwise-rl/turnwise/kernels/device"
	"github.com/turnwise-rl/turnwise/kernels/device/cpu"
	"github.com/turnwise-rl/turnwise/kernels/device/cuda"
	"github.com/turnwise-rl/turnwise/kernels/device/cuda/cublaslt"
)

// The paths of NVIDIA's libraries, for machines on which the system's loader does not find them, and for rehearsals.
const (
	cudaDriverVariable = "TURNWISE_CUDA_DRIVER"
	cublasLtVariable   = "TURNWISE_CUBLASLT"
)

func cudaLibraries() cuda.Libraries {
	return cuda.Libraries{Driver: os.Getenv(cudaDriverVariable), CuBLASLt: os.Getenv(cublasLtVariable)}
}

// computing is what a process computes on.
type computing struct {
	kinds []gpu.Kind
	// lacks says of GPUs why it does not compute on them.
	lacks []lease.Lack
	open  agent.Opener
}

// onProcessor computes for the processor, and for GPUs that are only pretended.
func onProcessor(processor device.Device, pretended bool) computing {
	c := computing{kinds: []gpu.Kind{gpu.CPU}}
	if pretended {
		c.kinds = append(c.kinds, gpu.GPU)
	}
	c.open = func(gpu.Device, bool) (device.Device, func() error, error) {
		return processor, func() error { return nil }, nil
	}
	return c
}

// onMachine computes for the processor, and for the GPUs that the driver offers to this process.
func onMachine(processor device.Device, known []gpu.Device) computing {
	libraries, c := cudaLibraries(), onProcessor(processor, false)
	found, err := cuda.Probe(libraries)
	if err != nil {
		c.lacks = []lease.Lack{{Kind: gpu.GPU, Why: err.Error()}}
		return c
	}
	c.kinds = append(c.kinds, gpu.GPU)
	for _, d := range known {
		if d.Kind == gpu.GPU && !offered(found, d.UUID) {
			c.lacks = append(c.lacks, lease.Lack{Kind: gpu.GPU, UUID: d.UUID, Why: fmt.Sprintf("the driver does not offer %s to the process: look at CUDA_VISIBLE_DEVICES, "+
				"which names one MIG instance for each process", d.UUID)})
		}
	}
	if _, err := cublaslt.Open(libraries.CuBLASLt); err != nil {
		c.lacks = append(c.lacks, lease.Lack{Kind: gpu.GPU, Fast: true, Why: withoutCuBLASLt(err)})
	}
	c.open = func(of gpu.Device, exact bool) (device.Device, func() error, error) {
		if of.Kind != gpu.GPU {
			return processor, func() error { return nil }, nil
		}
		opened, err := cuda.Open(libraries, cuda.Options{UUID: of.UUID, Exact: exact})
		if err != nil {
			return nil, nil, err
		}
		return opened, opened.Close, nil
	}
	return c
}

// withoutCuBLASLt says what a person can do about a machine that lacks cuBLASLt.
func withoutCuBLASLt(err error) string {
	var absent *cublaslt.Absent
	if !errors.As(err, &absent) {
		return fmt.Sprintf("cuBLASLt cannot be used: %v", err)
	}
	return fmt.Sprintf("no usable cuBLASLt, of which %d places were tried: install it, or name its library in %s", len(absent.Tried), cublasLtVariable)
}

// offered says whether a device is among those that the driver offers. NVML's names of GPUs and of instances begin
// otherwise than the driver's.
func offered(found []cuda.Found, uuid string) bool {
	_, theirs, _ := strings.Cut(uuid, "-")
	for _, f := range found {
		if _, ours, _ := strings.Cut(f.UUID, "-"); strings.EqualFold(ours, theirs) {
			return true
		}
	}
	return false
}

// ofSources are the devices that doors lead to, as far as they say.
func ofSources(ctx context.Context, doors []gpu.Source) []gpu.Device {
	var known []gpu.Device
	for _, door := range doors {
		inventory, _ := door.Inventory(ctx) // what cannot be listed now is judged when it is opened
		known = append(known, inventory.Devices...)
	}
	return known
}

// machineComputing is what a process on this machine computes on, looked at only for a run that wants a GPU.
func machineComputing(ctx context.Context, kind gpu.Kind, doors []gpu.Source) computing {
	if kind != gpu.GPU {
		return onProcessor(cpu.New(), false)
	}
	return onMachine(cpu.New(), ofSources(ctx, doors))
}
