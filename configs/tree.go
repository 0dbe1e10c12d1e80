package configs

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/parser"
	"github.com/goccy/go-yaml/token"
)

// A run takes a few kilobytes in short lines; more is a wrong file. The bounds also keep the YAML
// parser, whose time grows with the square of nesting, from being kept busy.
const (
	maxSourceBytes = 64 << 10
	maxLineBytes   = 8 << 10
	maxBrackets    = 1000 // unclosed ones at any point, comments and quotes included
	maxDepth       = 64   // of the tree
)

type nodeKind int

const (
	scalarNode nodeKind = iota
	mappingNode
	sequenceNode
)

// node is one value of a document: what was written, where, and by whom. Scalars stay text until
// the Go type they are decoded into says how to read them, so 1e-3 is a number where a number is
// wanted whatever a YAML version thinks of it.
type node struct {
	kind    nodeKind
	entries []entry // of a mapping, in order, keys unique
	items   []*node // of a sequence
	text    string  // of a scalar
	quoted  bool    // the scalar was quoted or a block, so it is text
	null    bool    // the scalar is null, ~ or missing
	bad     bool    // what was written is already reported; nothing more is to be said about it
	replace bool    // the value replaces what earlier layers said instead of merging into it
	at      place
	origin  Origin
}

// entry is one key of a mapping; at is the key's place.
type entry struct {
	key   string
	at    place
	value *node
}

// place is a position in a source; the zero value is nowhere, which is where defaults come from.
type place struct {
	source       *Source
	line, column int // 1-based, columns in runes
}

// String is "FILE:LINE:COLUMN" or "override N".
func (p place) String() string {
	if p.source.override > 0 {
		return p.source.Name
	}
	return fmt.Sprintf("%s:%d:%d", p.source.Name, p.line, p.column)
}

func (n *node) lookup(key string) (*entry, bool) {
	for i := range n.entries {
		if n.entries[i].key == key {
			return &n.entries[i], true
		}
	}
	return nil, false
}

// typeName returns the text of the key that selects a union's variant, "" when there is none.
func (n *node) typeName() string {
	if n.kind != mappingNode {
		return ""
	}
	if e, ok := n.lookup(typeKey); ok && e.value.kind == scalarNode {
		return e.value.text
	}
	return ""
}

// without returns the mapping less one key.
func (n *node) without(key string) *node {
	kept := *n
	kept.entries = nil
	for _, e := range n.entries {
		if e.key != key {
			kept.entries = append(kept.entries, e)
		}
	}
	return &kept
}

// describe says what was written, for messages that expected something else.
func (n *node) describe() string {
	switch {
	case n.kind == mappingNode:
		return "a mapping"
	case n.kind == sequenceNode:
		return "a list"
	case n.null:
		return "nothing"
	case !n.quoted && (looksNumeric(n.text) || n.text == "true" || n.text == "false"):
		return n.text
	default:
		return "text " + strconv.Quote(shorten(n.text))
	}
}

func shorten(s string) string {
	const most = 40
	if utf8.RuneCountInString(s) <= most {
		return s
	}
	return string([]rune(s)[:most]) + "…"
}

// parse turns a source into a tree. A source without content is an empty mapping. What is wrong is
// added to errs; a syntax error yields no tree.
func parse(source *Source, errs *Errors) (*node, bool) {
	reader := treeReader{source: source, errs: errs}
	text := string(source.Data)
	if line, problem := refuseText(text); problem != "" {
		reader.fail(line, 1, problem)
		return nil, false
	}
	root := reader.document(text, 0)
	if root == nil {
		return nil, false
	}
	return root, true
}

// refuseText says why a text is not worth parsing and at which line, "" when it is.
func refuseText(text string) (line int, problem string) {
	switch {
	case len(text) > maxSourceBytes:
		return 1, fmt.Sprintf("%d bytes where at most %d are allowed: this is not a configuration", len(text), maxSourceBytes)
	case !utf8.ValidString(text):
		return 1, "the text is not valid UTF-8: save the file as UTF-8"
	case strings.ContainsRune(text, 0):
		return 1, "the text holds a NUL byte: this is not a configuration"
	}
	open := 0
	for one := range strings.Lines(text) {
		line++
		if len(one) > maxLineBytes {
			return line, fmt.Sprintf("a line of %d bytes where at most %d are allowed: this is not a configuration", len(one), maxLineBytes)
		}
		open += strings.Count(one, "[") + strings.Count(one, "{")
		if open > maxBrackets {
			return line, fmt.Sprintf("more than %d brackets are open here: this is not a configuration", maxBrackets)
		}
		open = max(0, open-strings.Count(one, "]")-strings.Count(one, "}"))
	}
	return 0, ""
}

// treeReader reads one source's AST.
type treeReader struct {
	source *Source
	errs   *Errors
	shift  int // columns that precede the parsed text on its first line
}

func (r *treeReader) fail(line, column int, message string) {
	r.errs.add(place{r.source, line, column}, "", message)
}

func (r *treeReader) place(t *token.Token) place {
	if t == nil || t.Position == nil {
		return place{r.source, 1, 1 + r.shift}
	}
	p := place{r.source, t.Position.Line, t.Position.Column}
	if p.line == 1 {
		p.column += r.shift
	}
	return p
}

// document parses text that begins after shift columns of the source and returns nil when it cannot.
func (r *treeReader) document(text string, shift int) *node {
	r.shift = shift
	file, err := parser.ParseBytes([]byte(text), 0, parser.AllowDuplicateMapKey())
	if err != nil {
		var syntax yaml.Error
		if errors.As(err, &syntax) && syntax.GetToken() != nil {
			at := r.place(syntax.GetToken())
			r.errs.add(at, "", "not valid YAML: "+syntax.GetMessage())
		} else {
			r.fail(1, 1, "not valid YAML: "+err.Error())
		}
		return nil
	}
	var body ast.Node
	for _, doc := range file.Docs {
		if doc.Body == nil {
			continue
		}
		if body != nil {
			r.errs.add(r.place(doc.Body.GetToken()), "", "a second document begins here: a source holds one; put the other into a file of its own")
			return nil
		}
		body = doc.Body
	}
	if body == nil && holdsContent(text) {
		r.fail(1, 1, "not valid YAML: no value could be read")
		return nil
	}
	if body == nil {
		return &node{kind: mappingNode, at: place{r.source, 1, 1 + shift}, origin: r.source.origin(1)}
	}
	return r.read(body, 0)
}

// holdsContent reports whether a text has more than comments and document markers.
func holdsContent(text string) bool {
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(strings.TrimPrefix(line, "\ufeff"))
		if line != "" && line != "---" && line != "..." && line[0] != '#' && line[0] != '%' {
			return true
		}
	}
	return false
}

// read turns an AST node into a tree node, or reports why not and returns nil.
func (r *treeReader) read(n ast.Node, depth int) *node {
	at := r.place(n.GetToken())
	if depth > maxDepth {
		r.errs.add(at, "", fmt.Sprintf("nested more than %d deep", maxDepth))
		return nil
	}
	out := &node{at: at, origin: r.source.origin(at.line)}
	switch n := n.(type) {
	case *ast.MappingNode:
		out.kind = mappingNode
		for _, value := range n.Values {
			r.readEntry(out, value, depth)
		}
		if len(out.entries) > 0 && n.Start != nil && n.Start.Type != token.MappingStartType {
			out.at = out.entries[0].at
		}
		return out
	case *ast.MappingValueNode:
		out.kind = mappingNode
		r.readEntry(out, n, depth)
		if len(out.entries) > 0 {
			out.at = out.entries[0].at
		}
		return out
	case *ast.SequenceNode:
		out.kind = sequenceNode
		for _, value := range n.Values {
			item := r.read(value, depth+1)
			if item == nil {
				item = &node{bad: true, at: at, origin: out.origin}
			}
			out.items = append(out.items, item)
		}
		return out
	case *ast.NullNode:
		out.null = true
		return out
	case *ast.LiteralNode:
		out.quoted = true
		if n.Value != nil {
			out.text = n.Value.Value
		}
		return out
	case *ast.StringNode:
		out.text = n.Value
		out.quoted = n.Token.Type == token.SingleQuoteType || n.Token.Type == token.DoubleQuoteType
		return out
	case ast.ScalarNode:
		if t := n.GetToken(); t != nil {
			if refusal := refusedScalar(n); refusal != "" {
				r.errs.add(at, "", refusal)
				return nil
			}
			out.text = t.Value
			return out
		}
	}
	r.errs.add(at, "", refusedNode(n))
	return nil
}

func refusedScalar(n ast.Node) string {
	switch n.(type) {
	case *ast.AnchorNode, *ast.AliasNode, *ast.TagNode, *ast.MergeKeyNode:
		return refusedNode(n)
	}
	return ""
}

func refusedNode(n ast.Node) string {
	switch n.(type) {
	case *ast.AnchorNode, *ast.AliasNode, *ast.MergeKeyNode:
		return "anchors, aliases and merge keys are not supported: write the value out, or put what is shared into a file of its own and give both with -f"
	case *ast.TagNode:
		return "tags are not supported: remove the word that begins with !"
	}
	return fmt.Sprintf("%s is not supported here", n.Type())
}

func (r *treeReader) readEntry(into *node, n *ast.MappingValueNode, depth int) {
	at := r.place(n.Key.GetToken())
	var key string
	switch k := n.Key.(type) {
	case *ast.StringNode:
		key = k.Value
	case *ast.MergeKeyNode, *ast.AnchorNode, *ast.AliasNode, *ast.TagNode:
		r.errs.add(at, "", refusedNode(k))
		return
	case *ast.MappingKeyNode:
		r.errs.add(at, "", "complex keys are not supported: write key: value")
		return
	default:
		if t := n.Key.GetToken(); t != nil {
			key = t.Value
		}
	}
	if first, ok := into.lookup(key); ok {
		r.errs.add(at, "", fmt.Sprintf("key %q is already set at %d:%d: keep one of the two", shorten(key), first.at.line, first.at.column))
		return
	}
	if n.Value == nil {
		into.entries = append(into.entries, entry{key, at, &node{null: true, at: at, origin: r.source.origin(at.line)}})
		return
	}
	value := r.read(n.Value, depth+1)
	switch {
	case value == nil:
		value = &node{bad: true, at: at, origin: r.source.origin(at.line)}
	case value.null:
		value.at = at // an absent value has no token of its own worth pointing at
	}
	into.entries = append(into.entries, entry{key, at, value})
}

// merge lays over on top of base: mappings merge key by key unless they select different variants
// of a union, anything else replaces. Neither argument is changed.
func merge(base, over *node) *node {
	if base == nil || base.kind != mappingNode || over.kind != mappingNode || over.replace {
		return over
	}
	if a, b := base.typeName(), over.typeName(); b != "" && a != b {
		return over
	}
	merged := *over
	merged.entries = append([]entry(nil), base.entries...)
	for _, e := range over.entries {
		if old, ok := merged.lookup(e.key); ok {
			*old = entry{e.key, e.at, merge(old.value, e.value)}
		} else {
			merged.entries = append(merged.entries, e)
		}
	}
	return &merged
}

// looksNumeric reports whether a plain scalar would be read as a number by some YAML reader, so
// that it must be quoted to be text.
func looksNumeric(s string) bool {
	if s == "" || !strings.ContainsAny(s[:1], "0123456789+-.") {
		return false
	}
	cleaned := strings.ReplaceAll(s, "_", "")
	if _, err := strconv.ParseFloat(cleaned, 64); err == nil || errors.Is(err, strconv.ErrRange) {
		return true
	}
	_, err := strconv.ParseInt(cleaned, 0, 64)
	return err == nil || errors.Is(err, strconv.ErrRange)
}
