package env

import (
	"context"
	"reflect"
	"strings"
	"testing"

	"github.com/turnwise-rl/turnwise/rollout"
	"github.com/turnwise-rl/turnwise/rollout/tool"
)

// builtAll builds every environment of the table with its defaults.
func builtAll(t *testing.T) []Environment {
	t.Helper()
	var all []Environment
	for _, name := range Names() {
		e, err := Build(name, nil)
		if err != nil {
			t.Fatalf("Build(%q): %v", name, err)
		}
		all = append(all, e)
	}
	return all
}

// outcome plays a script strictly and returns its score; a script that ends without an answer scores 0.
func outcome(t *testing.T, e Environment, task rollout.Task, turns []string) float64 {
	t.Helper()
	episode, err := e.Open(task)
	if err != nil {
		t.Fatalf("%s: Open: %v", task.ID, err)
	}
	defer episode.Close()
	for _, turn := range turns {
		action := tool.Parse(turn)
		if action.Answered {
			return e.Verify(task, action.Answer)
		}
		for _, call := range action.Calls {
			status, text := tool.Check(call, e.Tools())
			if status == rollout.CallOK {
				result, err := episode.Call(context.Background(), call)
				if err != nil {
					t.Fatalf("%s: %s: %v", task.ID, turn, err)
				}
				text = result.Text
			}
			if text == "" {
				t.Errorf("%s: no observation answers %q", task.ID, turn)
			}
		}
	}
	return 0
}

func TestGoldPlaySolvesEveryTask(t *testing.T) {
	for _, e := range builtAll(t) {
		for _, split := range []rollout.Split{rollout.Train, rollout.HeldOut} {
			for index := range 2000 {
				task := e.Task(split, 5, index)
				if got := outcome(t, e, task, goldTurns(e, task)); got != 1 {
					t.Fatalf("%s: gold play scores %v, want 1: %s", task.ID, got, task.Prompt)
				}
			}
		}
	}
}

func TestTasksAreDeterminedByTheirArguments(t *testing.T) {
	for _, e := range builtAll(t) {
		again, err := Build(e.Name(), nil)
		if err != nil {
			t.Fatal(err)
		}
		prompts := map[string]int{}
		for index := range 500 {
			a, b := e.Task(rollout.HeldOut, 9, index), again.Task(rollout.HeldOut, 9, index)
			if !reflect.DeepEqual(a, b) {
				t.Fatalf("%s: two builds give %v and %v", a.ID, a, b)
			}
			if other := e.Task(rollout.HeldOut, 10, index); other.Prompt == a.Prompt && other.Gold.Answer == a.Gold.Answer {
				t.Errorf("%s: seeds 9 and 10 give the same task: %s", a.ID, a.Prompt)
			}
			prompts[a.Prompt+a.Gold.Answer]++
		}
		if len(prompts) < 490 {
			t.Errorf("%s: 500 held-out tasks hold only %d different ones", e.Name(), len(prompts))
		}
	}
}

func TestDemonstrationsAreImperfect(t *testing.T) {
	const tasks = 3000
	for _, e := range builtAll(t) {
		right, turns := 0.0, 0
		for index := range tasks {
			task := e.Task(rollout.Train, 3, index)
			script, err := e.(Demonstrator).Demonstrate(task, 8)
			if err != nil {
				t.Fatalf("%s: %v", task.ID, err)
			}
			right += outcome(t, e, task, script)
			turns += len(script)
		}
		share := right / tasks
		t.Logf("%s: %.1f %% of demonstrations end right, %.2f turns each", e.Name(), 100*share, float64(turns)/tasks)
		if share < 0.35 || share > 0.45 {
			t.Errorf("%s: %.3f of the demonstrations end right, want 0.35 to 0.45", e.Name(), share)
		}
	}
}

func TestDemonstrationsWithoutFlawsAreTheGoldPlay(t *testing.T) {
	lookup, calc := DefaultLookupConfig(), DefaultCalcConfig()
	lookup.Flaws, calc.Flaws = Flaws{}, Flaws{}
	for _, config := range []Config{lookup, calc} {
		e, err := config.Build()
		if err != nil {
			t.Fatal(err)
		}
		for index := range 300 {
			task := e.Task(rollout.Train, 4, index)
			got, err := e.(Demonstrator).Demonstrate(task, 1)
			if err != nil {
				t.Fatal(err)
			}
			if want := goldTurns(e, task); !reflect.DeepEqual(got, want) {
				t.Fatalf("%s: a perfect demonstration is %q, want %q", task.ID, got, want)
			}
		}
	}
}

func TestEveryFlawOccursAlone(t *testing.T) {
	for _, c := range []struct {
		flaw  string
		env   string
		flaws Flaws
		// share is what remains of the successes when the flaw always occurs: all for flaws that
		// cost a turn only, next to none for the others.
		least, most float64
	}{
		{"wrong_order", "lookup", Flaws{WrongOrder: 1}, 0, 0.1},
		{"distractor", "lookup", Flaws{Distractor: 1}, 0, 0.1},
		{"stop_early", "lookup", Flaws{StopEarly: 1}, 0, 0},
		{"extra_call", "lookup", Flaws{ExtraCall: 1}, 1, 1},
		{"unparsable", "lookup", Flaws{Unparsable: 1}, 1, 1},
		{"unknown_tool", "lookup", Flaws{UnknownTool: 1}, 1, 1},
		{"wrong_operator", "calc", Flaws{WrongOperator: 1}, 0, 0.1},
		{"wrong_operand", "calc", Flaws{WrongOperand: 1}, 0, 0.1},
		{"raw_expression", "calc", Flaws{RawExpression: 1}, 0, 0},
		{"unparsable", "calc", Flaws{Unparsable: 1}, 1, 1},
		{"unknown_tool", "calc", Flaws{UnknownTool: 1}, 1, 1},
	} {
		t.Run(c.env+"/"+c.flaw, func(t *testing.T) {
			var config Config = LookupConfig{MinHops: 2, MaxHops: 4, Distractors: 2, Flaws: c.flaws}
			if c.env == calcName {
				d := DefaultCalcConfig()
				d.Flaws = c.flaws
				config = d
			}
			e, err := Build(c.env, config)
			if err != nil {
				t.Fatal(err)
			}
			const tasks = 300
			right := 0.0
			for index := range tasks {
				task := e.Task(rollout.Train, 4, index)
				script, err := e.(Demonstrator).Demonstrate(task, 1)
				if err != nil {
					t.Fatal(err)
				}
				if c.least == 1 && len(script) <= len(task.Gold.Calls)+1 {
					t.Fatalf("%s: the flaw adds no turn to %q", task.ID, script)
				}
				right += outcome(t, e, task, script)
			}
			if share := right / tasks; share < c.least || share > c.most {
				t.Errorf("%.3f of the demonstrations end right, want %v to %v", share, c.least, c.most)
			}
		})
	}
}

func TestBlankObservationsSayNothing(t *testing.T) {
	lookup, calc := DefaultLookupConfig(), DefaultCalcConfig()
	lookup.BlankObservations, calc.BlankObservations = true, true
	for _, config := range []Config{lookup, calc} {
		e, err := config.Build()
		if err != nil {
			t.Fatal(err)
		}
		task := e.Task(rollout.Train, 1, 1)
		episode, err := e.Open(task)
		if err != nil {
			t.Fatal(err)
		}
		wrong := rollout.Call{Name: e.Tools()[0].Name, Args: rollout.StringArgs("entity", "?", "code", "1/0")}
		calls := []rollout.Call{wrong}
		for _, gold := range task.Gold.Calls {
			calls = append(calls, rollout.Call{Name: gold.Name, Args: gold.Args})
		}
		for _, call := range calls {
			result, err := episode.Call(context.Background(), call)
			if err != nil || result.Text != " -" {
				t.Errorf("%s: %s %s answers %q, %v; want \" -\"", e.Name(), call.Name, call.Args, result.Text, err)
			}
		}
	}
}

func TestStateIsWhatTheEpisodeKnows(t *testing.T) {
	for _, e := range builtAll(t) {
		task := e.Task(rollout.Train, 1, 1)
		states := func() []string {
			episode, err := e.Open(task)
			if err != nil {
				t.Fatal(err)
			}
			states := []string{episode.State()}
			for _, gold := range append(task.Gold.Calls, task.Gold.Calls[0]) {
				if _, err := episode.Call(context.Background(), rollout.Call{Name: gold.Name, Args: gold.Args}); err != nil {
					t.Fatal(err)
				}
				states = append(states, episode.State())
			}
			return states
		}
		got := states()
		if again := states(); !reflect.DeepEqual(got, again) {
			t.Errorf("%s: equal calls give states %v and %v", e.Name(), got, again)
		}
		last := len(got) - 1
		if got[0] == got[1] || got[last] != got[last-1] {
			t.Errorf("%s: states %v; a new call must change the state and a repeated one must not", e.Name(), got)
		}
	}
}

func TestAnswersInAnyDressAreCompared(t *testing.T) {
	calc, _ := Build(calcName, nil)
	task := rollout.Task{Gold: rollout.Gold{Answer: "391"}}
	for answer, want := range map[string]float64{
		"391": 1, " 391 .": 1, "-391": 0, "3.91": 0, "391.0": 0, "3 91": 0, "": 0, "23*17": 0, "391 392": 0,
	} {
		if got := calc.Verify(task, answer); got != want {
			t.Errorf("Verify(391, %q) = %v, want %v", answer, got, want)
		}
	}
}

func TestOpenRefusesForeignTasks(t *testing.T) {
	for _, e := range builtAll(t) {
		good := e.Task(rollout.Train, 1, 1)
		for name, spoil := range map[string]func(*rollout.Task){
			"another environment": func(task *rollout.Task) { task.Env = "chess" },
			"no world":            func(task *rollout.Task) { task.World = nil },
			"unknown split":       func(task *rollout.Task) { task.World = []byte(`{"split":"test","seed":1,"index":1}`) },
			"negative index":      func(task *rollout.Task) { task.World = []byte(`{"split":"train","seed":1,"index":-1}`) },
		} {
			task := good
			spoil(&task)
			if _, err := e.Open(task); err == nil {
				t.Errorf("%s: Open accepts a task of %s", e.Name(), name)
			}
			if _, err := e.(Demonstrator).Demonstrate(task, 1); err == nil {
				t.Errorf("%s: Demonstrate accepts a task of %s", e.Name(), name)
			}
		}
		if _, err := e.(Demonstrator).Demonstrate(e.Task(rollout.HeldOut, 1, 1), 1); err == nil {
			t.Errorf("%s: Demonstrate accepts a held-out task", e.Name())
		}
	}
}

func TestTable(t *testing.T) {
	if got, want := Names(), []string{"calc", "lookup"}; !reflect.DeepEqual(got, want) {
		t.Errorf("Names() = %v, want %v", got, want)
	}
	for _, entry := range Table() {
		e, err := Build(entry.Name, entry.NewConfig())
		if err != nil || e.Name() != entry.Name || entry.Doc == "" {
			t.Errorf("entry %q (%s) builds %v, %v", entry.Name, entry.Doc, e, err)
		}
	}
	if _, err := Build("chess", nil); err == nil || !strings.Contains(err.Error(), "known environments: calc, lookup") {
		t.Errorf("Build(chess) = %v, want an error that lists the names", err)
	}
	if _, err := Build("lookup", DefaultCalcConfig()); err == nil {
		t.Error("Build(lookup) accepts the config of calc")
	}
}

func TestConfigsAreValidated(t *testing.T) {
	lookup := func(change func(*LookupConfig)) Config { c := DefaultLookupConfig(); change(&c); return c }
	calc := func(change func(*CalcConfig)) Config { c := DefaultCalcConfig(); change(&c); return c }
	for want, config := range map[string]Config{
		"min_hops":             lookup(func(c *LookupConfig) { c.MinHops = 0 }),
		"max_hops":             lookup(func(c *LookupConfig) { c.MaxHops = 7 }),
		"distractors":          lookup(func(c *LookupConfig) { c.Distractors = -1 }),
		"hop_weights has":      lookup(func(c *LookupConfig) { c.HopWeights = []float64{1} }),
		"hop_weights[1]":       lookup(func(c *LookupConfig) { c.HopWeights = []float64{1, -1, 1} }),
		"hop_weights are":      lookup(func(c *LookupConfig) { c.HopWeights = []float64{0, 0, 0} }),
		"flaws.distractor":     lookup(func(c *LookupConfig) { c.Flaws.Distractor = 1.5 }),
		"max_steps":            calc(func(c *CalcConfig) { c.MaxSteps = 0 }),
		"timeout":              calc(func(c *CalcConfig) { c.Timeout = 0 }),
		"flaws.wrong_operator": calc(func(c *CalcConfig) { c.Flaws.WrongOperator = -0.1 }),
	} {
		if _, err := config.Build(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("a config with a bad %s builds with error %v", want, err)
		}
	}
}
