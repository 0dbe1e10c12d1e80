package journal

import (
	"encoding/json"
	"fmt"
	"testing"

	"go.uber.org/goleak"
	"pgregory.net/rapid"

	"github.com/turnwise-rl/turnwise/rollout"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// tokensOf are n tokens that tell their owner.
func tokensOf(n, owner int) []int32 {
	tokens := make([]int32, n)
	for i := range tokens {
		tokens[i] = int32(1000*owner + i)
	}
	return tokens
}

// script makes the turns of one episode by an attempt, each continuing the one before.
type script struct {
	episode Episode
	attempt int
	context uint64
	at      int // tokens so far
	next    int
}

func newScript(group, member, attempt int) *script {
	return &script{episode: Episode{group, member}, attempt: attempt, context: Begun}
}

// turn is the next turn, with some tokens by an owner; stop ends the episode.
func (s *script) turn(owner int, stop rollout.StopReason) Turn {
	turn := Turn{
		Begin:  Begin{Episode: s.episode, Attempt: s.attempt, Turn: s.next},
		Tokens: tokensOf(3, owner), LogProbs: []float32{-1, -2, -3}, Entropies: []float32{1, 2, 3}, Versions: []rollout.Version{4, 4, 5},
		Stop: stop, Seconds: 0.25,
	}
	if s.next == 0 {
		turn.Prompt = []int32{7, 8, 9}
		s.context, s.at = Context(s.context, turn.Prompt), 3
	}
	turn.Context = s.context
	turn.Record = rollout.Turn{Start: s.at, End: s.at + 3, Calls: []rollout.Call{}, State: fmt.Sprint(s.next)}
	if stop == "" {
		turn.Observation = []int32{1, 2}
		turn.Replies = []Reply{{"echo", " a"}}
		turn.Record.Observation = &rollout.Span{Start: s.at + 3, End: s.at + 5}
		turn.State = json.RawMessage(`["a"]`)
		turn.After = fmt.Sprint(s.next + 1)
	} else {
		turn.Answer = "yes"
	}
	s.context = Context(Context(s.context, turn.Tokens), turn.Observation)
	s.at += 3 + len(turn.Observation)
	s.next++
	return turn
}

// turns makes every kind of turn that can be written.
func turns() *rapid.Generator[Turn] {
	return rapid.Custom(func(t *rapid.T) Turn {
		n := rapid.IntRange(0, 4).Draw(t, "tokens")
		turn := Turn{
			Begin: Begin{
				Episode: Episode{rapid.IntRange(0, 9).Draw(t, "group"), rapid.IntRange(0, 3).Draw(t, "member")},
				Attempt: rapid.IntRange(1, 3).Draw(t, "attempt"), From: rapid.IntRange(0, 3).Draw(t, "from"), Turn: rapid.IntRange(0, 3).Draw(t, "turn"),
			},
			Context:     rapid.Uint64().Draw(t, "context"),
			Prompt:      drawList(t, "prompt", rapid.Int32()),
			Tokens:      rapid.SliceOfN(rapid.Int32(), n, n).Draw(t, "tokens"),
			LogProbs:    rapid.SliceOfN(rapid.Float32(), n, n).Draw(t, "logprobs"),
			Entropies:   rapid.SliceOfN(rapid.Float32(), n, n).Draw(t, "entropies"),
			Versions:    rapid.SliceOfN(rapid.Custom(func(t *rapid.T) rollout.Version { return rollout.Version(rapid.Int32().Draw(t, "v")) }), n, n).Draw(t, "versions"),
			Observation: drawList(t, "observation", rapid.Int32()),
			Replies: drawList(t, "replies", rapid.Custom(func(t *rapid.T) Reply {
				return Reply{anyBytes(t, "name"), anyBytes(t, "text")}
			})),
			Record: rollout.Turn{
				Start: rapid.IntRange(0, 9).Draw(t, "start"), End: rapid.IntRange(0, 9).Draw(t, "end"),
				Calls: drawList(t, "calls", rapid.Custom(drawCall)), FormatOK: rapid.Bool().Draw(t, "format"),
				State: anyBytes(t, "state"), Entropy: rapid.Float64().Draw(t, "entropy"),
			},
			After: anyBytes(t, "after"), Answer: anyBytes(t, "answer"), Stop: rapid.SampledFrom(append(rollout.StopReasons, "")).Draw(t, "stop"),
			Seconds: rapid.Float64().Draw(t, "seconds"),
		}
		if rapid.Bool().Draw(t, "observed") {
			turn.Record.Observation = &rollout.Span{Start: 1, End: rapid.IntRange(1, 9).Draw(t, "observed to")}
		}
		if rapid.Bool().Draw(t, "snapshot") {
			turn.State = json.RawMessage(anyBytes(t, "snapshot"))
		}
		if rapid.Bool().Draw(t, "rewarded") {
			turn.Record.Rewards = rapid.MapOfN(rapid.String(), rapid.Float64(), 0, 3).Draw(t, "rewards")
		}
		return turn
	})
}

func drawCall(t *rapid.T) rollout.Call {
	call := rollout.Call{Name: anyBytes(t, "name"), Status: rapid.SampledFrom(rollout.CallStatuses).Draw(t, "status"), Key: anyBytes(t, "key")}
	if rapid.Bool().Draw(t, "args") {
		call.Args = rollout.Args{}
		for range rapid.IntRange(0, 2).Draw(t, "count") {
			call.Args[anyBytes(t, "arg")] = json.RawMessage(anyBytes(t, "value"))
		}
	}
	return call
}

// anyBytes is a text as a policy may sample it: not always UTF-8, with the journal's own words in it.
func anyBytes(t *rapid.T, name string) string {
	return rapid.OneOf(rapid.String(), rapid.SampledFrom([]string{"a\xffb", frameMagic, headMagic, "\x00"})).Draw(t, name)
}

// drawList is nil, empty or some items.
func drawList[T any](t *rapid.T, name string, items *rapid.Generator[T]) []T {
	if rapid.Bool().Draw(t, name+" nil") {
		return nil
	}
	return rapid.SliceOfN(items, 0, 3).Draw(t, name)
}
