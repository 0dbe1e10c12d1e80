package main

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"
	"go.starlark.net/starlark"

	"github.com/turnwise-rl/turnwise/rollout"
)

func trajLsVerb(a *app) *cobra.Command {
	var condition string
	var limit int
	cmd := &cobra.Command{
		Use:   "ls RUN",
		Short: "List a run's trajectories, the newest group first",
		Long: "List a run's trajectories, the newest group first. --where takes a Starlark expression over the fields\n" +
			"of the list (&& || ! may stand for and, or, not):\n\n" + trajFieldHelp(),
		Example: "  turnwise traj ls quickstart-0c41 --where 'reward<0.2 && stop==\"max_turns\"'\n" +
			"  turnwise traj ls quick --where 'env==\"calc\" and step==12' -o json",
		Args:              cobra.ArbitraryArgs,
		ValidArgsFunction: a.completeRuns,
		RunE: func(cmd *cobra.Command, args []string) error {
			prefix, err := oneRun("traj ls", args)
			if err != nil {
				return err
			}
			if limit < 0 {
				return usagef("--limit %d: must not be negative; 0 lists all", limit)
			}
			if a.json() && !cmd.Flags().Changed("limit") {
				limit = 0
			}
			var filter *where
			if condition != "" {
				if filter, err = parseWhere(condition, trajFieldNames()); err != nil {
					return err
				}
			}
			lib, err := a.openLibrary(cmd.Context(), prefix)
			if err != nil {
				return err
			}
			return a.listTrajectories(cmd.Context(), lib, filter, limit)
		},
	}
	cmd.Flags().StringVar(&condition, "where", "", "list only trajectories for which this expression is true")
	cmd.Flags().IntVar(&limit, "limit", 100, "list at most so many; 0 lists all, the default with -o json")
	return cmd
}

// trajRow is one trajectory of the list.
type trajRow struct {
	Run        string `json:"run"`
	Trajectory string `json:"trajectory"`
	Group      string `json:"group"`
	Member     int    `json:"member"`
	Env        string `json:"env"`
	Task       string `json:"task"`
	// State is trained, dropped (then Reason says why) or pending.
	State  string `json:"state"`
	Reason string `json:"reason"`
	// Step trained the trajectory; nil while it is pending.
	Step *int `json:"step"`
	// Outcome is the verifier's score; nil when the method computes its own.
	Outcome *float64 `json:"outcome"`
	// Reward is the method's: its outcome plus the rewards at turns.
	Reward float64 `json:"reward"`
	Turns  int     `json:"turns"`
	Calls  int     `json:"calls"`
	// Errors counts calls that did not go well.
	Errors int    `json:"errors"`
	Stop   string `json:"stop"`
	Answer string `json:"answer"`
	// Advantage is the mean over sampled tokens; nil while it is pending, for it may depend on the batch.
	Advantage *float64 `json:"advantage"`
	Tokens    int      `json:"tokens"`
	// Version is the oldest version that sampled a token; nil when not recorded.
	Version *int    `json:"version"`
	Seconds float64 `json:"seconds"`
}

// trajFields are the fields of a row that a condition may name.
var trajFields = []struct {
	name, doc string
	value     func(trajRow) starlark.Value
}{
	{"group", `id of the group, for example "g7"`, func(r trajRow) starlark.Value { return starlark.String(r.Group) }},
	{"member", "place in the group, from 0", func(r trajRow) starlark.Value { return starlark.MakeInt(r.Member) }},
	{"env", "environment", func(r trajRow) starlark.Value { return starlark.String(r.Env) }},
	{"task", "id of the task", func(r trajRow) starlark.Value { return starlark.String(r.Task) }},
	{"state", `"trained", "dropped" or "pending"`, func(r trajRow) starlark.Value { return starlark.String(r.State) }},
	{"reason", "why it was dropped", func(r trajRow) starlark.Value { return starlark.String(r.Reason) }},
	{"step", "step that trained it, or None", func(r trajRow) starlark.Value { return optionalInt(r.Step) }},
	{"outcome", "the verifier's score, or None", func(r trajRow) starlark.Value { return optionalFloat(r.Outcome) }},
	{"reward", "the method's outcome plus rewards at turns", func(r trajRow) starlark.Value { return starlark.Float(r.Reward) }},
	{"turns", "number of turns", func(r trajRow) starlark.Value { return starlark.MakeInt(r.Turns) }},
	{"calls", "number of tool calls", func(r trajRow) starlark.Value { return starlark.MakeInt(r.Calls) }},
	{"errors", "number of calls that did not go well", func(r trajRow) starlark.Value { return starlark.MakeInt(r.Errors) }},
	{"stop", `why the episode ended: "answer", "max_turns", …`, func(r trajRow) starlark.Value { return starlark.String(r.Stop) }},
	{"answer", "text of the answer", func(r trajRow) starlark.Value { return starlark.String(r.Answer) }},
	{"advantage", "mean over sampled tokens, or None", func(r trajRow) starlark.Value { return optionalFloat(r.Advantage) }},
	{"tokens", "number of tokens", func(r trajRow) starlark.Value { return starlark.MakeInt(r.Tokens) }},
	{"version", "oldest policy version that sampled a token, or None", func(r trajRow) starlark.Value { return optionalInt(r.Version) }},
	{"seconds", "wall time of the episode", func(r trajRow) starlark.Value { return starlark.Float(r.Seconds) }},
}

func optionalInt(v *int) starlark.Value {
	if v == nil {
		return starlark.None
	}
	return starlark.MakeInt(*v)
}

func optionalFloat(v *float64) starlark.Value {
	if v == nil {
		return starlark.None
	}
	return starlark.Float(*v)
}

func trajFieldNames() []string {
	var names []string
	for _, f := range trajFields {
		names = append(names, f.name)
	}
	return names
}

func trajFieldHelp() string {
	text := ""
	for _, f := range trajFields {
		text += fmt.Sprintf("  %-10s %s\n", f.name, f.doc)
	}
	return text[:len(text)-1]
}

func (r trajRow) fields() starlark.StringDict {
	row := make(starlark.StringDict, len(trajFields))
	for _, f := range trajFields {
		row[f.name] = f.value(r)
	}
	return row
}

// row describes one trajectory of a group.
func (g creditedGroup) row(run string, member int) trajRow {
	t, s := g.group.Trajectories[member], g.streams[member]
	row := trajRow{
		Run: run, Trajectory: t.ID, Group: g.group.ID, Member: member, Env: g.group.Task.Env, Task: g.group.Task.ID,
		State: "pending", Outcome: t.Outcome, Reward: s.Outcome, Turns: len(t.Turns), Stop: string(t.Stop), Answer: t.Answer,
		Tokens: len(t.Tokens), Seconds: t.ElapsedSeconds,
	}
	for _, reward := range s.TurnRewards {
		row.Reward += reward
	}
	for _, turn := range t.Turns {
		for _, call := range turn.Calls {
			row.Calls++
			if call.Status != rollout.CallOK {
				row.Errors++
			}
		}
	}
	if low, _, ok := versionRange(t, 0, len(t.Tokens)); ok {
		version := int(low)
		row.Version = &version
	}
	if g.givenUp != "" {
		row.State, row.Reason = stateDropped, g.givenUp
	}
	if g.step > 0 {
		mean := advantageMean(t, s)
		row.State, row.Reason, row.Step, row.Advantage = "trained", s.Reason, &g.step, &mean
		if !s.Kept {
			row.State = "dropped"
		}
	}
	return row
}

func (r trajRow) cells() []string {
	step, outcome, advantage := nothing, nothing, nothing
	if r.Step != nil {
		step = fmt.Sprint(*r.Step)
	}
	if r.Outcome != nil {
		outcome = number(*r.Outcome)
	}
	if r.Advantage != nil {
		advantage = signed(*r.Advantage, 3)
	}
	state := r.State
	if r.Reason != "" {
		state += ": " + r.Reason
	}
	return []string{r.Trajectory, r.Env, r.Task, state, step, outcome, number(r.Reward), fmt.Sprint(r.Turns), r.Stop, advantage}
}

// listTrajectories prints the trajectories that a condition holds for.
func (a *app) listTrajectories(ctx context.Context, lib *library, filter *where, limit int) error {
	list := newTable("TRAJECTORY", "ENV", "TASK", "STATE", ">STEP", ">OUTCOME", ">REWARD", ">TURNS", "STOP", ">ADVANTAGE")
	shown, more := 0, false
	for i := len(lib.groups) - 1; i >= 0 && !more; i-- {
		group, err := lib.read(ctx, lib.groups[i])
		if err != nil {
			return err
		}
		for member := range group.group.Trajectories {
			row := group.row(lib.run.id, member)
			if filter != nil {
				holds, err := filter.holds(row.fields())
				if err != nil {
					return err
				}
				if !holds {
					continue
				}
			}
			if more = limit > 0 && shown == limit; more {
				break
			}
			shown++
			if a.json() {
				if err := a.printJSON(row); err != nil {
					return err
				}
				continue
			}
			list.add(row.cells()...)
		}
	}
	switch {
	case len(lib.groups) == 0:
		a.note("run %s has no groups yet; `turnwise describe run %s` shows what it does", lib.run.id, lib.run.id)
	case shown == 0:
		a.note("no trajectory of %s matches", plural(len(lib.groups), "group"))
	case !a.json():
		list.write(a.out)
	}
	if more {
		a.note("the first %d; --limit 0 lists all", limit)
	}
	return nil
}
