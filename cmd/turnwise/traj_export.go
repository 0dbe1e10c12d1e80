package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"

	"github.com/spf13/cobra"

	"github.com/turnwise-rl/turnwise/internal/runfolder"
	"github.com/turnwise-rl/turnwise/rollout/record"
)

func trajExportVerb(a *app) *cobra.Command {
	var path string
	cmd := &cobra.Command{
		Use:   "export RUN",
		Short: "Write a run's groups as JSON lines (turnwise.group/v1)",
		Example: "  turnwise traj export quickstart-0c41 --out groups.jsonl\n" +
			"  turnwise traj export quick | head -1",
		Args:              cobra.ArbitraryArgs,
		ValidArgsFunction: a.completeRuns,
		RunE: func(cmd *cobra.Command, args []string) error {
			prefix, err := oneRun("traj export", args)
			if err != nil {
				return err
			}
			lib, err := a.openLibrary(cmd.Context(), prefix)
			if err != nil {
				return err
			}
			if path == "" {
				return lib.export(cmd.Context(), a.out)
			}
			if err := exportFile(cmd.Context(), lib, path); err != nil {
				return err
			}
			a.note("%s written to %s", plural(len(lib.groups), "group"), path)
			return nil
		},
	}
	cmd.Flags().StringVar(&path, "out", "", "file to write; standard output when not given")
	return cmd
}

// export writes the groups in the order of their numbers.
func (l *library) export(ctx context.Context, w io.Writer) error {
	out := bufio.NewWriter(w)
	for _, number := range l.groups {
		group, err := l.decode(ctx, runfolder.SegmentKey(number), nil)
		if err != nil {
			return err
		}
		if err := record.WriteGroup(out, group); err != nil {
			return err
		}
	}
	return out.Flush()
}

// exportFile writes the groups to a new file. When that fails no half of one stays.
func exportFile(ctx context.Context, lib *library, path string) error {
	file, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if errors.Is(err, fs.ErrExist) {
		return usagef("%s exists: choose another --out, or remove it first", path)
	}
	if err != nil {
		return usagef("--out: %v", err)
	}
	err = errors.Join(lib.export(ctx, file), file.Close())
	if err != nil {
		return errors.Join(fmt.Errorf("export to %s: %w", path, err), os.Remove(path))
	}
	return nil
}
