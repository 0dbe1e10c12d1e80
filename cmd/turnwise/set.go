package main

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/turnwise-rl/turnwise/configs"
	"github.com/turnwise-rl/turnwise/workflows"
)

func setVerb(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "set RUN [key=value ...]",
		Short: "Change settings of a run while it goes on, or list those that may change",
		Long: "Change settings of a run while it goes on. The run checks them as a whole, keeps them as a new revision of\n" +
			"its config, and uses them from a step on that it names; each manifest says which revision made its step.\n" +
			"Without settings, those that may change are listed with their values. `turnwise fork` changes anything else.",
		Example: "  turnwise set quickstart-0c41 training.staleness=2 optimizer.learning_rate=0.0002\n" +
			"  turnwise set quick",
		Args:              cobra.ArbitraryArgs,
		ValidArgsFunction: a.completeRuns,
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) > 1 && (args[0] == "run" || args[0] == "runs") {
				args = args[1:]
			}
			if len(args) == 0 || strings.Contains(args[0], "=") {
				return usagef("set takes a run's id and then settings, as in `turnwise set RUN training.staleness=2`; `turnwise get runs` lists runs")
			}
			if len(args) == 1 {
				return a.listLive(cmd.Context(), args[0])
			}
			return a.set(cmd.Context(), args[0], args[1:])
		},
	}
}

// liveSetting is a setting that may change, with its value.
type liveSetting struct {
	Path  string `json:"path"`
	Value string `json:"value"`
	// Takes says from when on a new value holds.
	Takes string `json:"takes"`
}

// listLive lists the settings of a run that may change.
func (a *app) listLive(ctx context.Context, prefix string) error {
	folder, id, err := a.findRun(prefix)
	if err != nil {
		return err
	}
	config, revision, err := (&recorded{id: id, folder: folder}).currentConfig(ctx)
	if err != nil {
		return err
	}
	if config == nil {
		return fmt.Errorf("run %s is not prepared yet: %s holds no config; see `turnwise describe run %s`", id, folder.Path, id)
	}
	settings := liveSettings(config)
	if a.json() {
		return a.printJSON(struct {
			Run      string        `json:"run"`
			Revision int           `json:"revision"`
			Settings []liveSetting `json:"settings"`
		}{id, revision, settings})
	}
	rows := newTable("SETTING", "VALUE", "A NEW VALUE HOLDS")
	for _, s := range settings {
		rows.add(s.Path, clip(s.Value, 40), s.Takes)
	}
	rows.write(a.out)
	a.note("revision %d of the config of run %s; `turnwise set %s key=value` changes it", revision, id, id)
	return nil
}

// liveSettings are the values below each entry of the table of live settings, in its order.
func liveSettings(config *configs.Resolved) []liveSetting {
	paths := slices.Sorted(maps.Keys(config.Provenance))
	var out []liveSetting
	for _, live := range configs.LiveSettings {
		for _, path := range paths {
			if path == live.Path || strings.HasPrefix(path, live.Path+".") || strings.HasPrefix(path, live.Path+"[") {
				out = append(out, liveSetting{path, settingValue(config, path), live.Takes})
			}
		}
	}
	return out
}

// amended is the result of a change.
type amended struct {
	Run string `json:"run"`
	// Revision is that of the config which the changes made.
	Revision int             `json:"revision"`
	Summary  string          `json:"summary"`
	Changes  []settingChange `json:"changes"`
	// FromStep is the first step that uses them.
	FromStep int `json:"from_step"`
}

// set changes settings of a run. What its folder tells is checked before anyone is asked.
func (a *app) set(ctx context.Context, prefix string, overrides []string) error {
	changes, known, err := a.checkSet(ctx, prefix, overrides)
	if err != nil {
		return err
	}
	if known && len(changes) == 0 {
		a.note("nothing changes: the run has these values already; `turnwise set %s` lists them", prefix)
		return nil
	}
	return a.steer(ctx, prefix, func(h *helm) error {
		result, err := setRun(ctx, h, overrides)
		if err != nil {
			return err
		}
		result.Changes = changes
		if a.json() {
			return a.printJSON(result)
		}
		result.write(a)
		return nil
	})
}

// checkSet checks overrides against the newest config in the folder, and says what they change. known is
// false when the folder is elsewhere or not prepared: then the run alone knows.
func (a *app) checkSet(ctx context.Context, prefix string, overrides []string) (changes []settingChange, known bool, err error) {
	folder, id, err := a.findRun(prefix)
	if err != nil {
		return nil, false, nil //nolint:nilerr // a run of a cluster may have its folder on another machine
	}
	current, _, err := (&recorded{id: id, folder: folder}).currentConfig(ctx)
	if err != nil || current == nil {
		return nil, false, err
	}
	after, err := configs.Change(current, overrides)
	if err != nil {
		return nil, false, err
	}
	return changedSettings(current, after), true, nil
}

// setRun sends the change to the run.
func setRun(ctx context.Context, h *helm, overrides []string) (amended, error) {
	var reply workflows.SetReply
	err := h.update(ctx, workflows.SetUpdate, &reply, workflows.SetInput{Overrides: overrides})
	return amended{Run: h.run, Revision: reply.Revision, Summary: reply.Summary, FromStep: reply.FromStep}, err
}

func (s amended) write(a *app) {
	if len(s.Changes) == 0 {
		a.print("%s: %s\n", s.Run, s.Summary)
	}
	for _, change := range s.Changes {
		a.print("%s: %s\n", s.Run, change)
	}
	a.print("%s: from step %d on (revision %d of the config)\n", s.Run, s.FromStep, s.Revision)
}
