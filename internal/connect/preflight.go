package connect

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"time"

	enumspb "go.temporal.io/api/enums/v1"
	"go.temporal.io/api/operatorservice/v1"
	"go.temporal.io/api/serviceerror"
	"go.temporal.io/api/workflowservice/v1"
	"go.temporal.io/sdk/client"
)

// MinimumRetention is how long a finished run should stay visible in Temporal. A shorter retention loses nothing (run state
// lives in run folders) but makes runs vanish from lists and from the web interface.
const MinimumRetention = 7 * 24 * time.Hour

// attributeTimeout bounds the wait for new search attributes to reach every part of a server.
const attributeTimeout = 20 * time.Second

// SearchAttributes names the keyword search attributes by which Turnwise's workflows are found. A start that sets one the
// namespace does not know is refused by Temporal.
func SearchAttributes() []string { return []string{"TurnwiseRun", "TurnwiseMethod", "TurnwiseStatus"} }

// Preflight checks that a cluster can carry a run: reachable, namespace there, search attributes there (they are registered
// when they are missing and the cluster allows it). The error is one sentence with the fix. Warnings go to slog.Default; Check
// returns them instead.
func Preflight(ctx context.Context, c client.Client, e Endpoint) error {
	warnings, err := Check(ctx, c, e)
	for _, w := range warnings {
		slog.WarnContext(ctx, w)
	}
	return err
}

// Check is Preflight with the warnings returned: conditions under which a run works but a person should know.
func Check(ctx context.Context, c client.Client, e Endpoint) (warnings []string, err error) {
	reach, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	ns, err := c.WorkflowService().DescribeNamespace(reach, &workflowservice.DescribeNamespaceRequest{Namespace: e.Namespace})
	if err != nil {
		var missing *serviceerror.NamespaceNotFound
		if errors.As(err, &missing) {
			return nil, fmt.Errorf("namespace %q does not exist at %s: create it with `temporal operator namespace create --namespace %s --retention 720h`, or set TEMPORAL_NAMESPACE", e.Namespace, e.Address, e.Namespace)
		}
		return nil, explain(e, err)
	}
	if r := ns.GetConfig().GetWorkflowExecutionRetentionTtl().AsDuration(); r < MinimumRetention {
		warnings = append(warnings, fmt.Sprintf("namespace %q keeps finished workflows for %v, less than %v: finished runs vanish from lists; raise it with `temporal operator namespace update --namespace %s --retention 720h`", e.Namespace, r, MinimumRetention, e.Namespace))
	}
	warning, err := checkAttributes(ctx, c, e)
	if warning != "" {
		warnings = append(warnings, warning)
	}
	return warnings, err
}

func checkAttributes(ctx context.Context, c client.Client, e Endpoint) (warning string, err error) {
	ctx, cancel := context.WithTimeout(ctx, attributeTimeout)
	defer cancel()
	missing, err := missingAttributes(ctx, c, e.Namespace)
	if notOffered(err) {
		return fmt.Sprintf("the cluster at %s does not let this client list search attributes (%v): if a start is refused, create %s as keywords", e.Address, err, strings.Join(SearchAttributes(), ", ")), nil
	}
	if err != nil || len(missing) == 0 {
		return "", err
	}
	if err := RegisterSearchAttributes(ctx, c, e.Namespace, missing); err != nil {
		return "", fmt.Errorf("search attributes %s are missing from namespace %q and could not be created (%w): create them with `temporal operator search-attribute create --namespace %s --type Keyword --name %s`",
			strings.Join(missing, ", "), e.Namespace, err, e.Namespace, strings.Join(missing, " --type Keyword --name "))
	}
	return "", nil
}

// notOffered recognises clusters that manage search attributes by other means, such as Temporal Cloud.
func notOffered(err error) bool {
	var denied *serviceerror.PermissionDenied
	var unimplemented *serviceerror.Unimplemented
	return errors.As(err, &denied) || errors.As(err, &unimplemented)
}

func missingAttributes(ctx context.Context, c client.Client, namespace string) ([]string, error) {
	listed, err := c.OperatorService().ListSearchAttributes(ctx, &operatorservice.ListSearchAttributesRequest{Namespace: namespace})
	if err != nil {
		return nil, err
	}
	var missing []string
	for _, name := range SearchAttributes() {
		switch kind, ok := listed.GetCustomAttributes()[name]; {
		case !ok:
			missing = append(missing, name)
		case kind != enumspb.INDEXED_VALUE_TYPE_KEYWORD:
			return nil, fmt.Errorf("search attribute %s of namespace %q has type %v, expected Keyword: remove it with `temporal operator search-attribute remove --namespace %s --name %s` and run again", name, namespace, kind, namespace, name)
		}
	}
	return missing, nil
}

// RegisterSearchAttributes creates keyword attributes in an existing namespace and returns once the server lists them.
func RegisterSearchAttributes(ctx context.Context, c client.Client, namespace string, names []string) error {
	add := &operatorservice.AddSearchAttributesRequest{Namespace: namespace, SearchAttributes: map[string]enumspb.IndexedValueType{}}
	for _, n := range names {
		add.SearchAttributes[n] = enumspb.INDEXED_VALUE_TYPE_KEYWORD
	}
	if _, err := c.OperatorService().AddSearchAttributes(ctx, add); err != nil {
		var exists *serviceerror.AlreadyExists // another process registered them in the meantime
		if !errors.As(err, &exists) {
			return err
		}
	}
	for {
		missing, err := missingAttributes(ctx, c, namespace)
		if err != nil || len(missing) == 0 {
			return err
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("created, but still not listed: %w", ctx.Err())
		case <-time.After(50 * time.Millisecond):
		}
	}
}
