package gpucheck

import (
	"errors"
	"strings"
	"testing"

	"github.com/turnwise-rl/turnwise/internal/gpu/nvml"
	"github.com/turnwise-rl/turnwise/kernels/device"
	"github.com/turnwise-rl/turnwise/kernels/device/cuda"
)

// TestMemoryIsAccounted allocates, frees, and compares the device's count with the driver's and NVML's. What others do on the GPU meanwhile
// would show as a difference: the check has the GPU to itself.
func TestMemoryIsAccounted(t *testing.T) {
	d := open(t, true)
	start, err := d.Occupied()
	must(t, err)
	before := used(t, d)
	piece := on(1<<28, 1<<20) // elements of 4 bytes
	var all []device.Buffer
	for range 4 {
		b, err := d.Allocate(device.ForActivations, device.F32, piece)
		must(t, err)
		all = append(all, b)
	}
	must(t, d.Sync())
	full, err := d.Occupied()
	must(t, err)
	took, wanted := start.Free-full.Free, full.Taken-start.Taken
	t.Logf("%d bytes of allocations: %d taken from the driver, whose free memory is %d less", d.Usage().Bytes, wanted, took)
	if wanted != 4*4*int64(piece) || !near(took, wanted) {
		t.Errorf("the driver's free memory is %d bytes less, want %d", took, wanted)
	}
	if during := used(t, d); before >= 0 {
		t.Logf("NVML sees %d bytes more in use", during-before)
		if !near(during-before, wanted) {
			t.Errorf("NVML sees %d bytes more in use, want %d", during-before, wanted)
		}
	}
	for _, b := range all {
		d.Free(b)
	}
	must(t, d.Sync())
	after, err := d.Occupied()
	must(t, err)
	if d.Usage().Bytes != 0 || after.Taken-after.Cached > start.Taken-start.Cached {
		t.Errorf("%d bytes are counted as in use after all was freed, %+v", d.Usage().Bytes, after)
	}
}

// near allows for the granularity of the driver.
func near(a, b int64) bool { return a-b <= 64<<20 && b-a <= 64<<20 }

// used is the GPU's memory in use as NVML sees it, −1 where there is none.
func used(t *testing.T, d *cuda.Device) int64 {
	t.Helper()
	if emulated {
		return -1
	}
	readings, err := nvml.New().Read(t.Context())
	must(t, err)
	for _, r := range readings {
		if _, id, _ := strings.Cut(r.UUID, "-"); r.MemoryUsedBytes != nil && strings.EqualFold(id, d.Found().UUID[len("GPU-"):]) {
			return *r.MemoryUsedBytes
		}
	}
	t.Logf("NVML does not tell how much memory %s uses", d.Found().UUID)
	return -1
}

// TestOutOfMemoryNamesWhoHolds asks for all there is and more, and wants a device that goes on.
func TestOutOfMemoryNamesWhoHolds(t *testing.T) {
	d := open(t, true)
	o, err := d.Occupied()
	must(t, err)
	weights, err := d.Allocate(device.ForWeights, device.BF16, int(o.Free/4))
	must(t, err)
	_, err = d.Allocate(device.ForActivations, device.F32, int(o.Total/4))
	var lacking *device.OutOfMemory
	if !errors.As(err, &lacking) {
		t.Fatalf("got %v", err)
	}
	t.Log(err)
	if len(lacking.Held) != 1 || lacking.Held[0] != (device.Holding{For: device.ForWeights, Bytes: weights.Bytes()}) || lacking.Total != o.Total || lacking.Wanted != o.Total/4*4 {
		t.Errorf("got %+v", lacking)
	}
	must(t, d.Sync())
	d.Free(weights)
	again, err := d.Allocate(device.ForActivations, device.F32, int(o.Free/8))
	must(t, err)
	d.Free(again)
}

// TestMistakesAreTold has a kernel meet an index that is in no table, and wants a device that goes on.
func TestMistakesAreTold(t *testing.T) {
	d := open(t, true)
	table, err := d.Allocate(device.ForWeights, device.F32, 40)
	must(t, err)
	rows, err := d.Allocate(device.ForActivations, device.F32, 30)
	must(t, err)
	index, err := d.Allocate(device.ForActivations, device.I32, 3)
	must(t, err)
	d.UploadInts(index, []int32{1, 77, 3})
	d.Gather(device.Dense(rows, 10), device.Dense(table, 10), index, 3, 10)
	err = d.Sync()
	var mistake *cuda.Mistake
	if !errors.As(err, &mistake) || !strings.Contains(err.Error(), "row 1: index 77") {
		t.Errorf("got %v", err)
	}
	t.Log(err)
	must(t, d.Sync())
}
