package main

import (
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/turnwise-rl/turnwise/internal/runfolder"
)

// strictUsage makes every mistake in a command line a usage error, and lets help begin with examples.
func strictUsage(root *cobra.Command) {
	root.Args = cobra.ArbitraryArgs
	root.RunE = func(cmd *cobra.Command, args []string) error {
		if len(args) == 0 {
			return cmd.Help()
		}
		message := "unknown command %q"
		if near := cmd.SuggestionsFor(args[0]); len(near) > 0 {
			message += "; did you mean " + strings.Join(near, ", ") + "?"
		}
		return usagef(message+" `turnwise --help` lists them", args[0])
	}
	root.SuggestionsMinimumDistance = 2
	cobra.EnableCommandSorting = false // verbs stand in the order of their table
	root.SetHelpTemplate(helpTemplate)
	strictArgs(root)
}

// completeRuns offers the ids of runs to a shell.
func (a *app) completeRuns(_ *cobra.Command, _ []string, prefix string) ([]string, cobra.ShellCompDirective) {
	if a.resolveDataDir() != nil {
		return nil, cobra.ShellCompDirectiveError
	}
	ids, err := runfolder.List(a.dataDir)
	if err != nil {
		return nil, cobra.ShellCompDirectiveError
	}
	return slices.DeleteFunc(ids, func(id string) bool { return !strings.HasPrefix(id, prefix) }), cobra.ShellCompDirectiveNoFileComp
}

func strictArgs(cmd *cobra.Command) {
	if check := cmd.Args; check != nil {
		cmd.Args = func(cmd *cobra.Command, args []string) error {
			if err := check(cmd, args); err != nil {
				return usagef("%w; see `%s --help`", err, cmd.CommandPath())
			}
			return nil
		}
	}
	for _, child := range cmd.Commands() {
		strictArgs(child)
	}
}

// helpTemplate shows what the command is, then examples, then the rest.
const helpTemplate = `{{with or .Long .Short}}{{. | trimTrailingWhitespaces}}
{{end}}{{if .HasExample}}
Examples:
{{.Example}}
{{end}}
Usage:
  {{.UseLine}}{{if .HasAvailableSubCommands}}
  {{.CommandPath}} [command]

Commands:{{range .Commands}}{{if .IsAvailableCommand}}
  {{rpad .Name .NamePadding}} {{.Short}}{{end}}{{end}}{{end}}{{if .HasAvailableLocalFlags}}

Flags:
{{.LocalFlags.FlagUsages | trimTrailingWhitespaces}}{{end}}{{if .HasAvailableInheritedFlags}}

Flags of every command:
{{.InheritedFlags.FlagUsages | trimTrailingWhitespaces}}{{end}}
`
