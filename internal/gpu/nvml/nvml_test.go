//go:build linux && cgo

package nvml

import (
	"os"
	"os/user"
	"path/filepath"
	"reflect"
	"strconv"
	"strings"
	"testing"

	"github.com/NVIDIA/go-nvml/pkg/nvml"
	"github.com/NVIDIA/go-nvml/pkg/nvml/mock/dgxa100"
	"github.com/google/go-cmp/cmp"

	"github.com/turnwise-rl/turnwise/internal/gpu"
)

func TestOpenSaysWhyThereIsNothing(t *testing.T) {
	for _, c := range []struct {
		code           nvml.Return
		reason, failed string
	}{
		{nvml.ERROR_LIBRARY_NOT_FOUND, gpu.NoDriver, ""},
		{nvml.ERROR_DRIVER_NOT_LOADED, "NVIDIA's library is installed but its driver is not loaded", ""},
		{nvml.ERROR_LIB_RM_VERSION_MISMATCH, "", "start this program again"},
		{nvml.ERROR_NO_PERMISSION, "", "who may open /dev/nvidia*"},
		{nvml.ERROR_UNKNOWN, "", "dmesg"},
	} {
		l, server := dgx(t)
		server.InitFunc = func() nvml.Return { return c.code }
		reason, err := l.open()
		if reason != c.reason || (err != nil) != (c.failed != "") || err != nil && !strings.Contains(err.Error(), c.failed) {
			t.Errorf("code %d: got %q, %v", c.code, reason, err)
		}
		if inventory, err := newSource(l).Inventory(t.Context()); inventory.Reason != c.reason || (err != nil) != (c.failed != "") {
			t.Errorf("code %d: got %+v, %v", c.code, inventory, err)
		}
		if calls := server.ShutdownCalls(); len(calls) != 0 {
			t.Errorf("code %d: closed what was never open", c.code)
		}
	}
}

func TestLibraryIsInitializedOnceForAllUsers(t *testing.T) {
	l, server := dgx(t)
	for range 3 {
		reopen(t, l)
	}
	for range 3 {
		l.close()
	}
	reopen(t, l)
	l.close()
	if inits, ends := len(server.InitCalls()), len(server.ShutdownCalls()); inits != 2 || ends != 2 {
		t.Errorf("initialized %d times and shut down %d times, want 2 of each", inits, ends)
	}
}

func TestEveryCodeHasAMeaning(t *testing.T) {
	codes := []nvml.Return{999}
	for code := nvml.Return(1); code <= nvml.ERROR_RESET_TYPE_NOT_SUPPORTED; code++ {
		codes = append(codes, code)
	}
	unknown := meaning(12345)
	for _, code := range codes {
		if meaning(code) == unknown {
			t.Errorf("code %d has no meaning", code)
		}
		_, loses := lostCodes[code]
		if _, other := otherCodes[code]; loses == other {
			t.Errorf("code %d has to be in one table", code)
		}
	}
}

func TestInventoryOfADGX(t *testing.T) {
	l, server := dgx(t)
	got := mustList(t, newSource(l))
	if got.Driver != server.DriverVersion || len(got.Devices) != 8 {
		t.Fatalf("got %+v", got)
	}
	want := gpu.Device{UUID: "GPU-7", Kind: gpu.GPU, Name: "Mock NVIDIA A100-SXM4-40GB", Index: 0, MemoryTotalBytes: 40 << 30,
		PCI: "00000000:10:00.0", Domain: "nvlink-GPU-0"}
	if diff := cmp.Diff(want, got.Devices[0]); diff != "" {
		t.Error(diff)
	}
}

func TestInventoryOfInstances(t *testing.T) {
	l, server := dgx(t)
	split(a100(server, 7), "MIG-a", "MIG-b", "MIG-c")
	got := mustList(t, newSource(l))
	if len(got.Devices) != 10 {
		t.Fatalf("got %+v", got)
	}
	want := gpu.Device{UUID: "MIG-b", Kind: gpu.GPU, Name: "NVIDIA A100-SXM4-40GB MIG 1g.5gb", MemoryTotalBytes: 5 << 30,
		PCI: "00000000:10:00.0", Parent: "GPU-7", Profile: "1g.5gb"}
	if diff := cmp.Diff(want, got.Devices[1]); diff != "" {
		t.Error(diff)
	}
}

// TestBoardSaysWhatFailed takes each call that a board cannot do without.
func TestBoardSaysWhatFailed(t *testing.T) {
	for name, spoil := range map[string]func(*dgxa100.Server){
		"find it": func(s *dgxa100.Server) {
			s.DeviceGetHandleByIndexFunc = func(int) (nvml.Device, nvml.Return) { return nil, nvml.ERROR_GPU_IS_LOST }
		},
		"ask for its UUID":   func(s *dgxa100.Server) { a100(s, 0).GetUUIDFunc = never[string](nvml.ERROR_GPU_IS_LOST) },
		"ask for its name":   func(s *dgxa100.Server) { a100(s, 0).GetNameFunc = never[string](nvml.ERROR_GPU_IS_LOST) },
		"ask for its memory": func(s *dgxa100.Server) { a100(s, 0).GetMemoryInfoFunc = never[nvml.Memory](nvml.ERROR_GPU_IS_LOST) },
		"ask how many instances it has": func(s *dgxa100.Server) {
			split(a100(s, 0))
			a100(s, 0).GetMaxMigDeviceCountFunc = never[int](nvml.ERROR_GPU_IS_LOST)
		},
		"find instance 0": func(s *dgxa100.Server) {
			split(a100(s, 0))
			a100(s, 0).GetMigDeviceHandleByIndexFunc = func(int) (nvml.Device, nvml.Return) { return nil, nvml.ERROR_GPU_IS_LOST }
		},
		"ask instance 1 for its UUID": func(s *dgxa100.Server) {
			split(a100(s, 0))
			broken := instance("", 0)
			broken.GetUUIDFunc = never[string](nvml.ERROR_GPU_IS_LOST)
			a100(s, 0).GetMigDeviceHandleByIndexFunc = func(i int) (nvml.Device, nvml.Return) {
				if i == 1 {
					return broken, nvml.SUCCESS
				}
				return nil, nvml.ERROR_NOT_FOUND
			}
		},
		"instance MIG-a: ask for its name": func(s *dgxa100.Server) {
			broken := instance("MIG-a", 0)
			broken.GetNameFunc = never[string](nvml.ERROR_GPU_IS_LOST)
			split(a100(s, 0))
			a100(s, 0).GetMaxMigDeviceCountFunc = always(1)
			a100(s, 0).GetMigDeviceHandleByIndexFunc = func(int) (nvml.Device, nvml.Return) { return broken, nvml.SUCCESS }
		},
	} {
		l, server := opened(t)
		spoil(server)
		want := name + ": the driver has lost the device"
		if _, err := l.board(0); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %q", err, want)
		}
	}
}

func TestBoardWithoutAnAddressOrMemoryOfItsOwn(t *testing.T) {
	l, server := opened(t)
	a100(server, 0).GetPciInfoFunc = never[nvml.PciInfo](nvml.ERROR_NOT_SUPPORTED)
	a100(server, 0).GetMemoryInfoFunc = never[nvml.Memory](nvml.ERROR_NOT_SUPPORTED)
	if b, err := l.board(0); err != nil || b.device.PCI != "" || b.device.MemoryTotalBytes != 0 {
		t.Errorf("got %+v, %v", b, err)
	}
}

func TestWiresOfABoard(t *testing.T) {
	cluster := [16]uint8{0xab, 0xcd}
	for _, c := range []struct {
		name   string
		change func(*dgxa100.Device)
		want   wires
	}{
		{"to switches", func(*dgxa100.Device) {}, wires{switched: true}},
		{"none is up", func(d *dgxa100.Device) { links(d, 12, 0) }, wires{}},
		{"no lanes", func(d *dgxa100.Device) { links(d, 0, 0) }, wires{}},
		{"to a board", func(d *dgxa100.Device) {
			links(d, 2, 1)
			d.GetNvLinkRemoteDeviceTypeFunc = func(int) (nvml.IntNvLinkDeviceType, nvml.Return) { return nvml.NVLINK_DEVICE_TYPE_GPU, nvml.SUCCESS }
		}, wires{remotes: []string{"00000000:FF:00.0"}}},
		{"to where the driver does not tell", func(d *dgxa100.Device) {
			d.GetNvLinkRemoteDeviceTypeFunc = func(int) (nvml.IntNvLinkDeviceType, nvml.Return) { return 0, nvml.ERROR_NOT_SUPPORTED }
			d.GetNvLinkRemotePciInfoFunc = func(int) (nvml.PciInfo, nvml.Return) { return nvml.PciInfo{}, nvml.ERROR_NOT_SUPPORTED }
		}, wires{}},
		{"in a fabric", func(d *dgxa100.Device) {
			d.GetGpuFabricInfoFunc = always(nvml.GpuFabricInfo{State: nvml.GPU_FABRIC_STATE_COMPLETED, ClusterUuid: cluster, CliqueId: 3})
		}, wires{switched: true, fabric: "abcd0000000000000000000000000000-3"}},
		{"not yet in a fabric", func(d *dgxa100.Device) {
			d.GetGpuFabricInfoFunc = always(nvml.GpuFabricInfo{State: nvml.GPU_FABRIC_STATE_IN_PROGRESS, ClusterUuid: cluster})
		}, wires{switched: true}},
		{"on switches without a fabric", func(d *dgxa100.Device) {
			d.GetGpuFabricInfoFunc = always(nvml.GpuFabricInfo{State: nvml.GPU_FABRIC_STATE_COMPLETED})
		}, wires{switched: true}},
		{"lost", func(d *dgxa100.Device) { d.GetUUIDFunc = never[string](nvml.ERROR_GPU_IS_LOST) }, wires{}},
	} {
		l, server := opened(t)
		c.change(a100(server, 0))
		if got := l.wires(0); !reflect.DeepEqual(got, c.want) {
			t.Errorf("%s: got %+v, want %+v", c.name, got, c.want)
		}
	}
}

func TestLinked(t *testing.T) {
	l, server := opened(t)
	if l.linked(0, 1) {
		t.Error("linked though the driver says that the chipset cannot")
	}
	a100(server, 0).GetP2PStatusFunc = func(other nvml.Device, what nvml.GpuP2PCapsIndex) (nvml.GpuP2PStatus, nvml.Return) {
		if what == nvml.P2P_CAPS_INDEX_NVLINK && other == server.Devices[1] {
			return nvml.P2P_STATUS_OK, nvml.SUCCESS
		}
		return nvml.P2P_STATUS_NOT_SUPPORTED, nvml.SUCCESS
	}
	if !l.linked(0, 1) || l.linked(0, 2) {
		t.Error("want 0 and 1 linked, and not 0 and 2")
	}
	if l.linked(0, 99) || l.linked(99, 0) {
		t.Error("linked with what is not there")
	}
}

func TestProcessesHaveOwners(t *testing.T) {
	l, _ := opened(t)
	me, err := user.Current()
	if err != nil {
		t.Skip("nobody knows who runs this test: ", err)
	}
	folder := filepath.Join(l.proc, "70")
	if err := os.MkdirAll(folder, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(folder, "comm"), []byte("python3\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	r, err := l.read(0)
	if err != nil {
		t.Fatal(err)
	}
	want := []gpu.Process{
		{PID: 70, Owner: me.Username, Name: "python3", MemoryUsedBytes: 1 << 30},
		{PID: 71, MemoryUsedBytes: 2 << 30}, // it has ended meanwhile
		{PID: 72},                           // the driver does not tell its memory
	}
	if diff := cmp.Diff(want, r.readings[0].Processes); diff != "" {
		t.Error(diff)
	}
	if got := l.owner(4294967000); got != strconv.Itoa(4294967000) {
		t.Errorf("a user without a name is %q", got)
	}
}
