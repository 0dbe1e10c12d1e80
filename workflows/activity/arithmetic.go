package activity

import (
	"fmt"
	"strings"

	"github.com/turnwise-rl/turnwise/configs"
	"github.com/turnwise-rl/turnwise/kernels/device"
	"github.com/turnwise-rl/turnwise/kernels/device/cpu"
	"github.com/turnwise-rl/turnwise/trainer/policy"
)

// computeType is the element type that the activations of a run have where its roles work.
func computeType(config configs.Run) device.DType {
	if config.Device.Precision == configs.BF16 {
		return device.BF16
	}
	return device.F32
}

// storedType is the element type in which the learner of a run keeps matrices.
func storedType(config configs.Run) device.DType {
	if config.Policy.Stored == configs.BF16 {
		return device.BF16
	}
	return device.F32
}

// computed are options of a network on a device. On the processor, where a run is prepared whatever its roles work
// on, activations are float32, and matrices that are stored in bf16 are float32 with the same numbers.
func computed(o policy.Options, on device.Device, config configs.Run) policy.Options {
	o.Compute = device.F32
	if need := computeType(config); on.Supports(need) {
		o.Compute = need
	}
	o.Stored = storedType(config)
	return o
}

// processorName is what the processor calls itself.
const processorName = "cpu"

// computedWith names what decides the bits of a step on a device: the instruction set of a processor, or else the
// device and its way without the number that it has among its like: "cuda fast".
func computedWith(on device.Device) string {
	name, rest, _ := strings.Cut(on.Name(), ":")
	if name == processorName {
		return cpu.ISA()
	}
	if _, way, found := strings.Cut(rest, " "); found {
		return name + " " + way
	}
	return name
}

func (s *session) computedWith() string { return computedWith(s.learner.Model.Device()) }

// elsewhere says what to do about a step that was computed with something else than here.
func elsewhere(recorded string) string {
	const processor = "continue on a machine with the same instruction set, or set TURNWISE_CPU=%s"
	if strings.HasPrefix(recorded, "cuda") {
		return "continue on a GPU of the same model with the same driver and cuBLASLt"
	}
	return fmt.Sprintf(processor, recorded)
}
