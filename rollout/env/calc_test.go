package env

import (
	"context"
	"errors"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/turnwise-rl/turnwise/rollout"
)

var digits = regexp.MustCompile(`\d+`)

func TestSplitsShareNoPairOfOperands(t *testing.T) {
	e, _ := Build(calcName, nil)
	pairs := map[rollout.Split]map[[2]int]bool{rollout.Train: {}, rollout.HeldOut: {}}
	kinds := map[string]int{}
	for split, met := range pairs {
		for index := range 3000 {
			task := e.Task(split, uint64(index%5), index)
			var numbers []int
			for _, text := range digits.FindAllString(task.Prompt, -1) {
				n, _ := strconv.Atoi(text)
				numbers = append(numbers, n)
			}
			slices.Sort(numbers)
			if len(numbers) < 2 || numbers[0] < 10 || numbers[len(numbers)-1] > 99 {
				t.Fatalf("%s: operands %v, want two-digit ones: %s", task.ID, numbers, task.Prompt)
			}
			numbers = slices.Compact(numbers)
			for i, x := range numbers {
				for _, y := range numbers[i+1:] {
					met[[2]int{x, y}] = true
				}
			}
			code, _ := task.Gold.Calls[0].Args.StringArg("code")
			kinds[digits.ReplaceAllString(code, "n")]++
			if value, _ := strconv.Atoi(task.Gold.Answer); value < 100 || value > 9999 || strings.Contains(task.Prompt, " "+task.Gold.Answer+" ") {
				t.Fatalf("%s: the result %s is out of range or told: %s", task.ID, task.Gold.Answer, task.Prompt)
			}
		}
	}
	for pair := range pairs[rollout.HeldOut] {
		if pairs[rollout.Train][pair] {
			t.Errorf("operands %v meet in both splits", pair)
		}
	}
	if n := len(pairs[rollout.HeldOut]); n < 600 {
		t.Errorf("held-out tasks hold %d pairs of operands, want most of about 800", n)
	}
	if len(kinds) < 6 {
		t.Errorf("expressions have the forms %v, want at least 6", kinds)
	}
}

func TestTemplatesSayWhatTheirExpressionsCompute(t *testing.T) {
	for _, template := range templates {
		a, b, c := 97, 31, 23
		fill := strings.NewReplacer("a", "97", "b", "31", "c", "23")
		got, err := evaluate(context.Background(), fill.Replace(template.expression), 1000, time.Minute)
		if want := resultPrefix + strconv.Itoa(template.value(a, b, c)); err != nil || got.Text != want {
			t.Errorf("%s answers %q, %v; the template computes %q", template.expression, got.Text, err, want)
		}
		for _, wrong := range slices.Concat(template.wrongOperators, template.wrongOperands) {
			result, err := evaluate(context.Background(), fill.Replace(wrong), 1000, time.Minute)
			if err != nil || result.Status != rollout.CallOK || result.Text == got.Text {
				t.Errorf("wrong expression %s of %s answers %q (%s), %v", wrong, template.expression, result.Text, result.Status, err)
			}
		}
	}
}

func TestPythonAnswers(t *testing.T) {
	for _, c := range []struct{ code, want string }{
		{"12*34-17", " = 391"},
		{"(12 + 34) * 5", " = 230"},
		{"12-34", " = -22"},
		{"-(3+4)", " = -7"},
		{"7/2", " = 3.5"},
		{"8/2", " = 4"},
		{"7//2", " = 3"},
		{"7%4", " = 3"},
		{"1/3", " = 0.333333"},
		{"sum([x*x for x in range(5) if x>1])", " = 29"},
		{"max(3,min(9,4),abs(-2))", " = 4"},
		{"len([1,2])+int(7.9)", " = 9"},
		{"sum([])", " = 0"},
		{"3 if 2>1 else 4", " = 3"},
		{"2 and not 0 and 5", " = 5"},
		{"not 2", " error: result is not a number"},
		{"1<2", " error: result is not a number"},
		{"[1,2]", " error: result is not a number"},
		{"1/0", " error: division by zero"},
		{"5//(3-3)", " error: division by zero"},
		{"5%0", " error: division by zero"},
		{"", " error: not an expression"},
		{"12*", " error: not an expression"},
		{"2**3", " error: not an expression"},
		{"x=1", " error: not an expression"},
		{"load('a','b')", " error: not an expression"},
		{"x+1", " error: no name x"},
		{"len", " error: no name len"},
		{"True+1", " error: no name True"},
		{"'a'*3", " error: only numbers are allowed"},
		{"{1:2}", " error: only numbers are allowed"},
		{"{x: x for x in range(3)}", " error: only numbers are allowed"},
		{"(1,2)", " error: only numbers are allowed"},
		{"[1,2][0]", " error: only numbers are allowed"},
		{"[1]*3", " error: operators take numbers"},
		{"[1]+[2]", " error: operators take numbers"},
		{"sum(3)", " error: operators take numbers"},
		{"sum([[1]])", " error: operators take numbers"},
		{"abs([1])", " error: abs takes a number"},
		{"min([1,2],[3])", " error: operators take numbers"},
		{"1<<3", " error: no operator <<"},
		{"1 in [1]", " error: no operator in"},
		{"~1", " error: no operator ~"},
		{"range(*[1])", " error: no operator *"},
		{"range(stop=1)", " error: no name stop"},
		{"print(1)", " error: no such function"},
		{"getattr(1,2)", " error: no such function"},
		{"(1).real", " error: only numbers are allowed"},
		{"[x for x,y in [[1,2]]]", " error: for takes one name"},
		{"len(3)", " error: cannot compute"},
		{"[x for x in range(2)] and x", " error: cannot compute"},
		{"1e999", " error: not an expression"},
		{"1e308*10", " error: number too long"},
	} {
		got, err := evaluate(context.Background(), c.code, 10_000, time.Minute)
		if err != nil || got.Text != c.want || (got.Status == rollout.CallOK) != strings.HasPrefix(c.want, resultPrefix) {
			t.Errorf("%s answers %q (%s), %v; want %q", c.code, got.Text, got.Status, err, c.want)
		}
	}
}

// TestPythonIsBounded gives expressions that would run or grow for ever. Each must be answered after
// little work: the step limit makes time a matter of course, so only memory is measured.
func TestPythonIsBounded(t *testing.T) {
	nest := func(open, closing, inner string, n int) string {
		return strings.Repeat(open, n) + inner + strings.Repeat(closing, n)
	}
	for _, c := range []struct{ name, code, want string }{
		{"endless comprehension", "[x for a in range(1000000000) for b in range(1000000000) for x in [1]]", "too many steps"},
		{"endless fold", "sum(range(1000000000000))", "too many steps"},
		{"folds in a loop", "[sum(range(9000)) for x in range(9000)]", "too many steps"},
		{"huge product", strings.Repeat("99999999*", 20) + "9", "number too long"},
		{"huge literal", strings.Repeat("9", 200), "number too long"},
		{"growing square", "[[a*a*a*a*a*a*a for a in [b*b*b*b*b*b*b*b]] for b in [c*c*c*c*c*c for c in [99999]]]", "number too long"},
		{"repeated list", "len([0]*1000000000)", "operators take numbers"},
		{"repeated text", "len('a'*1000000000)", "only numbers are allowed"},
		{"shift", "1<<500", "no operator <<"},
		{"recursion", "(lambda f: f(f))(lambda f: f(f))", "no such function"},
		{"doubling lists", nest("[[x,x] for x in ", "]", "[1]", 14), "result is not a number"},
		{"deep parentheses", nest("(", ")", "1", 127), ""},
		{"deep minus", strings.Repeat("-", 250) + "1", ""},
		{"long text", strings.Repeat("1+", 200) + "1", "code too long"},
		{"big result", "99999999999999999*99999999999999999", "number too long"},
	} {
		t.Run(c.name, func(t *testing.T) {
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			got, err := evaluate(context.Background(), c.code, 10_000, time.Minute)
			runtime.ReadMemStats(&after)
			if err != nil || c.want != "" && got.Text != " error: "+c.want || len(got.Text) > 64 {
				t.Errorf("answers %q, %v; want %q", got.Text, err, c.want)
			}
			if grown := after.TotalAlloc - before.TotalAlloc; grown > 16<<20 {
				t.Errorf("allocates %d bytes, want less than 16 MiB", grown)
			}
		})
	}
}

func TestPythonStopsWithItsContext(t *testing.T) {
	const endless = "[x for a in range(1000000000) for b in range(1000000000) for x in [1]]"
	if got, err := evaluate(context.Background(), endless, 1<<62, time.Millisecond); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("a call out of time answers %q, %v; want an error, for the policy did not cause it", got.Text, err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if got, err := evaluate(ctx, "1+1", 1000, time.Minute); !errors.Is(err, context.Canceled) {
		t.Errorf("a cancelled call answers %q, %v", got.Text, err)
	}
}

func FuzzPython(f *testing.F) {
	for _, seed := range []string{"12*34-17", "(1+2)*3", "sum([x for x in range(9)])", "[[x,x] for x in [1]]", "1 if 2 else 3", "abs(-1.5)", "min(1,2)"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, code string) {
		got, err := evaluate(context.Background(), code, 10_000, time.Minute)
		if err != nil {
			t.Fatalf("%q fails: %v", code, err)
		}
		if len(got.Text) > 64 || !strings.HasPrefix(got.Text, " ") || strings.ContainsAny(got.Text, "\n<>") && got.Status == rollout.CallOK {
			t.Fatalf("%q answers %q", code, got.Text)
		}
		if again, _ := evaluate(context.Background(), code, 10_000, time.Minute); again != got {
			t.Fatalf("%q answers %q, then %q", code, got.Text, again.Text)
		}
	})
}
