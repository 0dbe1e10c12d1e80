package env

import (
	"context"
	"fmt"
	"strings"

	"github.com/turnwise-rl/turnwise/rollout"
	"github.com/turnwise-rl/turnwise/rollout/tool"
)

// Demonstrate implements [Demonstrator] with the flaws of the configuration. The answer is what the
// interpreter really gives for the expression of the script.
func (c *Calc) Demonstrate(task rollout.Task, seed uint64) ([]string, error) {
	o, err := demonstrable(calcName, task)
	if err != nil {
		return nil, err
	}
	p, d, flaws := newProblem(o), newDraws(seed, "demonstration", task.ID), c.config.Flaws
	expression := p.expression
	switch {
	case d.chance(flaws.WrongOperator):
		expression = p.wrongOperators[d.below(len(p.wrongOperators))]
	case d.chance(flaws.WrongOperand):
		expression = p.wrongOperands[d.below(len(p.wrongOperands))]
	}
	if d.chance(flaws.RawExpression) {
		return []string{tool.FormatAnswer(expression)}, nil
	}
	turns := flaws.slips(d,
		"python "+expression,
		"calculator code: "+expression)
	turns = append(turns, formatCall(pythonSpec, "code", expression))
	result, err := evaluate(context.Background(), expression, c.config.MaxSteps, c.config.Timeout)
	if err != nil {
		return nil, fmt.Errorf("task %s: demonstration: %w", task.ID, err)
	}
	answer, ok := strings.CutPrefix(result.Text, resultPrefix)
	if !ok {
		return nil, fmt.Errorf("task %s: demonstration: %s answers%s", task.ID, expression, result.Text)
	}
	return append(turns, tool.FormatAnswer(answer)), nil
}
