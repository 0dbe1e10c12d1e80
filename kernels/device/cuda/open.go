package cuda

import (
	"encoding/hex"
	"errors"
	"fmt"
	"strings"

	"github.com/turnwise-rl/turnwise/kernels/device/cuda/driver"
)

// Libraries are the paths of NVIDIA's libraries. "" is where the system's loader finds them.
type Libraries struct{ Driver, CuBLASLt string }

// Absent says why the machine has no GPU that can compute.
type Absent struct {
	// Reason is what is lacking, Fix what a person can do.
	Reason, Fix string
}

func (e *Absent) Error() string { return e.Reason + ": " + e.Fix }

// Found is a GPU, or an instance of one, that can compute.
type Found struct {
	Ordinal int
	// UUID is NVML's name of it.
	UUID, Name string
	// Capability is the compute capability: {9, 0} is 9.0.
	Capability [2]int
	// Memory is in bytes.
	Memory int64
}

const (
	// leastVersion is the CUDA version that a driver has to support: 12.0, which R525 is the first to.
	leastVersion = 12000
	// leastCapability is that of the PTX: sm_80.
	leastMajor, leastMinor = 8, 0
)

// Probe finds the GPUs that can compute. There is at least one, or the error is an [*Absent].
func Probe(l Libraries) ([]Found, error) {
	_, found, err := probe(l)
	return found, err
}

func probe(l Libraries) (*driver.Driver, []Found, error) {
	d, err := driver.Open(l.Driver)
	if err != nil {
		return nil, nil, unusable(err)
	}
	version, err := d.Version()
	if err != nil {
		return nil, nil, unusable(err)
	}
	if version < leastVersion {
		return nil, nil, &Absent{Reason: fmt.Sprintf("the NVIDIA driver supports CUDA %d.%d, and %d.%d is needed",
			version/1000, version%1000/10, leastVersion/1000, leastVersion%1000/10), Fix: install}
	}
	n, err := d.Count()
	if err != nil {
		return nil, nil, unusable(err)
	}
	if n == 0 {
		return nil, nil, unseen
	}
	var found []Found
	var old []string
	for i := range n {
		f, err := look(d, i)
		if err != nil {
			return nil, nil, unusable(err)
		}
		if f.Capability[0] < leastMajor || f.Capability[0] == leastMajor && f.Capability[1] < leastMinor {
			old = append(old, fmt.Sprintf("%s has %d.%d", f.Name, f.Capability[0], f.Capability[1]))
			continue
		}
		found = append(found, f)
	}
	if len(found) == 0 {
		return nil, nil, &Absent{Reason: fmt.Sprintf("no GPU of compute capability %d.%d or newer (%s)", leastMajor, leastMinor, strings.Join(old, ", ")),
			Fix: "use an Ampere GPU or a newer one"}
	}
	return d, found, nil
}

const install = "install the NVIDIA driver R525 or newer"

// unseen says that there is a driver and no GPU.
var unseen = &Absent{Reason: "the NVIDIA driver sees no GPU", Fix: "look at nvidia-smi -L and at CUDA_VISIBLE_DEVICES; in a container, give it the GPUs"}

// unusable says what an error of loading the driver, or of asking it for its GPUs, means.
func unusable(err error) *Absent {
	switch code := driver.CodeOf(err); {
	case errors.Is(err, driver.ErrNoLibrary):
		return &Absent{Reason: fmt.Sprintf("no NVIDIA driver on this machine (%v)", err), Fix: install + ", or name its library in TURNWISE_CUDA_DRIVER"}
	case errors.Is(err, driver.ErrNotDriver):
		return &Absent{Reason: err.Error(), Fix: "name the driver's library, libcuda.so.1, in TURNWISE_CUDA_DRIVER, or nothing"}
	case errors.Is(err, driver.ErrOld):
		return &Absent{Reason: err.Error(), Fix: install}
	case code == driver.NoDevice:
		return unseen
	case code == driver.StubLibrary:
		return &Absent{Reason: "the library found is the CUDA toolkit's stub for linking, not the NVIDIA driver", Fix: install + ", and take the toolkit's stubs out of LD_LIBRARY_PATH"}
	case code == driver.SystemMismatch:
		return &Absent{Reason: "the NVIDIA driver's library and its kernel module are of different versions", Fix: "reload the module or restart the machine"}
	case code == driver.CompatNotSupported:
		return &Absent{Reason: "the forward-compatibility package does not support this GPU", Fix: "take it out of LD_LIBRARY_PATH, or install a newer NVIDIA driver"}
	case code == driver.SystemNotReady:
		return &Absent{Reason: fmt.Sprintf("the machine's GPUs are not ready (%v)", err), Fix: "start nvidia-fabricmanager: systemctl status nvidia-fabricmanager says more"}
	default:
		return &Absent{Reason: fmt.Sprintf("the NVIDIA driver does not answer (%v)", err), Fix: "look at nvidia-smi and at the kernel's log for XIDs; the modules nvidia and nvidia-uvm must be loaded"}
	}
}

func look(d *driver.Driver, ordinal int) (f Found, err error) {
	f.Ordinal = ordinal
	device, err := d.Device(ordinal)
	if err != nil {
		return f, err
	}
	uuid, err := d.UUID(device)
	if err != nil {
		return f, err
	}
	f.UUID = "GPU-" + dashed(uuid)
	if f.Name, err = d.Name(device); err != nil {
		return f, err
	}
	if f.Memory, err = d.Memory(device); err != nil {
		return f, err
	}
	for i, a := range []driver.Attribute{driver.CapabilityMajor, driver.CapabilityMinor} {
		if f.Capability[i], err = d.Attribute(device, a); err != nil {
			return f, err
		}
	}
	return f, nil
}

// dashed is a UUID in its usual form.
func dashed(uuid [16]byte) string {
	s := hex.EncodeToString(uuid[:])
	return strings.Join([]string{s[:8], s[8:12], s[12:16], s[16:20], s[20:]}, "-")
}

// same reports whether a UUID of NVML's, which begins with GPU- or MIG-, is the driver's.
func (f Found) same(uuid string) bool {
	_, ours, _ := strings.Cut(f.UUID, "-")
	_, theirs, _ := strings.Cut(uuid, "-")
	return strings.EqualFold(ours, theirs)
}

// choose is the GPU with a UUID, the first for "".
func choose(found []Found, uuid string) (Found, error) {
	var all []string
	for _, f := range found {
		if uuid == "" || f.same(uuid) {
			return f, nil
		}
		all = append(all, f.UUID)
	}
	return Found{}, &Absent{Reason: fmt.Sprintf("the NVIDIA driver has no GPU %s: it has %s", uuid, strings.Join(all, ", ")),
		Fix: "look at CUDA_VISIBLE_DEVICES"}
}
