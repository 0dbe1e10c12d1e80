package main

import (
	"errors"
	"io/fs"
	"path/filepath"

	"github.com/turnwise-rl/turnwise/configs"
	"github.com/turnwise-rl/turnwise/internal/runfolder"
	"github.com/turnwise-rl/turnwise/trainer/policy"
	"github.com/turnwise-rl/turnwise/workflows/activity"
)

// shapeOf is that of the network of a run. The folder of the run with the id has a copy of the checkpoint's files once
// it is prepared; the checkpoint itself may be gone then.
func (a *app) shapeOf(id string, config configs.Run) (policy.Config, error) {
	if config.Policy.From != "" && id != "" {
		copied, err := policy.ReadConfig((&runfolder.Folder{Path: filepath.Join(runfolder.Runs(a.dataDir), id)}).StartPath())
		if !errors.Is(err, fs.ErrNotExist) {
			return copied, err
		}
	}
	return activity.Shape(config)
}
