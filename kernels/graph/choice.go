package graph

import (
	"cmp"
	"fmt"
	"math"
	"slices"

	G "gorgonia.org/gorgonia"
)

// The operations of this file choose tokens by looking at all of them. They pass no gradient.

// quantile is the value below which a share of x lies, one value: with the n values in ascending order and
// p = share·(n − 1), it is x_⌊p⌋ + (p − ⌊p⌋)·(x_⌈p⌉ − x_⌊p⌋).
func (b *builder) quantile(share float64, x *G.Node) *G.Node {
	return b.whole(whole{name: fmt.Sprintf("quantile %v", share), to: single, float32: quantileOf[float32](share), float64: quantileOf[float64](share)}, x)
}

func quantileOf[T element](share float64) func(*layout, []T, [][]T) {
	return func(l *layout, out []T, in [][]T) {
		x := slices.Sorted(slices.Values(in[0][:l.tokens]))
		p := share * float64(len(x)-1)
		low, high := float64(x[int(math.Floor(p))]), float64(x[int(math.Ceil(p))])
		out[0] = T(low + (p-math.Floor(p))*(high-low))
	}
}

// highest is 1 at the share of the tokens with the largest x, rounded down and at least one, and 0 at the others; of
// equal ones the earlier first.
func (b *builder) highest(share float64, x *G.Node) *G.Node {
	return b.whole(whole{name: fmt.Sprintf("highest %v", share), to: tokens, float32: highestOf[float32](share), float64: highestOf[float64](share)}, x)
}

func highestOf[T element](share float64) func(*layout, []T, [][]T) {
	return func(l *layout, out []T, in [][]T) {
		clear(out[:l.tokens])
		order := descending(in[0][:l.tokens])
		for _, t := range order[:min(len(order), max(1, int(share*float64(l.tokens))))] {
			out[t] = 1
		}
	}
}

// withinMean is 0 at the fewest of the largest x such that the mean of the rest is less than bound, and 1 at the rest,
// which is at least one token; of equal ones the earlier is dropped first.
func (b *builder) withinMean(bound float64, x *G.Node) *G.Node {
	return b.whole(whole{name: fmt.Sprintf("within mean %v", bound), to: tokens, float32: withinMeanOf[float32](bound), float64: withinMeanOf[float64](bound)}, x)
}

func withinMeanOf[T element](bound float64) func(*layout, []T, [][]T) {
	return func(l *layout, out []T, in [][]T) {
		x := in[0][:l.tokens]
		fill(out[:l.tokens], 1)
		order := descending(x)
		// From the smallest up, the sum of the rest and how many of it are needed at most.
		kept, sum := 1, 0.0
		for i := len(order) - 1; i >= 0; i-- {
			n := len(order) - i
			if sum += float64(x[order[i]]); sum/float64(n) < bound {
				kept = n
			}
		}
		for _, t := range order[:len(order)-kept] {
			out[t] = 0
		}
	}
}

// draw is 1 at a share of all tokens, rounded down, of those where candidate is not 0: the ones with the smallest
// lots, which depend on a token's place alone. name tells the draw from others.
func (b *builder) draw(name string, share float64, lot func(place int) uint64, candidate *G.Node) *G.Node {
	return b.whole(whole{name: name, to: tokens, float32: drawOf[float32](share, lot), float64: drawOf[float64](share, lot)}, candidate)
}

func drawOf[T element](share float64, lot func(place int) uint64) func(*layout, []T, [][]T) {
	return func(l *layout, out []T, in [][]T) {
		clear(out[:l.tokens])
		var places []int
		for t, candidate := range in[0][:l.tokens] {
			if candidate != 0 {
				places = append(places, t)
			}
		}
		slices.SortFunc(places, func(i, j int) int { return cmp.Compare(lot(i), lot(j)) })
		for _, t := range places[:min(len(places), int(share*float64(l.tokens)))] {
			out[t] = 1
		}
	}
}
