package env

import (
	"context"
	"fmt"
	"strconv"
	"time"

	"github.com/turnwise-rl/turnwise/rollout"
	"github.com/turnwise-rl/turnwise/rollout/tool"
)

const calcName = "calc"

// CalcConfig configures [Calc].
type CalcConfig struct {
	// MaxSteps bounds the interpreter's work for one call, in Starlark steps; positive.
	MaxSteps uint64 `yaml:"max_steps"`
	// Timeout bounds one call's wall-clock time; positive. The step limit comes first by far: a call
	// that runs out of time means a machine in trouble, so it fails the episode instead of answering.
	Timeout time.Duration `yaml:"timeout"`
	// BlankObservations replaces every result's text by " -", so that nothing can be learned from
	// the tools: a control experiment.
	BlankObservations bool `yaml:"blank_observations"`
	// Flaws are the faults of the demonstrations.
	Flaws Flaws `yaml:"flaws"`
}

// DefaultCalcConfig limits a call to 10,000 steps, a few milliseconds, and 5 seconds, with
// demonstrations of which about four in ten end right.
func DefaultCalcConfig() CalcConfig {
	return CalcConfig{
		MaxSteps: 10_000, Timeout: 5 * time.Second,
		Flaws: Flaws{
			WrongOperator: 0.25, WrongOperand: 0.25, RawExpression: 0.25,
			Unparsable: 0.04, UnknownTool: 0.04,
		},
	}
}

// Validate returns an error that names the first field out of range.
func (c CalcConfig) Validate() error {
	const mostSteps = 10_000_000
	if c.MaxSteps < 1 || c.MaxSteps > mostSteps {
		return fmt.Errorf("max_steps is %d; it lies between 1 and %d", c.MaxSteps, mostSteps)
	}
	if c.Timeout <= 0 {
		return fmt.Errorf("timeout is %v; it must be positive", c.Timeout)
	}
	return c.Flaws.Validate()
}

// Build implements [Config].
func (c CalcConfig) Build() (Environment, error) { return NewCalc(c) }

// Calc asks arithmetic word problems over two or three two-digit numbers, some with a number that
// does not matter or numbers told in another order than they are needed in:
//
//	mira loses 17 coins . Before that mira had 12 boxes with 34 coins each . How many coins has mira ?
//
// An unordered pair of numbers belongs for ever to one split, one in five to the held-out one, and
// the numbers of a problem meet only in pairs of its split. Results lie between 100 and 9999.
type Calc struct {
	config CalcConfig
}

// NewCalc returns the environment, or the error of [CalcConfig.Validate].
func NewCalc(config CalcConfig) (*Calc, error) {
	if err := config.Validate(); err != nil {
		return nil, fmt.Errorf("environment %s: %w", calcName, err)
	}
	return &Calc{config: config}, nil
}

// Name implements [Environment].
func (c *Calc) Name() string { return calcName }

var pythonSpec = tool.Spec{
	Name:   "python",
	Doc:    "computes the value of one arithmetic expression",
	Params: []tool.Param{{Name: "code", Doc: "the expression"}},
}

// Tools implements [Environment].
func (c *Calc) Tools() []tool.Spec { return []tool.Spec{pythonSpec} }

// Task implements [Environment]. Split is [rollout.Train] or [rollout.HeldOut].
func (c *Calc) Task(split rollout.Split, seed uint64, index int) rollout.Task {
	o := origin{split, seed, index}
	o.mustBeLegal()
	p := newProblem(o)
	return o.task(calcName, p.prompt, rollout.Gold{
		Answer: strconv.Itoa(p.value),
		Calls: []rollout.GoldCall{{
			Name: pythonSpec.Name,
			Args: rollout.StringArgs("code", p.expression),
		}},
	})
}

// Verify implements [Environment]: 1 for the gold number, else 0.
func (c *Calc) Verify(task rollout.Task, answer string) float64 { return verify(task, answer) }

// Continuation implements [Environment]: what an episode remembers is the calls that went well.
func (c *Calc) Continuation() Continuation { return Restores }

// Open implements [Environment].
func (c *Calc) Open(task rollout.Task) (Episode, error) {
	if _, err := originOf(calcName, task); err != nil {
		return nil, err
	}
	return &calcEpisode{memory: memory{blank: c.config.BlankObservations}, config: c.config}, nil
}

type calcEpisode struct {
	memory
	config CalcConfig
}

// Call implements [Episode].
func (e *calcEpisode) Call(ctx context.Context, call rollout.Call) (Result, error) {
	code, _ := call.Args.StringArg("code")
	result, err := evaluate(ctx, code, e.config.MaxSteps, e.config.Timeout)
	if err != nil {
		return Result{}, fmt.Errorf("python: %w", err)
	}
	return e.reveal(call, pythonSpec, result), nil
}
