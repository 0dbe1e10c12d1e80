package chaos

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"

	"github.com/turnwise-rl/turnwise/rollout"
)

// hangWord is what a control file says while tools hang.
const hangWord = "hang tools"

// HangTools writes the control file of a rollout process so that its tool calls hang.
func HangTools(file string) error { return os.WriteFile(file, []byte(hangWord+"\n"), 0o600) }

// ReleaseTools lets tool calls through again. Those that hang go on hanging until they are given up on,
// as a tool does whose answer was lost.
func ReleaseTools(file string) error {
	if err := os.Remove(file); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// Hanging is the seam of a rollout process: called before each tool call, it blocks for as long as the
// call's context lasts when the control file says so. A file that says anything else is an error.
func Hanging(file string) func(context.Context, rollout.Call) error {
	return func(ctx context.Context, call rollout.Call) error {
		content, err := os.ReadFile(file)
		switch {
		case errors.Is(err, fs.ErrNotExist), err == nil && len(content) == 0: // empty while it is being written
			return nil
		case err != nil:
			return fmt.Errorf("faults: %w", err)
		}
		if words := strings.TrimSpace(string(content)); words != hangWord {
			return fmt.Errorf("faults: %s says %q, knows only %q", file, words, hangWord)
		}
		<-ctx.Done()
		return fmt.Errorf("call of %s hung: %w", call.Name, context.Cause(ctx))
	}
}
