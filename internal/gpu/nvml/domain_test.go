package nvml

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/turnwise-rl/turnwise/internal/gpu"
)

func TestDomains(t *testing.T) {
	direct := wires{remotes: []string{"00000000:11:00.0"}}
	for _, c := range []struct {
		name   string
		boards []wired
		want   map[string]string
	}{
		{"no lanes", []wired{{uuid: "a", pci: "1"}, {uuid: "b", pci: "2"}}, map[string]string{}},
		{"alone on its switch", []wired{{uuid: "a", wires: wires{switched: true}}}, map[string]string{}},
		{"on the switches, but for one", []wired{{uuid: "c", wires: wires{switched: true}}, {uuid: "b"}, {uuid: "a", wires: wires{switched: true}}},
			map[string]string{"a": "nvlink-a", "c": "nvlink-a"}},
		{"a bridge that one end tells of", []wired{{uuid: "a", pci: "00000000:10:00.0", wires: direct}, {uuid: "b", pci: "00000000:11:00.0"}, {uuid: "c", pci: "00000000:12:00.0"}},
			map[string]string{"a": "nvlink-a", "b": "nvlink-a"}},
		{"bus ids in other cases", []wired{{uuid: "a", pci: "00000000:1B:00.0"}, {uuid: "b", wires: wires{remotes: []string{"00000000:1b:00.0"}}}},
			map[string]string{"a": "nvlink-a", "b": "nvlink-a"}},
		{"a lane to a device that nobody sees", []wired{{uuid: "a", wires: direct}, {uuid: "b"}}, map[string]string{}},
		{"a chain", []wired{{uuid: "a", pci: "1"}, {uuid: "b", pci: "2", wires: wires{remotes: []string{"1"}}}, {uuid: "c", wires: wires{remotes: []string{"2"}}}},
			map[string]string{"a": "nvlink-a", "b": "nvlink-a", "c": "nvlink-a"}},
		{"the driver says so of a pair", []wired{{uuid: "a"}, {uuid: "b"}, {uuid: "c", peers: []int{1}}}, map[string]string{"b": "nvlink-b", "c": "nvlink-b"}},
		{"a fabric is named alike on every machine", []wired{{uuid: "a", wires: wires{fabric: "f-1"}}}, map[string]string{"a": "fabric-f-1"}},
		{"two partitions", []wired{{uuid: "a", wires: wires{fabric: "f-1"}}, {uuid: "b", wires: wires{fabric: "f-2"}}, {uuid: "c", wires: wires{fabric: "f-1"}}},
			map[string]string{"a": "fabric-f-1", "b": "fabric-f-2", "c": "fabric-f-1"}},
	} {
		if diff := cmp.Diff(c.want, domains(c.boards)); diff != "" {
			t.Errorf("%s: %s", c.name, diff)
		}
	}
}

func TestInventoryNamesDomains(t *testing.T) {
	m := newMachine(4)
	m.boards[0].wires.switched, m.boards[3].wires.switched = true, true
	m.pairs = map[[2]int]bool{{1, 2}: true}
	var got []string
	for _, device := range mustList(t, newSource(m)).Devices {
		got = append(got, device.Domain)
	}
	if diff := cmp.Diff([]string{"nvlink-GPU-0", "nvlink-GPU-1", "nvlink-GPU-1", "nvlink-GPU-0"}, got); diff != "" {
		t.Error(diff)
	}
	// Instances do not use the lanes of their board.
	m.boards[0].board.split, m.boards[0].board.instances = true, []gpu.Device{{UUID: "MIG-a"}}
	if got := mustList(t, newSource(m)).Devices[0]; got.UUID != "MIG-a" || got.Domain != "" {
		t.Errorf("got %+v", got)
	}
}
