package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/turnwise-rl/turnwise/configs"
)

// methodChoice is how commands that need a method and no run are told which.
type methodChoice struct{ name, file string }

func (c *methodChoice) flags(cmd *cobra.Command) {
	cmd.Flags().StringVar(&c.name, "method", "", "method to use, as `turnwise methods` lists it")
	cmd.Flags().StringVarP(&c.file, "file", "f", "", "file with a method, or with a run, of which only the method is read")
	_ = cmd.RegisterFlagCompletionFunc("method", func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
		return configs.MethodNames(), cobra.ShellCompDirectiveNoFileComp
	})
}

// load reads the method with overrides relative to it. Every mistake is one line.
func (c *methodChoice) load(verb string, overrides []string) (*configs.ResolvedMethod, error) {
	var source configs.Source
	switch {
	case c.name != "" && c.file != "":
		return nil, usagef("--method and -f: give one of them; a file can name a preset with `method: NAME`")
	case c.name == "" && c.file == "":
		return nil, usagef("%s takes --method NAME or -f FILE; `turnwise methods` lists the names", verb)
	case c.file != "":
		data, err := os.ReadFile(c.file)
		if errors.Is(err, fs.ErrNotExist) {
			return nil, usagef("no method file %s; a method of this program goes with --method", c.file)
		}
		if err != nil {
			return nil, usagef("read method: %v", err)
		}
		source = configs.Source{Name: c.file, Data: data}
	default:
		preset, err := configs.Preset(c.name)
		if err != nil || !slices.Contains(configs.MethodNames(), c.name) {
			return nil, usagef("no method is called %q; %s`turnwise methods` lists them", c.name, nearNames(c.name))
		}
		source = preset
	}
	method, err := configs.LoadMethod(source, overrides)
	if err != nil {
		return nil, oneLineError(err)
	}
	return method, nil
}

// nearNames asks for methods whose names hold the given one, or begin like it; "" when there are none.
func nearNames(name string) string {
	var near []string
	for _, candidate := range configs.MethodNames() {
		start := min(3, len(name), len(candidate))
		if strings.Contains(candidate, name) || strings.EqualFold(candidate[:start], name[:start]) {
			near = append(near, candidate)
		}
	}
	if len(near) == 0 || len(near) > 8 || name == "" {
		return ""
	}
	return "did you mean " + strings.Join(near, ", ") + "? "
}

// oneLineError is the first thing that is wrong with a config, on one line, and how many more there are.
func oneLineError(err error) error {
	var all configs.Errors
	if !errors.As(err, &all) || len(all) == 0 {
		return err
	}
	text := all[0].Line()
	if more := len(all) - 1; more > 0 {
		text += fmt.Sprintf(" (and %s)", plural(more, "more mistake"))
	}
	return usagef("%s", oneLine(text))
}

// openInput opens a file, or standard input when there is none, under the name it has in errors.
func (a *app) openInput(flag, path string) (io.ReadCloser, string, error) {
	if path == "" || path == "-" {
		if file, ok := a.in.(*os.File); ok {
			if _, typed := screen(file); typed {
				return nil, "", usagef("standard input is a terminal: give a file with %s, or pipe one in", flag)
			}
		}
		return io.NopCloser(a.in), "stdin", nil
	}
	file, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, "", usagef("%s %s: no such file", flag, path)
	}
	if err != nil {
		return nil, "", usagef("%s: %v", flag, err)
	}
	return file, path, nil
}

// printFinite prints a result of the input at a place. Numbers so large that the result has no value are the
// input's mistake.
func (a *app) printFinite(place string, result any) error {
	err := a.printJSON(result)
	var value *json.UnsupportedValueError
	if errors.As(err, &value) {
		return usagef("%s: a result is %s: the numbers are too large for this method", place, value.Str)
	}
	return err
}
