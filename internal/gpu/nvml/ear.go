//go:build linux && cgo

package nvml

import (
	"errors"
	"time"

	"github.com/NVIDIA/go-nvml/pkg/nvml"

	"github.com/turnwise-rl/turnwise/internal/gpu"
)

// wanted are the events that are heard. Of those without a kind of their own the readings tell more: they only
// say that it is time to look.
const wanted = nvml.EventTypeXidCriticalError | nvml.EventTypeDoubleBitEccError | nvml.EventTypeGpuRecoveryAction | nvml.EventTypeGpuUnavailableError |
	nvml.EventTypeDramRetirementEvent | nvml.EventTypeDramRetirementFailure | nvml.EventMigConfigChange

// recoveryChanged is the XID by which the driver says that it changed its mind about the recovery action.
const recoveryChanged = 154

// eventSet is an event set of NVML.
type eventSet struct {
	set nvml.EventSet
	// boards are the devices that were registered.
	boards map[nvml.Device]hearing
}

// hearing is whom a board's events concern.
type hearing struct {
	// listed are the UUIDs of the board, or of all its instances.
	listed []string
	// instances are UUIDs by the number of the GPU instance that they are on.
	instances map[uint32][]string
}

// listen registers every board that can be found and tells events. Those that are lost are heard of by readings.
func (l *library) listen() (ear, error) {
	set, code := l.nvml.EventSetCreate()
	if code != nvml.SUCCESS {
		return nil, fail("make an event set", code)
	}
	e := &eventSet{set: set, boards: map[nvml.Device]hearing{}}
	n, err := l.count()
	for i := range n {
		device, uuid, sick := l.device(i)
		if sick != nil {
			continue
		}
		types, code := ask(l, "nvmlDeviceGetSupportedEventTypes", device.GetSupportedEventTypes)
		if code != nvml.SUCCESS || types&wanted == 0 {
			continue
		}
		if device.RegisterEvents(types&wanted, set) == nvml.SUCCESS {
			e.boards[device] = l.hearing(device, uuid)
		}
	}
	if err == nil && len(e.boards) == 0 {
		err = errors.New("no device tells events")
	}
	if err != nil {
		e.free()
		return nil, err
	}
	return e, nil
}

func (l *library) hearing(device nvml.Device, uuid string) hearing {
	parts, split, _ := l.instances(device) // those that cannot be told apart now are not told apart in events
	if !split {
		return hearing{listed: []string{uuid}}
	}
	h := hearing{instances: map[uint32][]string{}}
	for _, part := range parts {
		h.listed = append(h.listed, part.uuid)
		if id, code := ask(l, "nvmlDeviceGetGpuInstanceId", part.device.GetGpuInstanceId); code == nvml.SUCCESS {
			h.instances[uint32(id)] = append(h.instances[uint32(id)], part.uuid)
		}
	}
	return h
}

func (e *eventSet) free() { _ = e.set.Free() } // nothing is lost with it

func (e *eventSet) wait(most time.Duration) (heard, error) {
	data, code := e.set.Wait(uint32(most.Milliseconds()))
	switch code {
	case nvml.SUCCESS:
		return e.translate(data, time.Now()), nil
	case nvml.ERROR_TIMEOUT:
		return heard{}, nil
	default:
		return heard{}, fail("wait for events", code)
	}
}

// translate says what happened, once for each device that it concerns. An event of a device that is not known
// concerns all of them: nobody can tell which it spares.
func (e *eventSet) translate(data nvml.EventData, now time.Time) heard {
	out := heard{something: true}
	event := gpu.Event{At: now}
	switch data.EventType {
	case nvml.EventTypeXidCriticalError:
		event.Kind, event.Xid = gpu.XidEvent, int(data.EventData)
		out.look = event.Xid == recoveryChanged
	case nvml.EventTypeDoubleBitEccError:
		event.Kind = gpu.DoubleBitECC
	default:
		out.look = true
		return out
	}
	for _, uuid := range e.concerned(data) {
		event.UUID = uuid
		out.events = append(out.events, event)
	}
	return out
}

func (e *eventSet) concerned(data nvml.EventData) []string {
	if h, ok := e.boards[data.Device]; ok {
		if on, ok := h.instances[data.GpuInstanceId]; ok {
			return on
		}
		return h.listed
	}
	var all []string
	for _, h := range e.boards {
		all = append(all, h.listed...)
	}
	return all
}
