package env

import (
	"strconv"
	"strings"

	"github.com/turnwise-rl/turnwise/rollout"
)

// template is one kind of word problem. Its text and expressions speak of numbers a, b, c, of the
// actors A, B and of the item I, each a word of its own.
type template struct {
	text string
	// expression is canonical: no spaces, no parentheses but the needed ones.
	expression string
	value      func(a, b, c int) int
	numbers    int
	// wrongOperators are expressions of somebody who misread an operation.
	wrongOperators []string
	// wrongOperands are expressions of somebody who took the right operations of wrong numbers.
	wrongOperands []string
}

const question = " How many I has A ?"

// templates share their words, so that what tells them apart is how the words are put together.
var templates = []template{
	{
		text:       " A has a boxes with b I each and finds c I more ." + question,
		expression: "a*b+c", value: func(a, b, c int) int { return a*b + c }, numbers: 3,
		wrongOperators: []string{"a*b-c", "a+b+c", "a*(b+c)"}, wrongOperands: []string{"a*c+b", "b*c+a"},
	},
	{
		text:       " A has a boxes with b I each and loses c I ." + question,
		expression: "a*b-c", value: func(a, b, c int) int { return a*b - c }, numbers: 3,
		wrongOperators: []string{"a*b+c", "a+b-c", "a*(b-c)"}, wrongOperands: []string{"a*c-b", "c-a*b"},
	},
	{
		text:       " A has a red boxes and b blue boxes . Each box has c I ." + question,
		expression: "(a+b)*c", value: func(a, b, c int) int { return (a + b) * c }, numbers: 3,
		wrongOperators: []string{"(a-b)*c", "a+b*c", "a+b+c"}, wrongOperands: []string{"(a+c)*b", "(b+c)*a"},
	},
	{
		text:       " A has a boxes and loses b boxes . Each box has c I ." + question,
		expression: "(a-b)*c", value: func(a, b, c int) int { return (a - b) * c }, numbers: 3,
		wrongOperators: []string{"(a+b)*c", "a-b*c", "a-b+c"}, wrongOperands: []string{"(a-c)*b", "(b-a)*c"},
	},
	{
		text:       " A has a boxes . Each box has b red I and c blue I ." + question,
		expression: "a*(b+c)", value: func(a, b, c int) int { return a * (b + c) }, numbers: 3,
		wrongOperators: []string{"a*(b-c)", "a*b+c", "a+b+c"}, wrongOperands: []string{"b*(a+c)", "c*(a+b)"},
	},
	{
		text:       " A has a boxes with b I each . B has c boxes with b I each . How many I have A and B ?",
		expression: "(a+c)*b", value: func(a, b, c int) int { return (a + c) * b }, numbers: 3,
		wrongOperators: []string{"(a-c)*b", "a+c*b", "a*c+b"}, wrongOperands: []string{"(a+b)*c", "a*b+c"},
	},
	{ // what is told first happens last
		text:       " A finds a I . Before that A had b boxes with c I each ." + question,
		expression: "b*c+a", value: func(a, b, c int) int { return b*c + a }, numbers: 3,
		wrongOperators: []string{"b*c-a", "b+c+a", "b*(c+a)"}, wrongOperands: []string{"a*b+c", "a*c+b"},
	},
	{
		text:       " A loses a I . Before that A had b boxes with c I each ." + question,
		expression: "b*c-a", value: func(a, b, c int) int { return b*c - a }, numbers: 3,
		wrongOperators: []string{"b*c+a", "b+c-a", "b*(c-a)"}, wrongOperands: []string{"a*b-c", "a-b*c"},
	},
	{
		text:       " Each box has a I . A had b boxes and loses c boxes ." + question,
		expression: "(b-c)*a", value: func(a, b, c int) int { return (b - c) * a }, numbers: 3,
		wrongOperators: []string{"(b+c)*a", "b-c*a", "b-c+a"}, wrongOperands: []string{"(a-b)*c", "(c-b)*a"},
	},
	{ // one number does not matter
		text:       " A is a years old and has b boxes with c I each ." + question,
		expression: "b*c", value: func(_, b, c int) int { return b * c }, numbers: 3,
		wrongOperators: []string{"b+c", "b-c"}, wrongOperands: []string{"a*b", "a*c"},
	},
	{
		text:       " A has a boxes with b I each . B has c I ." + question,
		expression: "a*b", value: func(a, b, _ int) int { return a * b }, numbers: 3,
		wrongOperators: []string{"a+b", "a*b+c"}, wrongOperands: []string{"a*c", "b*c"},
	},
	{
		text:       " A has a boxes with b I each ." + question,
		expression: "a*b", value: func(a, b, _ int) int { return a * b }, numbers: 2,
		wrongOperators: []string{"a+b", "a-b"}, wrongOperands: []string{"a*a", "b*b"},
	},
}

var itemNames = strings.Fields("coins cards shells stones")

const (
	minOperand, maxOperand = 10, 99
	minResult, maxResult   = 100, 9999
)

// problem is a template filled in.
type problem struct {
	prompt         string
	expression     string
	value          int
	wrongOperators []string
	wrongOperands  []string
}

// newProblem draws the problem of an origin: numbers are drawn until they belong to the split and
// their result is in range.
func newProblem(o origin) problem {
	d := o.draws("calc problem")
	t := templates[d.below(len(templates))]
	numbers := make([]int, t.numbers)
	for {
		for i := range numbers {
			numbers[i] = minOperand + d.below(maxOperand-minOperand+1)
		}
		a, b, c := numbers[0], numbers[1], numbers[len(numbers)-1]
		value := t.value(a, b, c)
		if value < minResult || value > maxResult || !pairsInSplit(o.Split, numbers) {
			continue
		}
		actors := entityNames[d.below(entityCount)]
		other := entityNames[d.below(entityCount)]
		for other == actors {
			other = entityNames[d.below(entityCount)]
		}
		item := itemNames[d.below(len(itemNames))]
		fill := strings.NewReplacer("a", strconv.Itoa(a), "b", strconv.Itoa(b), "c", strconv.Itoa(c))
		p := problem{expression: fill.Replace(t.expression), value: value}
		for _, e := range t.wrongOperators {
			p.wrongOperators = append(p.wrongOperators, fill.Replace(e))
		}
		for _, e := range t.wrongOperands {
			p.wrongOperands = append(p.wrongOperands, fill.Replace(e))
		}
		words := map[string]string{
			"a": strconv.Itoa(a), "b": strconv.Itoa(b), "c": strconv.Itoa(c), "A": actors, "B": other, "I": item,
		}
		for _, word := range strings.Fields(t.text) {
			if filled, ok := words[word]; ok {
				word = filled
			}
			p.prompt += " " + word
		}
		return p
	}
}

// pairsInSplit says whether all numbers are distinct and every two of them belong to the split.
func pairsInSplit(split rollout.Split, numbers []int) bool {
	for i, x := range numbers {
		for _, y := range numbers[:i] {
			if x == y || !inSplit(split, hash("calc operands", strconv.Itoa(min(x, y)), strconv.Itoa(max(x, y)))) {
				return false
			}
		}
	}
	return true
}
