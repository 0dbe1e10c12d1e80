//go:build !slim

package temporaltest

import (
	"runtime"
	"strings"
	"testing"
	"time"
)

const (
	// leakPatience is how long goroutines may take to end after the last cleanup.
	leakPatience = 2 * time.Second
	module       = "github.com/turnwise-rl/turnwise/"
)

// NoLeaks makes the test fail when goroutines that run Turnwise's code outlive it. Call it first, so that it looks after every
// other cleanup, and not in parallel tests. Temporal's own goroutines are not counted: a server stopped inside a process leaves
// some behind (its system workers and connections), which is one reason why a real run keeps the server in a child process.
func NoLeaks(t testing.TB) {
	t.Helper()
	before := map[string]bool{}
	for _, g := range goroutines() {
		before[name(g)] = true
	}
	t.Cleanup(func() {
		deadline := time.Now().Add(leakPatience)
		for {
			left := ours(before)
			if len(left) == 0 {
				return
			}
			if time.Now().After(deadline) {
				t.Errorf("%d goroutines outlive the test:\n\n%s", len(left), strings.Join(left, "\n\n"))
				return
			}
			time.Sleep(10 * time.Millisecond)
		}
	})
}

// ours returns the stacks of goroutines with Turnwise's code in them that were not there before.
func ours(before map[string]bool) []string {
	var left []string
	// The first is the one that asks.
	for _, g := range goroutines()[1:] {
		if !before[name(g)] && strings.Contains(g, module) {
			left = append(left, g)
		}
	}
	return left
}

func goroutines() []string {
	for size := 1 << 20; ; size *= 2 {
		buffer := make([]byte, size)
		if n := runtime.Stack(buffer, true); n < size {
			return strings.Split(strings.TrimSpace(string(buffer[:n])), "\n\n")
		}
	}
}

// name cuts a stack's first line "goroutine 12 [select]:" down to "goroutine 12".
func name(stack string) string {
	name, _, _ := strings.Cut(stack, " [")
	return name
}
