package ref

import (
	"math"

	"github.com/turnwise-rl/turnwise/kernels"
)

// Arithmetic is [kernels.Arithmetic], one value after another.
type Arithmetic struct{}

// Moments returns each segment's mean and population variance.
func (Arithmetic) Moments(values []float64, bounds []int32) (mean, variance []float64, err error) {
	for i := 0; i+1 < len(bounds); i++ {
		segment := values[bounds[i]:bounds[i+1]]
		m, v := 0.0, 0.0
		for _, x := range segment {
			m += x
		}
		m /= float64(len(segment))
		for _, x := range segment {
			v += (x - m) * (x - m)
		}
		mean, variance = append(mean, m), append(variance, v/float64(len(segment)))
	}
	return mean, variance, nil
}

// Returns are discounted sums of rewards to come.
func (Arithmetic) Returns(r kernels.Scan, discount float64) ([]float64, error) {
	out := make([]float64, len(r.Rewards))
	for i := 0; i+1 < len(r.Bounds); i++ {
		next := 0.0
		for t := int(r.Bounds[i+1]) - 1; t >= int(r.Bounds[i]); t-- {
			switch {
			case r.Counted[t]:
				next = r.Rewards[t] + discount*next
				out[t] = next
			case r.Between == kernels.BetweenPlain:
				next = r.Rewards[t] + discount*next
			case r.Between == kernels.BetweenZero:
				next *= discount
			case r.Between == kernels.BetweenReset:
				next = 0
			}
		}
	}
	return out, nil
}

// GAE returns the advantages of a critic.
func (Arithmetic) GAE(r kernels.Scan, values []float64, discount, lambda float64) ([]float64, error) {
	out := make([]float64, len(r.Rewards))
	for i := 0; i+1 < len(r.Bounds); i++ {
		value, advantage := 0.0, 0.0
		for t := int(r.Bounds[i+1]) - 1; t >= int(r.Bounds[i]); t-- {
			reward, v := r.Rewards[t], values[t]
			if !r.Counted[t] {
				switch r.Between {
				case kernels.BetweenSkip:
					continue
				case kernels.BetweenReset:
					value, advantage = 0, 0
					continue
				case kernels.BetweenZero:
					reward, v = 0, 0
				}
			}
			advantage = reward + discount*value - v + discount*lambda*advantage
			value = v
			if r.Counted[t] {
				out[t] = advantage
			}
		}
	}
	return out, nil
}

// Whiten standardises the counted values.
func (Arithmetic) Whiten(values []float64, counted []bool, epsilon float64) ([]float64, error) {
	out := make([]float64, len(values))
	n, mean, squares := 0.0, 0.0, 0.0
	for i, x := range values {
		if counted[i] {
			out[i] = x
			n++
			mean += x
		}
	}
	if n < 2 {
		return out, nil
	}
	mean /= n
	for i, x := range values {
		if counted[i] {
			squares += (x - mean) * (x - mean)
		}
	}
	scale := math.Sqrt(squares/(n-1) + epsilon)
	if scale == 0 { // and so is every difference
		return make([]float64, len(values)), nil
	}
	for i, x := range values {
		if counted[i] {
			out[i] = (x - mean) / scale
		}
	}
	return out, nil
}
