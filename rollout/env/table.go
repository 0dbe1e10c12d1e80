package env

import (
	"fmt"
	"slices"
	"strings"
)

// Config is the settings of one environment. Its fields are what a user writes under the
// environment's name.
type Config interface {
	// Validate returns an error that names the first field out of range.
	Validate() error
	// Build returns the environment, or the error of Validate.
	Build() (Environment, error)
}

// Entry is one environment of the table.
type Entry struct {
	// Name is the environment's name in configs, task ids and metrics.
	Name string
	// Doc is one line for people who choose.
	Doc string
	// NewConfig returns a pointer to a new configuration that holds the defaults, ready to be
	// decoded into.
	NewConfig func() Config
}

// Table lists the environments by name.
func Table() []Entry {
	return []Entry{
		{
			Name:      calcName,
			Doc:       "arithmetic word problems whose answer needs a python interpreter",
			NewConfig: func() Config { c := DefaultCalcConfig(); return &c },
		},
		{
			Name:      lookupName,
			Doc:       "multi-hop questions over a generated knowledge base with a search tool",
			NewConfig: func() Config { c := DefaultLookupConfig(); return &c },
		},
	}
}

// Names lists the names of the table, sorted.
func Names() []string {
	var names []string
	for _, entry := range Table() {
		names = append(names, entry.Name)
	}
	slices.Sort(names)
	return names
}

// Find returns the entry of a name, or an error that lists the known names.
func Find(name string) (Entry, error) {
	for _, entry := range Table() {
		if entry.Name == name {
			return entry, nil
		}
	}
	return Entry{}, fmt.Errorf("no environment %q; known environments: %s", name, strings.Join(Names(), ", "))
}

// Build builds the environment of a name; a nil config means the defaults.
func Build(name string, config Config) (Environment, error) {
	entry, err := Find(name)
	if err != nil {
		return nil, err
	}
	if config == nil {
		config = entry.NewConfig()
	}
	environment, err := config.Build()
	if err != nil {
		return nil, err
	}
	if environment.Name() != name {
		return nil, fmt.Errorf("the config given for environment %q is that of %q", name, environment.Name())
	}
	return environment, nil
}
