package worker

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"pgregory.net/rapid"

	"github.com/turnwise-rl/turnwise/rollout"
	"github.com/turnwise-rl/turnwise/rollout/record"
	"github.com/turnwise-rl/turnwise/rollout/sampler"
)

// bySeed lets a turn depend on its seed alone, as sampling does.
func bySeed(r sampler.Request, _ int) (string, bool) {
	turns := []string{
		"answer: yes", "answer: no", "echo text: a", "refuse text: b\necho text: c", "sing", "echo tune: x", "What?", "",
		"echo text: <|end|> <|tool|>", `echo text: "é\u0000\n"`, "echo text: a\xffb", "answer:", "answer: <|user|>",
	}
	return turns[r.Seed%uint64(len(turns))], r.Seed%5 == 0
}

// group plays the members of a group at once, as a loop does.
func (s *stage) group(ctx context.Context, size int, seed uint64) (rollout.Group, error) {
	group := rollout.Group{ID: "g1", Task: s.lab.Task(rollout.Train, 0, 0), Trajectories: make([]rollout.Trajectory, size)}
	failures := make([]error, size)
	var playing sync.WaitGroup
	for member := range size {
		playing.Go(func() {
			sampling := Sampling{Sampler: s.sampler, Temperature: 1, Seed: rollout.Seed(seed, uint64(member))}
			group.Trajectories[member], failures[member] = s.player.Play(ctx, group.Task, fmt.Sprint("g1/", member), sampling, nil)
		})
	}
	playing.Wait()
	return group, errors.Join(failures...)
}

// TestEveryGroupIsValid plays random policies under random limits: whatever the policy does, the
// group can be stored and trained on.
func TestEveryGroupIsValid(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		s := newStage(t, bySeed)
		s.player.Limits = Limits{
			MaxTurns: rapid.IntRange(1, 6).Draw(rt, "turns"), MaxTurnTokens: rapid.IntRange(1, 30).Draw(rt, "turn tokens"),
			MaxTokens: rapid.IntRange(1, 200).Draw(rt, "tokens"), ToolTimeout: time.Minute,
		}
		group, err := s.group(t.Context(), rapid.IntRange(1, 4).Draw(rt, "size"), rapid.Uint64().Draw(rt, "seed"))
		if err != nil {
			rt.Fatal(err)
		}
		if err := record.Validate(group); err != nil {
			rt.Fatal(err)
		}
		data, err := record.EncodeSegment(group)
		if err != nil {
			rt.Fatal(err)
		}
		again, err := record.DecodeSegment(data)
		if diff := cmp.Diff(group, again, cmpopts.EquateEmpty()); err != nil || diff != "" {
			rt.Fatalf("%v (-played +stored):\n%s", err, diff)
		}
		for _, trajectory := range group.Trajectories {
			if len(trajectory.Tokens) > max(s.player.Limits.MaxTokens, len(s.tokenizer.Prompt("say yes"))) {
				rt.Fatalf("%d tokens, at most %d are allowed", len(trajectory.Tokens), s.player.Limits.MaxTokens)
			}
			if *trajectory.Outcome != 0 && trajectory.Answer != "yes" {
				rt.Fatalf("outcome %g for %q", *trajectory.Outcome, trajectory.Answer)
			}
		}
	})
}

// TestEveryStopIsReached holds the random test above to account: under the policy it draws from, each
// way an episode can stop does occur.
func TestEveryStopIsReached(t *testing.T) {
	stops := map[rollout.StopReason]int{}
	for _, maxTokens := range []int{60, 2000} {
		s := newStage(t, bySeed)
		s.player.Limits = Limits{MaxTurns: 3, MaxTurnTokens: 30, MaxTokens: maxTokens, ToolTimeout: time.Minute}
		group, err := s.group(t.Context(), 32, 7)
		if err != nil {
			t.Fatal(err)
		}
		for _, trajectory := range group.Trajectories {
			stops[trajectory.Stop]++
		}
	}
	for _, stop := range []rollout.StopReason{rollout.StopAnswer, rollout.StopMaxTurns, rollout.StopMaxTokens} {
		if stops[stop] == 0 {
			t.Errorf("no episode stopped by %s: %v", stop, stops)
		}
	}
}

// TestMembersDoNotDependOnEachOther plays one group at once, a smaller one, and each member alone.
func TestMembersDoNotDependOnEachOther(t *testing.T) {
	times := cmpopts.IgnoreFields(rollout.Trajectory{}, "ElapsedSeconds")
	want, err := newStage(t, bySeed).group(t.Context(), 6, 17)
	if err != nil {
		t.Fatal(err)
	}
	smaller, err := newStage(t, bySeed).group(t.Context(), 2, 17)
	if diff := cmp.Diff(want.Trajectories[:2], smaller.Trajectories, times); err != nil || diff != "" {
		t.Errorf("the members of a smaller group, %v (-larger +smaller):\n%s", err, diff)
	}
	different := 0
	for i, trajectory := range want.Trajectories {
		if wanted := fmt.Sprint("g1/", i); trajectory.ID != wanted {
			t.Errorf("member %d has id %s, want %s", i, trajectory.ID, wanted)
		}
		if i > 0 && !cmp.Equal(trajectory.BehaviorLogProbs, want.Trajectories[0].BehaviorLogProbs) {
			different++
		}
	}
	if different != 5 {
		t.Errorf("%d of 5 members differ from the first: they share seeds", different)
	}
	for i, trajectory := range want.Trajectories {
		alone, err := newStage(t, bySeed).player.Play(t.Context(), want.Task, trajectory.ID,
			Sampling{Sampler: newStage(t, bySeed).sampler, Temperature: 1, Seed: rollout.Seed(17, uint64(i))}, nil)
		if diff := cmp.Diff(trajectory, alone, times); err != nil || diff != "" {
			t.Errorf("member %d alone, %v (-in the group +alone):\n%s", i, err, diff)
		}
	}
}
