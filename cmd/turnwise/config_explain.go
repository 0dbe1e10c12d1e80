package main

import (
	"cmp"
	"strings"

	"github.com/spf13/cobra"

	"github.com/turnwise-rl/turnwise/configs"
)

func configExplainVerb(a *app) *cobra.Command {
	var files []string
	var preset string
	cmd := &cobra.Command{
		Use:   "explain KEY [-f FILE…|--preset NAME] [key.path=value…]",
		Short: "Say what a setting means, what it is and where that comes from, and when it may change",
		Example: "  turnwise config explain training.staleness\n" +
			"  turnwise config explain method.loss.off_policy -f run.yaml training.staleness=2",
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 || strings.Contains(args[0], "=") {
				return usagef("config explain takes a key first; try `turnwise config explain training.staleness`")
			}
			if len(files) > 0 && cmd.Flags().Changed("preset") {
				return usagef("-f and --preset: give one of them; a file can name a preset with `method: NAME`")
			}
			resolved, err := loadConfig(files, preset, args[1:])
			if err != nil {
				return err
			}
			setting, err := resolved.Explain(args[0])
			if err != nil {
				return err
			}
			if a.json() {
				return a.printJSON(setting)
			}
			a.printSetting(setting)
			return nil
		},
	}
	cmd.Flags().StringArrayVarP(&files, "file", "f", nil, "config file; several merge from left to right")
	cmd.Flags().StringVar(&preset, "preset", "quickstart", "preset to start from when no file is given")
	return cmd
}

// printSetting prints what there is to know about a setting, one fact on a line.
func (a *app) printSetting(s *configs.Setting) {
	a.print("%s\n", s.Path)
	fork := "may change it"
	if s.Fixed != "" {
		fork = "no: " + s.Fixed
	}
	for _, row := range [][2]string{
		{"meaning", s.Meaning}, {"takes", strings.TrimSuffix(s.Takes+", "+s.Limits, ", ")}, {"value", s.Value}, {"from", s.Origin}, {"holds", strings.Join(s.Keys, " ")},
		{"live", cmp.Or(s.Live, "no: it is fixed when the run starts")}, {"fork", fork},
	} {
		if row[1] != "" {
			a.print("  %-8s %s\n", row[0], row[1])
		}
	}
}
