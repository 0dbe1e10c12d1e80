package nvml

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/turnwise-rl/turnwise/internal/gpu"
)

// Inventory asks every board what it is. Those that fail or let the caller wait are errors beside the others.
func (s *source) Inventory(ctx context.Context) (gpu.Inventory, error) {
	o, err := s.openings.join(0, s.look).wait(ctx, 0)
	inventory := gpu.Inventory{Driver: o.version, Reason: o.reason}
	if err != nil || o.count == 0 {
		return inventory, unanswered(err)
	}
	answers := each(ctx, &s.boards, o.count, func(i int) func() (board, error) {
		return during(s, func() (board, error) { return s.driver.board(i) })
	})
	if ctx.Err() != nil {
		return inventory, unanswered(ctx.Err())
	}
	found, failed := sorted(answers)
	s.connect(ctx, answers, found)
	places := slices.Sorted(slices.Values(found)) // the places of those that do not answer stay free
	for k, i := range found {
		b := answers[i].value
		listed := b.listed()
		for _, device := range listed {
			device.Index = places[k]
			inventory.Devices = append(inventory.Devices, device)
		}
		s.remember(b.device.UUID, uuids(listed))
	}
	if len(inventory.Devices) == 0 {
		inventory.Reason = whyEmpty(answers, found)
	}
	return inventory, errors.Join(failed...)
}

// sorted are the indices of the boards that answered, in PCI bus order, and what is wrong with the others.
func sorted(answers []answer[board]) (found []int, failed []error) {
	for i, a := range answers {
		if a.err != nil {
			failed = append(failed, deviceError(i, len(answers), a.err))
			continue
		}
		found = append(found, i)
	}
	slices.SortStableFunc(found, func(a, b int) int {
		return strings.Compare(answers[a].value.device.PCI, answers[b].value.device.PCI)
	})
	return found, failed
}

func deviceError(i, n int, err error) error {
	return fmt.Errorf("device %d of %d: %w", i, n, err)
}

func whyEmpty(answers []answer[board], found []int) string {
	if len(found) == 0 {
		return "no device can be read"
	}
	split := answers[found[0]].value.device.UUID
	return fmt.Sprintf("%s is in MIG mode and has no instances: make some with `nvidia-smi mig -i %s -cgi PROFILE -C`", split, split)
}

// connect writes the NVLink domains into the boards that were found. When the wires cannot be asked in time,
// nobody knows, and there are none.
func (s *source) connect(ctx context.Context, answers []answer[board], found []int) {
	ends, err := s.wirings.join(0, during(s, func() ([]wired, error) {
		out := make([]wired, len(found))
		for k, i := range found {
			device := answers[i].value.device
			out[k] = wired{uuid: device.UUID, pci: device.PCI, wires: s.driver.wires(i)}
			for l := range k {
				if s.driver.linked(i, found[l]) {
					out[k].peers = append(out[k].peers, l)
				}
			}
		}
		return out, nil
	})).wait(ctx, patience)
	if err != nil {
		return
	}
	names := domains(ends)
	for _, i := range found {
		b := &answers[i].value
		b.device.Domain = names[b.device.UUID]
	}
}

func uuids(devices []gpu.Device) []string {
	var out []string
	for _, d := range devices {
		out = append(out, d.UUID)
	}
	return out
}
