package turnreward

import (
	"cmp"
	"math"
	"slices"
)

// assignExact returns, for each row, the column assigned to it, −1 for none: the one-to-one assignment
// over pairs with s > 0 that has the greatest total. Kuhn–Munkres with potentials, in time
// min²·max. Source: Kuhn 1955; Munkres 1957.
func assignExact(s [][]float64) []int {
	rows := len(s)
	if rows == 0 || len(s[0]) == 0 {
		return unassigned(rows)
	}
	columns := len(s[0])
	at := func(i, j int) float64 { return s[i][j] }
	if rows > columns {
		at = func(i, j int) float64 { return s[j][i] }
	}
	partner := shortestPaths(min(rows, columns), max(rows, columns), at)
	out := unassigned(rows)
	for j, i := range partner {
		row, column := i, j
		if rows > columns {
			row, column = j, i
		}
		if i >= 0 && s[row][column] > 0 {
			out[row] = column
		}
	}
	return out
}

// shortestPaths assigns each of n rows to one of m ≥ n columns with the least total of −gain, adding
// one row at a time along a shortest augmenting path. It returns each column's row, −1 for none.
// Indices in the loop are shifted by one: row and column 0 are the path's imaginary start.
func shortestPaths(n, m int, gain func(i, j int) float64) []int {
	u, v := make([]float64, n+1), make([]float64, m+1)
	row, way := make([]int, m+1), make([]int, m+1)
	least, done := make([]float64, m+1), make([]bool, m+1)
	for i := 1; i <= n; i++ {
		row[0] = i
		for j := range least {
			least[j], done[j] = math.Inf(1), false
		}
		column := 0
		for row[column] != 0 {
			done[column] = true
			delta, next := math.Inf(1), 0
			for j := 1; j <= m; j++ {
				if done[j] {
					continue
				}
				if d := -gain(row[column]-1, j-1) - u[row[column]] - v[j]; d < least[j] {
					least[j], way[j] = d, column
				}
				if least[j] < delta {
					delta, next = least[j], j
				}
			}
			for j := 0; j <= m; j++ {
				if done[j] {
					u[row[j]] += delta
					v[j] -= delta
				} else {
					least[j] -= delta
				}
			}
			column = next
		}
		for column != 0 {
			row[column] = row[way[column]]
			column = way[column]
		}
	}
	for j := range row {
		row[j]--
	}
	return row[1:]
}

// assignGreedy takes pairs by descending similarity while both sides are free; equal similarities in
// row, then column order. It is what MatchTIR's release runs under the name Kuhn–Munkres, and is not
// optimal: on [[.9, .8], [.8, 0]] it leaves the second row alone.
func assignGreedy(s [][]float64) []int {
	type pair struct{ row, column int }
	var pairs []pair
	for i := range s {
		for j := range s[i] {
			if s[i][j] > 0 {
				pairs = append(pairs, pair{i, j})
			}
		}
	}
	slices.SortStableFunc(pairs, func(a, b pair) int { return cmp.Compare(s[b.row][b.column], s[a.row][a.column]) })
	out, taken := unassigned(len(s)), map[int]bool{}
	for _, p := range pairs {
		if out[p.row] < 0 && !taken[p.column] {
			out[p.row], taken[p.column] = p.column, true
		}
	}
	return out
}

func unassigned(n int) []int {
	out := make([]int, n)
	for i := range out {
		out[i] = -1
	}
	return out
}
