package configs

import (
	"encoding/json"
	"fmt"
	"regexp"
	"strings"
)

// emit writes a tree as block YAML. With comments, each scalar's line ends with its origin.
func emit(n *node, comments bool) []byte {
	e := emitter{comments: comments}
	if len(n.entries) == 0 {
		return []byte("{}\n")
	}
	e.mapping(n, "", "")
	return []byte(e.out.String())
}

type emitter struct {
	out      strings.Builder
	comments bool
}

// mapping writes the entries of n; the first one follows lead, which stands for the indent.
func (e *emitter) mapping(n *node, lead, indent string) {
	for i, one := range n.entries {
		if i == 0 {
			e.out.WriteString(lead)
		} else {
			e.out.WriteString(indent)
		}
		e.out.WriteString(plainOrQuoted(one.key))
		e.out.WriteByte(':')
		e.child(one.value, indent)
	}
}

// child writes a value after its key or dash.
func (e *emitter) child(n *node, indent string) {
	switch {
	case n.kind == mappingNode && len(n.entries) > 0:
		e.out.WriteByte('\n')
		e.mapping(n, indent+"  ", indent+"  ")
	case n.kind == sequenceNode && len(n.items) > 0:
		e.out.WriteByte('\n')
		e.sequence(n, indent+"  ")
	default:
		e.out.WriteString(" " + scalarText(n))
		e.origin(n)
	}
}

func (e *emitter) sequence(n *node, indent string) {
	for _, item := range n.items {
		switch {
		case item.kind == mappingNode && len(item.entries) > 0:
			e.mapping(item, indent+"- ", indent+"  ")
		default:
			e.out.WriteString(indent + "-")
			e.child(item, indent)
		}
	}
}

func (e *emitter) origin(n *node) {
	if e.comments {
		fmt.Fprintf(&e.out, " # %s", strings.NewReplacer("\n", " ", "\r", " ").Replace(n.origin.String()))
	}
	e.out.WriteByte('\n')
}

func scalarText(n *node) string {
	switch {
	case n.kind == mappingNode:
		return "{}"
	case n.kind == sequenceNode:
		return "[]"
	case n.null:
		return "null"
	case n.quoted:
		return plainOrQuoted(n.text)
	default:
		return n.text
	}
}

var plainText = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_./-]*$`)

// plainOrQuoted writes text so that every YAML reader takes it for text.
func plainOrQuoted(text string) string {
	switch strings.ToLower(text) {
	case "true", "false", "null", "yes", "no", "on", "off", "y", "n", "inf", "nan", "infinity":
	default:
		if plainText.MatchString(text) {
			return text
		}
	}
	var b strings.Builder
	encoder := json.NewEncoder(&b)
	encoder.SetEscapeHTML(false)
	_ = encoder.Encode(text) // a string always encodes
	return strings.TrimSuffix(b.String(), "\n")
}
