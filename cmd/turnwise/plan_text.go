package main

import (
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/turnwise-rl/turnwise/internal/footprint"
	"github.com/turnwise-rl/turnwise/internal/lease"
)

// write says what will happen before it does.
func (p *runPlan) write(w io.Writer) {
	line := func(name, format string, args ...any) {
		fmt.Fprintf(w, "%-11s %s\n", name, fmt.Sprintf(format, args...))
	}
	run := p.resolved.Run
	name := p.id
	if name == "" {
		name = p.Name
	}
	line("run", "%s   seed %d", name, run.Seed)
	line("method", "%s", p.Method)
	for i, change := range p.Changes {
		against := ""
		if i == 0 {
			against = "   vs " + p.Against
		}
		line(first(i, "changes"), "%s%s", change, against)
	}
	names := make([]string, len(run.Environments))
	for i, environment := range run.Environments {
		names[i] = environment.Type()
	}
	line("tasks", "%s; %d held-out tasks each, whose facts never occur in training", strings.Join(names, ", "), run.Evaluation.Tasks)
	line("policy", "%s, %s", describePolicy(run, p.shape), describeDevice(run.Device))
	line("warm start", "%s", describeWarmStart(run.WarmStart))
	line("training", "%d steps × %d groups × %d episodes", p.Budget.Steps, p.Budget.GroupsPerStep, p.Budget.GroupSize)
	line("budget", "%s", p.budget())
	p.writeRoles(line)
	if p.folder != "" {
		line("folder", "%s", p.folder)
	}
	fmt.Fprintln(w)
	p.writeMemory(w)
}

// budget is how much there is to do, and how often it is kept.
func (p *runPlan) budget() string {
	b := p.Budget
	steps := fmt.Sprintf("%d steps", b.Steps)
	if b.WarmSteps > 0 {
		steps = fmt.Sprintf("%d + %d steps", b.WarmSteps, b.Steps)
	}
	evaluate := "evaluate first and last"
	if b.EvaluateEvery > 0 {
		evaluate = fmt.Sprintf("evaluate every %d", b.EvaluateEvery)
	}
	return fmt.Sprintf("%s · %d groups/step · staleness ≤ %d · checkpoint every %d · %s", steps, b.GroupsPerStep, b.Staleness, b.CheckpointEvery, evaluate)
}

// writeRoles says which devices the roles ask for and where they would be now.
func (p *runPlan) writeRoles(line func(name, format string, args ...any)) {
	for i, role := range p.Roles {
		places := role.texts()
		line(first(i, "devices"), "%-8s  %d × %s, %s   %s", role.Role, role.Leases*role.Devices, role.Kind, memoryText(role.MemoryBytes), places[0])
		for _, more := range places[1:] {
			line("", "%-8s  %s", "", more)
		}
	}
	line("", "queue %s, priority %d; %s: %d of %d %s free", p.Queue, p.Priority, p.Fleet, p.Free, p.Known, p.resolved.Run.Device.Leased())
	if p.Note != "" {
		line("", "%s", p.Note)
	}
}

// texts are the places of a role's leases, those that are alike together.
func (r planRole) texts() []string {
	var texts []string
	counts := map[string]int{}
	for _, place := range r.Places {
		text := place.String()
		if counts[text] == 0 {
			texts = append(texts, text)
		}
		counts[text]++
	}
	if len(texts) > 1 {
		for i, text := range texts {
			texts[i] = fmt.Sprintf("%d %s", counts[text], text)
		}
	}
	return texts
}

// String is "on node-3: NVIDIA H200 GPU-1f2e", or why the lease would wait.
func (p planPlace) String() string {
	switch {
	case p.Never:
		return "never: " + p.Waits
	case p.Waits != "":
		return "waits: " + p.Waits
	}
	var devices []string
	for _, device := range p.Devices {
		devices = append(devices, device.Name+" "+clip(device.UUID, 12))
	}
	return fmt.Sprintf("on %s: %s", p.Agent, strings.Join(devices, ", "))
}

// writeMemory is the table of what each role is estimated to take of its device.
func (p *runPlan) writeMemory(w io.Writer) {
	headings := []string{"MEMORY"}
	for _, role := range p.Roles {
		headings = append(headings, ">"+strings.ToUpper(string(role.Role)))
	}
	rows := newTable(append(headings, "FROM")...)
	for _, name := range footprint.Names() {
		cells, from := []string{name}, ""
		for _, role := range p.Roles {
			cell := nothing
			if at := slices.IndexFunc(role.Lines, func(l footprint.Line) bool { return l.Name == name }); at >= 0 {
				cell = memoryText(role.Lines[at].Bytes)
				if from == "" {
					from = role.Lines[at].From
				}
			}
			cells = append(cells, cell)
		}
		if from != "" {
			rows.add(append(cells, clip(from, 100))...)
		}
	}
	total, said := []string{"total"}, []string{"in config"}
	for _, role := range p.Roles {
		sum := int64(0)
		for _, l := range role.Lines {
			sum += l.Bytes
		}
		total = append(total, memoryText(sum))
		if role.Said {
			said = append(said, memoryText(role.MemoryBytes))
		} else {
			said = append(said, nothing)
		}
	}
	rows.add(append(total, "of one device, for each "+roleNames[lease.Rollout])...)
	if slices.ContainsFunc(p.Roles, func(r planRole) bool { return r.Said }) {
		rows.add(append(said, "asked for instead: device.learner_memory and device.rollout_memory")...)
	}
	rows.write(w)
}

// memoryText is an amount of memory in the largest unit of which there is one.
func memoryText(bytes int64) string {
	for _, unit := range []struct {
		bytes int64
		name  string
	}{{1 << 40, "TiB"}, {1 << 30, "GiB"}, {1 << 20, "MiB"}, {1 << 10, "KiB"}} {
		if bytes >= unit.bytes {
			return fmt.Sprintf("%.1f %s", float64(bytes)/float64(unit.bytes), unit.name)
		}
	}
	return fmt.Sprintf("%d B", bytes)
}
