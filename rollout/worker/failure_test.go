package worker

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"
	"unicode/utf8"

	"github.com/turnwise-rl/turnwise/rollout"
	"github.com/turnwise-rl/turnwise/rollout/env"
	"github.com/turnwise-rl/turnwise/rollout/sampler"
)

// checkFailure wants a failure of a kind that says something.
func checkFailure(t testing.TB, err error, kind rollout.FailureKind, says string) {
	t.Helper()
	var failure *rollout.Failure
	if !errors.As(err, &failure) {
		t.Fatalf("%v is no failure", err)
	}
	if failure.Kind != kind || !strings.Contains(err.Error(), says) {
		t.Errorf("%v; want kind %s, saying %q", err, kind, says)
	}
}

// TestFailuresAreTyped lets everything break that can.
func TestFailuresAreTyped(t *testing.T) {
	away := errors.New("away")
	for name, test := range map[string]struct {
		turns []string
		prop  func(*stage, *memoryLog)
		kind  rollout.FailureKind
		says  string
	}{
		"environment unknown": {prop: func(s *stage, _ *memoryLog) { s.player.Environments = nil }, kind: rollout.FailedEnvironment, says: `no environment "lab"`},
		"open":                {prop: func(s *stage, _ *memoryLog) { s.lab.openErr = away }, kind: rollout.FailedEnvironment, says: "open: away"},
		"close":               {prop: func(s *stage, _ *memoryLog) { s.lab.closeErr = away }, kind: rollout.FailedEnvironment, says: "close: away"},
		"close after tool":    {turns: []string{"break text: x"}, prop: func(s *stage, _ *memoryLog) { s.lab.closeErr = away }, kind: rollout.FailedTool, says: "tool break: the tool's host is away; then environment: close: away"},
		"tool":                {turns: []string{"echo text: a", "break text: x"}, kind: rollout.FailedTool, says: "turn 1: tool break: the tool's host is away"},
		"tool panics":         {turns: []string{"panic text: x"}, kind: rollout.FailedTool, says: "tool panic: panic: the tool's own"},
		"tool hangs":          {turns: []string{"hang text: x"}, prop: func(s *stage, _ *memoryLog) { s.player.Limits.ToolTimeout = time.Second }, kind: rollout.FailedTool, says: "tool hang: context deadline exceeded"},
		"intercepted": {turns: []string{"echo text: x"}, prop: func(s *stage, _ *memoryLog) {
			s.player.Intercept = func(_ context.Context, call rollout.Call) error { return errors.New("injected at " + call.Key) }
		}, kind: rollout.FailedTool, says: "injected at g1/0/0/0"},
		"intercepted for ever": {turns: []string{"echo text: x"}, prop: func(s *stage, _ *memoryLog) {
			s.player.Intercept = func(ctx context.Context, _ rollout.Call) error { <-ctx.Done(); return ctx.Err() }
		}, kind: rollout.FailedTool, says: "tool echo: context deadline exceeded"},
		"engine":           {prop: func(s *stage, _ *memoryLog) { s.sampler.err = away }, kind: rollout.FailedEngine, says: "turn 0: away"},
		"engine talks":     {prop: func(s *stage, _ *memoryLog) { s.sampler.mangle = func(r *sampler.Result) { r.LogProbs = nil } }, kind: rollout.FailedEngine, says: "0 log-probabilities"},
		"episode too long": {turns: []string{"echo text: a", "hang text: x"}, prop: func(s *stage, _ *memoryLog) { s.player.Limits.EpisodeTimeout = time.Second }, kind: rollout.FailedTimeout, says: "longer than 1s"},
		"gate":             {prop: func(s *stage, _ *memoryLog) { s.player.Gate = func(context.Context) error { return away } }, kind: rollout.FailedCancelled, says: "turn 0: away"},
		"gate says why": {prop: func(s *stage, _ *memoryLog) {
			s.player.Gate = func(context.Context) error { return &rollout.Failure{Kind: rollout.FailedLost, Err: away} }
		}, kind: rollout.FailedLost, says: "away"},
		"begin":             {prop: func(_ *stage, l *memoryLog) { l.beginErr = away }, kind: rollout.FailedStorage, says: "turn 0: away"},
		"finish":            {turns: []string{"echo text: a"}, prop: func(_ *stage, l *memoryLog) { l.finishErr = away }, kind: rollout.FailedStorage, says: "turn 0: away"},
		"failing to record": {turns: []string{"break text: a"}, prop: func(_ *stage, l *memoryLog) { l.failErr = away }, kind: rollout.FailedTool, says: "tool break: the tool's host is away; then away"},
		"not a restorer": {prop: func(s *stage, _ *memoryLog) {
			s.player.Environments["lab"] = forgetful{s.lab}
		}, kind: rollout.FailedEnvironment, says: "environment lab restores, but its episodes have no Snapshot"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s, log := newStage(t, texts(test.turns...)), &memoryLog{}
				if test.prop != nil {
					test.prop(s, log)
				}
				got, err := s.player.Play(t.Context(), s.lab.Task(rollout.Train, 0, 0), "g1/0", Sampling{Sampler: s.sampler, Seed: 5}, log)
				checkFailure(t, err, test.kind, test.says)
				if got.Tokens != nil || got.Outcome != nil {
					t.Errorf("a trajectory comes with the failure: %+v", got)
				}
				if len(log.failed) != 1 || log.failed[0].Kind != test.kind || log.failed[0].Attempt != 1 {
					t.Errorf("recorded failures %+v", log.failed)
				}
				if s.lab.opened != s.lab.closed {
					t.Errorf("%d environments opened, %d closed", s.lab.opened, s.lab.closed)
				}
			})
		})
	}
}

// forgetful opens episodes that say they restore and cannot.
type forgetful struct{ *lab }

func (f forgetful) Open(task rollout.Task) (env.Episode, error) {
	episode, err := f.lab.Open(task)
	return struct{ env.Episode }{episode}, err
}

// TestCancelledAttempts withdraws an episode in a tool and at the gate.
func TestCancelledAttempts(t *testing.T) {
	for name, prop := range map[string]func(*stage, context.CancelFunc){
		"in a tool": func(s *stage, cancel context.CancelFunc) {
			s.player.Intercept = func(ctx context.Context, _ rollout.Call) error { cancel(); <-ctx.Done(); return errors.New("hung up") }
		},
		"at the gate": func(s *stage, cancel context.CancelFunc) {
			s.player.Gate = func(ctx context.Context) error { cancel(); <-ctx.Done(); return ctx.Err() }
		},
	} {
		t.Run(name, func(t *testing.T) {
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			s, log := newStage(t, texts("echo text: a")), &memoryLog{}
			prop(s, cancel)
			_, err := s.player.Play(ctx, s.lab.Task(rollout.Train, 0, 0), "g1/0", Sampling{Sampler: s.sampler, Seed: 5}, log)
			checkFailure(t, err, rollout.FailedCancelled, "turn 0")
			if len(log.failed) != 1 || log.failed[0].Kind != rollout.FailedCancelled {
				t.Errorf("recorded failures %+v: the end of an attempt is recorded although its context has ended", log.failed)
			}
		})
	}
}

// TestHeldEpisodesTakeNoTime holds an episode at the gate for longer than its limit.
func TestHeldEpisodesTakeNoTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStage(t, texts("echo text: a", "echo text: b"))
		s.player.Limits.EpisodeTimeout = time.Second
		held := 0
		s.player.Gate = func(context.Context) error {
			held++
			time.Sleep(time.Hour)
			return nil
		}
		s.player.Intercept = func(context.Context, rollout.Call) error {
			time.Sleep(300 * time.Millisecond)
			return nil
		}
		log := &memoryLog{}
		got, err := s.player.Play(t.Context(), s.lab.Task(rollout.Train, 0, 0), "g1/0", Sampling{Sampler: s.sampler, Seed: 5}, log)
		if err != nil || held != 3 || len(got.Turns) != 3 {
			t.Fatalf("held %d times before %d turns, %v", held, len(got.Turns), err)
		}
		if got.ElapsedSeconds != 0.6 {
			t.Errorf("the episode took %g s, want 0.6: being held takes no time", got.ElapsedSeconds)
		}
		for i, begin := range log.begun {
			if begin.Turn != i || begin.Attempt != 1 || begin.From != 0 {
				t.Errorf("begun %+v", begin)
			}
		}
	})
}

// TestPanicsKeepTheirStack tells whoever mends a tool where it broke.
func TestPanicsKeepTheirStack(t *testing.T) {
	s := newStage(t, texts("panic text: x"))
	_, err := s.play(t)
	var panicked *PanicError
	if !errors.As(err, &panicked) || !strings.Contains(string(panicked.Stack), "(*bench).Call") {
		t.Errorf("%v has no stack", err)
	}
}

// TestReasonsAreShort keeps a tool's page out of the attempt ledger.
func TestReasonsAreShort(t *testing.T) {
	s, log := newStage(t, texts("echo text: a")), &memoryLog{}
	s.player.Intercept = func(context.Context, rollout.Call) error { return errors.New("\xff" + strings.Repeat("é", 5000)) }
	_, err := s.player.Play(t.Context(), s.lab.Task(rollout.Train, 0, 0), "g1/0", Sampling{Sampler: s.sampler, Seed: 5}, log)
	checkFailure(t, err, rollout.FailedTool, "é")
	if got := log.failed[0].Reason; len(got) > mostReason+10 || !utf8.ValidString(got) || !strings.Contains(got, "tool echo: ?é") {
		t.Errorf("the reason is %d bytes: %s", len(got), got)
	}
}

// TestAPlayedTurnIsRecorded withdraws an episode while the tool of its first turn is at work: the turn is
// finished, the attempt is not.
func TestAPlayedTurnIsRecorded(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	s, log := newStage(t, texts("echo text: a", "echo text: b")), &memoryLog{}
	s.player.Intercept = func(context.Context, rollout.Call) error { cancel(); return nil }
	_, err := s.player.Play(ctx, s.lab.Task(rollout.Train, 0, 0), "g1/0", Sampling{Sampler: s.sampler, Seed: 5}, log)
	checkFailure(t, err, rollout.FailedCancelled, "turn 1")
	if len(log.past.Turns) != 1 {
		t.Errorf("%d turns are recorded, want 1", len(log.past.Turns))
	}
}
