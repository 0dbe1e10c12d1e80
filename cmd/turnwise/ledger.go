package main

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"
)

func ledgerVerb(a *app) *cobra.Command {
	var check, offline bool
	cmd := &cobra.Command{
		Use:   "ledger RUN [GROUP | TRAJECTORY]",
		Short: "Answer what became of every trajectory: trained when and how, or why not",
		Long: "Answer what became of every trajectory of a run, a line each: the step that trained it, the advantage it\n" +
			"had, the policy versions that sampled it and the attempt that finished it, or why it was not trained.\n" +
			"With one trajectory, its story. Everything is read from the run's folder.\n\n" +
			"--check compares store, ledger and Temporal's history of the run instead, and exits 1 when they disagree,\n" +
			"with a line for each disagreement. --offline leaves the history out.",
		Example: "  turnwise ledger quickstart-0c41 g7/3\n" +
			"  turnwise ledger quick --check",
		Args:              cobra.ArbitraryArgs,
		ValidArgsFunction: a.completeRuns,
		RunE: func(cmd *cobra.Command, args []string) error {
			target, err := parseLedgerTarget(args)
			if err != nil {
				return err
			}
			switch {
			case offline && !check:
				return usagef("--offline belongs to --check: the ledger itself is always read from the folder")
			case check && target.group >= 0:
				return usagef("--check looks at a whole run: `turnwise ledger %s --check`", target.run)
			case check:
				return a.checkLedger(cmd.Context(), target.run, offline)
			}
			return a.showLedger(cmd.Context(), target)
		},
	}
	cmd.Flags().BoolVar(&check, "check", false, "compare store, ledger and history; exit 1 when they disagree")
	cmd.Flags().BoolVar(&offline, "offline", false, "with --check: leave Temporal's history out")
	return cmd
}

// parseLedgerTarget reads RUN, RUN g7, RUN g7/3, RUN/g7 or RUN/g7/3. The group is −1 for a whole run.
func parseLedgerTarget(args []string) (trajAddress, error) {
	if len(args) > 1 && (args[0] == "run" || args[0] == "runs") {
		args = args[1:]
	}
	text := strings.Join(args, "/")
	switch {
	case len(args) == 0 || len(args) > 2 || args[0] == "":
		return trajAddress{}, usagef("ledger takes a run's id, and one group or trajectory of it at most, as in `turnwise ledger RUN g7/3`; `turnwise get runs` lists runs")
	case !strings.Contains(text, "/"):
		return trajAddress{run: text, group: -1, member: -1}, nil
	}
	address, err := parseAddress(text)
	if err != nil {
		return address, usagef("%q names no group or trajectory: write g7 or g7/3; `turnwise ledger %s` lists them", strings.Join(strings.Split(text, "/")[1:], "/"), strings.Split(text, "/")[0])
	}
	return address, nil
}

// showLedger prints what became of a run's trajectories, those of a group, or one.
func (a *app) showLedger(ctx context.Context, target trajAddress) error {
	b, err := a.openBook(ctx, target.run)
	if err != nil {
		return err
	}
	if target.group < 0 {
		return a.listLedger(ctx, b, b.numbers)
	}
	if !b.knows(target.group) {
		return usagef("run %s has no group %s: it has %s; `turnwise ledger %s` lists them", b.run.id, groupName(target.group), plural(len(b.numbers), "group"), b.run.id)
	}
	if target.member < 0 {
		return a.listLedger(ctx, b, []int{target.group})
	}
	page, err := b.page(ctx, target.group)
	if err != nil {
		return err
	}
	for i, line := range page.lines {
		if line.member == target.member {
			return a.showStory(page, i)
		}
	}
	return usagef("group %s of run %s has no member %d; `turnwise ledger %s %s` lists them", groupName(target.group), b.run.id, target.member, b.run.id, groupName(target.group))
}

// ledgerLine is what became of one trajectory.
type ledgerLine struct {
	Trajectory string `json:"trajectory"`
	// State is trained, dropped (it was left out of training for Reason), failed (no attempt came to the
	// end) or pending (it is in flight, or waits for training).
	State string `json:"state"`
	// Step trained it, or is the one whose batch left it out; nil when there is none.
	Step   *int   `json:"step"`
	Reason string `json:"reason"`
	// Versions are the smallest and largest policy version that sampled a token; nil when none is known.
	Versions []int `json:"versions"`
	// Attempt is the one that finished it or, while there is none, the last; nil when it is not recorded.
	Attempt *int `json:"attempt"`
	// AdvantageMean is over sampled tokens; nil when no step gave credit.
	AdvantageMean *float64 `json:"advantage_mean"`
	// Turns counts the finished turns; nil when neither the group nor a record of its turns is there.
	Turns *int `json:"turns"`

	group, member int
}

// listLedger prints a line for each trajectory of some groups, and the counts at the end.
func (a *app) listLedger(ctx context.Context, b *book, groups []int) error {
	rows := newTable("TRAJECTORY", "STATE", ">STEP", ">VERSIONS", ">ATTEMPT", ">TURNS", ">ADVANTAGE", "REASON")
	counts := map[string]int{}
	for _, number := range groups {
		page, err := b.page(ctx, number)
		if err != nil {
			return err
		}
		for _, line := range page.lines {
			counts[line.State]++
			if !a.json() {
				rows.add(line.cells()...)
			} else if err := a.printJSON(line); err != nil {
				return err
			}
		}
	}
	if !a.json() && len(rows.rows) > 1 {
		rows.write(a.out)
	}
	total := counts[stateTrained] + counts[stateDropped] + counts[stateFailed] + counts[statePending]
	a.note("run %s: %s and %s: %d trained, %d dropped, %d failed, %d pending", b.run.id,
		plural(len(groups), "group"), counted(total, "trajectory", "trajectories"),
		counts[stateTrained], counts[stateDropped], counts[stateFailed], counts[statePending])
	return nil
}

// States of a trajectory.
const (
	stateTrained = "trained"
	stateDropped = "dropped"
	stateFailed  = "failed"
	statePending = "pending"
)

func (l ledgerLine) cells() []string {
	advantage := nothing
	if l.AdvantageMean != nil {
		advantage = signed(*l.AdvantageMean, 3)
	}
	return []string{l.Trajectory, l.State, optionalCount(l.Step), versionsText(l.Versions), optionalCount(l.Attempt), optionalCount(l.Turns), advantage, l.Reason}
}

func optionalCount(n *int) string {
	if n == nil {
		return nothing
	}
	return fmt.Sprint(*n)
}

// versionsText is "3" or "3-4".
func versionsText(versions []int) string {
	switch {
	case len(versions) != 2:
		return nothing
	case versions[0] == versions[1]:
		return fmt.Sprint(versions[0])
	}
	return fmt.Sprintf("%d-%d", versions[0], versions[1])
}

// moment prints a time of the run as people read it.
func moment(t time.Time) string { return t.Local().Format(time.DateTime) }
