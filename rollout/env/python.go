package env

import (
	"context"
	"errors"
	"fmt"
	"math"
	"strconv"
	"time"

	"go.starlark.net/starlark"
	"go.starlark.net/syntax"
)

const (
	maxCode      = 256 // bytes of an expression
	maxBits      = 256 // of an intermediate integer
	maxDigits    = 32  // characters of a result
	resultPrefix = " = "
)

// mistake is what the policy did wrong, in the words it will read.
type mistake string

func (m mistake) Error() string { return string(m) }

const (
	tooManySteps = mistake("too many steps")
	tooLong      = mistake("number too long")
	notNumbers   = mistake("operators take numbers")
)

// evaluate runs one expression of the Starlark dialect of Python and answers " = 391", or
// " error: division by zero" and the like with status error.
//
// Every bound holds whatever the expression: its text is short; only arithmetic, comparisons,
// conditionals, lists, comprehensions and a few functions of numbers are allowed (see [rewriter]);
// operators take only numbers and integers stay small, so no value can grow by doubling; each step
// of the interpreter and of its functions counts towards maxSteps; nothing can load, print or do I/O.
//
// The timeout and ctx are the last resort. When one of them ends the evaluation, evaluate returns an
// error and no result.
func evaluate(ctx context.Context, code string, maxSteps uint64, timeout time.Duration) (Result, error) {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	if err := ctx.Err(); err != nil {
		return Result{}, err
	}
	value, err := run(ctx, code, maxSteps)
	if cause := ctx.Err(); err != nil && cause != nil {
		return Result{}, fmt.Errorf("evaluation stopped after at most %v: %w", timeout, cause)
	}
	var text string
	if err == nil {
		text, err = show(value)
	}
	var wrong mistake
	switch {
	case err == nil:
		return succeeded(resultPrefix + text), nil
	case errors.As(err, &wrong):
		return failed(string(wrong)), nil
	default:
		return failed("cannot compute"), nil
	}
}

func run(ctx context.Context, code string, maxSteps uint64) (starlark.Value, error) {
	if len(code) > maxCode {
		return nil, mistake("code too long")
	}
	options := &syntax.FileOptions{}
	expr, err := options.ParseExpr("", code, 0)
	if err != nil {
		return nil, mistake("not an expression")
	}
	if expr, err = newRewriter(expr).rewrite(expr); err != nil {
		return nil, err
	}
	exhausted := false
	thread := &starlark.Thread{
		Print: func(*starlark.Thread, string) {},
		OnMaxSteps: func(thread *starlark.Thread) {
			exhausted = true
			thread.Cancel(string(tooManySteps))
		},
	}
	thread.SetMaxExecutionSteps(maxSteps)
	stop := context.AfterFunc(ctx, func() { thread.Cancel("out of time") })
	defer stop()
	value, err := starlark.EvalExprOptions(options, thread, expr, environment(maxSteps))
	if err != nil && exhausted {
		return nil, tooManySteps
	}
	return value, err
}

// show writes a result: an integer's digits, or up to six digits of a fraction.
func show(value starlark.Value) (string, error) {
	var text string
	switch value := value.(type) {
	case starlark.Int:
		text = value.String()
	case starlark.Float:
		f := float64(value)
		switch {
		case math.IsInf(f, 0) || math.IsNaN(f):
			return "", tooLong
		case f == math.Trunc(f) && math.Abs(f) < 1e15:
			text = strconv.FormatFloat(f, 'f', 0, 64)
		default:
			text = strconv.FormatFloat(f, 'g', 6, 64)
		}
	default:
		return "", mistake("result is not a number")
	}
	if len(text) > maxDigits {
		return "", tooLong
	}
	return text, nil
}

// environment holds the functions an expression may call, and the operators under their symbols.
func environment(maxSteps uint64) starlark.StringDict {
	env := starlark.StringDict{"range": starlark.Universe["range"], "len": starlark.Universe["len"]}
	for _, op := range operators {
		env[op.String()] = starlark.NewBuiltin(op.String(), func(_ *starlark.Thread, _ *starlark.Builtin, args starlark.Tuple, _ []starlark.Tuple) (starlark.Value, error) {
			return operate(op, args[0], args[1])
		})
	}
	fold := func(name string, step func(starlark.Value, starlark.Value) (starlark.Value, error)) {
		env[name] = starlark.NewBuiltin(name, func(thread *starlark.Thread, _ *starlark.Builtin, args starlark.Tuple, _ []starlark.Tuple) (starlark.Value, error) {
			return reduce(thread, maxSteps, args, step)
		})
	}
	fold("sum", func(x, y starlark.Value) (starlark.Value, error) { return operate(syntax.PLUS, x, y) })
	fold("min", func(x, y starlark.Value) (starlark.Value, error) { return choose(syntax.LT, y, x) })
	fold("max", func(x, y starlark.Value) (starlark.Value, error) { return choose(syntax.GT, y, x) })
	unary := func(name string, apply func(starlark.Value) (starlark.Value, error)) {
		env[name] = starlark.NewBuiltin(name, func(_ *starlark.Thread, _ *starlark.Builtin, args starlark.Tuple, _ []starlark.Tuple) (starlark.Value, error) {
			if len(args) != 1 || !isNumber(args[0]) {
				return nil, mistake(name + " takes a number")
			}
			return apply(args[0])
		})
	}
	unary("abs", func(x starlark.Value) (starlark.Value, error) {
		negative, err := starlark.Compare(syntax.LT, x, starlark.MakeInt(0))
		if err != nil || !negative {
			return x, err
		}
		return starlark.Unary(syntax.MINUS, x)
	})
	unary("int", func(x starlark.Value) (starlark.Value, error) {
		f, ok := x.(starlark.Float)
		if !ok {
			return x, nil
		}
		i, err := starlark.NumberToInt(f)
		if err != nil || i.BigInt().BitLen() > maxBits {
			return nil, tooLong
		}
		return i, nil
	})
	return env
}

func isNumber(value starlark.Value) bool {
	switch value.(type) {
	case starlark.Int, starlark.Float:
		return true
	}
	return false
}

// operate applies a binary operator to two numbers.
func operate(op syntax.Token, x, y starlark.Value) (starlark.Value, error) {
	if !isNumber(x) || !isNumber(y) {
		return nil, notNumbers
	}
	switch op {
	case syntax.LT, syntax.LE, syntax.GT, syntax.GE, syntax.EQL, syntax.NEQ:
		truth, err := starlark.Compare(op, x, y)
		return starlark.Bool(truth), err
	case syntax.SLASH, syntax.SLASHSLASH, syntax.PERCENT:
		zero, err := starlark.Compare(syntax.EQL, y, starlark.MakeInt(0))
		if err != nil {
			return nil, err
		}
		if zero {
			return nil, mistake("division by zero")
		}
	}
	result, err := starlark.Binary(op, x, y)
	if err != nil {
		return nil, err
	}
	if i, ok := result.(starlark.Int); ok && i.BigInt().BitLen() > maxBits {
		return nil, tooLong
	}
	return result, nil
}

// choose returns x when the comparison of x with y holds, else y.
func choose(op syntax.Token, x, y starlark.Value) (starlark.Value, error) {
	holds, err := operate(op, x, y)
	if err != nil || holds == starlark.True {
		return x, err
	}
	return y, nil
}

// reduce folds the arguments, or the elements of the only argument, and counts every element as a
// step. Nothing to fold gives 0.
func reduce(thread *starlark.Thread, maxSteps uint64, args starlark.Tuple, step func(x, y starlark.Value) (starlark.Value, error)) (starlark.Value, error) {
	var items starlark.Iterable = args
	if len(args) == 1 {
		only, ok := args[0].(starlark.Iterable)
		if !ok {
			return nil, notNumbers
		}
		items = only
	}
	each := items.Iterate()
	defer each.Done()
	var total, item starlark.Value
	for each.Next(&item) {
		if thread.Steps++; thread.Steps >= maxSteps {
			return nil, tooManySteps
		}
		if !isNumber(item) {
			return nil, notNumbers
		}
		if total == nil {
			total = item
			continue
		}
		var err error
		if total, err = step(total, item); err != nil {
			return nil, err
		}
	}
	if total == nil {
		return starlark.MakeInt(0), nil
	}
	return total, nil
}
