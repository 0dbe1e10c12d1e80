package main

import (
	"fmt"
	"io"
	"math"
	"os"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"golang.org/x/sys/unix"
)

// table is aligned columns of text.
type table struct {
	rows [][]string
	// right has the columns whose cells are numbers and stand at the right.
	right map[int]bool
}

// newTable starts a table with its headings; those that begin with '>' head columns of numbers.
func newTable(headings ...string) *table {
	t := &table{right: map[int]bool{}}
	for i, heading := range headings {
		if name, ok := strings.CutPrefix(heading, ">"); ok {
			t.right[i] = true
			headings[i] = name
		}
	}
	t.add(headings...)
	return t
}

func (t *table) add(cells ...string) { t.rows = append(t.rows, cells) }

// write prints the table with two spaces between columns and none at the end of a line.
func (t *table) write(w io.Writer) {
	var widths []int
	for _, row := range t.rows {
		for i, cell := range row {
			if i == len(widths) {
				widths = append(widths, 0)
			}
			widths[i] = max(widths[i], utf8.RuneCountInString(cell))
		}
	}
	for _, row := range t.rows {
		var line strings.Builder
		for i, cell := range row {
			gap := strings.Repeat(" ", widths[i]-utf8.RuneCountInString(cell))
			if t.right[i] {
				line.WriteString(gap + cell + "  ")
			} else {
				line.WriteString(cell + gap + "  ")
			}
		}
		fmt.Fprintln(w, strings.TrimRight(line.String(), " "))
	}
}

// nothing stands where there is no value.
const nothing = "-"

// number prints a value with as many digits as a person reads.
func number(v float64) string {
	switch {
	case math.IsNaN(v):
		return "NaN"
	case v == 0:
		return "0"
	case math.Abs(v) >= 1e5 || math.Abs(v) < 1e-3:
		return strconv.FormatFloat(v, 'g', 3, 64)
	}
	return strconv.FormatFloat(v, 'f', 3, 64)
}

// signed prints a value with its sign; what rounds to zero is +0.
func signed(v float64, digits int) string {
	text := strconv.FormatFloat(v, 'f', digits, 64)
	if strings.Trim(text, "-0.") == "" {
		text = strings.TrimPrefix(text, "-")
	}
	if text[0] != '-' {
		text = "+" + text
	}
	return text
}

// percent prints a share.
func percent(share float64) string { return strconv.FormatFloat(100*share, 'f', 1, 64) + "%" }

// thousands prints a count with separators.
func thousands(n int) string {
	digits := strconv.Itoa(n)
	sign := ""
	if n < 0 {
		sign, digits = "-", digits[1:]
	}
	for i := len(digits) - 3; i > 0; i -= 3 {
		digits = digits[:i] + "," + digits[i:]
	}
	return sign + digits
}

// short prints a duration with at most two units: 850ms, 12s, 3m05s, 2h13m, 4d2h.
func short(d time.Duration) string {
	switch {
	case d < 0:
		return "0s"
	case d < time.Second:
		return fmt.Sprintf("%dms", d.Milliseconds())
	case d < time.Minute:
		return fmt.Sprintf("%ds", int(d.Seconds()))
	case d < time.Hour:
		return fmt.Sprintf("%dm%02ds", int(d.Minutes()), int(d.Seconds())%60)
	case d < 24*time.Hour:
		return fmt.Sprintf("%dh%02dm", int(d.Hours()), int(d.Minutes())%60)
	}
	return fmt.Sprintf("%dd%dh", int(d.Hours())/24, int(d.Hours())%24)
}

// bar draws a share as a row of blocks.
func bar(share float64, width int) string {
	filled := int(math.Round(math.Min(1, math.Max(0, share)) * float64(width)))
	return strings.Repeat("█", filled) + strings.Repeat("░", width-filled)
}

// spark draws shares in [0, 1] as a row of bars.
func spark(shares []float64) string {
	const levels = "▁▂▃▄▅▆▇█"
	var out strings.Builder
	for _, share := range shares {
		level := int(math.Min(7, math.Max(0, math.Floor(share*8))))
		out.WriteRune([]rune(levels)[level])
	}
	return out.String()
}

// clip cuts a line to a width.
func clip(line string, width int) string {
	if width <= 0 || utf8.RuneCountInString(line) <= width {
		return line
	}
	return string([]rune(line)[:width-1]) + "…"
}

// oneLine puts a text on one line.
func oneLine(text string) string { return strings.Join(strings.Fields(text), " ") }

// indent puts a prefix before each line of a text.
func indent(text, prefix string) string {
	return prefix + strings.ReplaceAll(strings.TrimRight(text, "\n"), "\n", "\n"+prefix)
}

// plural prints a count with its noun.
func plural(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return thousands(n) + " " + noun + "s"
}

// screen returns the width of the terminal that w is, and false when it is none or one that cannot
// redraw.
func screen(w io.Writer) (width int, ok bool) {
	file, isFile := w.(*os.File)
	if !isFile || os.Getenv("TERM") == "dumb" {
		return 0, false
	}
	size, err := unix.IoctlGetWinsize(int(file.Fd()), unix.TIOCGWINSZ)
	if err != nil {
		return 0, false
	}
	return int(size.Col), true
}
