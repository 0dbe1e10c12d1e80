package render

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"unicode"

	"github.com/nikolalohinski/gonja/v2/exec"
	"golang.org/x/text/cases"
	"golang.org/x/text/language"
)

// stringMethod is a method of Python's str as templates use it.
type stringMethod = exec.Method[string]

// stringMethods replace the engine's, some of which differ from Python's: lstrip, rstrip and split
// without an argument work on every kind of white space, not on the space alone.
func stringMethods() map[string]stringMethod {
	return map[string]stringMethod{
		"strip":      stripping(true, true),
		"lstrip":     stripping(true, false),
		"rstrip":     stripping(false, true),
		"startswith": affix(strings.HasPrefix),
		"endswith":   affix(strings.HasSuffix),
		"split":      splitting(false),
		"rsplit":     splitting(true),
		"replace":    replacing,
		"upper":      plain(pythonUpper),
		"lower":      plain(pythonLower),
		"title":      plain(pythonTitle),
		"capitalize": plain(pythonCapitalize),
		"splitlines": plainList(pythonLines),
		"find":       finding,
		"count":      counting,
		"join":       joining,
		"isdigit":    every(unicode.IsDigit),
		"isalpha":    every(unicode.IsLetter),
		"isspace":    every(pythonSpace),
	}
}

// pythonSpace reports what str.isspace reports: Unicode's white space and four separators of ASCII.
func pythonSpace(r rune) bool { return unicode.IsSpace(r) || 0x1c <= r && r <= 0x1f }

func arguments(a *exec.VarArgs, least, most int) error {
	if n := len(a.Args) + len(a.KwArgs); n < least || n > most || len(a.KwArgs) > 0 {
		return fmt.Errorf("takes %d to %d positional arguments, got %d and %d by name", least, most, len(a.Args), len(a.KwArgs))
	}
	return nil
}

func plain(f func(string) string) stringMethod {
	return func(self string, _ *exec.Value, a *exec.VarArgs) (any, error) {
		return f(self), arguments(a, 0, 0)
	}
}

func plainList(f func(string) []string) stringMethod {
	return func(self string, _ *exec.Value, a *exec.VarArgs) (any, error) {
		return listOf(f(self)), arguments(a, 0, 0)
	}
}

func every(is func(rune) bool) stringMethod {
	return func(self string, _ *exec.Value, a *exec.VarArgs) (any, error) {
		return self != "" && !strings.ContainsFunc(self, func(r rune) bool { return !is(r) }), arguments(a, 0, 0)
	}
}

func listOf(texts []string) sequence {
	list := make(sequence, len(texts))
	for i, text := range texts {
		list[i] = text
	}
	return list
}

func stripping(left, right bool) stringMethod {
	return func(self string, _ *exec.Value, a *exec.VarArgs) (any, error) {
		if err := arguments(a, 0, 1); err != nil {
			return nil, err
		}
		in := pythonSpace
		if first := a.First(); !first.IsNil() {
			in = func(r rune) bool { return strings.ContainsRune(first.String(), r) }
		}
		if left {
			self = strings.TrimLeftFunc(self, in)
		}
		if right {
			self = strings.TrimRightFunc(self, in)
		}
		return self, nil
	}
}

func affix(has func(s, affix string) bool) stringMethod {
	return func(self string, _ *exec.Value, a *exec.VarArgs) (any, error) {
		if err := arguments(a, 1, 1); err != nil {
			return nil, err
		}
		first := a.First()
		if first.IsString() {
			return has(self, first.String()), nil
		}
		if !first.IsList() {
			return nil, errors.New("takes a string or a tuple of strings")
		}
		for i := range first.Len() {
			if has(self, first.Index(i).String()) {
				return true, nil
			}
		}
		return false, nil
	}
}

func splitting(fromRight bool) stringMethod {
	return func(self string, _ *exec.Value, a *exec.VarArgs) (any, error) {
		if err := arguments(a, 0, 2); err != nil {
			return nil, err
		}
		most := -1
		if len(a.Args) == 2 {
			most = a.Args[1].Integer()
		}
		separator := a.First()
		if separator.IsNil() {
			if most >= 0 {
				return nil, errors.New("splitting at white space with a limit is not supported")
			}
			return listOf(strings.FieldsFunc(self, pythonSpace)), nil
		}
		if separator.String() == "" {
			return nil, errors.New("the separator is empty")
		}
		parts := strings.Split(self, separator.String())
		if most < 0 || len(parts) <= most+1 {
			return listOf(parts), nil
		}
		if fromRight {
			cut := len(parts) - most
			return listOf(append([]string{strings.Join(parts[:cut], separator.String())}, parts[cut:]...)), nil
		}
		return listOf(append(slices.Clone(parts[:most]), strings.Join(parts[most:], separator.String()))), nil
	}
}

func replacing(self string, _ *exec.Value, a *exec.VarArgs) (any, error) {
	if err := arguments(a, 2, 3); err != nil {
		return nil, err
	}
	most := -1
	if len(a.Args) == 3 {
		most = a.Args[2].Integer()
	}
	return strings.Replace(self, a.Args[0].String(), a.Args[1].String(), most), nil
}

// finding is str.find, which counts characters.
func finding(self string, _ *exec.Value, a *exec.VarArgs) (any, error) {
	if err := arguments(a, 1, 1); err != nil {
		return nil, err
	}
	at := strings.Index(self, a.First().String())
	if at < 0 {
		return -1, nil
	}
	return len([]rune(self[:at])), nil
}

func counting(self string, _ *exec.Value, a *exec.VarArgs) (any, error) {
	return strings.Count(self, a.First().String()), arguments(a, 1, 1)
}

func joining(self string, _ *exec.Value, a *exec.VarArgs) (any, error) {
	if err := arguments(a, 1, 1); err != nil {
		return nil, err
	}
	var texts []string
	a.First().Iterate(func(_, _ int, key, _ *exec.Value) bool {
		texts = append(texts, key.String())
		return true
	}, func() {})
	return strings.Join(texts, self), nil
}

// A Caser keeps state, so each call makes its own.
func pythonUpper(s string) string { return cases.Upper(language.Und).String(s) }
func pythonLower(s string) string { return cases.Lower(language.Und).String(s) }

func pythonTitle(s string) string {
	inWord := false
	return strings.Map(func(r rune) rune {
		defer func() { inWord = unicode.IsLetter(r) }()
		if inWord {
			return unicode.ToLower(r)
		}
		return unicode.ToTitle(r)
	}, s)
}

func pythonCapitalize(s string) string {
	first := firstRune(s)
	return strings.ToTitle(s[:first]) + pythonLower(s[first:])
}

// pythonLines is str.splitlines for the line ends templates meet.
func pythonLines(s string) []string {
	s = strings.NewReplacer("\r\n", "\n", "\r", "\n").Replace(s)
	if s == "" {
		return nil
	}
	return strings.Split(strings.TrimSuffix(s, "\n"), "\n")
}
