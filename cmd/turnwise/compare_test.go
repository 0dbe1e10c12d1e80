//go:build slim

package main

import (
	"fmt"
	"math"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

// curveOf is a curve with a point at each of the steps, whose value is the step times a factor.
func curveOf(factor float64, steps ...int) curve {
	c := curve{Name: "reward"}
	for _, step := range steps {
		c.add(step, factor*float64(step))
	}
	return c
}

func TestCurvesOfDifferentLengthsAlign(t *testing.T) {
	runs := []*comparedRun{{Run: "short", LastStep: 10}, {Run: "long", LastStep: 40}}
	columns := []curve{curveOf(1, 5, 10), curveOf(1, 10, 20, 40)}
	nan := math.NaN()
	for _, test := range []struct {
		align string
		want  []curveRow
	}{
		{alignStep, []curveRow{{"5", []float64{5, nan}}, {"10", []float64{10, 10}}, {"20", []float64{nan, 20}}, {"40", []float64{nan, 40}}}},
		{alignShare, []curveRow{{"25%", []float64{nan, 10}}, {"50%", []float64{5, 20}}, {"100%", []float64{10, 40}}}},
	} {
		got := rows(runs, columns, test.align, compareRows)
		if diff := cmp.Diff(test.want, got, cmp.AllowUnexported(curveRow{}), cmpopts.EquateNaNs()); diff != "" {
			t.Errorf("by %s (-want +got):\n%s", test.align, diff)
		}
	}
	if got := heights(rows(runs, columns, alignStep, sparkWidth), 1, 10, 40); got != " ▁▃█" {
		t.Errorf("bars %q: a gap stands where a run has no value", got)
	}
}

func TestLongCurvesAreAveraged(t *testing.T) {
	var steps []int
	for step := 1; step <= 120; step++ {
		steps = append(steps, step)
	}
	got := rows([]*comparedRun{{LastStep: 120}}, []curve{curveOf(2, steps...)}, alignStep, 24)
	if len(got) != 24 {
		t.Fatalf("%d rows for 120 steps, want 24", len(got))
	}
	for i, row := range got {
		if want := 2 * (5*float64(i) + 3); row.label != fmt.Sprint(5*(i+1)) || row.values[0] != want {
			t.Errorf("row %d is %s: %v, want step %d and the mean %v of the five steps up to it", i, row.label, row.values, 5*(i+1), want)
		}
	}
}
