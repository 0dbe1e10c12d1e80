package main

import (
	"context"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"github.com/turnwise-rl/turnwise/algos"
	"github.com/turnwise-rl/turnwise/internal/runfolder"
	"github.com/turnwise-rl/turnwise/rollout"
	"github.com/turnwise-rl/turnwise/rollout/record"
)

func creditVerb(a *app) *cobra.Command {
	var choice methodChoice
	var path, prefix, explain string
	cmd := &cobra.Command{
		Use:   "credit --method NAME|-f FILE [key.path=value…] [--groups FILE|--run RUN]",
		Short: "Give recorded groups the credit of any method",
		Long: "Give recorded groups (turnwise.group/v1) the credit of any method, in float64 and by the code that training runs.\n" +
			"Without --groups and --run the groups come from standard input. All groups are one batch to what compares over\n" +
			"batches. Each trajectory gives one line of JSON, in input order; --explain tells of one trajectory what each part\n" +
			"of the method did.",
		Example: "  turnwise credit --method matchtir --groups groups.jsonl\n" +
			"  turnwise credit --method gtpo advantage.terms[0].scale=none --run quickstart-0c41 --explain g7/3",
		Args: cobra.ArbitraryArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			if path != "" && prefix != "" {
				return usagef("--groups and --run: give one of them")
			}
			method, err := choice.load("credit", args)
			if err != nil {
				return err
			}
			input, err := a.readGroups(cmd.Context(), path, prefix)
			if err != nil {
				return err
			}
			if explain != "" {
				return a.explain(method.Method, input, explain)
			}
			return a.credit(method.Method, input)
		},
	}
	choice.flags(cmd)
	cmd.Flags().StringVar(&path, "groups", "", "file with groups, one a line")
	cmd.Flags().StringVar(&prefix, "run", "", "run whose groups are read; a unique prefix will do")
	cmd.Flags().StringVar(&explain, "explain", "", "explain the credit of the trajectory with this id, turn by turn")
	_ = cmd.RegisterFlagCompletionFunc("run", a.completeRuns)
	return cmd
}

// groupInput is groups with the places they come from.
type groupInput struct {
	name   string // of the file, "stdin", or the run
	groups []rollout.Group
	// lines are the lines of the groups; nil for those of a run.
	lines []int
}

// place is where group i comes from.
func (in groupInput) place(i int) string {
	if in.lines == nil {
		return in.name
	}
	return fmt.Sprintf("%s:%d", in.name, in.lines[i])
}

// mistake says where the group that an error names stands.
func (in groupInput) mistake(err error) error {
	place := in.name
	for i, group := range in.groups {
		if strings.Contains(err.Error(), "group "+group.ID+": ") {
			place = in.place(i)
			break
		}
	}
	return usagef("%s: %s", place, oneLine(err.Error()))
}

// readGroups reads all groups of a file, of a run, or of standard input.
func (a *app) readGroups(ctx context.Context, path, run string) (groupInput, error) {
	if run != "" {
		return a.readRunGroups(ctx, run)
	}
	file, name, err := a.openInput("--groups or --run", path)
	if err != nil {
		return groupInput{}, err
	}
	defer file.Close()
	in := groupInput{name: name}
	for reader := record.NewReader(file, name); ; {
		group, err := reader.Next()
		if err == io.EOF && len(in.groups) == 0 {
			return in, usagef("%s: no group: one JSON object a line is wanted, with \"schema\":%q", name, record.Schema)
		}
		if err == io.EOF {
			return in, nil
		}
		if err != nil {
			return in, usageError{err}
		}
		in.groups, in.lines = append(in.groups, group), append(in.lines, reader.Line())
	}
}

// readRunGroups reads the groups of a run in the order of their numbers.
func (a *app) readRunGroups(ctx context.Context, prefix string) (groupInput, error) {
	lib, err := a.openLibrary(ctx, prefix)
	if err != nil {
		return groupInput{}, err
	}
	in := groupInput{name: "run " + lib.run.id}
	for _, number := range lib.groups {
		group, err := lib.decode(ctx, runfolder.SegmentKey(number), nil)
		if err != nil {
			return in, err
		}
		in.groups = append(in.groups, group)
	}
	if len(in.groups) == 0 {
		return in, usagef("run %s has no groups yet; `turnwise describe run %s` shows what it does", lib.run.id, lib.run.id)
	}
	return in, nil
}

// creditRow is the credit of one trajectory. Streams that the method does not define are left out, except
// for those that every row has.
type creditRow struct {
	Group      string  `json:"group"`
	Trajectory string  `json:"trajectory"`
	Kept       bool    `json:"kept"`
	Reason     string  `json:"reason"`
	Outcome    float64 `json:"outcome"`
	// TurnRewards has one entry a turn; null when the method has no turn rewards.
	TurnRewards []float64 `json:"turn_rewards"`
	// Advantages has one entry a token; so have the other streams of tokens.
	Advantages         []float64    `json:"advantages"`
	LossWeights        []float64    `json:"loss_weights"`
	CEWeights          []float64    `json:"ce_weights,omitempty"`
	ReferenceKLWeights []float64    `json:"reference_kl_weights,omitempty"`
	Returns            []float64    `json:"returns,omitempty"`
	ClipHigh           *float64     `json:"clip_high,omitempty"`
	RankScore          *float64     `json:"rank_score,omitempty"`
	Pair               *creditPair  `json:"pair,omitempty"`
	Terms              []creditTerm `json:"terms"`
}

// creditPair is a trajectory's part in a preference, as a batch says it.
type creditPair struct {
	ID   string `json:"id"`
	Role string `json:"role"`
}

// creditTerm is one summand of an advantage before weighting, one entry a turn.
type creditTerm struct {
	Name   string    `json:"name"`
	Weight float64   `json:"weight"`
	Turns  []float64 `json:"turns"`
}

// credit prints one row a trajectory.
func (a *app) credit(method algos.Method, in groupInput) error {
	streams, err := method.Streams(in.groups, newArithmetic())
	if err != nil {
		return in.mistake(err)
	}
	next := 0
	for i, group := range in.groups {
		for range group.Trajectories {
			if err := a.printFinite(in.place(i), newCreditRow(group.ID, streams[next])); err != nil {
				return err
			}
			next++
		}
	}
	return nil
}

func newCreditRow(group string, s rollout.Streams) creditRow {
	row := creditRow{
		Group: group, Trajectory: s.Trajectory, Kept: s.Kept, Reason: s.Reason, Outcome: s.Outcome, TurnRewards: s.TurnRewards,
		Advantages: withoutMinusZero(s.Advantage), LossWeights: s.LossWeight, CEWeights: s.CEWeight, ReferenceKLWeights: s.ReferenceKLWeight,
		Returns: s.Returns, ClipHigh: s.ClipHigh, RankScore: s.RankScore, Terms: make([]creditTerm, len(s.Terms)),
	}
	if s.Pair != "" {
		row.Pair = &creditPair{ID: s.Pair, Role: "rejected"}
		if s.Chosen {
			row.Pair.Role = "chosen"
		}
	}
	for i, term := range s.Terms {
		row.Terms[i] = creditTerm{term.Name, term.Weight, withoutMinusZero(term.Turns)}
	}
	return row
}

// withoutMinusZero is a copy for people and programs that take −0 for a number of its own.
func withoutMinusZero(values []float64) []float64 {
	out := make([]float64, len(values))
	for i, v := range values {
		out[i] = v + 0
	}
	return out
}
