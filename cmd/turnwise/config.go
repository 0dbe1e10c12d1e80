package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"

	"github.com/goccy/go-yaml"
	"github.com/spf13/cobra"

	"github.com/turnwise-rl/turnwise/configs"
	"github.com/turnwise-rl/turnwise/workflows/activity"
)

func configVerb(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "config",
		Short: "Show, check and describe configs",
		Example: "  turnwise config show -f run.yaml training.steps=60\n" +
			"  turnwise config check run.yaml",
		Args: cobra.ArbitraryArgs,
		RunE: func(_ *cobra.Command, args []string) error {
			if len(args) == 0 {
				return usagef("config what? know: show, explain, check, schema; try `turnwise config show`")
			}
			return usagef("config %s: know show, explain, check, schema", args[0])
		},
	}
	cmd.AddCommand(configShowVerb(a), configExplainVerb(a), configCheckVerb(a), configSchemaVerb(a))
	return cmd
}

func configShowVerb(a *app) *cobra.Command {
	var files []string
	var preset string
	cmd := &cobra.Command{
		Use:   "show [-f FILE…|--preset NAME] [key.path=value…]",
		Short: "Print a config with every value and where it comes from",
		Example: "  turnwise config show --preset quickstart\n" +
			"  turnwise config show -f run.yaml training.steps=60",
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(files) > 0 && cmd.Flags().Changed("preset") {
				return usagef("-f and --preset: give one of them; a file can name a preset with `method: NAME`")
			}
			resolved, err := loadConfig(files, preset, args)
			if err != nil {
				return err
			}
			if a.json() {
				return a.printResolved(resolved)
			}
			_, err = a.out.Write(resolved.YAML())
			return err
		},
	}
	cmd.Flags().StringArrayVarP(&files, "file", "f", nil, "config file; several merge from left to right")
	cmd.Flags().StringVar(&preset, "preset", "quickstart", "preset to start from when no file is given")
	return cmd
}

// printResolved prints a config as one JSON object with the origin of each value.
func (a *app) printResolved(resolved *configs.Resolved) error {
	run, err := yaml.YAMLToJSON(resolved.YAML())
	if err != nil {
		return err
	}
	origins := make(map[string]string, len(resolved.Provenance))
	for path, origin := range resolved.Provenance {
		origins[path] = origin.String()
	}
	return a.printJSON(struct {
		Run        json.RawMessage   `json:"run"`
		Provenance map[string]string `json:"provenance"`
		Digest     string            `json:"digest"`
	}{run, origins, resolved.Digest()})
}

func configCheckVerb(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "check FILE…",
		Short: "Check config files: ok, or everything that is wrong",
		Example: "  turnwise config check run.yaml\n" +
			"  turnwise config check configs/presets/*.yaml",
		RunE: func(_ *cobra.Command, args []string) error {
			if len(args) == 0 {
				return usagef("config check takes files; try `turnwise config check run.yaml`")
			}
			bad := 0
			for _, file := range args {
				err := checkFile(file)
				if err != nil {
					bad++
				}
				if err := a.printVerdict(file, err); err != nil {
					return err
				}
			}
			if bad > 0 {
				return codedError{exitUsage, fmt.Errorf("%d of %d files are wrong; `turnwise config schema` describes every key", bad, len(args))}
			}
			return nil
		},
	}
}

// printVerdict says whether a file is right and, if not, everything that is wrong.
func (a *app) printVerdict(file string, err error) error {
	if !a.json() {
		if err != nil {
			a.note("wrong %s\n%v", file, err)
			return nil
		}
		a.print("ok %s\n", file)
		return nil
	}
	verdict := struct {
		File   string   `json:"file"`
		OK     bool     `json:"ok"`
		Errors []string `json:"errors"`
	}{File: file, OK: err == nil}
	var all configs.Errors
	switch {
	case errors.As(err, &all):
		for _, one := range all {
			verdict.Errors = append(verdict.Errors, one.Line())
		}
	case err != nil:
		verdict.Errors = []string{err.Error()}
	}
	return a.printJSON(verdict)
}

// checkFile checks one file, a run with the checkpoint it starts from, or a method.
func checkFile(file string) error {
	data, err := os.ReadFile(file)
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("%s: no such file", file)
	}
	if err != nil {
		return err
	}
	source := configs.Source{Name: file, Data: data}
	if isMethodFile(data) {
		_, err = configs.LoadMethod(source, nil)
		return err
	}
	resolved, err := configs.Load([]configs.Source{source}, nil)
	if err != nil {
		return err
	}
	return resolved.Refuse(activity.CheckStart(resolved.Run))
}

// isMethodFile recognises a method: a method key and nothing else, as in a preset, or a method's own keys.
func isMethodFile(data []byte) bool {
	var top map[string]any
	if yaml.Unmarshal(data, &top) != nil {
		return false // the check says what is wrong with it
	}
	_, method := top["method"]
	_, advantage := top["advantage"]
	_, environments := top["environments"]
	return method && len(top) == 1 || advantage && !method && !environments
}

func configSchemaVerb(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "schema",
		Short: "Print the JSON schema of configs, for editors",
		Example: "  turnwise config schema > turnwise.schema.json\n" +
			"  turnwise config schema | head",
		Args: cobra.ArbitraryArgs,
		RunE: func(_ *cobra.Command, args []string) error {
			if len(args) > 0 {
				return usagef("config schema takes no arguments, got %q", args[0])
			}
			schema, err := configs.Schema()
			if err != nil {
				return err
			}
			_, err = a.out.Write(schema)
			return err
		},
	}
}
