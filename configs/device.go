package configs

import (
	"fmt"

	"github.com/turnwise-rl/turnwise/internal/gpu"
)

// DeviceKind is what computes.
type DeviceKind string

const (
	// CPU is the processors of a machine.
	CPU DeviceKind = "cpu"
	// CUDA is an NVIDIA GPU under NVIDIA's driver.
	CUDA DeviceKind = "cuda"
)

// Precision is what activations and matrix products are computed in.
type Precision string

const (
	// F32 is float32.
	F32 Precision = "f32"
	// BF16 is bfloat16: the range of float32 with 8 bits of precision. Products are summed in float32.
	BF16 Precision = "bf16"
)

// Leased is the kind of device, as inventories and leases have it, that the run's roles ask for.
func (d Device) Leased() gpu.Kind {
	if d.Kind == CUDA {
		return gpu.GPU
	}
	return gpu.CPU
}

const (
	deviceKey    = "device"
	kindKey      = "kind"
	precisionKey = "precision"
)

// derivePrecision sets the precision of a run that says nothing about it: bf16 beside float32 weights is what
// GPUs are built for, and a processor has float32 alone.
func derivePrecision(run *Run, root *node) {
	leaf := child(root, join(deviceKey, precisionKey))
	if leaf == nil || leaf.origin.Kind != FromDefault && leaf.origin.Kind != FromSetting {
		return
	}
	run.Device.Precision, leaf.origin = F32, Origin{}
	if run.Device.Kind == CUDA {
		run.Device.Precision = BF16
		leaf.origin = Origin{Kind: FromSetting, Name: fmt.Sprintf("%s is %s", join(deviceKey, kindKey), CUDA)}
	}
	leaf.text = string(run.Device.Precision)
}

// checkDevice reports what of the section does not go together.
func checkDevice(r *Run) error {
	if !namePattern.MatchString(r.Device.Queue) {
		return at("device.queue", "%q is not a queue's name: up to 48 lower-case letters, digits and hyphens, for example team-a", shorten(r.Device.Queue))
	}
	if r.Device.Kind == CPU && r.Device.Precision == BF16 {
		return at("device.precision", "a cpu computes in f32 alone: set device.precision to f32, or device.kind to cuda")
	}
	return nil
}

// checkStored reports a stored type that the policy cannot have.
func checkStored(r *Run) error {
	switch {
	case r.Policy.Stored != BF16:
		return nil
	case r.Device.Kind != CPU && r.Device.Precision != BF16:
		return at("policy.stored", "matrices are stored in bf16 for products in bf16, and device.precision is %s: set policy.stored to f32, or device.precision to bf16", r.Device.Precision)
	case r.Policy.LoRA.Rank > 0:
		return at("policy.stored", "adapters correct matrices that are stored in f32: set policy.stored to f32, or policy.lora.rank to 0")
	}
	return nil
}

// recordedDevices is the name that the section has in the records of runs that were made before it was called
// device. Nobody may write it; such a run is still read.
const recordedDevices = "devices"

// modernize gives what a run was resolved to by an earlier program its present names: its section devices had the
// kind gpu for what computed in float32 on an NVIDIA GPU.
func modernize(layer *node, source *Source) {
	e, old := layer.lookup(recordedDevices)
	if _, both := layer.lookup(deviceKey); !old || both || e.value.kind != mappingNode {
		return
	}
	e.key = deviceKey
	kind, said := e.value.lookup(kindKey)
	if !said || kind.value.kind != scalarNode || kind.value.text != string(gpu.GPU) {
		return
	}
	kind.value.text = string(CUDA)
	if _, known := e.value.lookup(precisionKey); !known {
		at := kind.value.at
		value := &node{text: string(F32), quoted: true, at: at, origin: source.origin(at.line)}
		e.value.entries = append(e.value.entries, entry{key: precisionKey, at: at, value: value})
	}
}
