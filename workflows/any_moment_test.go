package workflows

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"

	"go.temporal.io/sdk/workflow"
	"pgregory.net/rapid"

	"github.com/turnwise-rl/turnwise/workflows/runstate"
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
			folder.once(moment, func(ctx context.Context) error {
				if handOver {
					s.RegisterDelayedCallback(func() { s.SetContinueAsNewSuggested(true) }, 0)
				}
				if pause {
					// One that comes when the run has ended, or has left for its next history, is refused.
					if _, err := s.update(ctx, PauseUpdate); err != nil {
						return err
					}
				}
				if fail {
					return context.DeadlineExceeded
				}
				return nil
			})
		}
		s = throughHistories(t, rt, folder, func(one *stage) { s = one })
		completed(t, s, nil)
		if t.Failed() {
			rt.Fatal("the run came to another end")
		}
	})
}

// throughHistories carries a run to its end, whatever number of histories that takes; it is resumed every
// hour. Each history is shown before it begins.
func throughHistories(t *testing.T, rt rapid.TB, folder *runFolder, show func(*stage)) *stage {
	in := input(folder.spec)
	for range 60 {
		s := newStage(t, folder)
		show(s)
		for hour := time.Duration(1); hour < 50; hour++ {
			s.RegisterDelayedCallback(func() { s.updateNow(func(reply) {}, ResumeUpdate) }, hour*time.Hour)
		}
		err := s.carry(in)
		if err == nil {
			return s
		}
		if !workflow.IsContinueAsNewError(err) {
			rt.Fatalf("the run ended: %v", err)
		}
		in = next(t, err)
	}
	rt.Fatalf("the run does not end")
	return nil
}

// TestRandomOrders plays an asynchronous run in 30 random orders: groups are finished at random times, reported
// twice, short of members or too old, pools are lost and come back, the history ends at random moments.
// No step trains a group twice or one that is too old, which the folder checks, and every step has its groups.
func TestRandomOrders(t *testing.T) {
	spec := small
	spec.TrainSteps, spec.Staleness, spec.Concurrency, spec.Pools, spec.EvaluateEvery = 8, 2, 5, 3, 3
	for seed := range uint64(30) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			folder, random := newRunFolder(spec), rand.New(rand.NewPCG(seed, 1))
			s := throughHistories(t, t, folder, func(s *stage) {
				c := &chance{stage: s, random: random, told: map[int]bool{}}
				s.play = c.play
				s.RegisterDelayedCallback(func() { s.SetContinueAsNewSuggested(true) }, time.Duration(10+random.IntN(200))*time.Second)
			})
			if groups := folder.trainedOnce(); len(groups) != spec.TrainSteps*spec.GroupsPerStep {
				t.Errorf("%d groups trained: %v", len(groups), groups)
			}
			if status := s.status(); status.Phase != "completed" || status.Committed != spec.LastStep() {
				t.Errorf("status: %+v", status)
			}
			for _, version := range []int{2, 5, 8, 10} {
				if !slices.Contains(folder.versions(), version) {
					t.Errorf("version %d is not evaluated: %v", version, folder.versions())
				}
			}
		})
	}
}

// chance plays the shares of a run at random times, and lets things go wrong.
type chance struct {
	*stage
	mu     sync.Mutex
	random *rand.Rand
	told   map[int]bool // assignments under way, by group, round and tenure
}

func (c *chance) play(control runstate.Control) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, share := range control.Shares {
		if control.Paused {
			c.tell(PoolSignal, PoolNews{Pool: share.Pool, State: PoolQuiet, Tenure: share.Tenure, Revision: control.Revision})
			continue
		}
		for _, group := range share.Groups {
			key := (share.Tenure*1000+group.Group)*100 + group.Round
			if !c.told[key] {
				c.told[key] = true
				c.finish(share, group, control.Version)
			}
		}
	}
}

// tell signals the run after a random while.
func (c *chance) tell(signal string, message any) {
	c.RegisterDelayedCallback(func() { c.SignalWorkflow(signal, message) }, time.Duration(c.random.IntN(30_000))*time.Millisecond)
}

// finish ends the playing of a group: mostly well.
func (c *chance) finish(share runstate.Share, group runstate.Assignment, version int) {
	report := GroupsReport{Pool: share.Pool, Tenure: share.Tenure}
	switch c.random.IntN(12) {
	case 0:
		report.Short = []ShortGroup{{Number: group.Group, Round: group.Round, Failed: []runstate.MemberFailure{{Member: 0, Kind: "tool", Reason: "timeout"}}}}
	case 1:
		report.Dropped = []DroppedGroup{{Number: group.Group, Reason: "stale: withdrawn"}}
	case 2: // the loop is lost, and another one serves after a while
		c.tell(PoolSignal, PoolNews{Pool: share.Pool, State: PoolLost, Tenure: share.Tenure, Reason: "its worker stopped heartbeating"})
		c.RegisterDelayedCallback(func() {
			c.SignalWorkflow(PoolSignal, PoolNews{Pool: share.Pool, State: PoolServing, Tenure: c.folder.claim(), Worker: "another worker"})
		}, time.Minute)
		return
	case 3: // said twice
		c.tell(GroupsSignal, GroupsReport{Ready: []ReadyGroup{ready(group.Group, version)}})
		fallthrough
	default:
		report.Ready = []ReadyGroup{ready(group.Group, version)}
	}
	c.tell(GroupsSignal, report)
}
