package cuda

import (
	"testing"

	"github.com/turnwise-rl/turnwise/kernels/device/devicetest"
)

// All tests of this package run on PTX where the environment has EMULATED_PTX=1. Those below do anyhow.

// asCode has devices that are opened from then on run their kernels' PTX, or the sources, until the function that it returns is called.
func asCode(t *testing.T, on bool) func() {
	t.Helper()
	var count func(name string) int64
	symbol(t, "emulator_count", &count)
	was := count("ptx")
	value := int64(0)
	if on {
		value = 1
	}
	set(t, "ptx", value)
	return func() { set(t, "ptx", was) }
}

// TestCodeConforms holds what the compiler made of the kernels to the suite: in the exact mode to the bits that it promises. Every buffer is
// an allocation of its own, outside of which an address is refused.
func TestCodeConforms(t *testing.T) {
	if raceEnabled {
		t.Skip("no other goroutine takes part")
	}
	defer asCode(t, true)()
	for _, mode := range []struct {
		name  string
		exact bool
		order int64
	}{{"exact", true, orders["shuffled"]}, {"fast", false, orders["descending"]}} {
		if mode.exact && testing.Short() {
			continue // its bits are seen without -short
		}
		t.Run(mode.name, func(t *testing.T) {
			var count func(name string) int64
			symbol(t, "emulator_count", &count)
			set(t, "order", mode.order)
			defer set(t, "order", 0)
			before, launches := count("code"), count("launches")
			devicetest.Run(t, open(t, Options{Exact: mode.exact, Separate: true}), devicetest.Options{Exact: mode.exact, Quick: true})
			if ran, all := count("code")-before, count("launches")-launches; ran != all || ran == 0 {
				t.Errorf("%d of %d launches ran as PTX", ran, all)
			}
		})
	}
}

// TestFastKernelsAsCode runs tests of the fast mode's kernels on their PTX: the compiler moves loads and copies around the words in
// assembly that these kernels have.
func TestFastKernelsAsCode(t *testing.T) {
	if raceEnabled || testing.Short() {
		t.Skip("short: the suite has run them once")
	}
	defer asCode(t, true)()
	for name, test := range map[string]func(*testing.T){
		"attention":           TestFastAttentionIsThatOfTheReference,
		"attention in orders": TestFastAttentionHasTheSameBitsInAllOrders,
		"sequences":           TestFastAttentionOfASequenceIsItsOwn,
		"large scores":        TestFastAttentionOfLargeScores,
		"logarithms":          TestFastAttentionKeepsTheLogarithmOfTheSum,
		"head":                TestFastHeadOfALargeVocabulary,
		"layers":              TestFastLayersAreThoseOfTheReference,
		"tiles":               TestFastTilesAreThoseOfTheReference,
		"update":              TestFastUpdateConforms,
		"recordings":          TestReplayFollowsPlacements,
	} {
		t.Run(name, test)
	}
}
