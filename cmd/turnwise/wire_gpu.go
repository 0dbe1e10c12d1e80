package main

import (
	"context"

	"github.com/turnwise-rl/turnwise/internal/gpu/nvml"
)

// devices is what this machine has besides its processor.
type devices struct {
	driver string
	// reason says why there are none; "" when there are.
	reason string
	names  []string
}

// probeDevices asks the machine for its devices.
func probeDevices(ctx context.Context) (devices, error) {
	inventory, err := nvml.Probe(ctx)
	found := devices{driver: inventory.Driver, reason: inventory.Reason}
	for _, device := range inventory.Devices {
		found.names = append(found.names, device.Name)
	}
	return found, err
}
