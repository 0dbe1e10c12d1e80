package arch

import (
	"go/ast"
	"go/token"
	"path"
	"regexp"
	"slices"
	"strings"
	"testing"
)

const maxLines = 600

// topLevel is what stands in the repository's root. A new entry is a decision about structure.
var topLevel = []string{"cmd", "trainer", "algos", "rollout", "kernels", "workflows", "configs", "go.mod", "go.sum", "README.md",
	"internal", "docs", "scripts", "LICENSE", ".ci", ".gitignore"}

func TestTopLevelIsFixed(t *testing.T) {
	for _, name := range open(t).files {
		if first, _, _ := strings.Cut(name, "/"); !slices.Contains(topLevel, first) {
			t.Errorf("%s: the top level holds %s and nothing else: put it below one of them", name, strings.Join(topLevel, " "))
		}
	}
}

func TestFilesFitTheirReader(t *testing.T) {
	for _, s := range open(t).sources {
		if s.lines > maxLines && !s.made {
			t.Errorf("%s has %d lines, at most %d: split it by what a reader looks for", s.path, s.lines, maxLines)
		}
	}
}

// vague are words that say nothing about what is inside.
var vague = []string{"util", "utils", "common", "helper", "helpers", "manager", "types", "core", "base", "misc"}

func TestNamesSayWhatIsInside(t *testing.T) {
	r := open(t)
	for _, s := range r.sources {
		for _, name := range append(strings.Split(s.dir, "/"), strings.TrimSuffix(s.syntax.Name.Name, "_test")) {
			if slices.Contains(vague, name) {
				t.Errorf("%s: %q names no idea: name the folder and the package after what they hold", s.path, name)
			}
		}
		for _, declaration := range s.syntax.Decls {
			group, ok := declaration.(*ast.GenDecl)
			if !ok || group.Tok != token.TYPE {
				continue
			}
			for _, spec := range group.Specs {
				name := spec.(*ast.TypeSpec).Name
				for _, word := range []string{"Util", "Utils", "Helper", "Helpers", "Manager", "Impl", "Misc"} {
					if strings.HasSuffix(name.Name, word) {
						t.Errorf("%s: type %s: %q names no idea: name what it is", r.place(name.Pos()), name.Name, word)
					}
				}
			}
		}
	}
}

func TestPackagesSayWhatTheyAreFor(t *testing.T) {
	for dir, sources := range open(t).packages() {
		documented := 0
		for _, s := range sources {
			if s.syntax.Doc == nil {
				continue
			}
			documented++
			name := s.syntax.Name.Name
			want := "Package " + name + " "
			if name == "main" {
				want = "Command " + path.Base(dir)
			}
			if text := s.syntax.Doc.Text(); !s.made && !strings.HasPrefix(text, want) {
				t.Errorf("%s: the package comment begins with %q, want %q", s.path, firstLine(text), want)
			}
		}
		if documented == 0 {
			t.Errorf("%s: no file has a package comment: say in one sentence what the package is for, how it is used, and what it refuses to do", dir)
		}
	}
}

func TestExportedNamesAreDocumented(t *testing.T) {
	r := open(t)
	for _, s := range r.sources {
		if s.test || s.syntax.Name.Name == "main" {
			continue
		}
		for _, declaration := range s.syntax.Decls {
			switch d := declaration.(type) {
			case *ast.FuncDecl:
				if d.Name.IsExported() && exportedReceiver(d) && !forInterface[d.Name.Name] {
					r.documented(t, d.Name, d.Doc)
				}
			case *ast.GenDecl:
				r.groupDocumented(t, d)
			}
		}
	}
}

// forInterface are methods whose meaning an interface of the standard library, of gorgonia or of our own
// gives; a comment would restate it.
var forInterface = map[string]bool{
	"Error": true, "Unwrap": true, "String": true, "Is": true, "As": true, "UsageError": true, // error, fmt.Stringer
	"Len": true, "Less": true, "Swap": true, "Read": true, "Write": true, "Close": true, // sort, io
	"MarshalJSON": true, "UnmarshalJSON": true, "MarshalText": true, "UnmarshalText": true, "MarshalYAML": true,
	"Arity": true, "Type": true, "InferShape": true, "Do": true, "ReturnsPtr": true, "CallsExtern": true, "OverwritesInput": true, // gorgonia.Op
	"WriteHash": true, "Hashcode": true, "DiffWRT": true, "SymDiff": true, "DoDiff": true,
	"Enabled": true, "Handle": true, "WithAttrs": true, "WithGroup": true, // slog.Handler
}

func exportedReceiver(f *ast.FuncDecl) bool {
	if f.Recv == nil {
		return true
	}
	receiver := f.Recv.List[0].Type
	for {
		switch x := receiver.(type) {
		case *ast.StarExpr:
			receiver = x.X
		case *ast.IndexExpr:
			receiver = x.X
		case *ast.IndexListExpr:
			receiver = x.X
		case *ast.Ident:
			return x.IsExported()
		default:
			return false
		}
	}
}

// groupDocumented wants a comment at each exported type, and at each exported constant or variable or at
// the group that lists it.
func (r *repository) groupDocumented(t *testing.T, group *ast.GenDecl) {
	t.Helper()
	for _, spec := range group.Specs {
		switch x := spec.(type) {
		case *ast.TypeSpec:
			if x.Name.IsExported() {
				doc := x.Doc
				if doc == nil && !group.Lparen.IsValid() {
					doc = group.Doc
				}
				r.documented(t, x.Name, doc)
			}
		case *ast.ValueSpec:
			for _, name := range x.Names {
				switch {
				case !name.IsExported():
				case x.Doc != nil:
					r.documented(t, name, x.Doc)
				case !group.Lparen.IsValid():
					r.documented(t, name, group.Doc)
				case group.Doc == nil && x.Comment == nil:
					t.Errorf("%s: %s has no comment, and neither has the group that lists it: say what it means", r.place(name.Pos()), name.Name)
				}
			}
		}
	}
}

// documented wants a comment that begins with the name, an article before it allowed, or that mentions it
// when several names share one comment.
func (r *repository) documented(t *testing.T, name *ast.Ident, doc *ast.CommentGroup) {
	t.Helper()
	if doc == nil || strings.TrimSpace(doc.Text()) == "" {
		t.Errorf("%s: %s has no comment: say what it means in a sentence that starts with the name", r.place(name.Pos()), name.Name)
		return
	}
	words := strings.Fields(doc.Text())
	if len(words) > 1 && slices.Contains([]string{"A", "An", "The"}, words[0]) {
		words = words[1:]
	}
	for i, word := range words {
		if strings.TrimRight(word, ",.:;") == name.Name && (i == 0 || mentions(words[:i])) {
			return
		}
	}
	t.Errorf("%s: the comment of %s begins with %q: start it with the name", r.place(name.Pos()), name.Name, firstLine(doc.Text()))
}

// mentions reports whether words are the head of a list of names: "A, B and".
func mentions(words []string) bool {
	for _, word := range words {
		if !strings.HasSuffix(word, ",") && word != "and" && word != "or" && !ast.IsExported(word) {
			return false
		}
	}
	return true
}

func firstLine(text string) string {
	line, _, _ := strings.Cut(text, "\n")
	return line
}

func TestNothingHappensAtImport(t *testing.T) {
	r := open(t)
	for _, s := range r.sources {
		for _, declaration := range s.syntax.Decls {
			if f, ok := declaration.(*ast.FuncDecl); ok && f.Recv == nil && f.Name.Name == "init" {
				t.Errorf("%s: func init: list what is to be registered in a table that a reader can find", r.place(f.Pos()))
			}
		}
	}
}

// blankImports are imported for their effect alone, each with what that is.
var blankImports = map[string]string{
	"go4.org/unsafe/assume-no-moving-gc":                            "gorgonia's older pin panics with this Go",
	"embed":                                                         "go:embed",
	"go.temporal.io/server/schema/sqlite":                           "the embedded server's schema",
	"go.temporal.io/server/common/persistence/sql":                  "the embedded server's store",
	"go.temporal.io/server/common/persistence/visibility/store/sql": "the embedded server's visibility store",
}

func TestBlankImportsAreExplained(t *testing.T) {
	r := open(t)
	for _, s := range r.sources {
		for _, spec := range s.syntax.Imports {
			imported := strings.Trim(spec.Path.Value, `"`)
			if _, known := blankImports[imported]; spec.Name != nil && spec.Name.Name == "_" && !known {
				t.Errorf("%s imports %s for its effect: add it to blankImports with the reason, or call it", r.place(spec.Pos()), imported)
			}
		}
	}
}

func TestExportedSignaturesAreTyped(t *testing.T) {
	r := open(t)
	for _, s := range r.sources {
		if s.test || s.syntax.Name.Name == "main" {
			continue
		}
		for _, declaration := range s.syntax.Decls {
			switch d := declaration.(type) {
			case *ast.FuncDecl:
				if d.Name.IsExported() && exportedReceiver(d) {
					r.typed(t, d.Name.Name, d.Type)
				}
			case *ast.GenDecl:
				for _, spec := range d.Specs {
					if x, ok := spec.(*ast.TypeSpec); ok && x.Name.IsExported() {
						r.typed(t, x.Name.Name, x.Type)
					}
				}
			}
		}
	}
}

func (r *repository) typed(t *testing.T, owner string, part ast.Node) {
	t.Helper()
	ast.Inspect(part, func(n ast.Node) bool {
		if field, ok := n.(*ast.Field); ok && len(field.Names) > 0 && !slices.ContainsFunc(field.Names, (*ast.Ident).IsExported) {
			if _, inStruct := part.(*ast.StructType); inStruct {
				return false // nobody else sees it
			}
		}
		m, ok := n.(*ast.MapType)
		if !ok {
			return true
		}
		key, _ := m.Key.(*ast.Ident)
		if key == nil || key.Name != "string" {
			return true
		}
		switch value := m.Value.(type) {
		case *ast.Ident:
			ok = value.Name == "any"
		case *ast.InterfaceType:
			ok = len(value.Methods.List) == 0
		default:
			ok = false
		}
		if ok {
			t.Errorf("%s: %s shows a map from string to anything to other packages: give it a struct", r.place(m.Pos()), owner)
		}
		return true
	})
}

// prose is what no file of the repository may hold. The patterns are pieced together so that this file
// does not hold them either.
var prose = []struct {
	pattern *regexp.Regexp
	reason  string
}{
	{regexp.MustCompile(`\b(TO` + `DO|FIX` + `ME|X` + `XX)\b`), "do it, or write an issue: nobody looks for it here"},
	{regexp.MustCompile(`(^|[\s"'=(:` + "`" + `])/(ro` + `ot|wo` + `rk|ho` + `me/\w|Use` + `rs/\w)\b`), "paths of one machine do not exist on another"},
	{regexp.MustCompile(`(proxy\.gol` + `ang\.org|sum\.gol` + `ang\.org|registry\.npm` + `js|py` + `pi\.org|docker\.i` + `o/|ghcr\.i` + `o/|artifact` + `ory|localhost:50` + `00)`),
		"where packages come from is the machine's business"},
}

func TestTextTravels(t *testing.T) {
	r := open(t)
	for _, name := range r.files {
		if name == "go.sum" || name == "LICENSE" || slices.Contains(strings.Split(name, "/"), "testdata") {
			continue
		}
		for number, line := range readLines(t, name) {
			for _, rule := range prose {
				if found := rule.pattern.FindString(line); found != "" {
					t.Errorf("%s:%d holds %q: %s", name, number+1, strings.TrimSpace(found), rule.reason)
				}
			}
		}
	}
}
