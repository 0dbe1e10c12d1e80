//go:build linux && cgo

package nvml

import (
	"encoding/hex"
	"fmt"
	"strings"

	"github.com/NVIDIA/go-nvml/pkg/nvml"

	"github.com/turnwise-rl/turnwise/internal/gpu"
)

func (l *library) board(index int) (board, error) {
	device, uuid, err := l.device(index)
	if err != nil {
		return board{}, err
	}
	whole, err := l.identity(device, uuid)
	if err != nil {
		return board{}, err
	}
	whole.PCI, _ = busID(device.GetPciInfo()) // without it the driver's order stands
	parts, split, err := l.instances(device)
	if err != nil {
		return board{}, err
	}
	b := board{device: whole, split: split}
	for _, part := range parts {
		instance, err := l.identity(part.device, part.uuid)
		if err != nil {
			return board{}, fmt.Errorf("instance %s: %w", part.uuid, err)
		}
		instance.Parent, instance.PCI = uuid, whole.PCI
		// "NVIDIA H200 MIG 1g.18gb"
		if _, profile, ok := strings.Cut(instance.Name, " MIG "); ok {
			instance.Profile = profile
		}
		b.instances = append(b.instances, instance)
	}
	return b, nil
}

// identity is what a board and an instance have in common.
func (l *library) identity(device nvml.Device, uuid string) (gpu.Device, error) {
	name, code := device.GetName()
	if code != nvml.SUCCESS {
		return gpu.Device{}, fail("ask for its name", code)
	}
	memory, code := device.GetMemoryInfo()
	if code != nvml.SUCCESS && code != nvml.ERROR_NOT_SUPPORTED { // boards that share the machine's memory have none
		return gpu.Device{}, fail("ask for its memory", code)
	}
	return gpu.Device{UUID: uuid, Kind: gpu.GPU, Name: name, MemoryTotalBytes: int64(memory.Total)}, nil
}

// part is an instance of a board.
type part struct {
	device nvml.Device
	uuid   string
}

// instances are those of a board, and whether it is in MIG mode.
func (l *library) instances(device nvml.Device) ([]part, bool, error) {
	mode, code := ask(l, "nvmlDeviceGetMigMode", func() (int, nvml.Return) {
		current, _, code := device.GetMigMode()
		return current, code
	})
	if code != nvml.SUCCESS || mode != nvml.DEVICE_MIG_ENABLE {
		return nil, false, nil // a board that cannot be split says so by an error
	}
	n, code := ask(l, "nvmlDeviceGetMaxMigDeviceCount", device.GetMaxMigDeviceCount)
	if code != nvml.SUCCESS {
		return nil, true, fail("ask how many instances it has", code)
	}
	var parts []part
	for i := range n {
		instance, code := ask(l, "nvmlDeviceGetMigDeviceHandleByIndex", func() (nvml.Device, nvml.Return) { return device.GetMigDeviceHandleByIndex(i) })
		if code == nvml.ERROR_NOT_FOUND || code == nvml.ERROR_INVALID_ARGUMENT || code == nvml.ERROR_NO_PERMISSION {
			continue // no instance has this number, or it is not this container's
		}
		if code != nvml.SUCCESS {
			return nil, true, fail(fmt.Sprintf("find instance %d", i), code)
		}
		uuid, code := instance.GetUUID()
		if code != nvml.SUCCESS {
			return nil, true, fail(fmt.Sprintf("ask instance %d for its UUID", i), code)
		}
		parts = append(parts, part{instance, uuid})
	}
	return parts, true, nil
}

// busID is "00000000:1B:00.0".
func busID(info nvml.PciInfo, code nvml.Return) (string, bool) {
	var text strings.Builder
	for _, c := range info.BusId {
		if c == 0 {
			break
		}
		text.WriteByte(byte(c))
	}
	return strings.ToUpper(text.String()), code == nvml.SUCCESS && text.Len() > 0
}

func (l *library) wires(index int) wires {
	device, _, err := l.device(index)
	if err != nil {
		return wires{}
	}
	var w wires
	if info, code := ask(l, "nvmlDeviceGetGpuFabricInfo", device.GetGpuFabricInfo); code == nvml.SUCCESS {
		w.fabric = fabric(info)
	}
	for lane := range nvml.NVLINK_MAX_LINKS {
		state, code := ask(l, "nvmlDeviceGetNvLinkState", func() (nvml.EnableState, nvml.Return) { return device.GetNvLinkState(lane) })
		if code != nvml.SUCCESS {
			break
		}
		if state != nvml.FEATURE_ENABLED {
			continue
		}
		kind, code := ask(l, "nvmlDeviceGetNvLinkRemoteDeviceType", func() (nvml.IntNvLinkDeviceType, nvml.Return) {
			return device.GetNvLinkRemoteDeviceType(lane)
		})
		if code == nvml.SUCCESS && kind == nvml.NVLINK_DEVICE_TYPE_SWITCH {
			w.switched = true
			continue
		}
		remote, code := ask(l, "nvmlDeviceGetNvLinkRemotePciInfo", func() (nvml.PciInfo, nvml.Return) { return device.GetNvLinkRemotePciInfo(lane) })
		if id, ok := busID(remote, code); ok {
			w.remotes = append(w.remotes, id)
		}
	}
	return w
}

// fabric names the partition that a board has joined. On one machine with switches of its own there is no
// cluster, and the name is "".
func fabric(info nvml.GpuFabricInfo) string {
	if info.State != nvml.GPU_FABRIC_STATE_COMPLETED || nvml.Return(info.Status) != nvml.SUCCESS || info.ClusterUuid == [16]uint8{} {
		return ""
	}
	return fmt.Sprintf("%s-%d", hex.EncodeToString(info.ClusterUuid[:]), info.CliqueId)
}

func (l *library) linked(a, b int) bool {
	one, _, err := l.device(a)
	if err != nil {
		return false
	}
	other, _, err := l.device(b)
	if err != nil {
		return false
	}
	status, code := ask(l, "nvmlDeviceGetP2PStatus", func() (nvml.GpuP2PStatus, nvml.Return) {
		return one.GetP2PStatus(other, nvml.P2P_CAPS_INDEX_NVLINK)
	})
	return code == nvml.SUCCESS && status == nvml.P2P_STATUS_OK
}
