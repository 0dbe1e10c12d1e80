package bench

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/turnwise-rl/turnwise/rollout/sampler"
)

// Generate are the settings of sampling: a batch of prompts that arrive at once at the engine that
// rollouts use, each continued by the same number of tokens at temperature 1.
type Generate struct {
	Machine
	Shape
	// Prompt and New are the tokens of each sequence before and after.
	Prompt, New int
	// Rounds is how often the batch is sampled.
	Rounds int
}

// GenerateResult is how fast sampling is.
type GenerateResult struct {
	Conditions
	DType  string `json:"dtype"`
	Shape  Shape  `json:"shape"`
	Prompt int    `json:"prompt"`
	New    int    `json:"new"`
	Rounds int    `json:"rounds"`
	// RoundMS is the time from the batch's arrival to its last token, reading the prompts included, in
	// milliseconds.
	RoundMS Spread `json:"round_ms"`
	// TokensPerSecond counts the new tokens of the median round.
	TokensPerSecond float64 `json:"tokens_per_second"`
	// TimeToFirstTokenMS is the median time until every sequence of the batch has its first new token.
	TimeToFirstTokenMS float64 `json:"time_to_first_token_ms"`
	// PromptTokens is how many prompt tokens all rounds had, warm-up and first tokens' included, and
	// ReusedTokens how many of them the engine had computed before: a few by chance, since prompts are random.
	PromptTokens int64 `json:"prompt_tokens"`
	ReusedTokens int64 `json:"reused_tokens"`
}

func (g Generate) check() error {
	err := firstError(
		g.Shape.check(), between("prompt", g.Prompt, 1, maxTokens), between("new", g.New, 1, maxTokens),
		between("rounds", g.Rounds, 1, maxSteps), g.Machine.check(),
	)
	if err == nil && g.Prompt+g.New > g.Seq {
		return SettingError{"seq", g.Seq, fmt.Sprintf("must be at least --prompt %d plus --new %d: the whole context", g.Prompt, g.New)}
	}
	return err
}

// Run measures.
func (g Generate) Run(ctx context.Context) (GenerateResult, error) {
	if err := g.check(); err != nil {
		return GenerateResult{}, err
	}
	defer g.use()()
	engine, err := newEngine(g.Shape)
	if err != nil {
		return GenerateResult{}, err
	}
	defer engine.Close()
	random := tokenSource()
	var rounds, firsts []float64
	for round := range g.Rounds + 1 {
		first, err := g.sample(ctx, engine, random, 2*round, 1)
		if err != nil {
			return GenerateResult{}, err
		}
		all, err := g.sample(ctx, engine, random, 2*round+1, g.New)
		if err != nil {
			return GenerateResult{}, err
		}
		if round > 0 { // the one before warms up
			firsts, rounds = append(firsts, milliseconds(first)), append(rounds, milliseconds(all))
		}
	}
	result := GenerateResult{
		Conditions: g.conditions(), DType: "f32", Shape: g.Shape, Prompt: g.Prompt, New: g.New, Rounds: g.Rounds,
		RoundMS: spread(rounds), TimeToFirstTokenMS: spread(firsts).Median,
	}
	result.TokensPerSecond = 1e3 * float64(g.Batch*g.New) / result.RoundMS.Median
	result.PromptTokens = 2 * int64(g.Rounds+1) * int64(g.Batch*g.Prompt)
	result.ReusedTokens = engine.Stats().PrefixTokens
	return result, nil
}

// sample continues prompts that were never seen before by n tokens and returns how long that took. Neither
// the prompts nor the names of their sequences are those of another call, so that nothing is found in a cache.
func (g Generate) sample(ctx context.Context, engine sampler.Sampler, random *rand.Rand, call, n int) (time.Duration, error) {
	prompts := g.randomTokens(random, g.Batch*g.Prompt)
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var wait sync.WaitGroup
	start := time.Now()
	for i := range g.Batch {
		wait.Go(func() {
			name := fmt.Sprint(call, "/", i)
			defer engine.Release(name)
			result, err := engine.Generate(ctx, request(name, prompts[i*g.Prompt:(i+1)*g.Prompt], n, uint64(i)))
			if err == nil && len(result.Tokens) != n {
				err = fmt.Errorf("sequence %s has %d new tokens, want %d", name, len(result.Tokens), n)
			}
			if err != nil {
				cancel(err)
			}
		})
	}
	wait.Wait()
	return time.Since(start), stopped(ctx)
}
