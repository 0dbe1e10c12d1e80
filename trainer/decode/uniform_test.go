package decode

import (
	"testing"

	"github.com/turnwise-rl/turnwise/rollout/sampler"
)

// TestUniformIsPinned holds the stream to numbers worked out apart, with Python's integers: what a seed samples
// stays the same for ever.
func TestUniformIsPinned(t *testing.T) {
	for _, c := range []struct {
		seed, n uint64
		want    float64
	}{
		{0, 0, 0.6524484863740322}, {0, 1, 0.7012121095215252}, {1, 0, 0.36818951565166946}, {7, 41, 0.26084883811436677},
		{1<<64 - 1, 3, 0.9269618291063265},
	} {
		if got := uniform(c.seed, c.n); got != c.want {
			t.Errorf("number %d of seed %d is %v, want %v", c.n, c.seed, got, c.want)
		}
	}
}

// TestTokensAreDrawnInOrderOfTheStream checks which number of a request's stream draws which of its tokens.
func TestTokensAreDrawnInOrderOfTheStream(t *testing.T) {
	n := newFake(new(fakeDevice), 1, 100, 10)
	r := sampler.Request{Tokens: []int32{1}, MaxTokens: 3, Temperature: 1, Seed: 12}
	g := newGeneration(r, 3)
	for i := range 3 {
		if got, want := g.how(0).Uniform, uniform(r.Seed, uint64(i)); got != want {
			t.Errorf("token %d is drawn with %v, want number %d of its seed, %v", i, got, i, want)
		}
		g.take(n.sample(n.state(g.sequence.tokens), g.how(0)), 0, nil)
	}
}
