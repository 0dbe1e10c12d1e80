package trainer

import (
	"context"
	"time"

	"github.com/turnwise-rl/turnwise/trainer/policy"
)

// Lap is a part of the work of [Learner.Step].
type Lap int

// The parts, in the order of a step.
const (
	Pack     Lap = iota // laying sequences out in micro-batches
	Forward             // the network's scores, those of a reference policy left out
	Loss                // the loss and its derivatives
	Backward            // the gradient
	Optimize            // the optimizer's update
	lapCount
)

// Laps add up how long each [Lap] took. They are no part of a [Report]: a step that is made again takes
// another time and has the same report.
type Laps [lapCount]time.Duration

// span is a part that is being measured.
type span struct {
	laps  *Laps
	began time.Time
}

// start begins to measure; with nil laps nothing is measured.
func (l *Laps) start() span {
	if l == nil {
		return span{}
	}
	return span{l, time.Now()}
}

// end adds the time since start to a part.
func (s span) end(lap Lap) {
	if s.laps != nil {
		s.laps[lap] += time.Since(s.began)
	}
}

// lay lays sequences out.
func (s *batchStep) lay(sequences []Sequence) {
	span := s.Laps.start()
	s.packing.lay(sequences, s.layout)
	span.end(Pack)
}

// accumulatePacked adds the gradient of what is packed and tells the time before the loss from that after it.
func (s *batchStep) accumulatePacked(ctx context.Context, loss policy.Loss) error {
	span := s.Laps.start()
	err := s.Model.Accumulate(ctx, s.packing.packed, s.temperature, func(now policy.Scores) (policy.Scores, error) {
		span.end(Forward)
		derivatives, err := loss(now)
		span = s.Laps.start()
		return derivatives, err
	})
	if err == nil {
		span.end(Backward)
	}
	return err
}
