package main

import (
	"context"
	"maps"
	"path"
	"slices"
	"strconv"
	"strings"

	"github.com/turnwise-rl/turnwise/configs"
	"github.com/turnwise-rl/turnwise/internal/runfolder"
)

// currentConfig is the newest revision of a run's config, with its number; nil while the folder holds none.
func (r *recorded) currentConfig(ctx context.Context) (*configs.Resolved, int, error) {
	if err := r.readConfig(ctx); err != nil || r.config == nil {
		return nil, 0, err
	}
	revision, err := newestRevision(ctx, r.folder)
	if err != nil || revision == 0 {
		return r.config, 0, err
	}
	text, err := r.folder.Config(ctx, revision)
	if err != nil {
		return nil, 0, err
	}
	config, err := configs.Reload(runfolder.RevisionKey(revision), text)
	return config, revision, err
}

// newestRevision is the number of the last config that the run was changed to; 0 when it never was.
func newestRevision(ctx context.Context, folder *runfolder.Folder) (int, error) {
	keys, err := folder.List(ctx, "configs/")
	newest := 0
	for _, key := range keys {
		if n, err := strconv.Atoi(strings.TrimSuffix(path.Base(key), ".yaml")); err == nil {
			newest = max(newest, n)
		}
	}
	return newest, err
}

// settingChange is a setting with its value before and after.
type settingChange struct {
	Path string `json:"path"`
	// From and To are "" where the setting does not exist.
	From string `json:"from"`
	To   string `json:"to"`
}

// changedSettings lists what differs between two configs, by path. A list that is empty in one of them is told
// by the items it has in the other.
func changedSettings(before, after *configs.Resolved) []settingChange {
	paths := map[string]bool{}
	for _, config := range []*configs.Resolved{before, after} {
		for setting := range config.Provenance {
			paths[setting] = true
		}
	}
	var out []settingChange
	for _, setting := range slices.Sorted(maps.Keys(paths)) {
		if from, to := settingValue(before, setting), settingValue(after, setting); from != to && from+to != "[]" {
			out = append(out, settingChange{setting, from, to})
		}
	}
	return out
}

// settingValue is a setting's value; "" when the config has no such setting.
func settingValue(config *configs.Resolved, key string) string {
	setting, err := config.Explain(key)
	if err != nil {
		return ""
	}
	return setting.Value
}

// String is "training.staleness 0 → 2".
func (c settingChange) String() string {
	value := func(text string) string {
		if text == "" {
			return nothing
		}
		return text
	}
	return c.Path + " " + value(c.From) + " → " + value(c.To)
}
