package main

import (
	"github.com/turnwise-rl/turnwise/internal/bench"
	"github.com/turnwise-rl/turnwise/kernels/graph"
)

// newBenchEvaluator evaluates losses as training does, on so many threads.
func newBenchEvaluator(threads int) bench.LossEvaluator {
	return graph.NewWith[float32](graph.Options{Threads: threads})
}
