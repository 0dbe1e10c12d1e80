package graph

// rowKernels is arithmetic on one block.
type rowKernels[T element] struct {
	// elementwise computes out[i] = c(a[i], b[i]).
	elementwise func(c code, out, a, b []T, c0, c1 T)
	// sum adds in float64.
	sum func(a []T) float64
}

func kernelsOf[T element]() rowKernels[T] {
	return rowKernels[T]{elementwise[T], sumOf[T]}
}

func sumOf[T element](a []T) float64 {
	sum := 0.0
	for _, v := range a {
		sum += float64(v)
	}
	return sum
}

// allFinite is false where a value is NaN or infinite: those alone do not cancel.
func allFinite[T element](a []T) bool {
	for _, v := range a {
		if v-v != 0 {
			return false
		}
	}
	return true
}
