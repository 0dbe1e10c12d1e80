package workflows

import (
	"go.temporal.io/sdk/workflow"
)

// RolloutPool keeps one rollout loop alive on some rollout worker until the run has ended. The loop
// is one long activity that keeps many episodes in flight: rollouts are never activities of their
// own, so their number does not matter to the history. A loop that leaves is followed by a fresh one
// in a fresh history.
func RolloutPool(ctx workflow.Context, input PoolInput) error {
	options := workOptions(RolloutQueue, input.Limits, "rollout loop")
	options.StartToCloseTimeout = input.Limits.LoopTimeout
	loop := workflow.WithActivityOptions(ctx, options)
	var result LoopResult
	err := workflow.ExecuteActivity(loop, RolloutLoopActivity, LoopInput{
		Run: input.Run, Pool: input.Pool, Pools: input.Pools, HandOverAfter: input.Limits.LoopTimeout / 2,
	}).Get(loop, &result)
	switch {
	case err != nil:
		tellRun(ctx, input, err)
		return err
	case result.Stopped:
		return nil
	}
	return workflow.NewContinueAsNewError(ctx, RolloutPoolType, input)
}

// tellRun lets the run know that its pool is gone, so that it fails with the cause instead of waiting.
// A pool that someone cancelled is gone as well.
func tellRun(ctx workflow.Context, input PoolInput, cause error) {
	reason, failed := failure(ctx, cause)
	if !failed {
		reason = "its workflow was cancelled"
		ctx, _ = workflow.NewDisconnectedContext(ctx)
	}
	message := PoolFailure{Pool: input.Pool, Reason: reason}
	if err := workflow.SignalExternalWorkflow(ctx, input.Run, "", PoolFailedSignal, message).Get(ctx, nil); err != nil {
		workflow.GetLogger(ctx).Warn("the run did not take the news of its failed pool", "run", input.Run, "error", err)
	}
}
