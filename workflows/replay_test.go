package workflows

import (
	"path/filepath"
	"testing"

	"go.temporal.io/sdk/worker"
	"go.temporal.io/sdk/workflow"
)

// workflowTypes are what a worker for the workflows serves.
var workflowTypes = map[string]any{TrainingRunType: TrainingRun, RolloutPoolType: RolloutPool, EvaluationType: Evaluation, DevicePoolType: DevicePool}

// TestReplay replays histories that a real server recorded: a change after which a run in progress
// could not go on fails here. A change of that kind needs workflow.GetVersion once runs exist that it
// would strand; until then the histories are recorded afresh, see server_test.go.
func TestReplay(t *testing.T) {
	files, err := filepath.Glob("testdata/histories/*.json")
	if err != nil {
		t.Fatal(err)
	}
	if len(files) < 14 {
		t.Fatalf("%d recorded histories, expected at least 14: %v", len(files), files)
	}
	for _, file := range files {
		t.Run(filepath.Base(file), func(t *testing.T) {
			replayer := worker.NewWorkflowReplayer()
			for name, function := range workflowTypes {
				replayer.RegisterWorkflowWithOptions(function, workflow.RegisterOptions{Name: name})
			}
			if err := replayer.ReplayWorkflowHistoryFromJSONFile(quiet{}, file); err != nil {
				t.Error(err)
			}
		})
	}
}
