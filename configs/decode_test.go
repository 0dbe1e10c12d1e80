package configs

import (
	"errors"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// The types below have every feature a section may have.

type shape interface{ area() float64 }

type square struct {
	Side float64 `yaml:"side" jsonschema:"exclusiveMinimum=0"`
}

func (s square) area() float64 { return s.Side * s.Side }

type circle struct {
	Radius float64 `yaml:"radius"`
	Inner  shape   `yaml:"inner"`
}

func (c *circle) area() float64 { return 3 * c.Radius * c.Radius }

func (c *circle) Validate() error {
	if c.Radius > 100 {
		return &PathError{Path: "radius", Err: errors.New("a circle this large does not fit")}
	}
	return nil
}

type color string

type level int

func (l *level) UnmarshalText(text []byte) error {
	i := strings.Index("low high", string(text))
	if i < 0 {
		return errors.New("want low or high")
	}
	*l = level(i)
	return nil
}

func (l level) MarshalText() ([]byte, error) {
	return []byte(map[level]string{0: "low", 4: "high"}[l]), nil
}

type shared struct {
	Note string `yaml:"note"`
}

type tile struct {
	Figure shape `yaml:",inline"`
	Count  int8  `yaml:"count" jsonschema:"minimum=0,maximum=100"`
}

type page struct {
	shared   `yaml:"-"`
	Header   shared             `yaml:",inline"`
	Figure   shape              `yaml:"figure"`
	Tiles    []tile             `yaml:"tiles"`
	Color    color              `yaml:"color"`
	Mood     string             `yaml:"mood" jsonschema:"enum=calm,enum=loud"`
	Level    level              `yaml:"level"`
	Timeout  time.Duration      `yaml:"timeout"`
	Weights  map[string]float64 `yaml:"weights"`
	Ratio    *float64           `yaml:"ratio"`
	Ready    bool               `yaml:"ready"`
	Sizes    []uint16           `yaml:"sizes" jsonschema:"minimum=1"`
	MaxTurns int                // named by rule: max_turns
}

func (p page) Validate() error {
	if len(p.Tiles) > 1 && p.Color == "red" {
		return errors.Join(
			&PathError{Path: "tiles[1].count", Err: errors.New("one red tile is enough")},
			errors.New("color: red tiles come alone"))
	}
	return nil
}

func pages() assembly {
	l := newLanguage([]Union{{
		Interface: reflect.TypeFor[shape](), Kind: "figure", Variants: []Variant{
			{Name: "square", New: func() any { return square{Side: 1} }},
			{Name: "circle", New: func() any { return &circle{Radius: 2} }},
		},
	}}, map[reflect.Type][]string{reflect.TypeFor[color](): {"red", "green"}})
	l.elements[reflect.TypeFor[tile]()] = func() any { return tile{Count: 1} }
	return assembly{language: l, prototype: func() any {
		return &page{Figure: square{Side: 3}, Color: "green", Mood: "calm", Timeout: time.Second, Tiles: []tile{{Figure: square{Side: 5}, Count: 2}}}
	}}
}

func loadPage(texts []string, overrides ...string) (*page, *node, error) {
	value, tree, err := pages().build(files(texts...), overrides)
	if err != nil {
		return nil, nil, err
	}
	return value.(*page), tree, nil
}

func TestDecode(t *testing.T) {
	half := 0.5
	tests := []struct {
		name      string
		texts     []string
		overrides []string
		change    func(*page)
	}{
		{"nothing", nil, nil, func(*page) {}},
		{"empty files", []string{"", "# only a comment\n", "{}"}, nil, func(*page) {}},
		{"scalars", []string{"note: \"12\"\ncolor: red\nmood: loud\nlevel: high\ntimeout: 1m30s\nready: true\nmax_turns: -3\nratio: 5e-1\n"}, nil, func(p *page) {
			p.Header.Note, p.Color, p.Mood, p.Level, p.Timeout, p.Ready, p.MaxTurns, p.Ratio = "12", "red", "loud", 4, 90*time.Second, true, -3, &half
		}},
		{"block text", []string{"note: |\n  a\n  b\n"}, nil, func(p *page) { p.Header.Note = "a\nb\n" }},
		{"same variant keeps its settings", []string{"figure: {type: square}\n"}, nil, func(*page) {}},
		{"another variant has its own", []string{"figure: {type: circle}\n"}, nil, func(p *page) { p.Figure = &circle{Radius: 2} }},
		{"variant without type", []string{"figure: {side: 4}\n"}, nil, func(p *page) { p.Figure = square{Side: 4} }},
		{"later variant drops settings", []string{"figure: {type: circle, radius: 9}\n", "figure: {type: square}\n"}, nil, func(p *page) { p.Figure = square{Side: 1} }},
		{"nested variant", []string{"figure: {type: circle, inner: {type: circle, radius: 1}}\n"}, nil, func(p *page) {
			p.Figure = &circle{Radius: 2, Inner: &circle{Radius: 1}}
		}},
		{"inline variant and element defaults", []string{"tiles: [{type: circle, radius: 7}, {type: square, count: 3}]\n"}, nil, func(p *page) {
			p.Tiles = []tile{{&circle{Radius: 7}, 1}, {square{Side: 1}, 3}}
		}},
		{"lists and maps", []string{"sizes: [1, 2]\nweights: {a: 1, b.c: 2}\n"}, nil, func(p *page) {
			p.Sizes, p.Weights = []uint16{1, 2}, map[string]float64{"a": 1, "b.c": 2}
		}},
		{"override into a default list", nil, []string{"tiles[0].side=6", "tiles[0].count=9"}, func(p *page) { p.Tiles = []tile{{square{Side: 6}, 9}} }},
		{"override changes a variant", nil, []string{"figure.type=circle", "figure.inner.type=square", "figure.inner.side=8"}, func(p *page) {
			p.Figure = &circle{Radius: 2, Inner: square{Side: 8}}
		}},
		{"override mends a file", []string{"max_turns: many\n"}, []string{"max_turns=4"}, func(p *page) { p.MaxTurns = 4 }},
		{"override map entry", []string{"weights: {a: 1}\n"}, []string{"weights.b=2"}, func(p *page) { p.Weights = map[string]float64{"a": 1, "b": 2} }},
		{"override with a mapping", []string{"figure: {type: circle, radius: 5}\n"}, []string{"figure={inner: {type: square}}"}, func(p *page) {
			p.Figure = &circle{Radius: 5, Inner: square{Side: 1}}
		}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			want := pages().prototype().(*page)
			tt.change(want)
			got, tree, err := loadPage(tt.texts, tt.overrides...)
			if err != nil {
				t.Fatal(err)
			}
			opts := cmp.AllowUnexported(page{})
			if diff := cmp.Diff(want, got, opts); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
			again, _, err := loadPage([]string{string(emit(tree, true))})
			if err != nil {
				t.Fatalf("%v\n%s", err, emit(tree, true))
			}
			if diff := cmp.Diff(want, again, opts); diff != "" {
				t.Errorf("reloaded (-want +got):\n%s", diff)
			}
		})
	}
}

func TestDecodeRefuses(t *testing.T) {
	tests := []struct {
		text string
		want []string // the lines of all errors, in order
	}{
		{"color: blue\nmood: sad\nlevel: middle\n", []string{
			`a.yaml:1:8: color: unknown value "blue"; known: red, green`,
			`a.yaml:2:7: mood: unknown value "sad"; known: calm, loud`,
			`a.yaml:3:8: level: want low or high`,
		}},
		{"sizes: [0, 70000, -1, x]\n", []string{
			"a.yaml:1:9: sizes[0]: 0 is too small: at least 1",
			"a.yaml:1:12: sizes[1]: 70000 does not fit 16 bits: at most 65535",
			"a.yaml:1:19: sizes[2]: -1 is too small: at least 0",
			`a.yaml:1:23: sizes[3]: want a whole number, got text "x"`,
		}},
		{"tiles:\n  - {type: square, side: 0, count: 128}\n  - {type: sqare}\n  - {count: 1, radius: 2}\n", []string{
			"a.yaml:2:26: tiles[0].side: 0 is too small: greater than 0",
			"a.yaml:2:36: tiles[0].count: 128 does not fit 8 bits: at most 127",
			`a.yaml:3:12: tiles[1].type: unknown figure "sqare"; known: square, circle; did you mean "square"?`,
			"a.yaml:4:5: tiles[2]: no type says which figure is meant; known: square, circle",
		}},
		{"ready: yes\nfigure: 3\nweights: [1]\nratio: ~\nnote: 2\n", []string{
			`a.yaml:1:8: ready: want true or false, got text "yes"`,
			"a.yaml:2:9: figure: want a mapping whose type is one of square, circle, got 3",
			"a.yaml:3:10: weights: want a mapping, got a list",
			`a.yaml:5:7: note: want text, got 2: write "2"`,
		}},
		{"figure: {type: circle, radius: 101, inner: {type: circle, radius: 102}}\n", []string{
			"a.yaml:1:32: figure.radius: a circle this large does not fit",
			"a.yaml:1:67: figure.inner.radius: a circle this large does not fit",
		}},
		{"color: red\ntiles: [{type: square}, {type: square, count: 2}]\n", []string{
			"a.yaml:1:8: color: red tiles come alone",
			"a.yaml:2:47: tiles[1].count: one red tile is enough",
		}},
	}
	for _, tt := range tests {
		_, _, err := loadPage([]string{tt.text})
		var all Errors
		if !errors.As(err, &all) {
			t.Errorf("%q: got %v, want Errors", tt.text, err)
			continue
		}
		var got []string
		for _, one := range all {
			got = append(got, one.Line())
		}
		if diff := cmp.Diff(tt.want, got); diff != "" {
			t.Errorf("%q (-want +got):\n%s", tt.text, diff)
		}
	}
}

func TestErrorsKeepTheOrderOfSources(t *testing.T) {
	_, _, err := loadPage([]string{"x: 1\ny: 2\n", "z: 3\n"}, "w=4", "v=5")
	var all Errors
	if !errors.As(err, &all) {
		t.Fatal(err)
	}
	var got []string
	for _, one := range all {
		got = append(got, one.Where)
	}
	want := []string{"a.yaml:1:1", "a.yaml:2:1", "b.yaml:1:1", "override 1: w=4", "override 2: v=5"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

func TestNearest(t *testing.T) {
	names := []string{"steps", "group_size", "learning_rate"}
	for name, want := range map[string]string{
		"step": "steps", "setps": "steps", "groupsize": "group_size", "learning_rat": "learning_rate", "Steps": "steps", "zebra": "", "": "",
		strings.Repeat("x", 5000): "",
	} {
		if got := nearest(name, names); got != want {
			t.Errorf("nearest(%.20q) = %q, want %q", name, got, want)
		}
	}
}

func TestSnake(t *testing.T) {
	for name, want := range map[string]string{"MaxTurns": "max_turns", "KVHeads": "kv_heads", "KL": "kl", "Beta1": "beta1", "VocabID": "vocab_id"} {
		if got := snake(name); got != want {
			t.Errorf("snake(%s) = %s, want %s", name, got, want)
		}
	}
}
