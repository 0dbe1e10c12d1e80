//go:build slim

package main

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/turnwise-rl/turnwise/internal/runfolder"
	"github.com/turnwise-rl/turnwise/workflows/runstate"
)

func plans(t *testing.T, a *app, f forking, overrides ...string) *forkPlan {
	t.Helper()
	plan, err := a.planFork(t.Context(), f, "demo", overrides)
	if err != nil {
		t.Fatal(err)
	}
	return plan
}

// TestForkTakesTheSettingsOfItsStep forks a run whose settings were changed at its last step.
func TestForkTakesTheSettingsOfItsStep(t *testing.T) {
	dataDir, folder := asyncFolder(t)
	a := &app{dataDir: dataDir}
	text, err := folder.Read(t.Context(), runfolder.ConfigKey)
	if err != nil {
		t.Fatal(err)
	}
	if err := folder.PutConfig(t.Context(), 1, []byte(strings.Replace(string(text), "staleness: 1", "staleness: 2", 1))); err != nil {
		t.Fatal(err)
	}
	m := runfolder.Manifest{Step: 5, Kind: runstate.Reinforce, Fence: 9 << 16, Config: 1, Committed: fixtureStart.Add(time.Minute)}
	if err := folder.Commit(t.Context(), m); err != nil {
		t.Fatal(err)
	}

	last := plans(t, a, forking{step: -1}, "training.steps=9")
	if last.from.Run != "demo" || last.from.Step != 5 || last.committed != 5 || last.config.Run.Training.Staleness != 2 {
		t.Errorf("from the last step: %+v with staleness %d", last.from, last.config.Run.Training.Staleness)
	}
	if want := []settingChange{{"training.steps", "5", "9"}}; !slices.Equal(last.changes, want) {
		t.Errorf("changes %v, want %v", last.changes, want)
	}
	if !strings.HasPrefix(last.id, last.config.Run.Name+"-") {
		t.Errorf("the run is named %s", last.id)
	}
	earlier := plans(t, a, forking{step: 4, name: "other"}, "seed=7")
	if earlier.from.Step != 4 || earlier.config.Run.Training.Staleness != 1 || earlier.config.Run.Seed != 7 || !strings.HasPrefix(earlier.id, "other-") {
		t.Errorf("from step 4: %s, %+v with staleness %d", earlier.id, earlier.from, earlier.config.Run.Training.Staleness)
	}
	if got := plans(t, a, forking{step: 0, submission: submission{id: "mine"}}); got.id != "mine" || got.from.Step != 0 || got.changes != nil {
		t.Errorf("from step 0: %+v", got)
	}
}

// TestForkOfAForksFirstSteps takes the fork's own settings where another run made the step.
func TestForkOfAForksFirstSteps(t *testing.T) {
	dataDir, folder := asyncFolder(t)
	if err := folder.PutFork(t.Context(), runfolder.Fork{Run: "older", Step: 4}); err != nil {
		t.Fatal(err)
	}
	got := plans(t, &app{dataDir: dataDir}, forking{step: 3})
	if got.from.Run != "demo" || got.config.Run.Training.Steps != 5 {
		t.Errorf("got %+v with %d steps", got.from, got.config.Run.Training.Steps)
	}
}

func TestForkPlanIsShown(t *testing.T) {
	dataDir, _ := asyncFolder(t)
	var errs buffer
	a := &app{dataDir: dataDir, err: &errs}
	plan := plans(t, a, forking{step: 3, submission: submission{id: "mine"}}, "training.steps=8")
	if err := a.placeFork(plan, fleetOf(machineOf("node-1", 8*gib, onCPU))); err != nil {
		t.Fatal(err)
	}
	plan.print(a)
	for _, want := range []string{"run         mine", "from        demo at step 3, of 4 committed; steps 0 to 3 are taken over, the run goes on with step 4", "changes     training.steps 5 → 8"} {
		if !strings.Contains(errs.String(), want) {
			t.Errorf("%q is not in\n%s", want, errs.String())
		}
	}
}
