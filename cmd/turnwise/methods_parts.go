package main

import (
	"encoding/json"
	"fmt"
	"reflect"
	"strings"

	"github.com/turnwise-rl/turnwise/algos"
	"github.com/turnwise-rl/turnwise/configs"
	"github.com/turnwise-rl/turnwise/kernels"
)

// setting is one value of a part.
type setting struct {
	Name  string `json:"name"`
	Value any    `json:"value"`
	// Default is what the setting is when a config does not say.
	Default any      `json:"default"`
	Doc     string   `json:"doc"`
	Known   []string `json:"known,omitempty"` // legal values, when they are few
}

// part is one building block of a method as a table shows it.
type part struct {
	// Where is the key of the method that holds the part, for example "advantage.terms[0].credit".
	Where string `json:"where,omitempty"`
	Kind  string `json:"kind"`
	// Type is the part's name in its table; "" for what has no variants.
	Type string `json:"type,omitempty"`
	Doc  string `json:"doc"`
	Cite string `json:"cite,omitempty"`
	// Explanation is the part's meaning, equation and source, several lines.
	Explanation string    `json:"explanation,omitempty"`
	Settings    []setting `json:"settings"`
}

// schemaNode is what is read of the config's JSON schema: it knows what each setting means.
type schemaNode struct {
	Description string                 `json:"description"`
	Default     any                    `json:"default"`
	Const       any                    `json:"const"`
	Enum        []any                  `json:"enum"`
	Properties  map[string]*schemaNode `json:"properties"`
	Items       *schemaNode            `json:"items"`
	OneOf       []*schemaNode          `json:"oneOf"`
	AnyOf       []*schemaNode          `json:"anyOf"`
	Definitions map[string]*schemaNode `json:"definitions"`
}

// partsCatalog knows every kind of part.
type partsCatalog struct {
	schema *schemaNode
	method *schemaNode // a method in full
}

func newPartsCatalog() (*partsCatalog, error) {
	text, err := configs.Schema()
	if err != nil {
		return nil, err
	}
	c := &partsCatalog{schema: &schemaNode{}}
	if err := json.Unmarshal(text, c.schema); err != nil {
		return nil, err
	}
	for _, form := range c.schema.at("method").forms() {
		if form.Properties["loss"] != nil {
			c.method = form
		}
	}
	if c.method == nil {
		return nil, fmt.Errorf("the config's schema describes no method")
	}
	return c, nil
}

// at returns the description of a key; an empty one when there is none.
func (n *schemaNode) at(key string) *schemaNode {
	if n == nil || n.Properties[key] == nil {
		return &schemaNode{}
	}
	return n.Properties[key]
}

func (n *schemaNode) forms() []*schemaNode {
	return append(append([]*schemaNode(nil), n.AnyOf...), n.OneOf...)
}

// variant returns the description of a part.
func (c *partsCatalog) variant(kind, name string) *schemaNode {
	if definition := c.schema.Definitions[kind]; definition != nil {
		for _, form := range definition.forms() {
			if form.at("type").Const == name {
				return form
			}
		}
	}
	return &schemaNode{}
}

// all lists every part of every kind with its defaults.
func (c *partsCatalog) all() []part {
	var out []part
	for _, kind := range algos.Tables() {
		for _, v := range kind.Variants {
			out = append(out, part{Kind: kind.Name, Type: v.Name, Doc: v.Doc, Cite: v.Cite,
				Explanation: configs.Explanation(v.New()), Settings: settings(v.New(), c.variant(kind.Name, v.Name))})
		}
	}
	return out
}

// of lists the parts of a method in the order they are applied.
func (c *partsCatalog) of(m algos.Method) []part {
	out := []part{c.part("outcome", "outcome", m.Outcome), c.part("turn_reward", "turn_reward", m.TurnReward)}
	for i, p := range m.Shape {
		out = append(out, c.part(fmt.Sprintf("shape[%d]", i), "shape", p))
	}
	for i, p := range m.Filter {
		out = append(out, c.part(fmt.Sprintf("filter[%d]", i), "filter", p))
	}
	terms := c.method.at("advantage").at("terms")
	for i, term := range m.Advantage.Terms {
		where := fmt.Sprintf("advantage.terms[%d]", i)
		doc := "weight · (score − center) / (scale + epsilon); the scores are those of its credit"
		out = append(out,
			part{Where: where, Kind: "term", Type: term.Name, Doc: doc, Settings: settings(term, terms.Items)},
			c.part(where+".credit", "credit", term.Credit))
	}
	for i, p := range m.Advantage.Transforms {
		out = append(out, c.part(fmt.Sprintf("advantage.transforms[%d]", i), "transform", p))
	}
	for i, p := range m.Mask {
		out = append(out, c.part(fmt.Sprintf("mask[%d]", i), "mask", p))
	}
	for i, p := range m.Weight {
		out = append(out, c.part(fmt.Sprintf("weight[%d]", i), "weight", p))
	}
	if algos.NameOf(m.Pair) != "none" {
		out = append(out, c.part("pair", "pair", m.Pair))
	}
	return append(out, c.loss(m.Loss)...)
}

// loss lists the parts of a loss program.
func (c *partsCatalog) loss(p kernels.Program) []part {
	out := []part{
		{Where: "loss", Kind: "loss", Doc: "what the learner minimises", Settings: settings(p, c.method.at("loss"))},
		c.part("loss.objective", "objective", p.Objective),
	}
	for i, correction := range p.OffPolicy {
		out = append(out, c.part(fmt.Sprintf("loss.off_policy[%d]", i), "off_policy", correction))
	}
	for i, mask := range p.Mask {
		out = append(out, c.part(fmt.Sprintf("loss.mask[%d]", i), "loss_mask", mask))
	}
	for i, term := range p.Regularizers {
		out = append(out, c.part(fmt.Sprintf("loss.regularizers[%d]", i), "regularizer", term))
	}
	return out
}

// part describes one part of a method.
func (c *partsCatalog) part(where, kind string, value any) part {
	out := part{Where: where, Kind: kind, Type: algos.NameOf(value)}
	for _, table := range algos.Tables() {
		for _, v := range table.Variants {
			if table.Name == kind && v.Name == out.Type {
				out.Doc, out.Cite = v.Doc, v.Cite
			}
		}
	}
	out.Explanation = configs.Explanation(value)
	out.Settings = settings(value, c.variant(kind, out.Type))
	return out
}

// settings lists the plain settings of a struct, in the order of its fields. Parts within it are left
// out: they stand for themselves.
func settings(value any, doc *schemaNode) []setting {
	v := reflect.ValueOf(value)
	for v.Kind() == reflect.Pointer {
		v = v.Elem()
	}
	if v.Kind() != reflect.Struct {
		return nil
	}
	var out []setting
	for i := range v.NumField() {
		key, _, _ := strings.Cut(v.Type().Field(i).Tag.Get("yaml"), ",")
		field := v.Field(i)
		if key == "" || key == "-" || field.Kind() == reflect.Interface || field.Kind() == reflect.Slice {
			continue
		}
		about := doc.at(key)
		s := setting{Name: key, Value: field.Interface(), Default: about.Default, Doc: about.Description}
		for _, known := range about.Enum {
			s.Known = append(s.Known, fmt.Sprint(known))
		}
		out = append(out, s)
	}
	return out
}

// edited says whether the value is not the default.
func (s setting) edited() bool { return s.Default != nil && text(s.Value) != text(s.Default) }

// text writes a value the way a config does.
func text(value any) string {
	if v, ok := value.(string); ok {
		return v
	}
	v := reflect.ValueOf(value)
	switch v.Kind() {
	case reflect.String:
		return v.String()
	case reflect.Map:
		if data, err := json.Marshal(value); err == nil {
			return string(data)
		}
	}
	return fmt.Sprint(value)
}
