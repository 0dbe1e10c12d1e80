package worker

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/turnwise-rl/turnwise/rollout"
	"github.com/turnwise-rl/turnwise/rollout/env"
	"github.com/turnwise-rl/turnwise/rollout/render"
	"github.com/turnwise-rl/turnwise/rollout/sampler"
	"github.com/turnwise-rl/turnwise/rollout/tool"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// lab is an environment with tools that go right and wrong.
type lab struct {
	openErr, closeErr error
	continuation      env.Continuation // restores when empty
	mu                sync.Mutex
	keys              []string // of the calls that ran
	opened, closed    int
}

var errBroken = errors.New("the tool's host is away")

func (l *lab) Name() string { return "lab" }

func (l *lab) Tools() []tool.Spec {
	text := []tool.Param{{Name: "text"}}
	return []tool.Spec{{Name: "echo", Params: text}, {Name: "refuse", Params: text}, {Name: "break", Params: text}, {Name: "hang", Params: text}, {Name: "panic", Params: text}}
}

func (l *lab) Task(rollout.Split, uint64, int) rollout.Task {
	return rollout.Task{ID: "lab/train/0", Env: "lab", Prompt: "say yes", Gold: rollout.Gold{Answer: "yes"}}
}

func (l *lab) Continuation() env.Continuation { return cmp.Or(l.continuation, env.Restores) }

func (l *lab) Open(rollout.Task) (env.Episode, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.openErr != nil {
		return nil, l.openErr
	}
	l.opened++
	return &bench{lab: l}, nil
}

func (l *lab) Verify(task rollout.Task, answer string) float64 {
	if answer == task.Gold.Answer {
		return 1
	}
	return 0
}

// bench is one attempt; its state counts the calls, unless the lab says that it remembers nothing.
type bench struct {
	lab   *lab
	calls int
}

func (b *bench) Call(ctx context.Context, call rollout.Call) (env.Result, error) {
	b.lab.mu.Lock()
	b.lab.keys = append(b.lab.keys, call.Key)
	b.lab.mu.Unlock()
	b.calls++
	text, _ := call.Args.StringArg("text")
	switch call.Name {
	case "refuse":
		return env.Result{Text: " error: no " + text, Status: rollout.CallError}, nil
	case "break":
		return env.Result{Text: "half a result", Status: rollout.CallOK}, errBroken
	case "panic":
		panic("the tool's own")
	case "hang":
		<-ctx.Done()
		return env.Result{}, ctx.Err()
	}
	return env.Result{Text: " " + text, Status: rollout.CallOK}, nil
}

func (b *bench) State() string {
	if b.lab.continuation == env.Replays {
		return ""
	}
	return strings.Repeat("x", b.calls)
}

func (b *bench) Snapshot() (json.RawMessage, error) { return json.Marshal(b.calls) }

func (b *bench) Restore(_ context.Context, snapshot json.RawMessage) error {
	return json.Unmarshal(snapshot, &b.calls)
}

func (b *bench) Close() error {
	b.lab.mu.Lock()
	defer b.lab.mu.Unlock()
	b.lab.closed++
	return b.lab.closeErr
}

// scripted is a sampler that answers with texts by turn; the texts of a sequence may depend on its
// request. Log-probabilities and entropies follow from the token and the seed.
type scripted struct {
	renderer render.Renderer
	// turn returns the text of a turn; without cut, the renderer's stop follows.
	turn func(request sampler.Request, turn int) (text string, cut bool)
	// mangle changes a result; nil leaves it.
	mangle func(*sampler.Result)
	err    error

	mu       sync.Mutex
	turns    map[string]int
	requests []sampler.Request
	released []string
}

func (s *scripted) Generate(ctx context.Context, r sampler.Request) (sampler.Result, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := errors.Join(ctx.Err(), s.err); err != nil {
		return sampler.Result{}, err
	}
	if s.turns == nil {
		s.turns = map[string]int{}
	}
	r.Tokens = append([]int32(nil), r.Tokens...)
	s.requests = append(s.requests, r)
	text, cut := s.turn(r, s.turns[r.Sequence])
	s.turns[r.Sequence]++
	tokens := s.renderer.Tokens(text)
	if !cut {
		tokens = append(tokens, s.renderer.Stops()[0])
	}
	result := sampler.Result{Finish: sampler.FinishStop}
	if len(tokens) == 0 {
		result.Finish = sampler.FinishLength // as when the engine's context is full
	}
	if len(tokens) > r.MaxTokens {
		tokens, result.Finish = tokens[:r.MaxTokens], sampler.FinishLength
	}
	for i, token := range tokens {
		result.Tokens = append(result.Tokens, token)
		result.LogProbs = append(result.LogProbs, -float32(r.Seed%97+1)/float32(i+2))
		result.Entropies = append(result.Entropies, float32(i+1)/4)
		result.Versions = append(result.Versions, rollout.Version(3+i%2))
	}
	if s.mangle != nil {
		s.mangle(&result)
	}
	return result, nil
}

func (s *scripted) Release(sequence string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.released = append(s.released, sequence)
}

// texts answers every sequence with the same turns; after the last one it answers "answer: yes".
func texts(turns ...string) func(sampler.Request, int) (string, bool) {
	return func(_ sampler.Request, turn int) (string, bool) {
		if turn < len(turns) {
			return turns[turn], false
		}
		return "answer: yes", false
	}
}

var tokenizer = sync.OnceValues(func() (*render.Tokenizer, error) {
	return render.Train([]string{"say yes", "echo text: hello", "answer: yes", " error: no tool; tools: echo, refuse"}, 280)
})

// stage is a player in the lab with a scripted policy.
type stage struct {
	lab       *lab
	player    *Player
	sampler   *scripted
	tokenizer *render.Tokenizer
}

func newStage(t testing.TB, turn func(sampler.Request, int) (string, bool)) *stage {
	t.Helper()
	trained, err := tokenizer()
	if err != nil {
		t.Fatal(err)
	}
	markers, err := render.NewMarkers(trained)
	if err != nil {
		t.Fatal(err)
	}
	plain, err := tool.FindFormat(tool.Plain)
	if err != nil {
		t.Fatal(err)
	}
	l := &lab{}
	return &stage{lab: l, tokenizer: trained, sampler: &scripted{renderer: markers, turn: turn}, player: &Player{
		Environments: map[string]env.Environment{"lab": l}, Renderers: map[string]render.Renderer{"lab": markers}, Format: plain,
		Limits: Limits{MaxTurns: 5, MaxTurnTokens: 60, MaxTokens: 400, ToolTimeout: time.Minute},
	}}
}

func (s *stage) play(t testing.TB) (rollout.Trajectory, error) {
	t.Helper()
	return s.player.Play(t.Context(), s.lab.Task(rollout.Train, 0, 0), "g1/0",
		Sampling{Sampler: s.sampler, Temperature: 0.7, TopK: 9, TopP: 0.95, MinP: 0.01, Seed: 5}, nil)
}
