package agent

import (
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"time"

	"github.com/turnwise-rl/turnwise/internal/gpu"
)

// ReadingsSchema names the form of the file that an agent keeps.
const ReadingsSchema = "turnwise.readings/v1"

// ReadingsFolder is the folder of a data folder in which agents keep how their devices are.
const ReadingsFolder = "devices"

// Readings is the file that an agent replaces every few seconds: how its devices are now. These numbers change
// too often to be anybody's history.
type Readings struct {
	Schema   string        `json:"schema"`
	Agent    string        `json:"agent"`
	Host     string        `json:"host"`
	At       time.Time     `json:"at"` // by the machine's clock
	Readings []gpu.Reading `json:"readings"`
}

// keepReadings replaces the agent's file until ctx ends, and removes it then: nobody reads the devices any more.
func (a *Agent) keepReadings(ctx context.Context) {
	if a.config.Readings == "" {
		return
	}
	path := filepath.Join(a.config.Readings, fileName(a.config.Identity.Name)+".json")
	if err := a.look(ctx); err != nil {
		return
	}
	tick := time.NewTicker(readEvery)
	defer tick.Stop()
	failed := false
	for {
		err := a.writeReadings(path)
		if err != nil && !failed {
			a.log.Warn("how the devices are cannot be written down", "error", err)
		}
		failed = err != nil
		select {
		case <-tick.C:
		case <-ctx.Done():
			_ = os.Remove(path) // a file that stays says when it was written
			return
		}
	}
}

func (a *Agent) writeReadings(path string) error {
	out := Readings{Schema: ReadingsSchema, Agent: a.config.Identity.Name, Host: a.config.Identity.Host, At: time.Now().UTC(), Readings: []gpu.Reading{}}
	for _, s := range a.sources {
		out.Readings = append(out.Readings, s.readings()...)
	}
	data, err := json.Marshal(out)
	if err != nil {
		return err
	}
	return replace(path, append(data, '\n'))
}

// replace puts a file in the place of another one such that a reader sees either of them, whole.
func replace(path string, data []byte) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return err
	}
	file, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+"-*")
	if err != nil {
		return err
	}
	_, err = file.Write(data)
	if closing := file.Close(); err == nil {
		err = closing
	}
	if err == nil {
		err = os.Rename(file.Name(), path)
	}
	if err != nil {
		_ = os.Remove(file.Name())
	}
	return err
}
