package render

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/nikolalohinski/gonja/v2/builtins"
	"github.com/nikolalohinski/gonja/v2/config"
	"github.com/nikolalohinski/gonja/v2/exec"
	"github.com/nikolalohinski/gonja/v2/nodes"
	"github.com/nikolalohinski/gonja/v2/parser"
	"github.com/nikolalohinski/gonja/v2/tokens"
)

// What templates may use of the engine's own parts; the others escape HTML, read files or are random.
var (
	engineFilters = []string{"abs", "attr", "batch", "count", "d", "default", "dictsort", "float", "groupby", "indent", "int", "length",
		"map", "max", "min", "reject", "rejectattr", "replace", "round", "safe", "select", "selectattr", "sort", "sum", "unique", "wordcount"}
	engineTests = []string{"boolean", "callable", "defined", "divisibleby", "eq", "equalto", "==", "even", "false", "float", "ge", ">=", "gt", "greaterthan", ">", "in",
		"integer", "iterable", "le", "<=", "lower", "lt", "lessthan", "<", "mapping", "ne", "!=", "none", "number", "odd", "sameas", "sequence", "string", "true", "undefined", "upper"}
	engineBlocks = []string{"break", "call", "continue", "do", "filter", "for", "if", "macro", "set", "with"}
)

// environment is everything a template can name, made anew for each template.
func environment(now time.Time) *exec.Environment {
	filters := ownFilters()
	for _, name := range engineFilters {
		if filter, ok := builtins.Filters.Get(name); ok {
			filters[name] = filter
		}
	}
	tests := ownTests()
	for _, name := range engineTests {
		if test, ok := builtins.Tests.Get(name); ok && tests[name] == nil {
			tests[name] = test
		}
	}
	blocks := map[string]parser.ControlStructureParser{"generation": parseGeneration}
	for _, name := range engineBlocks {
		if block, ok := builtins.ControlStructures.Get(name); ok {
			blocks[name] = block
		}
	}
	namespace, _ := builtins.GlobalFunctions.Get("namespace")
	return &exec.Environment{
		Filters:           exec.NewFilterSet(filters),
		Tests:             exec.NewTestSet(tests),
		ControlStructures: exec.NewControlStructureSet(blocks),
		Context: exec.NewContext(map[string]any{
			"namespace":       namespace,
			"range":           counted,
			"raise_exception": raise,
			"strftime_now": func(_ *exec.Evaluator, a *exec.VarArgs) (string, error) {
				if err := arguments(a, 1, 1); err != nil {
					return "", fmt.Errorf("strftime_now: %w", err)
				}
				return strftime(now, a.First().String())
			},
		}),
		Methods: exec.Methods{
			Str:   exec.NewMethodSet(stringMethods()),
			Dict:  exec.NewMethodSet(mappingMethods()),
			List:  builtins.Methods.List,
			Bool:  builtins.Methods.Bool,
			Int:   builtins.Methods.Int,
			Float: builtins.Methods.Float,
		},
	}
}

func ownFilters() map[string]exec.FilterFunction {
	return map[string]exec.FilterFunction{
		"tojson":     toJSON,
		"trim":       asFilter("trim", stripping(true, true)),
		"upper":      asFilter("upper", stringMethods()["upper"]),
		"lower":      asFilter("lower", stringMethods()["lower"]),
		"title":      asFilter("title", stringMethods()["title"]),
		"capitalize": asFilter("capitalize", stringMethods()["capitalize"]),
		"join": func(_ *exec.Evaluator, in *exec.Value, a *exec.VarArgs) *exec.Value {
			if err := arguments(a, 0, 1); err != nil {
				return exec.AsValue(fmt.Errorf("join: %w", err))
			}
			joined, err := joining(a.First().String(), nil, &exec.VarArgs{Args: []*exec.Value{in}})
			if err != nil {
				return exec.AsValue(err)
			}
			return exec.AsValue(joined)
		},
		"first": func(_ *exec.Evaluator, in *exec.Value, _ *exec.VarArgs) *exec.Value { return end(elements(in), 0) },
		"last":  func(_ *exec.Evaluator, in *exec.Value, _ *exec.VarArgs) *exec.Value { return end(elements(in), -1) },
		"list": func(_ *exec.Evaluator, in *exec.Value, _ *exec.VarArgs) *exec.Value {
			return exec.AsValue(elements(in))
		},
		"reverse": reversed,
		"string": func(_ *exec.Evaluator, in *exec.Value, _ *exec.VarArgs) *exec.Value {
			if in.IsDict() || in.IsList() {
				return exec.AsValue(pythonRepr(in))
			}
			return exec.AsValue(in.String())
		},
		"items": func(_ *exec.Evaluator, in *exec.Value, _ *exec.VarArgs) *exec.Value {
			if in.IsNil() {
				return exec.AsValue(sequence{}) // as Jinja2 for what is undefined
			}
			if !in.IsDict() {
				return exec.AsValue(fmt.Errorf("items: %s is not a mapping", in))
			}
			return exec.AsValue(items(in))
		},
	}
}

// asFilter makes a filter of a method of strings.
func asFilter(name string, method stringMethod) exec.FilterFunction {
	return func(_ *exec.Evaluator, in *exec.Value, a *exec.VarArgs) *exec.Value {
		result, err := method(in.String(), in, a)
		if err != nil {
			return exec.AsValue(fmt.Errorf("%s: %w", name, err))
		}
		return exec.AsValue(result)
	}
}

// elements are what a loop over the value sees: characters, elements or keys.
func elements(in *exec.Value) sequence {
	list := sequence{}
	if in.IsString() {
		for _, r := range in.String() {
			list = append(list, string(r))
		}
		return list
	}
	in.Iterate(func(_, _ int, key, _ *exec.Value) bool {
		list = append(list, key.Interface())
		return true
	}, func() {})
	return list
}

func end(list sequence, at int) *exec.Value {
	value, _ := list.GetItem(at)
	return value
}

func reversed(_ *exec.Evaluator, in *exec.Value, _ *exec.VarArgs) *exec.Value {
	list := elements(in)
	slices.Reverse(list)
	if !in.IsString() {
		return exec.AsValue(list)
	}
	var b strings.Builder
	for _, character := range list {
		b.WriteString(fmt.Sprint(character))
	}
	return exec.AsValue(b.String())
}

// toJSON is Hugging Face's filter: json.dumps with ensure_ascii=False, keys in their order, nothing
// escaped for HTML.
func toJSON(_ *exec.Evaluator, in *exec.Value, a *exec.VarArgs) *exec.Value {
	indent := -1
	for name, value := range a.KwArgs {
		switch {
		case name == "indent" && value.IsInteger():
			indent = value.Integer()
		case name == "indent" && value.IsNil():
		case name == "ensure_ascii" && value.IsBool() && !value.Bool():
		default:
			return exec.AsValue(fmt.Errorf("tojson: %s=%s is not supported", name, value))
		}
	}
	if len(a.Args) > 0 {
		return exec.AsValue(errors.New("tojson: write indent=N: Hugging Face's first argument is ensure_ascii"))
	}
	if indent > 64 {
		return exec.AsValue(fmt.Errorf("tojson: indent=%d is more than 64", indent))
	}
	var b strings.Builder
	if err := writeJSON(&b, in, indent, 0); err != nil {
		return exec.AsValue(err)
	}
	return exec.AsValue(b.String())
}

func ownTests() map[string]exec.TestFunction {
	exactly := func(want bool) exec.TestFunction {
		return func(_ *exec.Context, in *exec.Value, _ *exec.VarArgs) (bool, error) {
			return in.IsBool() && in.Bool() == want, nil
		}
	}
	return map[string]exec.TestFunction{
		"true": exactly(true), "false": exactly(false),
		"sequence": func(_ *exec.Context, in *exec.Value, _ *exec.VarArgs) (bool, error) { return in.IsIterable(), nil },
	}
}

func mappingMethods() map[string]exec.Method[map[string]any] {
	return map[string]exec.Method[map[string]any]{
		"items": func(_ map[string]any, self *exec.Value, a *exec.VarArgs) (any, error) {
			return items(self), arguments(a, 0, 0)
		},
		"keys": func(_ map[string]any, self *exec.Value, a *exec.VarArgs) (any, error) {
			return elements(self), arguments(a, 0, 0)
		},
		"values": func(_ map[string]any, self *exec.Value, a *exec.VarArgs) (any, error) {
			values := sequence{}
			for _, pair := range items(self) {
				values = append(values, pair.(sequence)[1])
			}
			return values, arguments(a, 0, 0)
		},
		"get": func(_ map[string]any, self *exec.Value, a *exec.VarArgs) (any, error) {
			if err := arguments(a, 1, 2); err != nil {
				return nil, err
			}
			if value, ok := self.GetItem(a.Args[0].Interface()); ok {
				return value.Interface(), nil
			}
			if len(a.Args) == 2 {
				return a.Args[1].Interface(), nil
			}
			return nil, nil
		},
	}
}

// items are the pairs of a mapping in their order.
func items(in *exec.Value) sequence {
	pairs := sequence{}
	in.Iterate(func(_, _ int, key, value *exec.Value) bool {
		pairs = append(pairs, sequence{key.Interface(), value.Interface()})
		return true
	}, func() {})
	return pairs
}

// raise is Hugging Face's raise_exception.
func raise(_ *exec.Evaluator, a *exec.VarArgs) (string, error) {
	return "", fmt.Errorf("the template says: %s", a.First())
}

// counted is range, as a list. Its length is bounded, since a template is not trusted.
func counted(_ *exec.Evaluator, a *exec.VarArgs) (sequence, error) {
	const most = 100_000
	if err := arguments(a, 1, 3); err != nil {
		return nil, fmt.Errorf("range: %w", err)
	}
	start, stop, step := 0, a.Args[0].Integer(), 1
	if len(a.Args) > 1 {
		start, stop = stop, a.Args[1].Integer()
	}
	if len(a.Args) > 2 {
		step = a.Args[2].Integer()
	}
	if step == 0 {
		return nil, errors.New("range: the step is 0")
	}
	list := sequence{}
	for i := start; step > 0 && i < stop || step < 0 && i > stop; i += step {
		if len(list) == most {
			return nil, fmt.Errorf("range: more than %d numbers", most)
		}
		list = append(list, i)
	}
	return list, nil
}

// strftime writes a time by the codes of C that templates use.
func strftime(at time.Time, format string) (string, error) {
	layouts := map[byte]string{'Y': "2006", 'y': "06", 'm': "01", 'd': "02", 'B': "January", 'b': "Jan", 'A': "Monday", 'a': "Mon",
		'H': "15", 'I': "03", 'M': "04", 'S': "05", 'p': "PM", 'j': "002", 'e': "_2", 'F': "2006-01-02", 'T': "15:04:05"}
	var b strings.Builder
	for i := 0; i < len(format); i++ {
		if format[i] != '%' {
			b.WriteByte(format[i])
			continue
		}
		i++
		code := byte(0)
		if i < len(format) {
			code = format[i]
		}
		layout, ok := layouts[code]
		switch {
		case ok:
			b.WriteString(at.Format(layout))
		case code == '%':
			b.WriteByte('%')
		default:
			return "", fmt.Errorf("strftime_now: the code after %% in %q is not supported", format)
		}
	}
	return b.String(), nil
}

// generationBlock is {% generation %}, which marks what an assistant wrote and renders its body.
type generationBlock struct {
	at   *tokens.Token
	body *nodes.Wrapper
}

// Position is where the block begins.
func (g *generationBlock) Position() *tokens.Token { return g.at }

func (g *generationBlock) String() string { return "generation" }

// Execute renders the body in the scope around it.
func (g *generationBlock) Execute(r *exec.Renderer, _ *nodes.ControlStructureBlock) error {
	return r.ExecuteIfWrapper(g.body)
}

func parseGeneration(p, args *parser.Parser) (nodes.ControlStructure, error) {
	if !args.End() {
		return nil, args.Error("generation takes no arguments", args.Current())
	}
	block := &generationBlock{at: p.Current()}
	body, _, err := p.WrapUntil("endgeneration")
	block.body = body
	return block, err
}

// checkNames reports filters, tests and operators that are not here when the template is read rather than when a
// conversation first reaches them.
func checkNames(source string, settings *config.Config) error {
	filters, tests := ownFilters(), ownTests()
	stream := tokens.LexAll(source, settings)
	for previous := stream.Current(); !stream.End(); {
		token := stream.Next()
		next := stream.Current()
		if next == nil {
			break
		}
		name := next.Val
		switch {
		case next.Type == tokens.Power:
			return fmt.Errorf("line %d: the operator ** is not supported", next.Line)
		case next.Type != tokens.Name:
		case token.Type == tokens.Pipe && filters[name] == nil && !slices.Contains(engineFilters, name):
			return fmt.Errorf("line %d: the filter %s is not supported", next.Line, name)
		case (token.Type == tokens.Is || token.Type == tokens.Not && previous.Type == tokens.Is) && tests[name] == nil && !slices.Contains(engineTests, name):
			return fmt.Errorf("line %d: the test %s is not supported", next.Line, name)
		}
		previous = token
	}
	if stream.IsError() {
		return fmt.Errorf("line %d: %s", stream.Current().Line, stream.Current().Val)
	}
	return nil
}
