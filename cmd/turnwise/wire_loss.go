package main

import (
	"github.com/turnwise-rl/turnwise/kernels"
	"github.com/turnwise-rl/turnwise/kernels/graph"
)

// lossEvaluator evaluates loss programs in float64, for results that agree with reference numbers.
type lossEvaluator interface {
	Evaluate(p kernels.Program, b kernels.Batch[float64], totals kernels.Totals) (kernels.Result[float64], error)
}

func newLossEvaluator() lossEvaluator { return graph.New[float64]() }
