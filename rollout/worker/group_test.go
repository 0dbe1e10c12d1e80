package worker

import (
	"context"
	"errors"
	"fmt"
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

func (s *stage) group(ctx context.Context, size int, seed uint64, slots int) (rollout.Group, error) {
	played := s.player.PlayGroup(ctx, s.members(size, seed), NewSlots(slots))
	return played.Group, played.Err()
}

func (s *stage) members(size int, seed uint64) Members {
	return Members{Task: s.lab.Task(rollout.Train, 0, 0), Group: "g1", Play: FirstMembers(size), Sampling: Sampling{Sampler: s.sampler, Temperature: 1, Seed: seed}}
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
		group, err := s.group(t.Context(), rapid.IntRange(1, 4).Draw(rt, "size"), rapid.Uint64().Draw(rt, "seed"), 2)
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
		group, err := s.group(t.Context(), 32, 7, 2)
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

// TestMembersDoNotDependOnSlots plays one group under any number of slots and one after the other.
func TestMembersDoNotDependOnSlots(t *testing.T) {
	times := cmpopts.IgnoreFields(rollout.Trajectory{}, "ElapsedSeconds")
	var want rollout.Group
	for i, slots := range []int{1, 2, 3, 8} {
		got, err := newStage(t, bySeed).group(t.Context(), 6, 17, slots)
		if err != nil {
			t.Fatal(err)
		}
		if i == 0 {
			want = got
		}
		if diff := cmp.Diff(want, got, times); diff != "" {
			t.Errorf("%d slots (-1 slot +%d slots):\n%s", slots, slots, diff)
		}
	}
	smaller, err := newStage(t, bySeed).group(t.Context(), 2, 17, 1)
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

// TestFailedMemberLeavesTheOthersAlone plays a group of which one member's tool breaks and one member's
// panics.
func TestFailedMemberLeavesTheOthersAlone(t *testing.T) {
	s := newStage(t, func(r sampler.Request, turn int) (string, bool) {
		switch {
		case r.Sequence == "g1/1":
			return "break text: x", false
		case turn == 0:
			return "echo text: a", false
		}
		return "answer: yes", false
	})
	played := s.player.PlayGroup(t.Context(), s.members(3, 1), NewSlots(2))
	var ids []string
	for _, trajectory := range played.Group.Trajectories {
		ids = append(ids, trajectory.ID)
	}
	if !cmp.Equal(ids, []string{"g1/0", "g1/2"}) || len(played.Failures) != 1 {
		t.Fatalf("trajectories %v, failures %v", ids, played.Failures)
	}
	failure := played.Failures[0]
	if failure.Member != 1 || failure.Failure.Kind != rollout.FailedTool || !errors.Is(played.Err(), errBroken) {
		t.Errorf("member %d: %v", failure.Member, failure.Failure)
	}
}

// TestCancel withdraws a group while its members wait for slots, sample and call tools.
func TestCancel(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	s := newStage(t, func(sampler.Request, int) (string, bool) {
		cancel()
		return "hang text: x", false
	})
	slots := NewSlots(1)
	played := s.player.PlayGroup(ctx, s.members(3, 1), slots)
	if len(played.Failures) != 3 || played.Group.Trajectories != nil || !errors.Is(played.Err(), context.Canceled) {
		t.Errorf("%d trajectories, %v; want %v", len(played.Group.Trajectories), played.Failures, context.Canceled)
	}
	for _, failure := range played.Failures {
		if failure.Failure.Kind != rollout.FailedCancelled {
			t.Errorf("member %d: %v; want it cancelled", failure.Member, failure.Failure)
		}
	}
	if slots.InFlight() != 0 {
		t.Errorf("%d slots stay taken", slots.InFlight())
	}
}
