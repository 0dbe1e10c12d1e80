package cuda

import (
	"testing"

	"github.com/turnwise-rl/turnwise/kernels/device/devicetest"
)

// TestProductsConform is the part of the suite that multiplies, in every order of a block's threads.
func TestProductsConform(t *testing.T) {
	for name, order := range map[string]int64{"ascending": 0, "descending": 1, "shuffled": 20261121} {
		t.Run(name, func(t *testing.T) {
			set(t, "order", order)
			defer set(t, "order", 0)
			for _, f := range devicetest.Check(open(t, Options{Exact: true}), devicetest.Options{Exact: true, Quick: order != 0 || testing.Short()},
				"Product", "ProductBack", "ProductGrad", "AddBias", "BiasGrad") {
				t.Error(f)
			}
		})
	}
}
