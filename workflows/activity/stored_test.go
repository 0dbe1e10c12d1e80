package activity

import "testing"

// TestStoredInBF16OnAProcessor trains a run whose matrices are stored in bf16 where there is no GPU, goes on with it in another process, and
// wants the same weights, which are other than those of a run in float32.
func TestStoredInBF16OnAProcessor(t *testing.T) {
	const stored = "policy.stored=bf16"
	anew := func(overrides ...string) *apprentice {
		p := newApprentice(t, overrides...)
		p.dir = preparedAnew(t, overrides...)
		p.restart()
		return p
	}
	whole, parted, plain := anew(stored), anew(stored), anew()
	whole.trainTo(4)
	parted.trainTo(3)
	parted.restart()
	parted.trainTo(4)
	plain.trainTo(4)
	for step := range 5 {
		got, want := parted.manifest(step).WeightsDigest, whole.manifest(step).WeightsDigest
		if got != want {
			t.Errorf("step %d: weights %s, want %s", step, got, want)
		}
		if other := plain.manifest(step).WeightsDigest; other == want {
			t.Errorf("step %d has the weights of a run in float32", step)
		}
	}
}
