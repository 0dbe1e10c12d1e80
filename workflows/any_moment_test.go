package workflows

import (
	"context"
	"fmt"
	"testing"
	"time"

	"go.temporal.io/sdk/workflow"
	"pgregory.net/rapid"
)

// TestAnyMoment pauses, resumes, fails for a while and hands over at random moments, alone and
// together. The run always trains the same steps on the same groups.
func TestAnyMoment(t *testing.T) {
	moments := []string{"prepare"}
	for step := 1; step <= small.LastStep(); step++ {
		moments = append(moments, fmt.Sprintf("train %d", step))
		if step >= small.WarmSteps {
			moments = append(moments, fmt.Sprintf("evaluate %d", step), fmt.Sprintf("publish %d", step), fmt.Sprintf("record pause asked at step %d", step))
		}
	}
	rapid.Check(t, func(rt *rapid.T) {
		folder := newRunFolder(small)
		var s *stage
		for _, moment := range moments {
			pause, handOver, fail := rapid.Bool().Draw(rt, moment+" pause"), rapid.Bool().Draw(rt, moment+" hand over"), rapid.Bool().Draw(rt, moment+" fail")
			fired := false
			folder.hooks[moment] = func(ctx context.Context) error {
				if fired {
					return nil
				}
				fired = true
				if handOver {
					s.RegisterDelayedCallback(func() { s.SetContinueAsNewSuggested(true) }, 0)
				}
				if pause {
					if got, err := s.update(ctx, PauseUpdate); err != nil || got.rejected != "" {
						return broken("pause at %q: %+v, %v", moment, got, err)
					}
				}
				if fail {
					return context.DeadlineExceeded
				}
				return nil
			}
		}
		in := input(small)
		for range 60 {
			s = newStage(t, folder)
			for hour := time.Duration(1); hour < 50; hour++ {
				s.RegisterDelayedCallback(func() { s.updateNow(ResumeUpdate, func(reply) {}) }, hour*time.Hour)
			}
			err := s.play(in)
			if err == nil {
				completed(t, s, err)
				if t.Failed() {
					rt.Fatal("the run came to another end")
				}
				return
			}
			if !workflow.IsContinueAsNewError(err) {
				rt.Fatalf("the run ended: %v", err)
			}
			in = next(t, err)
		}
		rt.Fatal("the run does not end")
	})
}
