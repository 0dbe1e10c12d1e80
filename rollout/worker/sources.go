package worker

import (
	"context"
	"fmt"

	"github.com/turnwise-rl/turnwise/rollout"
	"github.com/turnwise-rl/turnwise/rollout/sampler"
)

// Sampling says how turns are sampled.
type Sampling struct {
	Sampler sampler.Sampler
	// Temperature divides the logits; 0 is greedy.
	Temperature float64
	// TopK, TopP and MinP cut the distribution, as in [sampler.Request]; their zero values do not.
	TopK       int
	TopP, MinP float64
	// Seed determines the episode; each turn draws from Seed and the turn's index.
	Seed uint64
}

// Play runs one episode in which a policy samples the turns.
func (p *Player) Play(ctx context.Context, task rollout.Task, id string, sampling Sampling) (rollout.Trajectory, error) {
	defer sampling.Sampler.Release(id)
	source := policySource{Sampling: sampling, sequence: id, stop: []int32{p.Tokenizer.End()}}
	trajectory, err := p.play(ctx, task, id, source)
	trajectory.Temperature = sampling.Temperature
	return trajectory, err
}

// PlayScript runs one episode whose turns are given as texts. The tools really run. When the script
// ends without an answer the episode stops as void. Log-probabilities and versions are unknown.
func (p *Player) PlayScript(ctx context.Context, task rollout.Task, id string, turns []string) (rollout.Trajectory, error) {
	trajectory, err := p.play(ctx, task, id, scriptSource{player: p, turns: turns})
	trajectory.BehaviorLogProbs, trajectory.Versions, trajectory.Entropies = nil, nil, nil
	return trajectory, err
}

type policySource struct {
	Sampling
	sequence string
	stop     []int32
}

func (s policySource) next(ctx context.Context, tokens []int32, turn, limit int) (sampledTurn, bool, error) {
	result, err := s.Sampler.Generate(ctx, sampler.Request{
		Sequence: s.sequence, Tokens: tokens, MaxTokens: limit, Stop: s.stop,
		Temperature: s.Temperature, TopK: s.TopK, TopP: s.TopP, MinP: s.MinP, Seed: rollout.Seed(s.Seed, uint64(turn)),
	})
	if err != nil {
		return sampledTurn{}, false, err
	}
	n := len(result.Tokens)
	if len(result.LogProbs) != n || len(result.Entropies) != n || len(result.Versions) != n {
		return sampledTurn{}, false, fmt.Errorf("sampler returned %d tokens, %d log-probabilities, %d entropies, %d versions",
			n, len(result.LogProbs), len(result.Entropies), len(result.Versions))
	}
	switch {
	case n > limit:
		return sampledTurn{}, false, fmt.Errorf("sampler returned %d tokens, the limit is %d", n, limit)
	case n == 0 && result.Finish != sampler.FinishLength:
		return sampledTurn{}, false, fmt.Errorf("sampler returned no token and finish reason %q, expected %q", result.Finish, sampler.FinishLength)
	}
	return sampledTurn{tokens: result.Tokens, logProbs: result.LogProbs, entropies: result.Entropies, versions: result.Versions}, true, nil
}

type scriptSource struct {
	player *Player
	turns  []string
}

func (s scriptSource) next(_ context.Context, _ []int32, turn, limit int) (sampledTurn, bool, error) {
	if turn >= len(s.turns) {
		return sampledTurn{}, false, nil
	}
	tokens := append(s.player.Tokenizer.Tokens(s.turns[turn]), s.player.Tokenizer.End())
	if len(tokens) > limit {
		return sampledTurn{}, false, fmt.Errorf("scripted turn %d has %d tokens, the limit is %d", turn, len(tokens), limit)
	}
	return sampledTurn{tokens: tokens}, true, nil
}
