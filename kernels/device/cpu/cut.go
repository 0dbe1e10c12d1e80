package cpu

import (
	"cmp"
	"slices"

	"github.com/turnwise-rl/turnwise/kernels/device"
)

// The tokens of a row stand in order of likelihood: larger logits first, of equal ones the smaller id.
// TopK and TopP keep the head of this order. Where it ends is found without sorting: tokens are counted
// by bins of likelihood, and only the bin in which it ends is put in order.

// bin counts the tokens whose logits/temperature are some distance below the largest.
type bin struct {
	count  int
	weight float64
}

// Bins are 1/64 nat wide; the last one holds everything 16 nats and more below the largest.
const (
	binCount   = 1024
	binsPerNat = 64
)

// binOf is the bin of a token so many nats below the likeliest, never smaller for a larger distance.
func binOf(distance float32) int {
	if b := distance * binsPerNat; b < binCount-1 {
		return int(b)
	}
	return binCount - 1
}

// cut sets the weights of the tokens that how cuts off to zero, and reports whether there are any.
func (s *samplingScratch) cut(z []float32, about distribution, how device.Sampling) bool {
	border := -1 // the last token kept of the order
	if how.TopK > 0 && how.TopK < len(z) || how.TopP < 1 {
		scale, top := float32(about.scale), float32(about.top)
		clear(s.bins[:])
		for i, v := range z {
			b := &s.bins[binOf(scale*(top-v))]
			b.count++
			b.weight += float64(s.weights[i])
		}
		border = s.last(z, scale, top, how)
	}
	least := float32(0)
	if how.MinP > 0 {
		least = how.MinP * Max(s.weights)
	} else if border < 0 {
		return false
	}
	dropped := false
	for i, w := range s.weights {
		if w < least || border >= 0 && (z[i] < z[border] || z[i] == z[border] && i > border) {
			s.weights[i] = 0
			dropped = dropped || w > 0
		}
	}
	return dropped
}

// last is the last token that TopK, and then TopP, keep.
func (s *samplingScratch) last(z []float32, scale, top float32, how device.Sampling) int {
	keep := len(z)
	if how.TopK > 0 {
		keep = min(keep, how.TopK)
	}
	end, before := 0, 0 // the bin where the kept tokens end, and how many are in those ahead of it
	for before+s.bins[end].count < keep {
		before += s.bins[end].count
		end++
	}
	kept := s.bins[end].count
	if before+kept > keep || how.TopP >= 1 {
		s.order(z, scale, top, end)
		kept = keep - before
	}
	if how.TopP >= 1 {
		return int(s.tokens[kept-1])
	}
	if kept < s.bins[end].count { // TopP sees what TopK left
		s.bins[end].weight = 0
		for _, token := range s.tokens[:kept] {
			s.bins[end].weight += float64(s.weights[token])
		}
	}
	total := 0.0
	for _, b := range s.bins[:end+1] {
		total += b.weight
	}
	target, sum, at := float64(how.TopP)*total, 0.0, 0
	for at < end && sum+s.bins[at].weight < target {
		sum += s.bins[at].weight
		at++
	}
	s.order(z, scale, top, at)
	if at == end {
		s.tokens = s.tokens[:kept]
	}
	for _, token := range s.tokens {
		if sum += float64(s.weights[token]); sum >= target {
			return int(token)
		}
	}
	return int(s.tokens[len(s.tokens)-1])
}

// order fills s.tokens with the tokens of a bin in order of likelihood.
func (s *samplingScratch) order(z []float32, scale, top float32, which int) {
	s.tokens = s.tokens[:0]
	for i, v := range z {
		if binOf(scale*(top-v)) == which {
			s.tokens = append(s.tokens, int32(i))
		}
	}
	slices.SortFunc(s.tokens, func(a, b int32) int {
		if order := cmp.Compare(z[b], z[a]); order != 0 {
			return order
		}
		return cmp.Compare(a, b)
	})
}
