package graph

import "gorgonia.org/tensor"

// domain is what a vector has one value for.
type domain uint8

const (
	single      domain = iota // one value in all
	tokens                    // the packed tokens
	comparisons               // the ordered pairs of sequences that a ranking compares
)

// length is how many values a vector has in this evaluation.
func (l *layout) length(d domain) int {
	switch d {
	case tokens:
		return l.tokens
	case comparisons:
		return len(l.better)
	}
	return 1
}

// shape is the one a vector has in the graph, which says nothing but its domain.
func (m maker[T]) shape(d domain) tensor.Shape {
	switch d {
	case tokens:
		return tensor.Shape{m.capacity}
	case comparisons:
		return tensor.Shape{m.capacity + 1}
	}
	return tensor.Shape{1}
}

func (m maker[T]) domain(length int) domain {
	switch length {
	case m.capacity:
		return tokens
	case m.capacity + 1:
		return comparisons
	}
	return single
}
