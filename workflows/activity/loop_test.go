package activity

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.temporal.io/api/enums/v1"
	"go.temporal.io/api/serviceerror"
	"go.temporal.io/api/workflow/v1"
	"go.temporal.io/api/workflowservice/v1"

	"github.com/turnwise-rl/turnwise/rollout"
	"github.com/turnwise-rl/turnwise/workflows/runstate"
)

// staged runs a test of a loop in a bubble of its own time.
func staged(t *testing.T, test func(t *testing.T, s *stand), overrides ...string) {
	t.Helper()
	dir := prepared(t, overrides...)
	synctest.Test(t, func(t *testing.T) { test(t, newStand(t, dir)) })
}

// TestLoopPlaysItsShare plays the groups it is given, and others later, and reports each once.
func TestLoopPlaysItsShare(t *testing.T) {
	staged(t, func(t *testing.T, s *stand) {
		s.publish(func(c *runstate.Control) { c.Version = 2 })
		l := s.live(time.Hour)
		s.until(func() bool { return s.serving() == 1 })
		if news := s.news[0]; news.Worker != "here" || news.Pool != 0 {
			t.Errorf("the run hears of %+v", news)
		}
		s.assign(1, group(0), group(1), group(4))
		s.until(func() bool { return len(s.ready()) == 3 })
		s.assign(1, group(4), group(5))
		s.until(func() bool { return len(s.ready()) == 4 })
		s.assign(1)
		l.end()
		if diff := cmp.Diff([]int{0, 1, 4, 5}, s.ready()); diff != "" {
			t.Errorf("(-want +got):\n%s", diff)
		}
		for _, number := range s.ready() {
			got := s.stored(number)
			if len(got.Trajectories) != 3 || len(got.Attempts) != 3 || got.Attempts[2].Trajectory != fmt.Sprintf("g%d/2", number) {
				t.Errorf("group %d has %d trajectories and attempts %+v", number, len(got.Trajectories), got.Attempts)
			}
		}
		for _, report := range s.reports {
			for _, ready := range report.Ready {
				if ready.Oldest != 2 || ready.Newest != 2 || ready.Failed != 0 || report.Tenure != 1 {
					t.Errorf("tenure %d reports %+v", report.Tenure, ready)
				}
			}
		}
		if l.err != nil || l.result.Stopped || l.result.Tenure != 1 {
			t.Errorf("the loop ends with %+v, %v", l.result, l.err)
		}
		for key, times := range s.engine.sampled {
			if times != 1 {
				t.Errorf("turn %s is sampled %d times", key, times)
			}
		}
	})
}

// TestLoopSaysItAgain leaves reports without consequence: a run that was started anew on the same folder
// knows nothing of what was said.
func TestLoopSaysItAgain(t *testing.T) {
	staged(t, func(t *testing.T, s *stand) {
		l := s.live(time.Hour)
		s.until(func() bool { return len(s.news) == 1 })
		s.publish(func(*runstate.Control) {})
		s.until(func() bool { return len(s.news) == 3 }) // nobody gave it a share
		s.assign(1, group(0))
		s.until(func() bool { return len(s.reports) == 3 })
		said := len(s.news)
		time.Sleep(time.Minute)
		synctest.Wait()
		if len(s.news) != said {
			t.Errorf("it says that it serves %d times although it has a share", len(s.news)-said)
		}
		if n := len(s.reports); n > 8 {
			t.Errorf("it reports a group %d times in two minutes", n)
		}
		l.end()
		if len(s.engine.sampled) == 0 || slices.Max(slices.Collect(maps.Values(s.engine.sampled))) != 1 {
			t.Errorf("turns are sampled again for reports: %v", s.engine.sampled)
		}
	})
}

// TestLoopLeaves for each reason there is.
func TestLoopLeaves(t *testing.T) {
	later := func(s *stand) {
		s.publish(func(c *runstate.Control) { c.Shares = []runstate.Share{{Pool: 0, Tenure: 7}} })
	}
	for name, test := range map[string]struct {
		handOver time.Duration
		do       func(s *stand, l *life)
		stopped  bool
		reason   string
		err      error
	}{
		"stopped":      {time.Hour, func(s *stand, _ *life) { s.publish(func(c *runstate.Control) { c.Stopped = true }) }, true, "the run has ended", nil},
		"hand-over":    {time.Minute, func(*stand, *life) {}, false, "it hands over to a fresh loop", nil},
		"worker stops": {time.Hour, func(_ *stand, l *life) { l.stop() }, false, "its process stops", nil},
		"replaced":     {time.Hour, func(s *stand, _ *life) { later(s) }, false, "tenure 7 has the pool", nil},
		"withdrawn":    {time.Hour, func(_ *stand, l *life) { l.cancel() }, false, "", context.Canceled},
		"no such run": {time.Hour, func(s *stand, _ *life) {
			s.mu.Lock()
			s.away = serviceerror.NewNotFound("no such workflow")
			s.mu.Unlock()
			s.publish(func(c *runstate.Control) { c.Shares = nil })
		}, true, "the run takes no signals any more", nil},
		"run closed": {time.Hour, func(s *stand, _ *life) {
			s.a.Runs.(*runs).status.Store(int32(enums.WORKFLOW_EXECUTION_STATUS_TERMINATED))
		}, true, "the run is closed", nil},
	} {
		t.Run(name, func(t *testing.T) {
			staged(t, func(t *testing.T, s *stand) {
				s.a.Runs = &runs{}
				s.engine.lag = time.Hour
				l := s.live(test.handOver)
				s.until(func() bool { return s.serving() == 1 })
				s.assign(1, group(0), group(1))
				time.Sleep(20 * time.Second)
				test.do(s, l)
				<-l.ended
				l.cancel()
				if !errors.Is(l.err, test.err) || l.err == nil && (l.result.Stopped != test.stopped || l.result.Reason != test.reason || l.result.Tenure != 1) {
					t.Errorf("it leaves with %+v, %v; want stopped %v because %q, %v", l.result, l.err, test.stopped, test.reason, test.err)
				}
			})
		})
	}
}

// runs is a Describer with a status.
type runs struct{ status atomic.Int32 }

func (r *runs) DescribeWorkflowExecution(_ context.Context, workflowID, _ string) (*workflowservice.DescribeWorkflowExecutionResponse, error) {
	if workflowID != runID {
		return nil, fmt.Errorf("workflow %s is looked up", workflowID)
	}
	status := enums.WorkflowExecutionStatus(r.status.Load())
	if status == 0 {
		return nil, errors.New("the server restarts")
	}
	return &workflowservice.DescribeWorkflowExecutionResponse{WorkflowExecutionInfo: &workflow.WorkflowExecutionInfo{Status: status}}, nil
}

// TestLoopHandsOver lets a loop leave in the middle of episodes: they end at a turn, and the next tenure
// goes on there.
func TestLoopHandsOver(t *testing.T) {
	staged(t, func(t *testing.T, s *stand) {
		s.engine.lag = 2 * time.Second
		first := s.live(5 * time.Second) // a turn takes up to ten seconds
		s.until(func() bool { return s.serving() == 1 })
		s.assign(1, group(0), group(1), group(2))
		<-first.ended
		second := s.live(time.Hour)
		s.until(func() bool { return s.serving() == 2 })
		s.assign(2, moved(0), moved(1), moved(2))
		s.until(func() bool { return len(s.ready()) == 3 })
		second.end()
		for key, times := range s.engine.sampled {
			if times != 1 {
				t.Errorf("turn %s is sampled %d times", key, times)
			}
		}
		if twice := finishedTwice(t, s.folder().TurnsPath()); twice != nil {
			t.Errorf("finished twice: %v", twice)
		}
		if took := first.took; took < 5*time.Second || took >= 5*time.Second+handOverGrace {
			t.Errorf("it hands over after %s", took)
		}
		taken := 0
		for _, attempt := range s.stored(0).Attempts {
			if attempt.From > 0 && attempt.Tenure == 2 {
				taken++
			}
		}
		if taken == 0 {
			t.Errorf("no episode was taken up: %+v", s.stored(0).Attempts)
		}
	})
}

func moved(number int) runstate.Assignment { return runstate.Assignment{Group: number, Moved: true} }

// TestServerIsAway keeps what there is to say, in order, until the server is back.
func TestServerIsAway(t *testing.T) {
	staged(t, func(t *testing.T, s *stand) {
		l := s.live(time.Hour)
		s.until(func() bool { return s.serving() == 1 })
		s.mu.Lock()
		s.away = serviceerror.NewUnavailable("the server restarts")
		s.mu.Unlock()
		s.assign(1, group(0), group(1))
		time.Sleep(time.Minute)
		s.assign(1, group(0), group(1), group(2))
		time.Sleep(time.Minute)
		s.mu.Lock()
		s.away = nil
		s.mu.Unlock()
		s.until(func() bool { return len(s.ready()) == 3 })
		l.end()
		if len(s.reports) > 2 {
			t.Errorf("%d signals for what accumulated", len(s.reports))
		}
	})
}

// TestFailuresAreReported fails members in each way and tries them again: the others are not played
// again, and in the end everything is in the ledger.
func TestFailuresAreReported(t *testing.T) {
	broken := errors.New("broken")
	for kind, disturb := range map[rollout.FailureKind]func(s *stand, failing *atomic.Bool){
		rollout.FailedEngine: func(s *stand, failing *atomic.Bool) {
			s.engine.before = func(_ context.Context, sequence string, _ int) error {
				if sequence == "g0/1" && failing.Load() {
					return broken
				}
				return nil
			}
		},
		rollout.FailedTimeout: func(s *stand, failing *atomic.Bool) {
			s.engine.before = func(ctx context.Context, sequence string, _ int) error {
				if sequence == "g0/1" && failing.Load() {
					<-ctx.Done()
					return ctx.Err()
				}
				return nil
			}
		},
		rollout.FailedTool: func(s *stand, failing *atomic.Bool) {
			s.a.Intercept = func(ctx context.Context, call rollout.Call) error {
				if strings.HasPrefix(call.Key, "g0/1/") && failing.Load() {
					<-ctx.Done() // it hangs until its time is up
					return ctx.Err()
				}
				return nil
			}
		},
	} {
		t.Run(string(kind), func(t *testing.T) {
			if testing.Short() && kind == rollout.FailedTimeout {
				t.Skip("a loop looks at its control thousands of times before an episode's time is up")
			}
			staged(t, func(t *testing.T, s *stand) {
				var failing atomic.Bool
				failing.Store(true)
				disturb(s, &failing)
				l := s.live(24 * time.Hour)
				s.until(func() bool { return s.serving() == 1 })
				s.assign(1, group(0), group(1))
				s.until(func() bool { return s.short(0) != nil && len(s.ready()) == 1 })
				got := *s.short(0)
				if got.Round != 0 || len(got.Failed) != 1 || got.Failed[0].Member != 1 || got.Failed[0].Kind != string(kind) {
					t.Fatalf("the run hears %+v, want member 1, %s", got, kind)
				}
				s.assign(1, runstate.Assignment{Group: 0, Round: 1, Members: []int{0, 1, 2}})
				s.until(func() bool { return s.short(0).Round == 1 })
				failing.Store(false)
				s.assign(1, runstate.Assignment{Group: 0, Round: 2, Members: []int{0, 3, 2}})
				s.until(func() bool { return len(s.ready()) == 2 })
				l.end()
				group := s.stored(0)
				var ids []string
				for _, trajectory := range group.Trajectories {
					ids = append(ids, trajectory.ID)
				}
				if diff := cmp.Diff([]string{"g0/0", "g0/2", "g0/3"}, ids); diff != "" {
					t.Errorf("members (-want +got):\n%s", diff)
				}
				var failures []rollout.FailureKind
				for _, attempt := range group.Attempts {
					if attempt.Trajectory == "g0/1" {
						failures = append(failures, attempt.Failure)
					}
				}
				if diff := cmp.Diff([]rollout.FailureKind{kind, kind}, failures); diff != "" {
					t.Errorf("attempts of member 1 (-want +got):\n%s", diff)
				}
				for key, times := range s.engine.sampled {
					if times > 1 && !strings.HasPrefix(key, "g0/1@") {
						t.Errorf("turn %s is sampled %d times", key, times)
					}
				}
			})
		})
	}
}

// TestNewWeights publishes versions while episodes are in flight.
func TestNewWeights(t *testing.T) {
	for mode, spread := range map[string]bool{"in_flight": true, "drain": false} {
		t.Run(mode, func(t *testing.T) {
			staged(t, func(t *testing.T, s *stand) {
				s.engine.lag = time.Second
				s.publish(func(c *runstate.Control) { c.Version, c.Staleness = 2, 9 })
				l := s.live(time.Hour)
				s.until(func() bool { return s.serving() == 1 })
				s.assign(1, group(0), group(1), group(2), group(3))
				time.Sleep(1500 * time.Millisecond)
				s.publish(func(c *runstate.Control) { c.Version = 3 })
				s.until(func() bool { return len(s.ready()) == 4 })
				l.end()
				mixed, newest := 0, 0
				for _, number := range s.ready() {
					for _, trajectory := range s.stored(number).Trajectories {
						seen := map[rollout.Version]bool{}
						for i, version := range trajectory.Versions {
							if trajectory.Sampled[i] {
								seen[version] = true
								newest = max(newest, int(version))
							}
						}
						if len(seen) > 1 {
							mixed++
						}
					}
				}
				if (mixed > 0) != spread || newest != 3 {
					t.Errorf("%d trajectories have several versions, the newest is %d", mixed, newest)
				}
			}, "sampling.new_weights="+mode)
		})
	}
}
