package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/turnwise-rl/turnwise/internal/chaos"
	"github.com/turnwise-rl/turnwise/internal/gpu"
	"github.com/turnwise-rl/turnwise/internal/gpu/gpufake"
	"github.com/turnwise-rl/turnwise/workflows/activity"
	"github.com/turnwise-rl/turnwise/workflows/runstate"
)

// chaosFleet is the host of one worker process: its own machine, with devices to lose.
const chaosFleet = `# The devices of %[1]s, for rehearsing faults. Nothing here is real.
hosts:
  - name: %[1]s
    processor: 64GiB
    devices:
      - {model: H200, count: 2}
`

// fleetNow ends the name of the file by which something happens to the devices of a fleet file.
const fleetNow = ".now"

// offTheBus is the XID of a device that is lost until its machine is booted.
const offTheBus = 79

// rig gives a process fake devices and returns the arguments that say so.
func (one *station) rig(folder, name string) ([]string, error) {
	one.fleet = filepath.Join(folder, name+".fleet.yaml")
	return []string{"--fleet", one.fleet}, os.WriteFile(one.fleet, fmt.Appendf(nil, chaosFleet, name), 0o600)
}

// happen lets something happen to the fake devices of a process, some tenths of a second from here.
func (one *station) happen(line string) error {
	file, err := os.OpenFile(one.fleet+fleetNow, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	_, err = file.WriteString(line + "\n")
	return errors.Join(err, file.Close())
}

// gpus are the fake GPUs of a process, by number.
func (one *station) gpus(ctx context.Context) ([]gpu.Device, error) {
	data, err := os.ReadFile(one.fleet)
	if err != nil {
		return nil, err
	}
	fleet, err := gpufake.Parse(one.fleet, data)
	if err != nil {
		return nil, err
	}
	host, err := fleet.Host(one.Name())
	if err != nil {
		return nil, err
	}
	inventory, err := gpufake.Open(host).Inventory(ctx)
	return slices.DeleteFunc(inventory.Devices, func(d gpu.Device) bool { return d.Kind != gpu.GPU }), err
}

// device strikes the device that holds the learner's lease, and every other time all of its machine's, so that
// the learner has to move to another process. A choosy strike waits for a step to be in flight.
func (h *struck) device(ctx context.Context, s *site, run string, choosy bool) error {
	status, err := learnerOf(ctx, s, run)
	if err != nil || len(status.Learner.Devices) == 0 {
		return errNothing // nobody says, or there is no lease
	}
	inFlight := status.Phase == "training" || status.Phase == "warm-start"
	at := slices.IndexFunc(s.stations, func(one *station) bool { return one.Name() == status.Learner.Agent })
	if choosy && !inFlight || at < 0 {
		return errNothing
	}
	h.station = s.stations[at]
	if _, serving := h.station.Serving(); !serving || h.station.lost {
		return errNothing // its devices are on their way back
	}
	gpus, err := h.station.gpus(ctx)
	if err != nil {
		return err
	}
	held := slices.IndexFunc(gpus, func(d gpu.Device) bool { return d.UUID == status.Learner.Devices[0] })
	if held < 0 {
		return fmt.Errorf("the learner's device %s is no GPU of %s: it has to be leased one", status.Learner.Devices[0], h.station.Name())
	}
	h.Target = "all GPUs of " + h.station.Name()
	if h.Pick%2 == 0 {
		h.Target, gpus = fmt.Sprintf("gpu %d of %s", held, h.station.Name()), gpus[held:held+1]
	}
	if inFlight {
		h.Target += " with a step in flight"
	}
	h.fence, h.lives, h.At, h.station.lost = status.Learner.Fence, len(h.station.Lives()), time.Now(), true
	for _, device := range gpus {
		h.lost = append(h.lost, device.UUID)
		if err := h.station.happen(fmt.Sprintf("gpu %d xid %d", device.Index, offTheBus)); err != nil {
			return err
		}
	}
	return nil
}

// follow sees which lease the learner has instead of the one whose device was lost.
func (h *struck) follow(ctx context.Context, s *site, run string, now time.Time) error {
	if h.Kind != chaos.Device || h.Lease != 0 || now.Sub(h.asked) < chaosFollow {
		return nil
	}
	h.asked = now
	status, err := learnerOf(ctx, s, run)
	if err != nil || status.Learner.Fence <= h.fence || len(status.Learner.Devices) == 0 {
		return nil // whoever does not answer is asked again
	}
	for _, uuid := range status.Learner.Devices {
		if slices.Contains(h.lost, uuid) {
			return fmt.Errorf("fault %d: the learner was given %s again, which is lost", h.Number, uuid)
		}
	}
	h.Lease, h.station.boot = activity.ManifestFence(status.Learner.Fence), true
	h.Target += ", now on " + status.Learner.Where
	return nil
}

// chaosFollow is how often the learner's lease is asked for after its device was struck.
const chaosFollow = 100 * time.Millisecond

// learnerOf asks a run where its learner is.
func learnerOf(ctx context.Context, s *site, run string) (runstate.Status, error) {
	asking, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	state, err := ask(asking, s.client, run)
	if err != nil {
		return runstate.Status{}, err
	}
	if state.Status == nil {
		return runstate.Status{}, errNothing
	}
	return *state.Status, nil
}

// remade says whether the step that was in flight when its device was lost was made under the next lease.
func remade(s chaos.Strike, progress []chaos.Progress) string {
	for _, p := range progress {
		if p.Of == chaos.Learner && p.Step == s.Committed+1 && s.Lease != 0 && p.Fence >= s.Lease {
			return ", which made the step again"
		}
	}
	return ""
}

// mend boots the fake machines whose devices were lost and whose work goes on elsewhere, as an operator does.
func (s *site) mend() error {
	for _, one := range s.stations {
		if _, serving := one.Serving(); !one.boot || !serving {
			continue
		}
		if err := one.happen("host reboot"); err != nil {
			return err
		}
		one.lost, one.boot = false, false
	}
	return nil
}
