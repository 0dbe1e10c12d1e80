package main

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/turnwise-rl/turnwise/rollout"
	"github.com/turnwise-rl/turnwise/rollout/render"
	"github.com/turnwise-rl/turnwise/workflows/activity"
)

func trajShowVerb(a *app) *cobra.Command {
	var tokens bool
	cmd := &cobra.Command{
		Use:   "show RUN/GROUP[/MEMBER]",
		Short: "Read a trajectory turn by turn, with the credit each turn earned",
		Example: "  turnwise traj show quickstart-0c41/g7/3\n" +
			"  turnwise traj show quick/g7/3 --tokens",
		Args: cobra.ArbitraryArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) != 1 {
				return usagef("traj show takes one RUN/GROUP/MEMBER; `turnwise traj ls RUN` lists them")
			}
			address, err := parseAddress(args[0])
			if err != nil {
				return err
			}
			lib, err := a.openLibrary(cmd.Context(), address.run)
			if err != nil {
				return err
			}
			return a.showTrajectories(cmd.Context(), lib, address, tokens)
		},
	}
	cmd.Flags().BoolVar(&tokens, "tokens", false, "show every sampled token with its log-probability and advantage")
	return cmd
}

// trajAddress names a trajectory, or all of a group when member is −1.
type trajAddress struct {
	run           string
	group, member int
}

// parseAddress reads RUN/g7/3; RUN/g7/t3 is the same.
func parseAddress(text string) (trajAddress, error) {
	bad := usagef("%s names no trajectory: write RUN/g7/3, or RUN/g7 for the whole group; `turnwise traj ls RUN` lists them", text)
	parts := strings.Split(text, "/")
	if len(parts) < 2 || len(parts) > 3 || parts[0] == "" {
		return trajAddress{}, bad
	}
	address := trajAddress{run: parts[0], member: -1}
	var err error
	if address.group, err = ordinal(parts[1], "g"); err != nil {
		return trajAddress{}, bad
	}
	if len(parts) == 3 {
		if address.member, err = ordinal(parts[2], "t"); err != nil {
			return trajAddress{}, bad
		}
	}
	return address, nil
}

// ordinal reads a number that a letter may precede.
func ordinal(text, letter string) (int, error) {
	n, err := strconv.ParseUint(strings.TrimPrefix(text, letter), 10, 31)
	return int(n), err
}

// episode is a trajectory as text, with the credit it earned.
type episode struct {
	trajRow
	Prompt      string             `json:"prompt"`
	Gold        string             `json:"gold"`
	GoldCalls   []rollout.GoldCall `json:"gold_calls"`
	Success     bool               `json:"success"`
	Temperature float64            `json:"temperature"`
	TurnList    []episodeTurn      `json:"turn_list"`
}

type episodeTurn struct {
	// Start and End bound the sampled tokens, End exclusive.
	Start     int            `json:"start"`
	End       int            `json:"end"`
	Text      string         `json:"text"`
	Calls     []rollout.Call `json:"calls"`
	FormatOK  bool           `json:"format_ok"`
	Advantage float64        `json:"advantage"`
	// Reward is the method's at this turn; nil when it gives none.
	Reward *float64 `json:"reward"`
	// Terms are the advantage's summands before weighting.
	Terms       []episodeTerm      `json:"terms"`
	Versions    []rollout.Version  `json:"versions"`
	Entropy     float64            `json:"entropy"`
	Rewards     map[string]float64 `json:"rewards"`
	Observation string             `json:"observation"`
	// TokenList has the sampled tokens; only with --tokens.
	TokenList []episodeToken `json:"token_list,omitempty"`
}

type episodeTerm struct {
	Name   string  `json:"name"`
	Weight float64 `json:"weight"`
	Value  float64 `json:"value"`
}

type episodeToken struct {
	At        int              `json:"at"`
	ID        int32            `json:"id"`
	Text      string           `json:"text"`
	LogProb   *float32         `json:"logprob"`
	Version   *rollout.Version `json:"version"`
	Advantage float64          `json:"advantage"`
}

func (a *app) showTrajectories(ctx context.Context, lib *library, address trajAddress, tokens bool) error {
	id := lib.run.id
	if !slices.Contains(lib.groups, address.group) {
		return usagef("run %s has no group %s: it has %s; `turnwise traj ls %s` lists them", id, groupName(address.group), plural(len(lib.groups), "group"), id)
	}
	group, err := lib.read(ctx, address.group)
	if err != nil {
		return err
	}
	members := len(group.group.Trajectories)
	if address.member >= members {
		return usagef("group %s of run %s has members 0 to %d; `turnwise traj show %s/%s` shows them all", groupName(address.group), id, members-1, id, groupName(address.group))
	}
	tokenizer, err := activity.Tokenizer(ctx, lib.run.folder, lib.run.config.Run)
	if err != nil {
		return fmt.Errorf("tokenizer of run %s: %w", id, err)
	}
	for member := range members {
		if address.member >= 0 && member != address.member {
			continue
		}
		e := group.episode(id, tokenizer, member, tokens)
		if a.json() {
			err = a.printJSON(e)
		} else {
			e.write(a)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// groupName is the id of a group.
func groupName(number int) string { return fmt.Sprintf("g%d", number) }

// episode turns a member of the group into text.
func (g creditedGroup) episode(run string, tokenizer *render.Tokenizer, member int, tokens bool) episode {
	t, s := g.group.Trajectories[member], g.streams[member]
	text := activity.Transcribe(tokenizer, g.group.Task, t)
	e := episode{trajRow: g.row(run, member), Prompt: text.Prompt, Gold: text.Gold, GoldCalls: g.group.Task.Gold.Calls, Success: text.Success, Temperature: t.Temperature}
	if e.Temperature == 0 {
		e.Temperature = 1
	}
	for k, turn := range t.Turns {
		out := episodeTurn{
			Start: turn.Start, End: turn.End, Text: text.Turns[k].Policy, Calls: turn.Calls, FormatOK: turn.FormatOK,
			Advantage: turnAdvantage(turn, s), Entropy: turn.Entropy, Rewards: turn.Rewards, Observation: text.Turns[k].Observation,
		}
		if s.TurnRewards != nil {
			out.Reward = &s.TurnRewards[k]
		}
		for _, term := range s.Terms {
			if k < len(term.Turns) {
				out.Terms = append(out.Terms, episodeTerm{term.Name, term.Weight, term.Turns[k]})
			}
		}
		if low, high, ok := versionRange(t, turn.Start, turn.End); ok {
			out.Versions = []rollout.Version{low, high}
		}
		if tokens {
			out.TokenList = tokenList(tokenizer, t, s, turn)
		}
		e.TurnList = append(e.TurnList, out)
	}
	return e
}

func tokenList(tokenizer *render.Tokenizer, t rollout.Trajectory, s rollout.Streams, turn rollout.Turn) []episodeToken {
	var list []episodeToken
	for i := turn.Start; i < turn.End; i++ {
		token := episodeToken{At: i, ID: t.Tokens[i], Text: tokenizer.Text(t.Tokens[i : i+1]), Advantage: s.Advantage[i]}
		if t.BehaviorLogProbs != nil {
			token.LogProb = &t.BehaviorLogProbs[i]
		}
		if t.Versions != nil {
			token.Version = &t.Versions[i]
		}
		list = append(list, token)
	}
	return list
}

// write prints the episode for people.
func (e episode) write(a *app) {
	line := func(name, format string, args ...any) { a.print("%-11s%s\n", name, fmt.Sprintf(format, args...)) }
	line("trajectory", "%s of run %s", e.Trajectory, e.Run)
	line("task", "%s (%s)", e.Task, e.Env)
	switch e.State {
	case "pending":
		line("state", "pending: not trained yet; the advantages are those of its group alone")
	case "dropped":
		line("state", "dropped at step %d: %s", *e.Step, e.Reason)
	default:
		line("state", "trained at step %d", *e.Step)
	}
	outcome := "not judged"
	if e.Outcome != nil {
		outcome = number(*e.Outcome)
	}
	line("result", "stop %s  outcome %s  reward %s  %s  temperature %g", e.Stop, outcome, number(e.Reward), plural(e.Tokens, "token"), e.Temperature)
	line("prompt", "%s", strings.TrimPrefix(indent(e.Prompt, "           "), "           "))
	for k, turn := range e.TurnList {
		turn.write(a, k)
	}
	line("answer", "%s", oneLine(e.Answer))
	line("gold", "%s", oneLine(e.Gold))
	for i, call := range e.GoldCalls {
		line(first(i, "gold calls"), "%s", callText(call.Name, call.Args))
	}
	a.print("\n")
}

func (t episodeTurn) write(a *app, k int) {
	a.print("\nturn %-6d advantage %s", k, signed(t.Advantage, 3))
	if t.Reward != nil {
		a.print("  reward %s", number(*t.Reward))
	}
	for _, term := range t.Terms {
		a.print("  %g×%s %s", term.Weight, term.Name, signed(term.Value, 3))
	}
	a.print("  tokens %d–%d", t.Start, t.End-1)
	switch {
	case len(t.Versions) == 2 && t.Versions[0] != t.Versions[1]:
		a.print("  versions %d–%d", t.Versions[0], t.Versions[1])
	case len(t.Versions) == 2:
		a.print("  version %d", t.Versions[0])
	}
	a.print("  entropy %s", number(t.Entropy))
	if !t.FormatOK {
		a.print("  malformed")
	}
	a.print("\n%s\n", indent(t.Text, "  > "))
	for _, call := range t.Calls {
		a.print("    call %s: %s\n", callText(call.Name, call.Args), call.Status)
	}
	if t.TokenList != nil {
		t.writeTokens(a)
	}
	if t.Observation != "" {
		a.print("%s\n", indent(t.Observation, "  < "))
	}
}

func (t episodeTurn) writeTokens(a *app) {
	list := newTable("    AT", ">ID", ">LOGPROB", ">VERSION", ">ADVANTAGE", "TEXT")
	for _, token := range t.TokenList {
		logprob, version := nothing, nothing
		if token.LogProb != nil {
			logprob = fmt.Sprintf("%.4f", *token.LogProb)
		}
		if token.Version != nil {
			version = fmt.Sprint(*token.Version)
		}
		list.add(fmt.Sprintf("    %d", token.At), fmt.Sprint(token.ID), logprob, version, signed(token.Advantage, 4), strconv.Quote(token.Text))
	}
	list.write(a.out)
}

// callText writes a call with its arguments in the order of their names.
func callText(name string, args rollout.Args) string {
	var parts []string
	for key := range args {
		parts = append(parts, key)
	}
	slices.Sort(parts)
	for i, key := range parts {
		var compact json.RawMessage = args[key]
		parts[i] = key + "=" + string(compact)
	}
	return name + "(" + strings.Join(parts, ", ") + ")"
}
