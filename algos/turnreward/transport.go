package turnreward

import "math"

// sinkhornTolerance and sinkhornIterations end the scaling: when the row sums are this close to their
// marginal, or after so many rounds at the latest.
const (
	sinkhornTolerance  = 1e-12
	sinkhornIterations = 10_000
)

// transportPlan is the entropic optimal transport plan of gain s with uniform marginals 1/P over rows
// and 1/N over columns:
//
//	T = argmax Σ T·s + reg·H(T) = diag(u)·exp(s/reg)·diag(v)
//
// found by Sinkhorn scaling. Cuturi 2013, arXiv 1306.0895; used by MatchTIR with reg = 0.1.
func transportPlan(s [][]float64, reg float64) [][]float64 {
	rows := len(s)
	if rows == 0 || len(s[0]) == 0 {
		return make([][]float64, rows)
	}
	columns := len(s[0])
	kernel := make([][]float64, rows)
	for i := range s {
		kernel[i] = make([]float64, columns)
		for j := range s[i] {
			kernel[i][j] = math.Exp(s[i][j] / reg)
		}
	}
	u, v := make([]float64, rows), make([]float64, columns)
	for j := range v {
		v[j] = 1
	}
	for range sinkhornIterations {
		worst := 0.0
		for i := range u {
			sum := 0.0
			for j := range v {
				sum += kernel[i][j] * v[j]
			}
			worst = max(worst, math.Abs(u[i]*sum-1/float64(rows)))
			u[i] = 1 / (float64(rows) * sum)
		}
		for j := range v {
			sum := 0.0
			for i := range u {
				sum += kernel[i][j] * u[i]
			}
			v[j] = 1 / (float64(columns) * sum)
		}
		if worst < sinkhornTolerance {
			break
		}
	}
	for i := range kernel {
		for j := range kernel[i] {
			kernel[i][j] *= u[i] * v[j]
		}
	}
	return kernel
}

// transportRewards gives call i the reward Σ_j T_ij·s_ij; 0 when there are no gold calls.
func transportRewards(s [][]float64, reg float64) []float64 {
	rewards := make([]float64, len(s))
	for i, row := range transportPlan(s, reg) {
		for j, mass := range row {
			rewards[i] += mass * s[i][j]
		}
	}
	return rewards
}
