package env

import "fmt"

// Flaws are the probabilities with which a scripted demonstration goes wrong. Zero rates give perfect
// demonstrations. Each field says what it spoils; an environment ignores the fields of others.
type Flaws struct {
	// WrongOrder is per episode of lookup: the relations are followed in the order they are read,
	// which is the reverse of the right one.
	WrongOrder float64 `yaml:"wrong_order"`
	// Distractor is per search of lookup: the episode goes on from the wrong fact of the result.
	Distractor float64 `yaml:"distractor"`
	// StopEarly is per episode of lookup: the last search is left out.
	StopEarly float64 `yaml:"stop_early"`
	// ExtraCall is per search of lookup: a useless neighbors call comes first. Costs a turn only.
	ExtraCall float64 `yaml:"extra_call"`
	// WrongOperator is per episode of calc: one operator of the expression is another one, or its
	// parentheses are missing.
	WrongOperator float64 `yaml:"wrong_operator"`
	// WrongOperand is per episode of calc: two operands change places, or one is another number of
	// the text.
	WrongOperand float64 `yaml:"wrong_operand"`
	// RawExpression is per episode of calc: the expression itself is given as the answer.
	RawExpression float64 `yaml:"raw_expression"`
	// Unparsable is per call of both: a line that is not a call comes first. Costs a turn only.
	Unparsable float64 `yaml:"unparsable"`
	// UnknownTool is per call of both: a call of a tool that does not exist comes first. Costs a
	// turn only.
	UnknownTool float64 `yaml:"unknown_tool"`
}

// Validate returns an error that names the first rate outside [0, 1].
func (f Flaws) Validate() error {
	for _, rate := range []struct {
		name  string
		value float64
	}{
		{"wrong_order", f.WrongOrder}, {"distractor", f.Distractor}, {"stop_early", f.StopEarly},
		{"extra_call", f.ExtraCall}, {"wrong_operator", f.WrongOperator}, {"wrong_operand", f.WrongOperand},
		{"raw_expression", f.RawExpression}, {"unparsable", f.Unparsable}, {"unknown_tool", f.UnknownTool},
	} {
		if !(rate.value >= 0 && rate.value <= 1) {
			return fmt.Errorf("flaws.%s is %v; a rate lies between 0 and 1", rate.name, rate.value)
		}
	}
	return nil
}

// slips returns the turns that go wrong before a call is made properly: broken is the line that is
// not a call, unknown the call of a tool that does not exist.
func (f Flaws) slips(d *draws, broken, unknown string) []string {
	var turns []string
	if d.chance(f.Unparsable) {
		turns = append(turns, broken)
	}
	if d.chance(f.UnknownTool) {
		turns = append(turns, unknown)
	}
	return turns
}
