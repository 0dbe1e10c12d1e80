//go:build slim

package main

import (
	"os"
	"strings"
	"testing"

	"github.com/turnwise-rl/turnwise/internal/chaos"
	"github.com/turnwise-rl/turnwise/internal/gpu"
	"github.com/turnwise-rl/turnwise/internal/gpu/gpufake"
)

// TestChaosFleet holds the devices that a process is given to what a fault does to them.
func TestChaosFleet(t *testing.T) {
	one := &station{Process: chaos.Start(chaos.Program{Name: "learner-1", Role: chaos.Learner, Path: "/bin/true"})}
	defer one.Stop()
	args, err := one.rig(t.TempDir(), "learner-1")
	if err != nil || len(args) != 2 || args[0] != "--fleet" {
		t.Fatal(args, err)
	}
	data, err := os.ReadFile(args[1])
	if err != nil {
		t.Fatal(err)
	}
	fleet, err := gpufake.Parse(args[1], data)
	if err != nil {
		t.Fatal(err)
	}
	host, err := fleet.Host("learner-1")
	if err != nil {
		t.Fatal(err)
	}
	source := gpufake.Open(host)
	gpus, err := one.gpus(t.Context())
	if err != nil || len(gpus) != 2 {
		t.Fatalf("got %v, %v, want one GPU to lose and one to go on with", gpus, err)
	}
	for i, device := range gpus {
		if device.Kind != gpu.GPU || device.Index != i {
			t.Errorf("GPU %d is %+v", i, device)
		}
	}
	for _, line := range []string{"gpu 0 xid 79", "host reboot"} {
		if err := one.happen(line); err != nil {
			t.Fatal(err)
		}
		if err := source.Inject(line); err != nil {
			t.Error(err)
		}
	}
	if said, err := os.ReadFile(one.fleet + fleetNow); err != nil || string(said) != "gpu 0 xid 79\nhost reboot\n" {
		t.Errorf("got %q, %v", said, err)
	}
}

func TestRemade(t *testing.T) {
	strike := chaos.Strike{Committed: 4, Lease: 7 << 16}
	for _, c := range []struct {
		name     string
		progress []chaos.Progress
		want     bool
	}{
		{"nothing yet", nil, false},
		{"committed before the lease was lost", []chaos.Progress{{Of: chaos.Learner, Step: 5, Fence: 6<<16 | 1}, {Of: chaos.Learner, Step: 6, Fence: 7<<16 | 1}}, false},
		{"made again", []chaos.Progress{{Of: chaos.Learner, Step: 5, Fence: 7<<16 | 1}}, true},
	} {
		if got := remade(strike, c.progress); strings.Contains(got, "again") != c.want {
			t.Errorf("%s: got %q", c.name, got)
		}
	}
	strike.Lease = 0
	if got := remade(strike, []chaos.Progress{{Of: chaos.Learner, Step: 5}}); got != "" {
		t.Errorf("without another lease: got %q", got)
	}
}
