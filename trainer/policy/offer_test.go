package policy

import (
	"errors"
	"sync"
	"testing"

	"github.com/turnwise-rl/turnwise/kernels/device"
	"github.com/turnwise-rl/turnwise/kernels/device/cpu"
)

// TestOffersTakeMemoryOnceTaken offers weights step by step: as long as nobody asks, the model holds what it holds alone, and whoever
// has asked keeps the weights of the moment.
func TestOffersTakeMemoryOnceTaken(t *testing.T) {
	for name, o := range map[string]Options{"all weights": {Seed: 4}, "adapters": {Seed: 4, LoRA: LoRA{Rank: 2, Alpha: 2, Targets: []string{"q_proj"}}}} {
		t.Run(name, func(t *testing.T) {
			on := cpu.New()
			m := newModelOn(t, on, tinyConfig(), o)
			trainOnce(t, m)
			alone, prompt := on.Usage().Bytes, []int32{1, 2, 3}
			for range 3 {
				offer := m.Offer()
				trainOnce(t, m)
				if got := on.Usage().Bytes; got != alone || offer.Taken() {
					t.Fatalf("%d bytes are held beside the model for an offer that nobody took", got-alone)
				}
				if _, err := offer.Take(on); !errors.Is(err, ErrChanged) {
					t.Fatalf("the weights have changed: error %v", err)
				}
				offer.Free()
			}
			offer := m.Offer()
			if _, err := offer.Take(cpu.New()); err == nil || !contains(err, "not on") {
				t.Errorf("error %v", err)
			}
			first, err := offer.Take(on)
			if err != nil {
				t.Fatal(err)
			}
			want := greedy(t, first, prompt, 3)
			trainOnce(t, m)
			second, err := offer.Take(on) // somebody has asked before they changed
			if err != nil {
				t.Fatal(err)
			}
			third, err := offer.Take(on)
			if err != nil {
				t.Fatal(err)
			}
			sameChoices(t, "whoever comes later", greedy(t, second, prompt, 3), want)
			offer.Free()
			if _, err := offer.Take(on); !errors.Is(err, ErrChanged) {
				t.Errorf("withdrawn: error %v", err)
			}
			sameChoices(t, "a network of an offer that was withdrawn", greedy(t, third, prompt, 3), want)
			older, newer := m.Offer(), m.Offer()
			if _, err := older.Take(on); !errors.Is(err, ErrChanged) {
				t.Errorf("an offer in whose place is another: error %v", err)
			}
			m.Free()
			if _, err := newer.Take(on); !errors.Is(err, ErrChanged) {
				t.Errorf("of a model that was freed: error %v", err)
			}
		})
	}
}

// TestOffersAreTakenBesideTraining takes what a model offers while it trains: whoever gets a network has the weights that were offered.
func TestOffersAreTakenBesideTraining(t *testing.T) {
	on, prompt := cpu.New(), []int32{1, 2, 3}
	m := newModelOn(t, on, tinyConfig(), Options{Seed: 4})
	type offered struct {
		offer *Offer
		want  []device.Sampled
	}
	offers := make(chan offered)
	var samplers sync.WaitGroup
	taken := 0
	samplers.Go(func() {
		for o := range offers {
			network, err := o.offer.Take(on)
			if errors.Is(err, ErrChanged) {
				o.offer.Free()
				continue
			}
			if err != nil {
				t.Error(err)
				continue
			}
			taken++
			sameChoices(t, "an offer", greedy(t, network, prompt, 3), o.want)
			o.offer.Free()
		}
	})
	for round := range 12 {
		network, err := m.Share()
		if err != nil {
			t.Fatal(err)
		}
		want := greedy(t, network, prompt, 3)
		offer := m.Offer()
		if round == 0 { // one at least is taken
			held, err := offer.Take(on)
			if err != nil {
				t.Fatal(err)
			}
			held.Free()
		}
		offers <- offered{offer, want}
		trainOnce(t, m)
	}
	close(offers)
	samplers.Wait()
	if taken == 0 {
		t.Error("nothing was taken")
	}
}
