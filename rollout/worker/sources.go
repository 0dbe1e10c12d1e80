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

// Play makes one attempt at an episode in which a policy samples the turns. With a log it goes on after
// the turns that are recorded, and records its own; an episode that they end is not played again. A nil log
// records nothing. The error is a [rollout.Failure], and then there is no trajectory.
func (p *Player) Play(ctx context.Context, task rollout.Task, id string, sampling Sampling, log Log) (rollout.Trajectory, error) {
	defer sampling.Sampler.Release(id)
	trajectory, err := p.play(ctx, task, id, policySource{sampling}, log)
	trajectory.Temperature = sampling.Temperature
	return trajectory, err
}

// PlayScript runs one episode whose turns are given as texts in the form of [tool.Parse], which the
// player's format writes in its own way. The tools really run. When the script
// ends without an answer the episode stops as void. Log-probabilities and versions are unknown.
func (p *Player) PlayScript(ctx context.Context, task rollout.Task, id string, turns []string) (rollout.Trajectory, error) {
	trajectory, err := p.play(ctx, task, id, scriptSource(turns), nil)
	trajectory.BehaviorLogProbs, trajectory.Versions, trajectory.Entropies = nil, nil, nil
	return trajectory, err
}

type policySource struct{ Sampling }

func (s policySource) next(ctx context.Context, e *episode, limit int) (sampledTurn, bool, error) {
	result, err := s.Sampler.Generate(ctx, sampler.Request{
		Sequence: e.out.ID, Tokens: e.out.Tokens, MaxTokens: limit, Stop: e.renderer.Stops(),
		Temperature: s.Temperature, TopK: s.TopK, TopP: s.TopP, MinP: s.MinP, Seed: rollout.Seed(s.Seed, uint64(len(e.out.Turns))),
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

type scriptSource []string

func (s scriptSource) next(_ context.Context, e *episode, limit int) (sampledTurn, bool, error) {
	turn := len(e.out.Turns)
	if turn >= len(s) {
		return sampledTurn{}, false, nil
	}
	tokens := append(e.renderer.Tokens(e.player.Format.Script(s[turn], e.env.Tools())), e.renderer.Stops()[0])
	if len(tokens) > limit {
		return sampledTurn{}, false, fmt.Errorf("scripted turn %d has %d tokens, the limit is %d", turn, len(tokens), limit)
	}
	return sampledTurn{tokens: tokens}, true, nil
}
