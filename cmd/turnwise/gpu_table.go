package main

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/turnwise-rl/turnwise/internal/gpu"
	"github.com/turnwise-rl/turnwise/internal/lease"
)

// deviceHeadings head the columns of a device's line; the host's comes before them when there are several.
var deviceHeadings = []string{"GPU", "UUID", "NAME", ">TEMP", ">UTIL", ">POWER", ">MEMORY", "HEALTH", "LEASE"}

// shortUUID is how many characters of a UUID are shown when they tell the devices apart.
const shortUUID = 12

// table is a line for each device.
func (f deviceList) table() *table {
	several, watched := f.hosts() > 1, slices.ContainsFunc(f.Devices, func(row deviceRow) bool { return row.history != nil })
	headings := append([]string{}, deviceHeadings...)
	if watched {
		headings = append(headings, "LOAD")
	}
	if several {
		headings = append([]string{"HOST"}, headings...)
	}
	t := newTable(headings...)
	width := f.uuidWidth()
	for _, row := range f.Devices {
		cells := row.cells(width)
		if watched {
			cells = append(cells, spark(row.history))
		}
		if several {
			cells = append([]string{row.Host}, cells...)
		}
		t.add(cells...)
	}
	return t
}

func (f deviceList) hosts() int {
	names := map[string]bool{}
	for _, row := range f.Devices {
		names[row.Host] = true
	}
	return len(names)
}

// uuidWidth is how many characters tell all UUIDs apart.
func (f deviceList) uuidWidth() int {
	longest := 0
	for _, row := range f.Devices {
		longest = max(longest, len(row.UUID))
	}
	for width := shortUUID; width < longest; width++ {
		seen, apart := map[string]bool{}, true
		for _, row := range f.Devices {
			short := cut(row.UUID, width)
			apart = apart && !seen[short]
			seen[short] = true
		}
		if apart {
			return width
		}
	}
	return longest
}

func cut(text string, width int) string { return text[:min(len(text), width)] }

func (r deviceRow) cells(uuidWidth int) []string {
	return []string{r.place(), cut(r.UUID, uuidWidth), r.Name, celsius(r.Temperature), wholePercent(r.Utilization), r.powerText(), r.memoryText(),
		r.healthText(), r.holders()}
}

// place is the device's index in PCI bus order, or "cpu".
func (r deviceRow) place() string {
	if r.Kind == gpu.CPU {
		return "cpu"
	}
	return fmt.Sprint(r.Index)
}

func (r deviceRow) healthText() string {
	if r.status != nil && r.status.NoTrainers {
		return string(r.Health) + ", no trainers"
	}
	return string(r.Health)
}

func (r deviceRow) holders() string {
	if len(r.Leases) == 0 {
		return nothing
	}
	var words []string
	for _, l := range r.Leases {
		words = append(words, l.String())
	}
	return firstOf(words, 2)
}

func (r deviceRow) powerText() string {
	if r.Power == nil {
		return nothing
	}
	if r.PowerLimit == nil {
		return fmt.Sprintf("%.0f W", *r.Power)
	}
	return fmt.Sprintf("%.0f/%.0f W", *r.Power, *r.PowerLimit)
}

func (r deviceRow) memoryText() string {
	total := fmt.Sprintf("%.1f GiB", gibibytes(r.MemoryTotalBytes))
	if r.MemoryUsed == nil {
		return nothing + "/" + total
	}
	return fmt.Sprintf("%.1f/%s", gibibytes(*r.MemoryUsed), total)
}

func gibibytes(n int64) float64 { return float64(n) / (1 << 30) }

func celsius(t *float64) string {
	if t == nil {
		return nothing
	}
	return fmt.Sprintf("%.0f °C", *t)
}

func wholePercent(share *float64) string {
	if share == nil {
		return nothing
	}
	return fmt.Sprintf("%.0f%%", 100**share)
}

// remarks are what a person should know besides the table: why devices are not healthy, and who waits for what.
func (f deviceList) remarks() []string {
	var out []string
	width := f.uuidWidth()
	for _, row := range f.Devices {
		if row.Health != lease.Healthy && row.Why != "" {
			out = append(out, fmt.Sprintf("%s is %s: %s", cut(row.UUID, width), row.Health, row.Why))
		}
	}
	for i, w := range f.Waiting {
		if i == mostWaiting {
			out = append(out, fmt.Sprintf("and %d more wait: `turnwise gpu queue` lists them", len(f.Waiting)-mostWaiting))
			break
		}
		out = append(out, waiterText(w, f))
	}
	return out
}

// mostWaiting is how many waiting requests stand under the table.
const mostWaiting = 5

// waiterText says who waits, and why.
func waiterText(w lease.Waiter, f deviceList) string {
	if w.Never {
		return fmt.Sprintf("%s/%s waits%s and cannot be placed on any device that is known: %s", w.Run, w.Role, waited(w, f), w.Reason)
	}
	return fmt.Sprintf("%s/%s waits%s: %s", w.Run, w.Role, waited(w, f), w.Reason)
}

// waited is " for 3m05s"; "" for what has only begun.
func waited(w lease.Waiter, f deviceList) string {
	if w.Since.IsZero() || f.now.Sub(w.Since) < time.Second {
		return ""
	}
	return " for " + short(f.now.Sub(w.Since))
}

// text is the table with its remarks.
func (f deviceList) text() string {
	var out strings.Builder
	if len(f.Devices) > 0 {
		f.table().write(&out)
	}
	for i, remark := range f.remarks() {
		if i == 0 && len(f.Devices) > 0 {
			out.WriteString("\n")
		}
		out.WriteString(remark + "\n")
	}
	return out.String()
}
