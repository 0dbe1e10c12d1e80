package main

import (
	"strings"

	"github.com/spf13/cobra"

	"github.com/turnwise-rl/turnwise/algos"
)

func methodsVerb(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:     "methods",
		Short:   "List the methods and the parts they are made of",
		Example: "  turnwise methods\n  turnwise methods show matchtir",
		Args:    cobra.ArbitraryArgs,
		RunE: func(_ *cobra.Command, args []string) error {
			if len(args) > 0 {
				return usagef("methods %s: know show; try `turnwise methods show %s`", args[0], args[0])
			}
			return a.listMethods()
		},
	}
	cmd.AddCommand(&cobra.Command{
		Use:     "show NAME",
		Short:   "Show a method or a part: settings, defaults, equation and source",
		Example: "  turnwise methods show matchtir\n  turnwise methods show turn_reward.match -o json",
		Args:    cobra.ArbitraryArgs,
		RunE: func(_ *cobra.Command, args []string) error {
			if len(args) != 1 {
				return usagef("methods show takes one name; `turnwise methods` lists them")
			}
			return a.showMethod(args[0])
		},
	})
	return cmd
}

// methodRow is a method with its parts.
type methodRow struct {
	Kind string `json:"kind"` // "method"
	Name string `json:"name"`
	Doc  string `json:"doc"`
	Cite string `json:"cite"`
	// Pinned says how well the definition is known; PinnedMeans says it in words.
	Pinned      string `json:"pinned"`
	PinnedMeans string `json:"pinned_means"`
	// Missing says what the method needs beside credit and loss that the program does not have; "" when
	// it is whole.
	Missing string `json:"missing,omitempty"`
	// Composition names the parts on one line.
	Composition string `json:"composition"`
	// Conventions are the choices behind its numbers that trainers make differently.
	Conventions []algos.Convention `json:"conventions"`
	Parts       []part             `json:"parts"`
}

// pinnedMeans is what the words for how well a method is known stand for.
var pinnedMeans = map[algos.Pinned]string{
	algos.Code:          "read in the released source",
	algos.CodeThird:     "read in an independent re-implementation",
	algos.Notes:         "read in a close reading of the paper",
	algos.Memory:        "the standard definition",
	algos.Reconstructed: "the most faithful reading of an abstract, not a reproduction",
}

func (c *partsCatalog) row(p algos.Preset) methodRow {
	return methodRow{Kind: "method", Name: p.Name, Doc: p.Doc, Cite: p.Cite, Pinned: string(p.Pinned), PinnedMeans: pinnedMeans[p.Pinned], Missing: p.Missing, Composition: p.New().Summary(),
		Conventions: p.New().Conventions(), Parts: c.of(p.New())}
}

func (a *app) listMethods() error {
	catalog, err := newPartsCatalog()
	if err != nil {
		return err
	}
	if a.json() {
		for _, p := range algos.Presets() {
			if err := a.printJSON(catalog.row(p)); err != nil {
				return err
			}
		}
		for _, p := range catalog.all() {
			if err := a.printJSON(p); err != nil {
				return err
			}
		}
		return nil
	}
	for _, p := range algos.Presets() {
		a.print("%s  [%s]  %s\n    %s\n    source: %s\n", p.Name, p.Pinned, p.Doc, p.New().Summary(), p.Cite)
		if p.Missing != "" {
			a.print("    missing: %s\n", p.Missing)
		}
	}
	a.print("\n")
	parts := newTable("PART", "DOES", "SOURCE")
	for _, p := range catalog.all() {
		parts.add(p.Kind+"."+p.Type, p.Doc, p.Cite)
	}
	parts.write(a.out)
	a.note("`turnwise methods show NAME` explains one")
	return nil
}

func (a *app) showMethod(name string) error {
	catalog, err := newPartsCatalog()
	if err != nil {
		return err
	}
	for _, p := range algos.Presets() {
		if p.Name == name {
			if a.json() {
				return a.printJSON(catalog.row(p))
			}
			catalog.row(p).write(a)
			return nil
		}
	}
	found := 0
	for _, p := range catalog.all() {
		if name != p.Type && name != p.Kind+"."+p.Type && name != p.Kind {
			continue
		}
		found++
		if a.json() {
			if err := a.printJSON(p); err != nil {
				return err
			}
			continue
		}
		p.write(a)
	}
	if found == 0 {
		return usagef("no method or part is called %q; methods: %s; parts are listed by `turnwise methods`", name, strings.Join(methodNames(), ", "))
	}
	return nil
}

func methodNames() []string {
	var names []string
	for _, p := range algos.Presets() {
		names = append(names, p.Name)
	}
	return names
}

func (m methodRow) write(a *app) {
	a.print("method     %s\ndoes       %s\nsource     %s\npinned     %s: %s\n", m.Name, m.Doc, m.Cite, m.Pinned, m.PinnedMeans)
	if m.Missing != "" {
		a.print("missing    %s; credit and loss work on recorded groups\n", m.Missing)
	}
	a.print("\nconventions\n")
	list := &table{}
	for _, c := range m.Conventions {
		list.add("    "+c.Name, c.Value, c.Where)
	}
	list.write(a.out)
	a.print("\n")
	for _, p := range m.Parts {
		p.write(a)
	}
	a.note("edit it in a config: `method: {preset: %s, …}`; try `turnwise config show method=%s`", m.Name, m.Name)
}

func (p part) write(a *app) {
	name := p.Kind + "." + p.Type
	switch {
	case p.Where == "":
	case p.Type == "":
		name = p.Where
	default:
		name = p.Where + ": " + p.Type
	}
	a.print("%s\n  %s", name, p.Doc)
	if p.Cite != "" {
		a.print(" [%s]", p.Cite)
	}
	a.print("\n")
	for line := range strings.Lines(p.Explanation) {
		a.print("  | %s\n", strings.TrimRight(line, "\n"))
	}
	list := &table{}
	for _, s := range p.Settings {
		value := text(s.Value)
		if s.edited() {
			value += " (default " + text(s.Default) + ")"
		}
		doc := s.Doc
		if len(s.Known) > 0 {
			doc += " One of " + strings.Join(s.Known, ", ") + "."
		}
		list.add("    "+s.Name, value, doc)
	}
	list.write(a.out)
	a.print("\n")
}
