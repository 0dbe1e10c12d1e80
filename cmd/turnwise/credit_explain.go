package main

import (
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"

	"github.com/turnwise-rl/turnwise/algos"
	"github.com/turnwise-rl/turnwise/algos/advantage"
	"github.com/turnwise-rl/turnwise/kernels"
	"github.com/turnwise-rl/turnwise/rollout"
)

// explanation is how a trajectory came by its credit.
type explanation struct {
	creditRow
	Method string          `json:"method"`
	Stop   string          `json:"stop"`
	Answer string          `json:"answer"`
	Steps  []explainedStep `json:"steps"`
	Turns  []explainedTurn `json:"turns"`
	task   string          // id and environment
	judged *float64        // the verifier's outcome
	parts  []changed       // what became of the outcome, part by part
}

// explainedStep is the state after one part of the method.
type explainedStep struct {
	Part    string  `json:"part"`
	Outcome float64 `json:"outcome"`
	// Turns are the rewards at turns and Advantages those at each turn's last token; null while there are none.
	Turns      []float64 `json:"turns"`
	Advantages []float64 `json:"advantages"`
	Reason     string    `json:"reason"`
}

// explainedTurn is a turn with everything that a method made of it.
type explainedTurn struct {
	// Start and End bound the sampled tokens, End exclusive.
	Start int            `json:"start"`
	End   int            `json:"end"`
	Calls []rollout.Call `json:"calls"`
	// Reward is null when the method has no turn rewards.
	Reward    *float64        `json:"reward"`
	Terms     []explainedTerm `json:"terms"`
	Advantage float64         `json:"advantage"`

	rewards, advantages []changed
	weight              *float64 // loss weight, the mean over the turn's tokens
}

// explainedTerm is one summand of the advantage at a turn: weight·(score − center)/scale.
type explainedTerm struct {
	Name    string `json:"name"`
	Credit  string `json:"credit"`
	Compare string `json:"compare"`
	// Score is the credit rule's; Center is what was subtracted and Scale what the rest was divided by,
	// null where the term is 0 whatever it is.
	Score        float64  `json:"score"`
	Center       float64  `json:"center"`
	Scale        *float64 `json:"scale"`
	Value        float64  `json:"value"`
	Weight       float64  `json:"weight"`
	Contribution float64  `json:"contribution"`
}

// changed is a number after a part of the method that changed it.
type changed struct {
	part  string
	value float64
}

// explain tells how one trajectory came by its credit.
func (a *app) explain(method algos.Method, in groupInput, id string) error {
	group, trajectory, row := in.find(id)
	if trajectory == nil {
		return usagef("--explain %s: no trajectory of %s has this id; it has %s", id, in.name, in.someIDs())
	}
	streams, err := method.Explain(in.groups, newArithmetic())
	if err != nil {
		return in.mistake(err)
	}
	e := newExplanation(method, *group, *trajectory, streams[row])
	if err := e.addTerms(method, in, row); err != nil {
		return in.mistake(err)
	}
	if a.json() {
		return a.printFinite(in.name, e)
	}
	e.write(a)
	return nil
}

// find returns a trajectory, its group, and its place among all; nil when there is none.
func (in groupInput) find(id string) (group *rollout.Group, trajectory *rollout.Trajectory, row int) {
	for gi := range in.groups {
		for i := range in.groups[gi].Trajectories {
			if t := &in.groups[gi].Trajectories[i]; t.ID == id {
				return &in.groups[gi], t, row
			}
			row++
		}
	}
	return nil, nil, 0
}

// someIDs names the first trajectories.
func (in groupInput) someIDs() string {
	var ids []string
	total := 0
	for _, group := range in.groups {
		for _, t := range group.Trajectories {
			if total++; total <= 4 {
				ids = append(ids, t.ID)
			}
		}
	}
	text := strings.Join(ids, ", ")
	if more := total - len(ids); more > 0 {
		text += fmt.Sprintf(" and %d more", more)
	}
	return text
}

func newExplanation(method algos.Method, group rollout.Group, t rollout.Trajectory, s rollout.Streams) *explanation {
	e := &explanation{creditRow: newCreditRow(group.ID, s), Method: method.Name, Stop: string(t.Stop), Answer: t.Answer,
		task: group.Task.ID, judged: t.Outcome}
	if group.Task.Env != "" {
		e.task += " (" + group.Task.Env + ")"
	}
	for k, turn := range t.Turns {
		out := explainedTurn{Start: turn.Start, End: turn.End, Calls: append([]rollout.Call{}, turn.Calls...), Advantage: s.Advantage[turn.End-1] + 0}
		if s.TurnRewards != nil {
			out.Reward = &s.TurnRewards[k]
		}
		if s.LossWeight != nil {
			sum := 0.0
			for _, w := range s.LossWeight[turn.Start:turn.End] {
				sum += w
			}
			out.weight = share(sum, float64(turn.End-turn.Start))
		}
		e.Turns = append(e.Turns, out)
	}
	for _, step := range s.Steps {
		e.addStep(step)
	}
	return e
}

// addStep adds the state after one part, and notes which numbers the part changed.
func (e *explanation) addStep(step rollout.Step) {
	note := func(list *[]changed, value float64) {
		if n := len(*list); n == 0 && value != 0 || n > 0 && (*list)[n-1].value != value {
			*list = append(*list, changed{step.Part, value})
		}
	}
	e.Steps = append(e.Steps, explainedStep{step.Part, step.Outcome, step.Turns, step.Advantages, step.Reason})
	note(&e.parts, step.Outcome)
	for k := range e.Turns {
		if step.Turns != nil {
			note(&e.Turns[k].rewards, step.Turns[k])
		}
		if step.Advantages != nil {
			note(&e.Turns[k].advantages, step.Advantages[k])
		}
	}
}

// addTerms adds what went into each term. The numbers inside a comparison are found by giving credit
// without it: once without centers and scales, which leaves the scores, and once without scales.
func (e *explanation) addTerms(method algos.Method, in groupInput, row int) error {
	if !e.Kept || len(method.Advantage.Terms) == 0 {
		return nil
	}
	scores, err := withoutComparison(method, in, row, true)
	if err != nil {
		return err
	}
	centered, err := withoutComparison(method, in, row, false)
	if err != nil {
		return err
	}
	for j, term := range method.Advantage.Terms {
		for k := range e.Turns {
			out := explainedTerm{
				Name: term.Name, Credit: algos.NameOf(term.Credit), Compare: comparison(term), Score: scores[j].Turns[k] + 0,
				Center: scores[j].Turns[k] - centered[j].Turns[k] + 0, Value: e.Terms[j].Turns[k], Weight: term.Weight,
			}
			if out.Value != 0 {
				out.Scale = share(centered[j].Turns[k], out.Value)
			}
			out.Contribution = out.Weight*out.Value + 0
			e.Turns[k].Terms = append(e.Turns[k].Terms, out)
		}
	}
	return nil
}

// withoutComparison gives credit without scales, and without centers if so asked, and returns the terms of
// one trajectory.
func withoutComparison(method algos.Method, in groupInput, row int, scores bool) ([]rollout.Term, error) {
	terms := slices.Clone(method.Advantage.Terms)
	for j := range terms {
		terms[j].Scale = advantage.NoScale
		if scores {
			terms[j].Center, terms[j].Singleton = advantage.NoCenter, advantage.Raw
		}
	}
	method.Advantage.Terms, method.Advantage.Transforms = terms, nil
	if !slices.ContainsFunc(terms, advantage.Term.ReadsValues) { // then nothing may train a critic
		method.Loss.Regularizers = slices.DeleteFunc(slices.Clone(method.Loss.Regularizers), func(r kernels.Regularizer) bool {
			_, critic := r.(kernels.Value)
			return critic
		})
	}
	streams, err := method.Streams(in.groups, newArithmetic())
	if err != nil {
		return nil, err
	}
	return streams[row].Terms, nil
}

// comparison says in words what a term's scores are compared with.
func comparison(t advantage.Term) string {
	text := string(t.Compare) + ": "
	switch {
	case t.Center == advantage.NoCenter && t.Scale == advantage.NoScale:
		return text + "as it is"
	case t.Scale == advantage.NoScale:
		return text + "minus " + string(t.Center)
	case t.Center == advantage.NoCenter:
		return text + "over " + string(t.Scale)
	}
	return text + "minus " + string(t.Center) + ", over " + string(t.Scale)
}

// write prints the explanation for people.
func (e *explanation) write(a *app) {
	line := func(name, format string, args ...any) { a.print("%-11s%s\n", name, fmt.Sprintf(format, args...)) }
	line("trajectory", "%s of group %s, task %s", e.Trajectory, e.Group, e.task)
	line("method", "%s", e.Method)
	judged := "not judged"
	if e.judged != nil {
		judged = "verifier " + number(*e.judged)
	}
	line("result", "stop %s  answer %s  %s", e.Stop, strconv.Quote(oneLine(e.Answer)), judged)
	line("outcome", "%s", history(e.parts, e.Outcome))
	if !e.Kept {
		line("dropped", "%s%s: every advantage is 0", e.Reason, e.dropper())
	}
	for k := range e.Turns {
		e.Turns[k].write(a, k)
	}
	if e.Pair != nil {
		line("pair", "%s of %s", e.Pair.Role, e.Pair.ID)
	}
	if e.RankScore != nil {
		line("rank score", "%s", number(*e.RankScore))
	}
	if e.ClipHigh != nil {
		line("clip high", "%s", number(*e.ClipHigh))
	}
}

// dropper is the part that dropped the trajectory; "" when no part did: some episodes are never trained.
func (e *explanation) dropper() string {
	for i, step := range e.Steps {
		if step.Reason != "" && i > 0 {
			return ", by " + step.Part
		}
	}
	return ""
}

// history writes a number with the parts that changed it.
func history(parts []changed, final float64) string {
	if len(parts) == 0 {
		return number(final)
	}
	words := make([]string, len(parts))
	for i, p := range parts {
		words[i] = fmt.Sprintf("%s (%s)", number(p.value), p.part)
	}
	return strings.Join(words, " → ")
}

// write prints one turn.
func (t explainedTurn) write(a *app, k int) {
	a.print("\nturn %-6dtokens %d–%d", k, t.Start, t.End-1)
	for _, call := range t.Calls {
		a.print("  call %s: %s", callText(call.Name, call.Args), call.Status)
	}
	a.print("\n")
	if t.Reward != nil {
		a.print("  reward     %s\n", history(t.rewards, *t.Reward))
	}
	if len(t.Terms) > 0 {
		list := newTable("  TERM", "CREDIT", "COMPARED WITH", ">SCORE", ">CENTER", ">SCALE", ">VALUE", ">WEIGHT", ">ADDS")
		for _, term := range t.Terms {
			scale := nothing
			if term.Scale != nil {
				scale = number(*term.Scale)
			}
			list.add("  "+term.Name, term.Credit, term.Compare, number(term.Score), number(term.Center), scale, signed(term.Value, 3), number(term.Weight), signed(term.Contribution, 3))
		}
		list.write(a.out)
	}
	sum := 0.0
	for _, term := range t.Terms {
		sum += term.Contribution
	}
	a.print("  advantage  %s", signed(t.Advantage, 4))
	if math.Abs(sum-t.Advantage) > 1e-9 && len(t.Terms) > 0 {
		a.print("  by %s", history(t.advantages, t.Advantage))
	}
	if t.weight != nil {
		a.print("  loss weight %s", number(*t.weight))
	}
	a.print("\n")
}
