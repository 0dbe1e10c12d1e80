package example

import (
	"context"
	"os"
	"strconv"
	"strings"
	"testing"

	"github.com/turnwise-rl/turnwise/rollout"
	"github.com/turnwise-rl/turnwise/rollout/env"
	"github.com/turnwise-rl/turnwise/rollout/tool"
)

var _ env.Environment = HighLow{}

// TestHalvingFindsTheSecret plays episodes the way the rollout worker does: text in, text out.
func TestHalvingFindsTheSecret(t *testing.T) {
	var e env.Environment = HighLow{}
	for _, split := range []rollout.Split{rollout.Train, rollout.HeldOut} {
		for index := range 200 {
			task := e.Task(split, 3, index)
			if secret, _ := strconv.Atoi(task.Gold.Answer); (secret%5 == 0) != (split == rollout.HeldOut) {
				t.Fatalf("%s: the secret %d is of the other split", task.ID, secret)
			}
			episode, err := e.Open(task)
			if err != nil {
				t.Fatal(err)
			}
			least, below, before := 0, 1_000_000, ""
			for below-least > 1 {
				half := (least + below) / 2
				call := tool.Parse("guess number: " + strconv.Itoa(half)).Calls[0]
				if status, text := tool.Check(call, e.Tools()); status != rollout.CallOK {
					t.Fatalf("%s: a guess is refused: %s", task.ID, text)
				}
				result, err := episode.Call(context.Background(), call)
				if err != nil || episode.State() == before {
					t.Fatalf("%s: %q, %v leaves state %s", task.ID, result.Text, err, before)
				}
				before = episode.State()
				switch result.Text {
				case " lower":
					below = half
				case " higher":
					least = half + 1
				default:
					least, below = half, half+1
				}
			}
			if err := episode.Close(); err != nil {
				t.Fatal(err)
			}
			if e.Verify(task, strconv.Itoa(least)) != 1 || e.Verify(task, strconv.Itoa(least+1)) != 0 {
				t.Fatalf("%s: halving ends at %d, the secret is %s", task.ID, least, task.Gold.Answer)
			}
		}
	}
}

func TestWrongGuessesAreObservations(t *testing.T) {
	e := HighLow{}
	episode, err := e.Open(e.Task(rollout.Train, 1, 1))
	if err != nil {
		t.Fatal(err)
	}
	result, err := episode.Call(context.Background(), tool.Parse("guess number: many").Calls[0])
	if err != nil || result.Status != rollout.CallError || result.Text != " error: no number many" {
		t.Errorf("a guess of %q answers %q (%s), %v", "many", result.Text, result.Status, err)
	}
}

// TestAttemptsAreTakenUp halves on in a second episode after each guess.
func TestAttemptsAreTakenUp(t *testing.T) {
	var e env.Environment = HighLow{}
	task := e.Task(rollout.Train, 1, 1)
	if e.Continuation() != env.Restores {
		t.Fatal(e.Continuation())
	}
	episode, err := e.Open(task)
	if err != nil {
		t.Fatal(err)
	}
	for _, guess := range []string{"500000", "250000", "many", task.Gold.Answer} {
		if _, err := episode.Call(t.Context(), tool.Parse("guess number: " + guess).Calls[0]); err != nil {
			t.Fatal(err)
		}
		snapshot, err := episode.(env.Restorer).Snapshot()
		if err != nil {
			t.Fatal(err)
		}
		next, err := e.Open(task)
		if err != nil {
			t.Fatal(err)
		}
		if err := next.(env.Restorer).Restore(t.Context(), snapshot); err != nil || next.State() != episode.State() {
			t.Fatalf("after %s: state %s, taken up %s, %v", guess, episode.State(), next.State(), err)
		}
		episode = next
	}
	for _, foreign := range []string{"", "{}", "[1]", "[0,0]", "[999999,1000000]"} {
		if err := episode.(env.Restorer).Restore(t.Context(), []byte(foreign)); err == nil {
			t.Errorf("the snapshot %q is restored", foreign)
		}
	}
}

// TestGuideQuotesThisPackage keeps docs/writing-an-environment.md and example.go the same.
func TestGuideQuotesThisPackage(t *testing.T) {
	guide, err := os.ReadFile("../../../../docs/writing-an-environment.md")
	if err != nil {
		t.Fatal(err)
	}
	source, err := os.ReadFile("example.go")
	if err != nil {
		t.Fatal(err)
	}
	if quote := "```go\n" + string(source) + "```\n"; !strings.Contains(string(guide), quote) {
		t.Error("docs/writing-an-environment.md does not quote example.go word for word; copy the file into its first go block")
	}
}
