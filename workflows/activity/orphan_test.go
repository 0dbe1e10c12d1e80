package activity

import (
	"errors"
	"strings"
	"testing"

	"github.com/turnwise-rl/turnwise/internal/runfolder"
	"github.com/turnwise-rl/turnwise/workflows"
)

// TestLearnerOfATerminatedRun prepares a run again while an attempt of the run of before is still at work; another one
// has not even shown its fence. Neither commits anything, so that what was prepared is what the next step follows.
func TestLearnerOfATerminatedRun(t *testing.T) {
	for name, when := range map[string]string{"it has shown its fence": "segments/", "it stores what it made": "weights/"} {
		t.Run(name, func(t *testing.T) {
			p := newApprentice(t)
			p.trainTo(2)
			input := p.input(3)
			orphan, again := fresh(p.dir), fresh(p.dir)
			var found workflows.PrepareResult
			prepare := workflows.PrepareInput{Run: p.run, Config: string(p.read(runfolder.ConfigKey))}
			orphan.faults = func(op, key string) (err error) {
				if found.Fence == 0 && strings.HasPrefix(key, when) {
					if found, err = again.prepare(t.Context(), prepare); err != nil {
						t.Errorf("prepare: %v", err)
					}
				}
				return nil
			}
			if _, err := orphan.trainStep(t.Context(), input, input.Fence<<attemptBits|1); !errors.Is(err, runfolder.ErrStale) {
				t.Errorf("the learner of before: %v, want %v", err, runfolder.ErrStale)
			}
			if _, err := orphan.trainStep(t.Context(), input, (input.Fence+1)<<attemptBits|1); !errors.Is(err, runfolder.ErrStale) {
				t.Errorf("one that has not shown its fence yet: %v, want %v", err, runfolder.ErrStale)
			}
			if found.Committed != 2 || found.Fence <= input.Fence {
				t.Errorf("prepared: step %d with fence %d, want step 2 and a fence above %d", found.Committed, found.Fence, input.Fence)
			}
			input.Fence = found.Fence + 1
			if _, err := again.trainStep(t.Context(), input, input.Fence<<attemptBits|1); err != nil {
				t.Errorf("the learner of now: %v", err)
			}
			if fence := p.manifest(3).Fence; fence != input.Fence<<attemptBits|1 {
				t.Errorf("step 3 has fence %d, want that of the run of now", fence)
			}
		})
	}
}
