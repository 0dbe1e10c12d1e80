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

// roleOrder is that in which a device's holders are shown, of whom the table has room for two.
var roleOrder = []lease.Role{lease.Learner, lease.Rollout, lease.Evaluate}

func (r deviceRow) holders() string {
	if len(r.Leases) == 0 {
		return nothing
	}
	var words []string
	for _, role := range roleOrder {
		for _, l := range r.Leases {
			if l.Role == role {
				words = append(words, l.String())
			}
		}
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
	queues := alike(f.Waiting)
	shown := 0
	for _, q := range queues[:min(len(queues), mostWaiting)] {
		out = append(out, q.text(f))
		shown += q.count
	}
	if more := len(f.Waiting) - shown; more > 0 {
		out = append(out, fmt.Sprintf("and %d more wait: `turnwise gpu queue` lists them", more))
	}
	return out
}

// mostWaiting is how many lines about waiting requests stand under the table.
const mostWaiting = 5

// waiters are requests that one line tells of: those of a run's role that wait for the same.
type waiters struct {
	lease.Waiter     // the one that waits longest
	count        int // how many there are
}

// waiterWords are what a line about a waiting request says.
type waiterWords struct {
	run, reason, need string
	role              lease.Role
	never             bool
}

func wordsOf(w lease.Waiter) waiterWords {
	return waiterWords{w.Run, w.Reason, needText(w.Request), w.Role, w.Never}
}

// alike puts requests together that read the same, in the order of the first of each.
func alike(all []lease.Waiter) []waiters {
	at := map[waiterWords]int{}
	var out []waiters
	for _, w := range all {
		same := wordsOf(w)
		i, seen := at[same]
		if !seen {
			at[same] = len(out)
			out = append(out, waiters{w, 1})
			continue
		}
		if w.Since.Before(out[i].Since) {
			out[i].Waiter = w
		}
		out[i].count++
	}
	return out
}

// name is "quick-1a2b/rollout ×9", without the number when there is one.
func (w waiters) name() string {
	name := w.Run + "/" + string(w.Role)
	if w.count > 1 {
		name += fmt.Sprintf(" ×%d", w.count)
	}
	return name
}

func (w waiters) verb() string {
	if w.count > 1 {
		return "wait"
	}
	return "waits"
}

// waited is how long the one that waits longest does.
func (w waiters) waited(f deviceList) string {
	text := waited(w.Waiter, f)
	if w.count > 1 {
		text = strings.Replace(text, " for ", " for up to ", 1)
	}
	return text
}

// text says who waits, and why.
func (w waiters) text(f deviceList) string {
	if w.Never {
		return fmt.Sprintf("%s %s%s and cannot be placed on any device that is known: %s", w.name(), w.verb(), w.waited(f), w.Reason)
	}
	return fmt.Sprintf("%s %s%s: %s", w.name(), w.verb(), w.waited(f), w.Reason)
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
