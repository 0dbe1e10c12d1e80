package chaos

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
)

// Findings are what an audit found. Counts of 0 and no Broken mean that every promise was kept.
type Findings struct {
	// StepsLost counts committed steps whose manifest is gone or is another one, and steps of the plan that
	// a run which has ended did not commit.
	StepsLost int
	// TrajectoriesLost counts trajectories of which a turn was finished, and that were neither trained nor
	// dropped nor counted as failed when the run had ended.
	TrajectoriesLost int
	// TrainedTwice counts trajectories that two steps trained.
	TrainedTwice int
	// Resampled counts turns that were begun after they had been finished.
	Resampled int
	// Restarts tell for each kill of a rollout process how many unfinished turns were begun again.
	Restarts []Restart
	// Broken says in words what was found.
	Broken []string
}

// Restart is what one kill of a rollout process cost.
type Restart struct {
	// Strike is the number of the fault.
	Strike int
	// Turns counts unfinished turns that were begun again, InFlight the episodes that the process had begun
	// and not ended. At most one turn is begun again for each episode in flight.
	Turns, InFlight int
}

// Audit compares what a run left behind with itself and with what was seen on the way.
func Audit(e *Evidence) Findings {
	a := auditor{Evidence: e}
	a.steps()
	a.settled()
	a.twice()
	a.resampled()
	for _, strike := range e.Strikes {
		if strike.Kind == SIGKILL && strike.Role == Rollout {
			a.restarts(strike)
		}
	}
	return a.Findings
}

type auditor struct {
	*Evidence
	Findings
}

func (a *auditor) broken(format string, args ...any) {
	a.Broken = append(a.Broken, fmt.Sprintf("run %s: ", a.Run)+fmt.Sprintf(format, args...))
}

// steps compares the manifests that are there with those that were seen and with the plan.
func (a *auditor) steps() {
	there := map[int]string{}
	for _, step := range a.Steps {
		there[step.Number] = step.Digest
	}
	for _, step := range slices.Sorted(maps.Keys(a.Seen)) {
		switch digest, ok := there[step]; {
		case !ok:
			a.StepsLost++
			a.broken("step %d was committed and is gone", step)
		case digest != a.Seen[step]:
			a.StepsLost++
			a.broken("step %d was committed as %s and is now %s", step, a.Seen[step], digest)
		}
	}
	missing := 0
	for step := range a.LastStep + 1 {
		_, ok := there[step]
		if _, seen := a.Seen[step]; !ok && !seen {
			missing++
		}
	}
	a.StepsLost += missing
	if missing > 0 {
		a.broken("%d of %d steps were never committed", missing, a.LastStep)
	}
	if a.Outcome != "completed" {
		a.broken("it ended %s", cmp.Or(a.Outcome, "without saying how"))
	}
}

// settled looks for work that nobody used.
func (a *auditor) settled() {
	rows := map[string]bool{}
	trained, dropped := map[int]bool{}, map[int]bool{}
	for _, step := range a.Steps {
		for _, row := range step.Rows {
			rows[row.Trajectory] = true
		}
		for _, group := range step.Trained {
			trained[group] = true
		}
		for _, group := range step.Dropped {
			dropped[group] = true
		}
	}
	lost := map[string]bool{}
	for group, trajectories := range a.Stored {
		for _, id := range trajectories {
			if !dropped[group] && !rows[id] {
				lost[id] = true
			}
		}
	}
	ended := map[Episode]bool{}
	for _, mark := range a.Marks {
		if mark.Kind != Finished || dropped[mark.Group] {
			continue
		}
		ended[mark.Episode] = ended[mark.Episode] || mark.Last
		// In a group that was trained, a member that never ended was replaced by another one.
		if id := mark.Episode.String(); !rows[id] && (!trained[mark.Group] || ended[mark.Episode]) {
			lost[id] = true
		}
	}
	a.TrajectoriesLost = len(lost)
	for _, id := range slices.Sorted(maps.Keys(lost)) {
		a.broken("trajectory %s has finished turns and was neither trained nor dropped", id)
	}
}

// twice looks for trajectories that moved the policy more than once.
func (a *auditor) twice() {
	group, row := map[int]int{}, map[string]int{}
	members := map[int]int{} // rows of the group at the step that trained it first
	for _, step := range a.Steps {
		again := map[int]bool{}
		for _, number := range step.Trained {
			if first, ok := group[number]; ok {
				again[number] = true
				a.broken("group g%d was trained at step %d and at step %d", number, first, step.Number)
			} else {
				group[number] = step.Number
			}
		}
		for _, r := range step.Rows {
			number := groupOf(r.Trajectory)
			members[number]++
			if !r.Trained {
				continue
			}
			if first, ok := row[r.Trajectory]; ok {
				a.TrainedTwice++
				delete(again, number)
				a.broken("trajectory %s was trained at step %d and at step %d", r.Trajectory, first, step.Number)
			} else {
				row[r.Trajectory] = step.Number
			}
		}
		for number := range again { // its rows do not show it
			a.TrainedTwice += max(1, members[number])
		}
	}
}

// groupOf is the group of a trajectory's id, −1 when the id has none.
func groupOf(trajectory string) int {
	var group, member int
	if _, err := fmt.Sscanf(trajectory, "g%d/%d", &group, &member); err != nil {
		return -1
	}
	return group
}

// turn names one turn of an episode.
type turn struct {
	Episode
	index int
}

// resampled looks for turns that were begun after they had been finished. Two loops may have played an
// episode at the same time, after one of them was taken for dead: then both finish a turn that neither
// had found finished when it began, which is no fault of this kind. The order across journals is that in
// which the entries were seen, and what a killed process finished came before every loop that was first
// seen after the kill.
func (a *auditor) resampled() {
	killed := map[int]Strike{} // by tenure
	for _, strike := range a.Strikes {
		if strike.Kind == SIGKILL {
			for _, tenure := range strike.Tenures {
				killed[tenure] = strike
			}
		}
	}
	firstSeen := map[int]Mark{} // of each tenure
	for _, mark := range a.Marks {
		if _, ok := firstSeen[mark.Tenure]; !ok {
			firstSeen[mark.Tenure] = mark
		}
	}
	finished := map[turn][]Mark{}
	position := map[turn]map[int]bool{} // tenures that had finished the turn before, in their own order
	var begun []Mark
	for _, mark := range a.Marks {
		t := turn{mark.Episode, mark.Turn}
		switch mark.Kind {
		case Finished:
			finished[t] = append(finished[t], mark)
			if position[t] == nil {
				position[t] = map[int]bool{}
			}
			position[t][mark.Tenure] = true
		case Began:
			if position[t][mark.Tenure] {
				a.again(mark)
				continue
			}
			begun = append(begun, mark)
		}
	}
	for _, mark := range begun {
		for _, before := range finished[turn{mark.Episode, mark.Turn}] {
			if before.Tenure == mark.Tenure {
				continue // a turn's own end comes after its beginning
			}
			strike, dead := killed[before.Tenure]
			later := dead && firstSeen[mark.Tenure].Seen.After(strike.At)
			if later || !before.Seen.IsZero() && mark.Seen.After(before.Seen) {
				a.again(mark)
				break
			}
		}
	}
}

func (a *auditor) again(mark Mark) {
	a.Resampled++
	a.broken("turn %d of %s was finished and then sampled again, by tenure %d", mark.Turn, mark.Episode, mark.Tenure)
}

// restarts counts what a kill cost: how often turns that it cut off were begun again, until they were
// finished, failed for a reason of their own or were cut off by another kill.
func (a *auditor) restarts(strike Strike) {
	cut := a.cutOff(strike)
	restart := Restart{Strike: strike.Number, InFlight: len(cut)}
	for _, episode := range slices.SortedFunc(maps.Keys(cut), compareEpisodes) {
		times := 0
		if cut[episode] >= 0 {
			times = a.begunAgain(strike, episode, cut[episode])
		}
		restart.Turns += times
		if times > 1 {
			a.broken("turn %d of %s was begun %d times after fault %d", cut[episode], episode, times, strike.Number)
		}
	}
	a.Restarts = append(a.Restarts, restart)
}

func compareEpisodes(a, b Episode) int {
	return cmp.Or(cmp.Compare(a.Group, b.Group), cmp.Compare(a.Member, b.Member))
}

// cutOff returns the episodes that a killed process had begun and not ended, with the turn that was under
// way; −1 between two turns.
func (a *auditor) cutOff(strike Strike) map[Episode]int {
	cut := map[Episode]int{}
	for _, mark := range a.Marks {
		switch {
		case !slices.Contains(strike.Tenures, mark.Tenure):
		case mark.Kind == Began:
			cut[mark.Episode] = mark.Turn
		case mark.Kind == Finished && !mark.Last:
			cut[mark.Episode] = -1
		default:
			delete(cut, mark.Episode)
		}
	}
	return cut
}

// begunAgain counts the beginnings of a turn that the kill is to blame for.
func (a *auditor) begunAgain(strike Strike, episode Episode, index int) int {
	times, from := 0, slices.Max(strike.Tenures)
	for _, mark := range a.Marks {
		if mark.Episode != episode || mark.Tenure <= from {
			continue
		}
		if mark.Kind == Failed || mark.Kind == Finished && mark.Turn == index {
			break
		}
		if mark.Kind == Began && mark.Turn == index {
			times++
			if a.killed(mark.Tenure) {
				break
			}
		}
	}
	return times
}

// killed reports whether a tenure ended by a kill.
func (a *auditor) killed(tenure int) bool {
	return slices.ContainsFunc(a.Strikes, func(s Strike) bool { return s.Kind == SIGKILL && slices.Contains(s.Tenures, tenure) })
}
