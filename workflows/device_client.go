package workflows

import (
	"context"
	"errors"
	"fmt"

	enums "go.temporal.io/api/enums/v1"
	"go.temporal.io/api/serviceerror"
	"go.temporal.io/sdk/client"

	"github.com/turnwise-rl/turnwise/internal/lease"
)

// ErrNoDevicePool says that there is no device pool: it begins with the first report of an agent.
var ErrNoDevicePool = errors.New("no agent has reported: start one with `turnwise worker`")

// DevicePoolClient is what the functions below need of a [client.Client].
type DevicePoolClient interface {
	NewWithStartWorkflowOperation(options client.StartWorkflowOptions, workflow any, args ...any) client.WithStartWorkflowOperation
	UpdateWithStartWorkflow(ctx context.Context, options client.UpdateWithStartWorkflowOptions) (client.WorkflowUpdateHandle, error)
	Updater
	QueryWorkflowWithOptions(ctx context.Context, request *client.QueryWorkflowWithOptionsRequest) (*client.QueryWorkflowWithOptionsResponse, error)
}

var _ DevicePoolClient = client.Client(nil)

// ReportDevices tells the device pool what an agent reports, and starts the pool when there is none. It
// tries again while the pool is busy or moves to a new history, for as long as ctx lasts. The reply may say that the
// report was refused; see [lease.Reply].
func ReportDevices(ctx context.Context, c DevicePoolClient, report lease.Report) (lease.Reply, error) {
	var reply lease.Reply
	err := whileMoving(ctx, func(ctx context.Context) error {
		update := deviceUpdate(ReportUpdate, report)
		// The server gives a repeated call the answer of the first one.
		update.UpdateID = fmt.Sprintf("%s/%s/%d", report.Agent, report.Session, report.Number)
		start := client.StartWorkflowOptions{ID: DevicePoolID, TaskQueue: ControlQueue, WorkflowTaskTimeout: TaskTimeout,
			WorkflowIDConflictPolicy: enums.WORKFLOW_ID_CONFLICT_POLICY_USE_EXISTING}
		handle, err := c.UpdateWithStartWorkflow(ctx, client.UpdateWithStartWorkflowOptions{UpdateOptions: update,
			StartWorkflowOperation: c.NewWithStartWorkflowOperation(start, DevicePoolType, DevicePoolInput{})})
		if err != nil {
			return err
		}
		return handle.Get(ctx, &reply)
	})
	return reply, err
}

// Devices asks the device pool for all that it knows.
func Devices(ctx context.Context, c DevicePoolClient) (lease.Snapshot, error) {
	answer, err := c.QueryWorkflowWithOptions(ctx, &client.QueryWorkflowWithOptionsRequest{WorkflowID: DevicePoolID, QueryType: DevicesQuery,
		QueryRejectCondition: enums.QUERY_REJECT_CONDITION_NOT_OPEN})
	switch {
	case err != nil:
		return lease.Snapshot{}, noDevicePool(err)
	case answer.QueryRejected != nil: // it was ended, and what it knew then is of no use
		return lease.Snapshot{}, ErrNoDevicePool
	}
	var snapshot lease.Snapshot
	return snapshot, answer.QueryResult.Get(&snapshot)
}

// Drain takes a device out: it gets no new leases, and those there are run to their end. It returns the
// device as it is then.
func Drain(ctx context.Context, c DevicePoolClient, input DrainInput) (lease.DeviceStatus, error) {
	var device lease.DeviceStatus
	return device, askDevicePool(ctx, c, deviceUpdate(DrainUpdate, input), &device)
}

// Undrain gives a device back, whatever verdict on its health there was.
func Undrain(ctx context.Context, c DevicePoolClient, input DrainInput) (lease.DeviceStatus, error) {
	var device lease.DeviceStatus
	return device, askDevicePool(ctx, c, deviceUpdate(UndrainUpdate, input), &device)
}

// SetQueue makes or changes a queue, and returns what it holds.
func SetQueue(ctx context.Context, c DevicePoolClient, queue lease.Queue) (lease.QueueStatus, error) {
	var status lease.QueueStatus
	return status, askDevicePool(ctx, c, deviceUpdate(QueueUpdate, queue), &status)
}

func deviceUpdate(name string, arg any) client.UpdateWorkflowOptions {
	return client.UpdateWorkflowOptions{WorkflowID: DevicePoolID, UpdateName: name, Args: []any{arg}, WaitForStage: client.WorkflowUpdateStageCompleted}
}

func askDevicePool(ctx context.Context, c DevicePoolClient, update client.UpdateWorkflowOptions, reply any) error {
	return noDevicePool(Ask(ctx, c, update, reply))
}

// noDevicePool puts in words that there is no device pool, or none any more.
func noDevicePool(err error) error {
	var unknown *serviceerror.NotFound
	if errors.As(err, &unknown) {
		return ErrNoDevicePool
	}
	return err
}
