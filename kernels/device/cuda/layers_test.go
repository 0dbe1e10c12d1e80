package cuda

import (
	"testing"

	"github.com/turnwise-rl/turnwise/kernels/device/devicetest"
)

// TestLayersConform is the part of the suite between the products and of the optimizer, whatever the order of a block's threads.
func TestLayersConform(t *testing.T) {
	for name, order := range map[string]int64{"ascending": 0, "descending": 1, "shuffled": 20261121} {
		t.Run(name, func(t *testing.T) {
			set(t, "order", order)
			defer set(t, "order", 0)
			for _, f := range devicetest.Check(open(t, Options{Exact: true}), devicetest.Options{Exact: true, Quick: order != 0 || testing.Short()},
				"RMSNorm", "RMSNormBack", "SwiGLU", "SwiGLUBack", "Rotate", "RotateBack", "Gather", "ScatterAdd",
				"AdamW", "SquaredNorm", "Scale", "Add", "FirstNonFinite") {
				t.Error(f)
			}
		})
	}
}
