package activity

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"go.temporal.io/api/enums/v1"
	"go.temporal.io/api/workflowservice/v1"

	"github.com/turnwise-rl/turnwise/internal/blob"
	"github.com/turnwise-rl/turnwise/internal/runfolder"
	"github.com/turnwise-rl/turnwise/workflows/runstate"
)

// controlFile reads the control object when it has changed. Looking costs one system call.
type controlFile struct {
	folder   *runfolder.Folder
	seen     os.FileInfo
	readAt   time.Time
	revision int
	trouble  string
}

// read returns the control object when there is a later one than before.
func (c *controlFile) read(ctx context.Context) (control runstate.Control, changed bool, err error) {
	info, err := os.Stat(filepath.Join(c.folder.Path, runfolder.ControlKey))
	if errors.Is(err, fs.ErrNotExist) {
		return control, false, nil
	}
	if err != nil {
		return control, false, err
	}
	// A file that replaced another within the resolution of its times may have its number too.
	same := c.seen != nil && os.SameFile(c.seen, info) && c.seen.ModTime().Equal(info.ModTime()) && c.seen.Size() == info.Size()
	if same && time.Since(c.readAt) < controlReread {
		return control, false, nil
	}
	control, err = c.folder.Control(ctx)
	if err != nil {
		return control, false, err
	}
	c.seen, c.readAt, c.trouble = info, time.Now(), ""
	if control.Revision <= c.revision {
		return control, false, nil
	}
	c.revision = control.Revision
	return control, true, nil
}

// firstTime says whether an error is another one than the last.
func (c *controlFile) firstTime(err error) bool {
	if err.Error() == c.trouble {
		return false
	}
	c.trouble = err.Error()
	return true
}

// Describer tells how a workflow stands; a Temporal client is one.
type Describer interface {
	DescribeWorkflowExecution(ctx context.Context, workflowID, runID string) (*workflowservice.DescribeWorkflowExecutionResponse, error)
}

// isOpen says whether a run's workflow is at work, or goes on in another history.
func isOpen(ctx context.Context, runs Describer, run string) (bool, error) {
	ctx, cancel := context.WithTimeout(ctx, signalTimeout)
	defer cancel()
	answer, err := runs.DescribeWorkflowExecution(ctx, run, "")
	if runIsGone(err) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	switch answer.GetWorkflowExecutionInfo().GetStatus() {
	case enums.WORKFLOW_EXECUTION_STATUS_COMPLETED, enums.WORKFLOW_EXECUTION_STATUS_FAILED, enums.WORKFLOW_EXECUTION_STATUS_CANCELED,
		enums.WORKFLOW_EXECUTION_STATUS_TERMINATED, enums.WORKFLOW_EXECUTION_STATUS_TIMED_OUT:
		return false, nil
	}
	return true, nil
}

// isCorrupt says whether an object with weights is missing or does not hold what it should.
func isCorrupt(err error) bool {
	var corrupt *blob.CorruptError
	var broken *contractError
	return errors.Is(err, blob.ErrNotFound) || errors.As(err, &corrupt) || errors.As(err, &broken)
}
