package record

import (
	"bytes"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/turnwise-rl/turnwise/rollout"
)

// attemptedGroup is the example with the attempts at its member and at one that was replaced.
func attemptedGroup() rollout.Group {
	g := exampleGroup()
	g.Attempts = []rollout.Attempt{
		{Trajectory: "g17/0", Number: 1, Tenure: 3, Failure: rollout.FailedLost, Reason: "the <process> is gone"},
		{Trajectory: "g17/0", Number: 2, Tenure: 4, From: 1},
		{Trajectory: "g17/1", Number: 1, Tenure: 3, Failure: rollout.FailedTool, Reason: "tool search: away"},
		{Trajectory: "g17/1", Number: 2, Tenure: 4, Discarded: 2, Failure: rollout.FailedTimeout, Reason: "late"},
	}
	return g
}

func TestAttemptsAreStored(t *testing.T) {
	g := attemptedGroup()
	var line bytes.Buffer
	if err := WriteGroup(&line, g); err != nil {
		t.Fatal(err)
	}
	want := `"attempts":[{"trajectory":"g17/0","attempt":1,"tenure":3,"from":0,"failure":"lost","reason":"the <process> is gone"},{"trajectory":"g17/0","attempt":2,"tenure":4,"from":1},`
	if !strings.Contains(line.String(), want) {
		t.Errorf("%s does not hold %s", line.String(), want)
	}
	read, err := NewReader(&line, "line").Next()
	if diff := cmp.Diff(g, read); err != nil || diff != "" {
		t.Errorf("%v (-written +read):\n%s", err, diff)
	}
	data, err := EncodeSegment(g)
	if err != nil {
		t.Fatal(err)
	}
	decoded, err := DecodeSegment(data)
	if diff := cmp.Diff(g, decoded); err != nil || diff != "" {
		t.Errorf("%v (-encoded +decoded):\n%s", err, diff)
	}
}

// TestSegmentsWithoutAttemptsAreRead reads a segment from before groups had attempts, and writes it again.
func TestSegmentsWithoutAttemptsAreRead(t *testing.T) {
	data, err := os.ReadFile("testdata/without-attempts.segment")
	if err != nil {
		t.Fatal(err)
	}
	g, err := DecodeSegment(data)
	if diff := cmp.Diff(exampleGroup(), g); err != nil || diff != "" {
		t.Errorf("%v (-want +got):\n%s", err, diff)
	}
	again, err := EncodeSegment(g)
	if err != nil || !bytes.Equal(again, data) {
		t.Errorf("it is written otherwise, %v", err)
	}
}

func TestAttemptsAreValidated(t *testing.T) {
	for _, test := range []struct {
		want   string
		change func([]rollout.Attempt) []rollout.Attempt
	}{
		{`attempts[0].trajectory: "h1/0" is neither a trajectory of the group nor a member that was replaced`, func(a []rollout.Attempt) []rollout.Attempt { a[0].Trajectory = "h1/0"; return a }},
		{`attempts[0].attempt: 0, but it is number 1 at "g17/0"; attempts count from 1`, func(a []rollout.Attempt) []rollout.Attempt { a[0].Number = 0; return a }},
		{`attempts[1].attempt: 3, but it is number 2 at "g17/0"; attempts count from 1`, func(a []rollout.Attempt) []rollout.Attempt { a[1].Number = 3; return a }},
		{`attempts[0].tenure: -1 is negative`, func(a []rollout.Attempt) []rollout.Attempt { a[0].Tenure = -1; return a }},
		{`attempts[1]: from -1, discarded 0; neither is negative`, func(a []rollout.Attempt) []rollout.Attempt { a[1].From = -1; return a }},
		{`attempts[1].from: 3, but "g17/0" has 2 turns`, func(a []rollout.Attempt) []rollout.Attempt { a[1].From = 3; return a }},
		{`attempts[3].from: 1, but an attempt that discarded turns begins with turn 0`, func(a []rollout.Attempt) []rollout.Attempt { a[3].From = 1; return a }},
		{`attempts[0].failure: "boredom" is unknown; known: environment, `, func(a []rollout.Attempt) []rollout.Attempt { a[0].Failure = "boredom"; return a }},
		{`attempts[1].reason: "why", but there is no failure`, func(a []rollout.Attempt) []rollout.Attempt { a[1].Reason = "why"; return a }},
		{`attempts[2].failure: missing, but the group has no trajectory "g17/1"`, func(a []rollout.Attempt) []rollout.Attempt { a[2].Failure, a[2].Reason = "", ""; return a }},
		{`attempts[1].failure: missing, but another attempt ended "g17/0"`, func(a []rollout.Attempt) []rollout.Attempt { a[0].Failure, a[0].Reason = "", ""; return a }},
		{`trajectories[0]: every attempt at "g17/0" failed`, func(a []rollout.Attempt) []rollout.Attempt { a[1].Failure = rollout.FailedLost; return a }},
		{`trajectories[0]: every attempt at "g17/0" failed`, func(a []rollout.Attempt) []rollout.Attempt { return a[:1] }},
	} {
		g := attemptedGroup()
		g.Attempts = test.change(g.Attempts)
		if err := Validate(g); err == nil || !strings.HasPrefix(err.Error(), test.want) {
			t.Errorf("got %v, want %s", err, test.want)
		}
	}
	line := strings.Replace(example, `"trajectories"`, `"attempts":[{"trajectory":"g17/0"}],"trajectories"`, 1)
	if _, err := NewReader(strings.NewReader(line), "in").Next(); err == nil || err.Error() != "in:1: attempts[0].attempt: the field is missing" {
		t.Errorf("an attempt without a number: %v", err)
	}
}

// drawAttempts makes a ledger for a group: of some members none, of one that was replaced perhaps some.
func drawAttempts(t *rapid.T, g rollout.Group) []rollout.Attempt {
	var attempts []rollout.Attempt
	for _, trajectory := range g.Trajectories {
		n := rapid.IntRange(0, 3).Draw(t, "attempts")
		ended := rapid.IntRange(1, max(1, n)).Draw(t, "ended")
		for number := 1; number <= n; number++ {
			attempts = append(attempts, drawAttempt(t, trajectory.ID, number, number == ended, len(trajectory.Turns)))
		}
	}
	for i := range rapid.IntRange(0, 2).Draw(t, "replaced") {
		attempts = append(attempts, drawAttempt(t, g.ID+"/replaced", i+1, false, 9))
	}
	return attempts
}

func drawAttempt(t *rapid.T, id string, number int, ended bool, turns int) rollout.Attempt {
	a := rollout.Attempt{Trajectory: id, Number: number, Tenure: rapid.IntRange(0, 9).Draw(t, "tenure"), From: rapid.IntRange(0, turns).Draw(t, "from")}
	if a.From == 0 {
		a.Discarded = rapid.IntRange(0, 3).Draw(t, "discarded")
	}
	if !ended {
		a.Failure = rapid.SampledFrom(rollout.FailureKinds).Draw(t, "failure")
		a.Reason = rapid.String().Draw(t, "reason")
	}
	return a
}
