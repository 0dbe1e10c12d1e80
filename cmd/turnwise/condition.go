package main

import (
	"fmt"
	"strings"
	"time"

	"github.com/turnwise-rl/turnwise/workflows/runstate"
)

// What a run's own answer tells of its condition, in sentences. All of them are "" or nil when there is
// nothing to say.

// What helps a pool that nobody serves: a worker holds a bounded number of loops, and those at hand may be busy
// with other pools.
const (
	startRollout = "start one with `turnwise worker --roles rollout`"
	moreLoops    = ", or a worker that holds more pools with `--loops N`"
)

// stallText says what a run waits for too long, since when, and what would help.
func stallText(status *runstate.Status, now time.Time) string {
	if status == nil || status.Stalled == nil {
		return ""
	}
	s := status.Stalled
	text := fmt.Sprintf("waiting for %s since %s (%s)", s.What, s.Since.Local().Format(time.TimeOnly), short(now.Sub(s.Since)))
	missing := 0
	for _, pool := range status.Pools {
		if !pool.Serving {
			text += fmt.Sprintf("; pool %d has had no worker for %s", pool.Pool, short(now.Sub(pool.Since)))
			missing++
		}
	}
	if missing > 0 {
		return text + ": " + startRollout + moreLoops
	}
	return text + "; " + s.Unblock
}

// holdText says why a run starts no new groups.
func holdText(status *runstate.Status, run string) string {
	if status == nil || status.Held == "" {
		return ""
	}
	return fmt.Sprintf("no new groups start: %s; `turnwise resume %s` goes on once the cause is mended", status.Held, run)
}

// poolTexts says of each rollout pool who serves it, or why nobody does.
func poolTexts(status *runstate.Status, now time.Time) []string {
	if status == nil {
		return nil
	}
	var out []string
	for _, pool := range status.Pools {
		since := short(now.Sub(pool.Since))
		text := fmt.Sprintf("%d  served by %s for %s (tenure %d), %s", pool.Pool, pool.Worker, since, pool.Tenure, plural(pool.Groups, "group"))
		switch {
		case !pool.Serving:
			text = fmt.Sprintf("%d  no worker for %s", pool.Pool, since)
			switch reason := oneLine(pool.Reason); {
			case strings.Contains(reason, startRollout): // it advises already
				text += ": " + reason
			case reason != "":
				text += " (" + reason + "): " + startRollout + moreLoops
			default:
				text += ": " + startRollout + moreLoops
			}
		case pool.Quiet:
			text += ", its episodes wait at their next turn"
		}
		out = append(out, text)
	}
	return out
}

// stepText is "step 3 of 64". The plan of a run whose folder is not prepared is not known here.
func stepText(step, last int) string {
	if last == 0 {
		return "before its first step"
	}
	return fmt.Sprintf("step %d of %d", step, last)
}

// endText is where a run has ended: "at step 3 of 64".
func endText(step, last int) string {
	if last == 0 {
		return stepText(step, last)
	}
	return "at " + stepText(step, last)
}

// progressText is "step 3/64", for views with little room.
func progressText(step, last int) string {
	if last == 0 {
		return stepText(step, last)
	}
	return "step " + fraction(step, last)
}

// countsText is "tool 3, lost 2".
func countsText(counts []runstate.Count) string {
	parts := make([]string, len(counts))
	for i, count := range counts {
		parts[i] = fmt.Sprintf("%s %s", count.What, thousands(count.Times))
	}
	return strings.Join(parts, ", ")
}
