package main

import (
	"fmt"
	"strings"

	"github.com/turnwise-rl/turnwise/rollout"
)

// ledgerStory is everything the folder tells of one trajectory, for programs.
type ledgerStory struct {
	ledgerLine
	Run  string `json:"run"`
	Task string `json:"task,omitempty"`
	// Stop and Outcome are those of the episode; absent while it is in flight.
	Stop    string   `json:"stop,omitempty"`
	Outcome *float64 `json:"outcome"`
	// Fence is what the learner held that committed the step, Config the revision of the config in force.
	Fence  *int `json:"fence"`
	Config *int `json:"config"`
	// Attempts are all that were made at this member.
	Attempts []rollout.Attempt `json:"attempts"`
}

// showStory tells what became of one trajectory.
func (a *app) showStory(p *page, at int) error {
	line := p.lines[at]
	trajectory := p.trajectory(line.Trajectory)
	if a.json() {
		story := ledgerStory{ledgerLine: line, Run: p.book.run.id, Attempts: p.attempts[line.member]}
		if p.group != nil {
			story.Task = p.group.Task.ID
		}
		if trajectory != nil {
			story.Stop, story.Outcome = string(trajectory.Stop), trajectory.Outcome
		}
		if p.manifest != nil {
			story.Fence, story.Config = &p.manifest.Fence, &p.manifest.Config
		}
		return a.printJSON(story)
	}
	say := func(name, format string, args ...any) { a.print("%-11s%s\n", name, fmt.Sprintf(format, args...)) }
	say("trajectory", "%s of run %s", line.Trajectory, p.book.run.id)
	p.sayState(say, line)
	p.sayGroup(say, line)
	p.sayTurns(say, line, trajectory)
	p.sayAttempts(say, line)
	if trajectory != nil {
		say("read", "turnwise traj show %s/%s", p.book.run.id, line.Trajectory)
	}
	return nil
}

// say prints a named line.
type say func(name, format string, args ...any)

// trajectory is the one in the store; nil when there is none.
func (p *page) trajectory(id string) *rollout.Trajectory {
	if p.group != nil {
		for i, t := range p.group.Trajectories {
			if t.ID == id {
				return &p.group.Trajectories[i]
			}
		}
	}
	return nil
}

// sayState tells what became of the trajectory, and by whom.
func (p *page) sayState(say say, line ledgerLine) {
	text := line.State
	if line.Step != nil {
		text += fmt.Sprintf(" at step %d", *line.Step)
	}
	if line.Reason != "" {
		text += ": " + line.Reason
	}
	say("state", "%s", text)
	if m := p.manifest; m != nil {
		say("step", "%d of kind %s, committed %s under fence %d, config revision %d", m.Step, m.Kind, moment(m.Committed), m.Fence, m.Config)
	}
	if row, credited := p.rows[line.member]; credited {
		say("advantage", "%s, mean over sampled tokens; outcome %s", signed(row.AdvantageMean, 3), number(row.Outcome))
	}
	if len(line.Versions) == 2 {
		text := versionsText(line.Versions)
		if line.Step != nil && line.State != stateFailed {
			text += fmt.Sprintf("; the step goes on from version %d, so the oldest token is %s old", *line.Step-1, plural(*line.Step-1-line.Versions[0], "version"))
		}
		say("versions", "%s", text)
	}
}

// sayGroup tells of the group and its task.
func (p *page) sayGroup(say say, line ledgerLine) {
	states := map[string]int{}
	for _, l := range p.lines {
		states[l.State]++
	}
	var parts []string
	for _, state := range []string{stateTrained, stateDropped, stateFailed, statePending} {
		if n := states[state]; n > 0 {
			parts = append(parts, fmt.Sprintf("%d %s", n, state))
		}
	}
	say("group", "%s: %s", groupName(p.number), strings.Join(parts, ", "))
	if p.group != nil {
		say("task", "%s: %s", p.group.Task.ID, clip(oneLine(p.group.Task.Prompt), 160))
	}
}

// sayTurns tells each finished turn in a line.
func (p *page) sayTurns(say say, line ledgerLine, t *rollout.Trajectory) {
	if t == nil {
		for i, turn := range p.recorded[line.member].Turns {
			var versions []int
			for _, version := range turn.Versions {
				versions = widen(versions, int(version))
			}
			say(first(i, "turns"), "turn %d  version %s  %s%s", i, versionsText(versions), plural(len(turn.Tokens), "token"), callsText(turn.Record.Calls))
		}
		return
	}
	for i, turn := range t.Turns {
		versions := nothing
		if low, high, ok := versionRange(*t, turn.Start, turn.End); ok {
			versions = versionsText([]int{int(low), int(high)})
		}
		say(first(i, "turns"), "turn %d  version %s  %s%s", i, versions, plural(turn.End-turn.Start, "token"), callsText(turn.Calls))
	}
	say("stop", "%s", t.Stop)
}

func callsText(calls []rollout.Call) string {
	text := ""
	for _, call := range calls {
		text += "  " + strings.TrimSpace(fmt.Sprintf("%s %s", call.Name, call.Status)) // what is no call has no name
	}
	return text
}

// sayAttempts tells who played the episode and what went wrong before.
func (p *page) sayAttempts(say say, line ledgerLine) {
	attempts := p.attempts[line.member]
	for i, attempt := range attempts {
		end := "finished the episode"
		if attempt.Discarded > 0 {
			end += fmt.Sprintf(", from the start: %s of earlier attempts could not be gone on from", plural(attempt.Discarded, "turn"))
		}
		switch {
		case attempt.Failure != "":
			end = "failed: " + failureText(attempt)
		case p.group == nil && !p.recorded[line.member].Ended():
			end = "at work"
		}
		say(first(i, "attempts"), "attempt %d  tenure %d, from turn %d: %s", attempt.Number, attempt.Tenure, attempt.From, end)
	}
	if len(attempts) == 0 {
		say("attempts", "not recorded")
	}
}
