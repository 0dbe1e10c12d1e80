package env

import (
	"slices"

	"go.starlark.net/syntax"

	"github.com/turnwise-rl/turnwise/rollout/tool"
)

// operators are the binary operators of an expression that a guarded function replaces.
var operators = []syntax.Token{
	syntax.PLUS, syntax.MINUS, syntax.STAR, syntax.SLASH, syntax.SLASHSLASH, syntax.PERCENT,
	syntax.LT, syntax.LE, syntax.GT, syntax.GE, syntax.EQL, syntax.NEQ,
}

var functions = []string{"abs", "int", "len", "max", "min", "range", "sum"}

// rewriter turns an expression into one that calls a guarded function for every operator. What it
// does not know it refuses: strings, dictionaries, tuples, indexing, attributes, lambdas, keyword
// arguments, and every name but the functions and the variables of comprehensions.
type rewriter struct {
	variables []string
}

// newRewriter collects the variables that the comprehensions of an expression bind. Starlark itself
// checks where each is visible.
func newRewriter(expr syntax.Expr) *rewriter {
	r := &rewriter{}
	syntax.Walk(expr, func(n syntax.Node) bool {
		if clause, ok := n.(*syntax.ForClause); ok {
			if name, ok := clause.Vars.(*syntax.Ident); ok && !slices.Contains(functions, name.Name) {
				r.variables = append(r.variables, name.Name)
			}
		}
		return true
	})
	return r
}

func (r *rewriter) rewrite(expr syntax.Expr) (syntax.Expr, error) {
	switch e := expr.(type) {
	case *syntax.Literal:
		if e.Token != syntax.INT && e.Token != syntax.FLOAT {
			return nil, mistake("only numbers are allowed")
		}
		return e, nil
	case *syntax.Ident:
		if !slices.Contains(r.variables, e.Name) {
			return nil, mistake("no name " + tool.Excerpt(e.Name))
		}
		return e, nil
	case *syntax.ParenExpr:
		return r.rewrite(e.X)
	case *syntax.UnaryExpr:
		if e.X == nil || e.Op != syntax.MINUS && e.Op != syntax.PLUS && e.Op != syntax.NOT {
			return nil, mistake("no operator " + e.Op.String())
		}
		return e, r.replace(&e.X)
	case *syntax.BinaryExpr:
		return r.binary(e)
	case *syntax.CondExpr:
		return e, r.replace(&e.Cond, &e.True, &e.False)
	case *syntax.ListExpr:
		return e, r.replaceAll(e.List)
	case *syntax.CallExpr:
		name, ok := e.Fn.(*syntax.Ident)
		if !ok || !slices.Contains(functions, name.Name) {
			return nil, mistake("no such function")
		}
		return e, r.replaceAll(e.Args)
	case *syntax.Comprehension:
		return r.comprehension(e)
	default:
		return nil, mistake("only numbers are allowed")
	}
}

func (r *rewriter) binary(e *syntax.BinaryExpr) (syntax.Expr, error) {
	if err := r.replace(&e.X, &e.Y); err != nil {
		return nil, err
	}
	if e.Op == syntax.AND || e.Op == syntax.OR {
		return e, nil
	}
	if !slices.Contains(operators, e.Op) {
		return nil, mistake("no operator " + e.Op.String())
	}
	return &syntax.CallExpr{
		Fn:     &syntax.Ident{NamePos: e.OpPos, Name: e.Op.String()},
		Lparen: e.OpPos, Args: []syntax.Expr{e.X, e.Y}, Rparen: e.OpPos,
	}, nil
}

func (r *rewriter) comprehension(e *syntax.Comprehension) (syntax.Expr, error) {
	if e.Curly {
		return nil, mistake("only numbers are allowed")
	}
	for _, clause := range e.Clauses {
		var err error
		switch clause := clause.(type) {
		case *syntax.ForClause:
			if _, ok := clause.Vars.(*syntax.Ident); !ok {
				return nil, mistake("for takes one name")
			}
			err = r.replace(&clause.X)
		case *syntax.IfClause:
			err = r.replace(&clause.Cond)
		}
		if err != nil {
			return nil, err
		}
	}
	return e, r.replace(&e.Body)
}

func (r *rewriter) replace(parts ...*syntax.Expr) error {
	for _, part := range parts {
		rewritten, err := r.rewrite(*part)
		if err != nil {
			return err
		}
		*part = rewritten
	}
	return nil
}

func (r *rewriter) replaceAll(list []syntax.Expr) error {
	for i := range list {
		if err := r.replace(&list[i]); err != nil {
			return err
		}
	}
	return nil
}
