package cuda

import (
	"testing"

	"github.com/turnwise-rl/turnwise/kernels/device/devicetest"
)

// TestStoredMatricesConform in both modes.
func TestStoredMatricesConform(t *testing.T) {
	for _, exact := range []bool{true, false} {
		for _, f := range devicetest.Check(open(t, Options{Exact: exact}), devicetest.Options{Exact: exact, Quick: true}, "ProductStored", "Product") {
			t.Errorf("exact %v: %v", exact, f)
		}
	}
}
