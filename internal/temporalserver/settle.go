//go:build !slim

package temporalserver

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	namespacepb "go.temporal.io/api/namespace/v1"
	"go.temporal.io/api/workflowservice/v1"
	"go.temporal.io/sdk/client"
	"go.temporal.io/server/common/primitives/timestamp"

	"github.com/turnwise-rl/turnwise/internal/connect"
)

// readyTimeout bounds the wait for the frontend to answer once the services have started.
const readyTimeout = 30 * time.Second

// settle waits until the server answers a caller with the token, and brings an existing namespace up to date: it is created only
// once, while settings and attributes may change with every version.
func settle(ctx context.Context, c Config, e connect.Endpoint, log *slog.Logger) error {
	ctx, cancel := context.WithTimeout(ctx, readyTimeout)
	defer cancel()
	client, err := connect.DialAt(ctx, e, log)
	if err != nil {
		return fmt.Errorf("embedded server: started but does not answer: %w", err)
	}
	defer client.Close()
	if err := keepRetention(ctx, client, c); err != nil {
		return err
	}
	warnings, err := connect.Check(ctx, client, e)
	for _, w := range warnings {
		c.Notice(w)
	}
	if err != nil {
		return fmt.Errorf("embedded server: %w", err)
	}
	return nil
}

func keepRetention(ctx context.Context, c client.Client, cfg Config) error {
	ns, err := c.WorkflowService().DescribeNamespace(ctx, &workflowservice.DescribeNamespaceRequest{Namespace: cfg.Namespace})
	if err != nil {
		return fmt.Errorf("embedded server: namespace %q: %w", cfg.Namespace, err)
	}
	if ns.GetConfig().GetWorkflowExecutionRetentionTtl().AsDuration() == cfg.Retention {
		return nil
	}
	_, err = c.WorkflowService().UpdateNamespace(ctx, &workflowservice.UpdateNamespaceRequest{
		Namespace: cfg.Namespace,
		Config:    &namespacepb.NamespaceConfig{WorkflowExecutionRetentionTtl: timestamp.DurationPtr(cfg.Retention)},
	})
	if err != nil {
		return fmt.Errorf("embedded server: set the retention of namespace %q to %v: %w", cfg.Namespace, cfg.Retention, err)
	}
	return nil
}
