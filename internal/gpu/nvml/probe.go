package nvml

import (
	"context"

	"github.com/turnwise-rl/turnwise/internal/gpu"
)

// Probe asks once what the machine has. Who asks more often keeps a [New] source.
func Probe(ctx context.Context) (gpu.Inventory, error) { return New().Inventory(ctx) }
