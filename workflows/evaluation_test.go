package workflows

import (
	"context"
	"errors"
	"testing"
	"time"

	enums "go.temporal.io/api/enums/v1"
	"go.temporal.io/sdk/activity"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/testsuite"
	"go.temporal.io/sdk/workflow"

	"github.com/turnwise-rl/turnwise/internal/lease"
)

// playEvaluation runs an evaluation and returns what its run hears.
func playEvaluation(t *testing.T, gone bool, evaluate func(ctx context.Context, attempt int) error) ([]EvaluationNews, error) {
	t.Helper()
	var suite testsuite.WorkflowTestSuite
	suite.SetLogger(quiet{})
	env := suite.NewTestWorkflowEnvironment()
	env.SetTestTimeout(30 * time.Second)
	env.RegisterWorkflowWithOptions(Evaluation, workflow.RegisterOptions{Name: EvaluationType})
	attempts := 0
	env.RegisterActivityWithOptions(func(ctx context.Context, input EvaluateInput) error {
		if input.Version != 3 || input.Weights != ref("weights", 3) {
			t.Errorf("input %+v", input)
		}
		attempts++
		return evaluate(context.WithValue(ctx, envKey{}, env), attempts)
	}, activity.RegisterOptions{Name: EvaluateActivity})
	holder := EvaluationID("a-run", 3)
	env.SetStartWorkflowOptions(client.StartWorkflowOptions{ID: holder, TaskQueue: ControlQueue})
	answerForDevices(env, holder)
	var heard []EvaluationNews
	env.OnSignalExternalWorkflow(anything, "a-run", "", EvaluationSignal, anything).Return(func(_, _, _, _ string, message any) error {
		heard = append(heard, message.(EvaluationNews))
		if gone {
			return &temporal.UnknownExternalWorkflowExecutionError{}
		}
		return nil
	})
	env.ExecuteWorkflow(EvaluationType, EvaluationInput{EvaluateInput: EvaluateInput{Run: "a-run", Version: 3, Weights: ref("weights", 3)},
		Timeout: time.Minute, Limits: someLimits, Request: someNeeds.Request("a-run", holder, lease.Evaluate)})
	return heard, env.GetWorkflowError()
}

// envKey finds the test environment in an activity's context.
type envKey struct{}

func TestEvaluation(t *testing.T) {
	for name, c := range map[string]struct {
		gone     bool
		evaluate func(ctx context.Context, attempt int) error
		reason   string
		fails    bool
	}{
		"recorded": {evaluate: func(context.Context, int) error { return nil }},
		"passing trouble": {evaluate: func(_ context.Context, attempt int) error {
			if attempt < 3 {
				return errors.New("disk full")
			}
			return nil
		}},
		"slower than measured": {evaluate: func(_ context.Context, attempt int) error {
			if attempt == 1 {
				return temporal.NewTimeoutError(enums.TIMEOUT_TYPE_START_TO_CLOSE, nil)
			}
			return nil
		}},
		"impossible":   {evaluate: func(context.Context, int) error { return broken("no tasks") }, reason: "no tasks", fails: true},
		"run gone":     {evaluate: func(context.Context, int) error { return nil }, gone: true},
		"both":         {evaluate: func(context.Context, int) error { return broken("no tasks") }, reason: "no tasks", gone: true},
		"given up":     {evaluate: func(context.Context, int) error { return givenUp() }, reason: "given up after limits.give_up_after: disk full", fails: true},
		"is cancelled": {evaluate: cancels, reason: "its workflow was cancelled", fails: true},
	} {
		t.Run(name, func(t *testing.T) {
			heard, err := playEvaluation(t, c.gone, c.evaluate)
			if len(heard) != 1 || heard[0].Version != 3 || heard[0].Reason != c.reason {
				t.Errorf("heard %+v, want the reason %q", heard, c.reason)
			}
			if (err != nil) != c.fails {
				t.Errorf("ended with %v", err)
			}
		})
	}
}

// givenUp is the error of an activity that was tried for as long as it may be.
func givenUp() error {
	return temporal.NewNonRetryableApplicationError("given up after limits.give_up_after: disk full", NonRetryable, nil)
}

func cancels(ctx context.Context, _ int) error {
	env := ctx.Value(envKey{}).(*testsuite.TestWorkflowEnvironment)
	env.RegisterDelayedCallback(env.CancelWorkflow, 0)
	for ctx.Err() == nil {
		activity.RecordHeartbeat(ctx)
		time.Sleep(time.Millisecond)
	}
	return ctx.Err()
}
