package bench

import (
	"context"
	"runtime"
	"time"
)

// Train are the settings of training steps: forward, the mean cross-entropy over every token, backward and
// AdamW.
type Train struct {
	Machine
	Shape
	// DType is the type of weights and arithmetic: "f32".
	DType string
	// Steps is how many are timed; warm-up comes on top.
	Steps int
	// PeakBytes reads the process's largest resident memory so far; 0 where the system does not tell.
	PeakBytes func() int64
}

// TrainResult is what a training step costs.
type TrainResult struct {
	Conditions
	DType string `json:"dtype"`
	Shape Shape  `json:"shape"`
	Steps int    `json:"steps"`
	// StepMS is the time of a step in milliseconds.
	StepMS Spread `json:"step_ms"`
	// TokensPerSecond is of the median step.
	TokensPerSecond float64 `json:"tokens_per_second"`
	// AllocationsPerStep and AllocatedBytesPerStep are of the Go heap, averaged over the timed steps. The
	// loss of this benchmark allocates nothing.
	AllocationsPerStep    float64 `json:"allocations_per_step"`
	AllocatedBytesPerStep float64 `json:"allocated_bytes_per_step"`
	// PeakBytes is the process's largest resident memory, ProcessBytes what it was before the network was
	// made: the program itself. 0 means that the system does not tell.
	PeakBytes    int64 `json:"peak_bytes"`
	ProcessBytes int64 `json:"process_bytes"`
	// Accounted is what a step must hold.
	Accounted Accounted `json:"accounted_bytes"`
	// WorkspaceBytes is what a step's passes need besides: partial gradients and the buffers of tasks.
	// DevicePeakBytes is the most that all buffers together ever took.
	WorkspaceBytes  int64 `json:"workspace_bytes"`
	DevicePeakBytes int64 `json:"device_peak_bytes"`
	// PeakRatio is what training took at its peak, PeakBytes less ProcessBytes, over Accounted.Total.
	PeakRatio float64 `json:"peak_ratio"`
	// FirstLoss and LastLoss are of the first and the last step, warm-up included. Random tokens have a
	// loss of about ln(vocab) until they are learnt by heart.
	FirstLoss float64 `json:"first_loss"`
	LastLoss  float64 `json:"last_loss"`
}

// Accounted is the memory that a training step cannot do without, in bytes.
type Accounted struct {
	Parameters int64 `json:"parameters"`
	Optimizer  int64 `json:"optimizer"` // two moments
	Gradients  int64 `json:"gradients"`
	// Activations are kept from the forward to the backward pass, of the whole batch.
	Activations int64 `json:"activations"`
	Total       int64 `json:"total"`
}

const (
	maxSteps    = 1 << 20
	warmUpSteps = 3
)

func (t Train) check() error {
	if err := firstError(t.Shape.check(), between("steps", t.Steps, 1, maxSteps), t.Machine.check()); err != nil {
		return err
	}
	if t.DType != "f32" {
		return SettingError{"dtype", t.DType, "the types that the cpu trains in are: f32"}
	}
	return nil
}

// Run measures.
func (t Train) Run(ctx context.Context) (TrainResult, error) {
	if err := t.check(); err != nil {
		return TrainResult{}, err
	}
	defer t.use()()
	result := TrainResult{
		Conditions: t.conditions(), DType: t.DType, Shape: t.Shape, Steps: t.Steps, ProcessBytes: t.PeakBytes(),
	}
	l, err := newLearner(t.Shape)
	if err != nil {
		return TrainResult{}, err
	}
	for i := range warmUpSteps {
		if err := l.step(ctx); err != nil {
			return TrainResult{}, err
		}
		if i == 0 {
			result.FirstLoss = l.loss
		}
	}
	took := make([]float64, 0, t.Steps)
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	for range t.Steps {
		start := time.Now()
		if err := l.step(ctx); err != nil {
			return TrainResult{}, err
		}
		took = append(took, milliseconds(time.Since(start)))
	}
	runtime.ReadMemStats(&after)
	result.StepMS = spread(took)
	result.TokensPerSecond = 1e3 * float64(t.Tokens()) / result.StepMS.Median
	result.AllocationsPerStep = float64(after.Mallocs-before.Mallocs) / float64(t.Steps)
	result.AllocatedBytesPerStep = float64(after.TotalAlloc-before.TotalAlloc) / float64(t.Steps)
	result.LastLoss = l.loss
	result.PeakBytes = t.PeakBytes()
	result.Accounted = l.accounted()
	result.WorkspaceBytes, result.DevicePeakBytes = l.workspace()
	result.PeakRatio = float64(result.PeakBytes-result.ProcessBytes) / float64(result.Accounted.Total)
	return result, nil
}
