package configs

import (
	"fmt"
	"reflect"
	"strings"
)

// Reference returns the reference of every setting as Markdown.
func Reference() ([]byte, error) {
	r := referenceWriter{language: runLanguage()}
	r.out.WriteString(referenceIntro)
	run := Default()
	list, _ := r.settings(reflect.ValueOf(&run).Elem())
	r.out.WriteString("## The run\n\n")
	r.table(list)
	for _, one := range list {
		r.section(one)
	}
	for len(r.pending) > 0 {
		next := r.pending[0]
		r.pending = r.pending[1:]
		r.union(next)
	}
	r.live()
	r.fork()
	r.presets()
	return []byte(r.out.String()), nil
}

const referenceIntro = `# Configuration reference

This page is generated from the program; ` + "`go generate ./configs`" + ` writes it.

A run is assembled from left to right: defaults, then each file or preset, then ` + "`key.path=value`" + ` overrides.

- Mappings merge key by key; lists and scalars replace.
- A mapping whose ` + "`type`" + ` selects another variant than before starts that variant afresh, with its defaults.
- A method is a preset's name (` + "`method: grpo`" + `), a preset with edits (` + "`method: {preset: grpo, loss: {objective: {clip_high: 0.28}}}`" + `), or all parts in full.
- An override's value is YAML: ` + "`seed=3`" + `, ` + "`method.advantage.terms[0].scale=none`" + `, ` + "`environments=[{type: calc}]`" + `.
- Durations carry a unit: ` + "`500ms`, `10s`, `1h30m`" + `; 0 and negative ones are refused.
- Unknown and duplicate keys, wrong types, values out of range and impossible combinations are reported all at once, before anything starts.
- ` + "`turnwise config show`" + ` prints every resolved value and where it comes from.

`

// liveMark follows what a live setting means.
const liveMark = " [Live](#live-settings)."

type referenceWriter struct {
	*language
	out strings.Builder
	// at is the path of the section that is written; "" for the run and for parts, which may be anywhere.
	at      string
	pending []*Union
	seen    map[string]bool
}

// section writes what lies below one key of the run.
func (r *referenceWriter) section(one setting) {
	v := one.value
	r.at = one.name
	defer func() { r.at = "" }()
	switch {
	case v.Kind() == reflect.Struct:
		text := meaning(one)
		if Live(one.name) {
			text += liveMark
		}
		if key, short := r.shorts[v.Type()]; short {
			text += fmt.Sprintf(" `%s: VALUE` is short for `%s: {%s: VALUE}`, and leaves the other keys as they are.", one.name, one.name, key)
		}
		fmt.Fprintf(&r.out, "## `%s`\n\n%s\n\n", one.name, text)
		list, _ := r.settings(v)
		r.table(list)
	case v.Kind() == reflect.Slice && v.Type().Elem().Kind() == reflect.Struct:
		fmt.Fprintf(&r.out, "## `%s`\n\n%s\n\n", one.name, meaning(one))
		element := r.element(v.Type().Elem())
		list, inline := r.settings(element)
		if inline == nil {
			r.table(list)
			return
		}
		for _, variant := range r.unions[inline.value.Type()].Variants {
			r.variant(variant, list)
		}
	}
}

// table writes one row per leaf; nested mappings become dotted keys.
func (r *referenceWriter) table(list []setting) {
	r.out.WriteString("| key | type | default | limits | meaning |\n|---|---|---|---|---|\n")
	r.rows("", list)
	r.out.WriteByte('\n')
}

func (r *referenceWriter) rows(prefix string, list []setting) {
	for _, one := range list {
		v, key := one.value, prefix+one.name
		if v.Kind() == reflect.Slice && v.Type().Elem().Kind() == reflect.Struct && !hasSection(one) {
			r.row(key, "list of mappings", "", one)
			inner, _ := r.settings(r.element(v.Type().Elem()))
			r.rows(key+"[].", inner)
			continue
		}
		if v.Kind() == reflect.Struct && !hasSection(one) {
			inner, _ := r.settings(v)
			r.rows(key+".", inner)
			continue
		}
		r.row(key, r.kind(v.Type(), one), r.fallback(v), one)
	}
}

// hasSection reports whether a setting of the run has a heading of its own.
func hasSection(one setting) bool { return one.owner == reflect.TypeFor[Run]() }

func (r *referenceWriter) row(key, kind, fallback string, one setting) {
	if fallback != "" {
		fallback = "`" + fallback + "`"
	}
	limits := one.bounds.String()
	if one.value.Type() == durationType && limits == "" {
		limits = "> 0"
	}
	text := strings.ReplaceAll(meaning(one), "|", `\|`)
	if (r.at != "" || hasSection(one)) && !Live(r.at) && Live(join(r.at, key)) {
		text += liveMark // a section that is live as a whole says so itself
	}
	fmt.Fprintf(&r.out, "| `%s` | %s | %s | %s | %s |\n", key, kind, fallback, limits, text)
}

// kind says how a value is written, with a link where that takes more than a word.
func (r *referenceWriter) kind(t reflect.Type, one setting) string {
	switch {
	case t == durationType:
		return "duration"
	case t.Kind() == reflect.Interface:
		u := r.unions[t]
		r.meet(u)
		return fmt.Sprintf("[%s](#%s)", u.Kind, u.Kind)
	case t.Kind() == reflect.Slice:
		if t.Elem().Kind() == reflect.Struct {
			return fmt.Sprintf("[list](#%s)", one.name)
		}
		return "list of " + r.kind(t.Elem(), one)
	case t.Kind() == reflect.Struct:
		return fmt.Sprintf("[mapping](#%s)", one.name)
	case t.Kind() == reflect.Map:
		return "mapping of " + r.kind(t.Elem(), one)
	case t.Kind() == reflect.String:
		if values := r.legal(t, one.bounds); values != nil {
			return "`" + strings.Join(values, "` `") + "`"
		}
		return "text"
	case t.Kind() == reflect.Bool:
		return "true or false"
	case t.Kind() == reflect.Float32, t.Kind() == reflect.Float64:
		return "number"
	default:
		return "whole number"
	}
}

func (r *referenceWriter) fallback(v reflect.Value) string {
	switch v.Kind() {
	case reflect.Struct, reflect.Map:
		return ""
	case reflect.Interface:
		return r.unions[v.Type()].nameOf(v)
	case reflect.Slice:
		if v.Len() == 0 {
			return "[]"
		}
		return ""
	}
	return scalarText(r.encode(v))
}

func (r *referenceWriter) meet(u *Union) {
	if r.seen == nil {
		r.seen = make(map[string]bool)
	}
	if !r.seen[u.Kind] {
		r.seen[u.Kind] = true
		r.pending = append(r.pending, u)
	}
}

func (r *referenceWriter) union(u *Union) {
	fmt.Fprintf(&r.out, "## %s\n\nA part of this kind %s. Its `type` is one of:\n\n", u.Kind, u.Doc)
	for _, variant := range u.Variants {
		r.variant(variant, nil)
	}
}

// variant writes one choice of a union and the settings it has.
func (r *referenceWriter) variant(variant Variant, beside []setting) {
	fmt.Fprintf(&r.out, "### `type: %s`\n\n%s", variant.Name, sentence(variant.Doc))
	if variant.Cite != "" {
		fmt.Fprintf(&r.out, " Source: %s.", variant.Cite)
	}
	r.out.WriteString("\n\n")
	list, _ := r.settings(dereference(addressable(reflect.ValueOf(variant.New()))))
	list = append(append([]setting(nil), list...), beside...)
	if len(list) > 0 {
		r.table(list)
	}
}

// sentence writes a one-line doc as a sentence.
func sentence(doc string) string {
	if doc == "" {
		return ""
	}
	return strings.ToUpper(doc[:1]) + doc[1:] + "."
}

func (r *referenceWriter) live() {
	r.out.WriteString("## Live settings\n\n`turnwise set RUN key.path=value` changes these while a run goes on, and nothing else; the run's whole config is checked again.\n" +
		"A method that reads a critic's values and one that does not cannot follow each other, because the policy has a value head or has none.\n\n| setting | a new value holds |\n|---|---|\n")
	for _, s := range LiveSettings {
		fmt.Fprintf(&r.out, "| `%s` | %s |\n", s.Path, s.Takes)
	}
	r.out.WriteByte('\n')
}

func (r *referenceWriter) fork() {
	r.out.WriteString("## What a fork keeps\n\n`turnwise fork RUN --step K key.path=value` starts a new run from a committed step. It may change every setting but these, and neither takes nor loses a critic. " +
		"`training.steps` counts reinforcement steps from the run's beginning, those it starts with included. A new `seed` decides what the fork draws from then on.\n\n| setting | because |\n|---|---|\n")
	for _, s := range FixedSettings {
		name := "`" + s.Path + "`"
		if len(s.But) > 0 {
			name += ", but for `" + strings.Join(s.But, "` and `") + "`"
		}
		fmt.Fprintf(&r.out, "| %s | %s |\n", name, s.Why)
	}
	r.out.WriteByte('\n')
}

func (r *referenceWriter) presets() {
	r.out.WriteString("## Presets\n\nA preset is a file in `configs/presets`. `method: NAME` takes those that are a method; `turnwise submit -f` takes any file.\n\n| preset | is |\n|---|---|\n")
	methods := make(map[string]bool)
	for _, name := range MethodNames() {
		methods[name] = true
	}
	for _, name := range PresetNames() {
		kind := "a run"
		if methods[name] {
			kind = "a method"
		}
		fmt.Fprintf(&r.out, "| `%s` | %s |\n", name, kind)
	}
}
