package main

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"
)

// compareRows bounds the rows of one table; curves with more points are averaged.
const compareRows = 24

// sparkWidth bounds a line of bars, which are averaged likewise.
const sparkWidth = 40

// printComparison prints a table of the runs and one of each curve.
func (a *app) printComparison(runs []*comparedRun, align string) {
	summary := newTable("RUN", "METHOD", "STATUS", ">STEP", ">TIME", ">TRAINED", ">DROPPED", ">BEFORE", ">AFTER", "95% INTERVAL")
	for _, r := range runs {
		summary.add(r.Run, r.Method, r.Status, fraction(r.Step, r.LastStep), short(time.Duration(r.Seconds*float64(time.Second))),
			thousands(r.Trajectories.Trained), thousands(r.Trajectories.Dropped), optionalPercent(r.SuccessBefore), optionalPercent(r.SuccessAfter), r.interval())
	}
	summary.write(a.out)
	names := curveNames(runs)
	if len(names) == 2 && names[0] == heldOutCurve {
		names = names[:1] // there is one environment: its curve is the same
	}
	for _, name := range names {
		a.printCurve(runs, name, align)
	}
}

func optionalPercent(share *float64) string {
	if share == nil {
		return nothing
	}
	return percent(*share)
}

// interval is the 95 % interval of the latest success.
func (r *comparedRun) interval() string {
	if r.SuccessAfter == nil {
		return nothing
	}
	low, high := interval(*r.SuccessAfter, r.HeldOutTasks)
	return percent(low) + " – " + percent(high)
}

// curveNames are the names of all runs' curves, in order of appearance.
func curveNames(runs []*comparedRun) []string {
	var names []string
	for _, r := range runs {
		for _, c := range r.Curves {
			if !slices.Contains(names, c.Name) {
				names = append(names, c.Name)
			}
		}
	}
	return names
}

// printCurve prints one curve of all runs: a line of bars a run, then a column of numbers a run.
func (a *app) printCurve(runs []*comparedRun, name, align string) {
	columns := make([]curve, len(runs))
	for i, r := range runs {
		columns[i] = *r.curve(name)
	}
	low, high := bounds(columns)
	if low > high {
		a.print("\n%s: no run has a point yet\n", name)
		return
	}
	a.print("\n%s (bars: %s – %s)\n", name, cell(columns[0], low), cell(columns[0], high))
	bars := &table{}
	fine := rows(runs, columns, align, sparkWidth)
	for i, r := range runs {
		bars.add("  "+r.Run, strings.TrimRight(heights(fine, i, low, high), " "))
	}
	bars.write(a.out)

	headings := []string{">" + map[string]string{alignStep: "STEP", alignShare: "SHARE"}[align]}
	for _, r := range runs {
		headings = append(headings, ">"+r.Run)
	}
	list := newTable(headings...)
	for _, row := range rows(runs, columns, align, compareRows) {
		cells := []string{row.label}
		for i := range runs {
			if math.IsNaN(row.values[i]) {
				cells = append(cells, nothing)
			} else {
				cells = append(cells, cell(columns[i], row.values[i]))
			}
		}
		list.add(cells...)
	}
	list.write(a.out)
}

// cell writes a value of a curve.
func cell(c curve, value float64) string {
	if c.share {
		return percent(value)
	}
	return number(value)
}

// bounds are the smallest and largest value of curves: 0 and 1 of shares. The first is the larger one when
// there is no value.
func bounds(curves []curve) (low, high float64) {
	low, high = math.Inf(1), math.Inf(-1)
	for _, c := range curves {
		for _, p := range c.Points {
			low, high = math.Min(low, p.Value), math.Max(high, p.Value)
		}
	}
	if curves[0].share && low <= high {
		return 0, 1
	}
	return low, high
}

// heights draws column i of rows as bars, with gaps where it has no value.
func heights(rows []curveRow, i int, low, high float64) string {
	var out strings.Builder
	for _, row := range rows {
		switch value := row.values[i]; {
		case math.IsNaN(value):
			out.WriteByte(' ')
		case high == low:
			out.WriteString(spark([]float64{0}))
		default:
			out.WriteString(spark([]float64{(value - low) / (high - low)}))
		}
	}
	return out.String()
}

// curveRow is one row of a comparison; NaN stands for no value.
type curveRow struct {
	label  string
	values []float64
}

// rows aligns curves in at most that many rows. A row stands for the steps, or the shares of the runs' plans, after the row before it up
// to its own; its values are the means of the points there.
func rows(runs []*comparedRun, columns []curve, align string, most int) []curveRow {
	type mark struct {
		at     float64
		column int
		value  float64
	}
	var marks []mark
	var ends []float64
	for i, c := range columns {
		for _, p := range c.Points {
			at := float64(p.Step)
			if align == alignShare {
				at = math.Round(100 * at / float64(max(1, runs[i].LastStep)))
			}
			marks = append(marks, mark{at, i, p.Value})
			ends = append(ends, at)
		}
	}
	slices.SortFunc(marks, func(a, b mark) int { return cmp.Compare(a.at, b.at) })
	slices.Sort(ends)
	ends = thin(slices.Compact(ends), most)
	var out []curveRow
	next := 0
	for _, end := range ends {
		row := curveRow{label: fmt.Sprintf("%.0f", end), values: make([]float64, len(columns))}
		if align == alignShare {
			row.label += "%"
		}
		counts := make([]float64, len(columns))
		for ; next < len(marks) && marks[next].at <= end; next++ {
			row.values[marks[next].column] += marks[next].value
			counts[marks[next].column]++
		}
		for i := range row.values {
			row.values[i] /= counts[i] // 0/0 is NaN: no value
		}
		out = append(out, row)
	}
	return out
}

// thin keeps at most that many of ascending numbers, evenly, the last among them.
func thin(numbers []float64, most int) []float64 {
	n := len(numbers)
	if n <= most {
		return numbers
	}
	var out []float64
	for i := 1; i <= most; i++ {
		out = append(out, numbers[i*n/most-1])
	}
	return out
}
