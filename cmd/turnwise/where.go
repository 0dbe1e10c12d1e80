package main

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"go.starlark.net/starlark"
	"go.starlark.net/syntax"
)

// where is a condition on the named fields of a row: a Starlark expression, in which && || ! may stand
// for and, or, not.
type where struct {
	text   string
	expr   syntax.Expr
	uses   []string // fields that the expression names
	thread *starlark.Thread
}

// whereSteps bounds the work of one evaluation, so that no condition can hang the program.
const whereSteps = 10_000

// parseWhere reads a condition. fields are the names it may use.
func parseWhere(text string, fields []string) (*where, error) {
	fail := func(format string, args ...any) error {
		return usagef("--where %s: %s; fields: %s", text, fmt.Sprintf(format, args...), strings.Join(fields, ", "))
	}
	expr, err := whereOptions.ParseExpr("where", starlarkWords(text), 0)
	if err != nil {
		return nil, fail("%s", whereError(err))
	}
	w := &where{text: text, expr: expr, thread: &starlark.Thread{Name: "where", Print: func(*starlark.Thread, string) {}}}
	bound := map[string]bool{}
	var unknown string
	syntax.Walk(expr, func(node syntax.Node) bool {
		switch n := node.(type) {
		case *syntax.LambdaExpr, *syntax.Comprehension:
			unknown = "functions and comprehensions"
			return false
		case *syntax.DotExpr: // the attribute's name is no field
			syntax.Walk(n.X, func(inner syntax.Node) bool { w.name(inner, bound); return true })
			return false
		default:
			w.name(node, bound)
		}
		return true
	})
	if unknown != "" {
		return nil, fail("%s have no place in a condition", unknown)
	}
	w.uses = slices.Sorted(maps.Keys(bound))
	for _, name := range w.uses {
		if !slices.Contains(fields, name) && !starlark.Universe.Has(name) {
			return nil, fail("unknown field %q", name)
		}
	}
	return w, nil
}

func (w *where) name(node syntax.Node, bound map[string]bool) {
	if ident, ok := node.(*syntax.Ident); ok {
		bound[ident.Name] = true
	}
}

var whereOptions = &syntax.FileOptions{}

// holds evaluates the condition. A row that lacks a field for which the condition then makes no sense
// does not match; `field == None` finds such rows.
func (w *where) holds(row starlark.StringDict) (bool, error) {
	w.thread.Steps = 0
	w.thread.SetMaxExecutionSteps(whereSteps)
	value, err := starlark.EvalExprOptions(whereOptions, w.thread, w.expr, row)
	if err != nil {
		if slices.ContainsFunc(w.uses, func(name string) bool { return row[name] == starlark.None }) {
			return false, nil
		}
		return false, usagef("--where %s: %s; fields: %s", w.text, whereError(err), strings.Join(rowFields(row), ", "))
	}
	holds, ok := value.(starlark.Bool)
	if !ok {
		return false, usagef("--where %s gives a %s, not true or false: compare it with something", w.text, value.Type())
	}
	return bool(holds), nil
}

// rowFields lists a row's fields with their types.
func rowFields(row starlark.StringDict) []string {
	var out []string
	for _, name := range row.Keys() {
		out = append(out, name+" ("+row[name].Type()+")")
	}
	return out
}

// whereError is the part of an error that is about the condition.
func whereError(err error) string {
	text := oneLine(err.Error())
	return strings.TrimPrefix(text, "where:")
}

// starlarkWords writes && || ! outside of quotes as and, or, not.
func starlarkWords(text string) string {
	var out strings.Builder
	for i := 0; i < len(text); {
		switch rest := text[i:]; {
		case rest[0] == '"' || rest[0] == '\'':
			n := quoted(rest)
			out.WriteString(rest[:n])
			i += n
		case strings.HasPrefix(rest, "&&"):
			out.WriteString(" and ")
			i += 2
		case strings.HasPrefix(rest, "||"):
			out.WriteString(" or ")
			i += 2
		case rest[0] == '!' && !strings.HasPrefix(rest, "!="):
			out.WriteString(" not ")
			i++
		default:
			out.WriteByte(rest[0])
			i++
		}
	}
	return strings.TrimSpace(out.String())
}

// quoted is the length of the string literal that text begins with; all of it when it is not closed.
func quoted(text string) int {
	for i := 1; i < len(text); i++ {
		switch text[i] {
		case '\\':
			i++
		case text[0]:
			return i + 1
		}
	}
	return len(text)
}
