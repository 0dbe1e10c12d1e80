package worker

import (
	"context"
	"errors"
	"fmt"
	"math"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/turnwise-rl/turnwise/rollout"
	"github.com/turnwise-rl/turnwise/rollout/record"
	"github.com/turnwise-rl/turnwise/rollout/sampler"
)

// TestEpisodes plays turns and looks at what the policy reads, what becomes of its calls and how the
// episode ends.
func TestEpisodes(t *testing.T) {
	const noCall = rollout.CallUnparsable
	for name, test := range map[string]struct {
		turns        []string
		limits       func(*Limits)
		stop         rollout.StopReason
		outcome      float64
		observations []string // of the turns that have one
		statuses     [][]rollout.CallStatus
		formats      []bool
	}{
		"right answer": {turns: nil, stop: rollout.StopAnswer, outcome: 1, statuses: [][]rollout.CallStatus{{}}, formats: []bool{true}},
		"wrong answer": {turns: []string{"answer: no"}, stop: rollout.StopAnswer, statuses: [][]rollout.CallStatus{{}}, formats: []bool{true}},
		"a call": {
			turns: []string{"echo text: hello"}, stop: rollout.StopAnswer, outcome: 1, observations: []string{" hello"},
			statuses: [][]rollout.CallStatus{{rollout.CallOK}, {}}, formats: []bool{true, true},
		},
		"several calls in one turn": {
			turns: []string{"echo text: a\nrefuse text: b\nsing text: c\necho tune: d\necho text: e"}, stop: rollout.StopAnswer, outcome: 1,
			observations: []string{" a\n error: no b\n error: no tool sing; tools: echo, refuse, break, hang, panic\n error: echo takes text\n e"},
			statuses:     [][]rollout.CallStatus{{rollout.CallOK, rollout.CallError, rollout.CallUnknownTool, rollout.CallBadArgs, rollout.CallOK}, {}},
			formats:      []bool{true, true},
		},
		"unparsable": {
			turns: []string{"What?"}, stop: rollout.StopAnswer, outcome: 1,
			observations: []string{` error: line 1: "What?" does not begin with a tool's name`},
			statuses:     [][]rollout.CallStatus{{noCall}, {}}, formats: []bool{false, true},
		},
		"empty turn": {
			turns: []string{""}, stop: rollout.StopAnswer, outcome: 1,
			observations: []string{` error: line 1: "" does not begin with a tool's name`},
			statuses:     [][]rollout.CallStatus{{noCall}, {}}, formats: []bool{false, true},
		},
		"turn cut off": {
			turns: []string{"echo text: " + strings.Repeat("hello", 80)}, stop: rollout.StopAnswer, outcome: 1,
			observations: []string{" error: turn cut off after 60 tokens"},
			statuses:     [][]rollout.CallStatus{{noCall}, {}}, formats: []bool{false, true},
		},
		"most turns": {
			turns: []string{"echo text: a", "echo text: b", "echo text: c"}, limits: func(l *Limits) { l.MaxTurns = 2 }, stop: rollout.StopMaxTurns,
			observations: []string{" a", " b"}, statuses: [][]rollout.CallStatus{{rollout.CallOK}, {rollout.CallOK}}, formats: []bool{true, true},
		},
		"no room for the observation": {
			turns: []string{"echo text: " + strings.Repeat("a ", 20) + "b"}, limits: func(l *Limits) { l.MaxTokens = 60 }, stop: rollout.StopMaxTokens,
			statuses: [][]rollout.CallStatus{{rollout.CallOK}}, formats: []bool{true},
		},
		"no room for the turn": {
			turns: []string{"echo text: " + strings.Repeat("a ", 20) + "b"}, limits: func(l *Limits) { l.MaxTokens = 20 }, stop: rollout.StopMaxTokens,
			statuses: [][]rollout.CallStatus{{noCall}}, formats: []bool{false},
		},
		"no room after the prompt": {limits: func(l *Limits) { l.MaxTokens = 3 }, stop: rollout.StopMaxTokens},
	} {
		t.Run(name, func(t *testing.T) {
			s := newStage(t, texts(test.turns...))
			if test.limits != nil {
				test.limits(&s.player.Limits)
			}
			got, err := s.play(t)
			if err != nil {
				t.Fatal(err)
			}
			var observations []string
			var statuses [][]rollout.CallStatus
			var formats []bool
			for i, turn := range got.Turns {
				all := []rollout.CallStatus{}
				for _, call := range turn.Calls {
					all = append(all, call.Status)
				}
				statuses, formats = append(statuses, all), append(formats, turn.FormatOK)
				if turn.Observation != nil {
					text := s.tokenizer.PlainText(got.Tokens[turn.Observation.Start:turn.Observation.End])
					observations = append(observations, text)
				}
				if want := strings.Repeat("x", len(s.lab.keys)); i == len(got.Turns)-1 && len(turn.Calls) == 0 && turn.State != want {
					t.Errorf("state %q before the last turn, want %q", turn.State, want)
				}
			}
			if got.Stop != test.stop || got.Outcome == nil || *got.Outcome != test.outcome {
				t.Errorf("stop %s, outcome %v; want %s, %g", got.Stop, got.Outcome, test.stop, test.outcome)
			}
			for what, diff := range map[string]string{
				"observations": cmp.Diff(test.observations, observations), "statuses": cmp.Diff(test.statuses, statuses), "formats": cmp.Diff(test.formats, formats),
			} {
				if diff != "" {
					t.Errorf("%s (-want +got):\n%s", what, diff)
				}
			}
			check(t, s, got)
		})
	}
}

// check compares what every trajectory must keep, whatever its turns say.
func check(t testing.TB, s *stage, got rollout.Trajectory) {
	t.Helper()
	if err := record.Validate(rollout.Group{ID: "g1", Task: s.lab.Task(rollout.Train, 0, 0), Trajectories: []rollout.Trajectory{got}}); err != nil {
		t.Errorf("the trajectory is not valid: %v", err)
	}
	limits := s.player.Limits
	prompt := s.tokenizer.Prompt("say yes")
	if len(got.Tokens) > max(limits.MaxTokens, len(prompt)) || len(got.Turns) > limits.MaxTurns {
		t.Errorf("%d tokens in %d turns, at most %d and %d are allowed", len(got.Tokens), len(got.Turns), limits.MaxTokens, limits.MaxTurns)
	}
	at := len(prompt)
	for i, turn := range got.Turns {
		if turn.Start != at {
			t.Errorf("turn %d starts at %d, want %d: nothing lies between turns but observations", i, turn.Start, at)
		}
		request := s.sampler.requests[i]
		if diff := cmp.Diff(got.Tokens[:turn.Start], request.Tokens); diff != "" {
			t.Errorf("turn %d was sampled from another context (-recorded +sampled):\n%s", i, diff)
		}
		if want := rollout.Seed(5, uint64(i)); request.Seed != want || request.Temperature != 0.7 || request.Sequence != got.ID {
			t.Errorf("request %d is %+v, want seed %d", i, request, want)
		}
		if request.TopK != 9 || request.TopP != 0.95 || request.MinP != 0.01 {
			t.Errorf("request %d is %+v, want the cuts of the sampling settings", i, request)
		}
		sum := 0.0
		for k := turn.Start; k < turn.End; k++ {
			if got.BehaviorLogProbs[k] == 0 || got.Versions[k] == 0 || turn.End-turn.Start > limits.MaxTurnTokens {
				t.Errorf("token %d of turn %d has log-probability %g, version %d", k, i, got.BehaviorLogProbs[k], got.Versions[k])
			}
			sum += float64(got.Entropies[k])
		}
		if want := sum / float64(turn.End-turn.Start); math.Abs(turn.Entropy-want) > 1e-12 {
			t.Errorf("turn %d has entropy %g, want %g", i, turn.Entropy, want)
		}
		if at = turn.End; turn.Observation != nil {
			if turn.Observation.Start != turn.End {
				t.Errorf("the observation of turn %d starts at %d, want %d", i, turn.Observation.Start, turn.End)
			}
			at = turn.Observation.End
		}
	}
	if at != len(got.Tokens) {
		t.Errorf("%d tokens, turns and observations end at %d", len(got.Tokens), at)
	}
	if got.Temperature != 0.7 || s.lab.closed != s.lab.opened || !cmp.Equal(s.sampler.released, []string{got.ID}) {
		t.Errorf("temperature %g, %d environments closed, released %v", got.Temperature, s.lab.closed, s.sampler.released)
	}
}

// TestCallKeys gives every call a key of its own that a repetition of the episode gives again.
func TestCallKeys(t *testing.T) {
	var first []string
	for range 2 {
		s := newStage(t, texts("echo text: a\necho text: b", "sing text: c\nrefuse text: d"))
		if _, err := s.play(t); err != nil {
			t.Fatal(err)
		}
		want := []string{"g1/0/0/0", "g1/0/0/1", "g1/0/1/1"}
		if diff := cmp.Diff(want, s.lab.keys); diff != "" {
			t.Errorf("(-want +got):\n%s", diff)
		}
		if first != nil && !cmp.Equal(first, s.lab.keys) {
			t.Errorf("keys %v, the first time %v", s.lab.keys, first)
		}
		first = s.lab.keys
	}
}

// TestBreakageIsNoReward lets everything around the policy break: an error, and never a trajectory.
func TestBreakageIsNoReward(t *testing.T) {
	away := errors.New("away")
	for name, test := range map[string]struct {
		turns []string
		prop  func(*stage)
		is    error
		says  string
	}{
		"tool":        {turns: []string{"echo text: a", "break text: x"}, is: errBroken, says: "turn 1: tool break"},
		"tool hangs":  {turns: []string{"hang text: x"}, prop: func(s *stage) { s.player.Limits.ToolTimeout = 1 }, is: context.DeadlineExceeded, says: "tool hang"},
		"open":        {prop: func(s *stage) { s.lab.openErr = away }, is: away, says: "lab/train/0: turn 0: open"},
		"close":       {prop: func(s *stage) { s.lab.closeErr = away }, is: away, says: "lab/train/0"},
		"sampler":     {prop: func(s *stage) { s.sampler.err = away }, is: away, says: "turn 0"},
		"environment": {prop: func(s *stage) { s.player.Environments = nil }, says: `no environment "lab"`},
		"fewer log-probabilities": {
			prop: func(s *stage) { s.sampler.mangle = func(r *sampler.Result) { r.LogProbs = r.LogProbs[1:] } },
			says: "sampler returned 9 tokens, 8 log-probabilities",
		},
		"too many tokens": {
			prop: func(s *stage) {
				s.sampler.mangle = func(r *sampler.Result) {
					for range 6 {
						r.Tokens, r.LogProbs = append(r.Tokens, r.Tokens...), append(r.LogProbs, r.LogProbs...)
						r.Entropies, r.Versions = append(r.Entropies, r.Entropies...), append(r.Versions, r.Versions...)
					}
				}
			}, says: "the limit is 60",
		},
		"no token": {prop: func(s *stage) {
			s.sampler.mangle = func(r *sampler.Result) { *r = sampler.Result{Finish: sampler.FinishStop} }
		}, says: "no token"},
	} {
		t.Run(name, func(t *testing.T) {
			s := newStage(t, texts(test.turns...))
			if test.prop != nil {
				test.prop(s)
			}
			got, err := s.play(t)
			if err == nil || !strings.Contains(err.Error(), test.says) || test.is != nil && !errors.Is(err, test.is) {
				t.Errorf("error %v; want %v, saying %q", err, test.is, test.says)
			}
			if got.Outcome != nil || got.Tokens != nil {
				t.Errorf("a trajectory comes with the error: %+v", got)
			}
			if len(s.sampler.released) != 1 {
				t.Errorf("released %v, want the sequence once", s.sampler.released)
			}
		})
	}
}

// TestFullContext ends an episode whose sampler has no room left although the limits have.
func TestFullContext(t *testing.T) {
	s := newStage(t, texts("echo text: a", "echo text: b"))
	s.sampler.mangle = func(r *sampler.Result) {
		if s.sampler.turns["g1/0"] == 2 {
			*r = sampler.Result{Finish: sampler.FinishLength}
		}
	}
	got, err := s.play(t)
	if err != nil || got.Stop != rollout.StopMaxTokens || len(got.Turns) != 1 || *got.Outcome != 0 {
		t.Errorf("stop %s after %d turns, %v; want %s after 1", got.Stop, len(got.Turns), err, rollout.StopMaxTokens)
	}
	check(t, s, got)
}

func TestScript(t *testing.T) {
	s := newStage(t, nil)
	task := s.lab.Task(rollout.Train, 0, 0)
	got, err := s.player.PlayScript(t.Context(), task, "demo0/0", []string{"echo text: a", "answer: yes"})
	if err != nil || got.Stop != rollout.StopAnswer || *got.Outcome != 1 || len(got.Turns) != 2 {
		t.Fatalf("%+v, %v", got, err)
	}
	if got.BehaviorLogProbs != nil || got.Versions != nil || got.Entropies != nil {
		t.Error("a script has log-probabilities, versions or entropies")
	}
	if err := record.Validate(rollout.Group{ID: "demo0", Task: task, Trajectories: []rollout.Trajectory{got}}); err != nil {
		t.Error(err)
	}
	if got, err := s.player.PlayScript(t.Context(), task, "demo1/0", []string{"echo text: a"}); err != nil || got.Stop != rollout.StopVoid || *got.Outcome != 0 {
		t.Errorf("a script without an answer: stop %s, %v", got.Stop, err)
	}
	long := fmt.Sprintf("echo text: %s", strings.Repeat("z", 100))
	if _, err := s.player.PlayScript(t.Context(), task, "demo2/0", []string{long}); err == nil || !strings.Contains(err.Error(), "the limit is 60") {
		t.Errorf("a turn beyond the limit: %v", err)
	}
}
