//go:build slim

package main

import (
	"slices"
	"testing"

	"github.com/turnwise-rl/turnwise/internal/connect"
	"github.com/turnwise-rl/turnwise/workflows"
)

// What the workflows write must be what the connection registers: Temporal refuses a run whose
// attributes its namespace does not know.
func TestSearchAttributesAgree(t *testing.T) {
	written := []string{workflows.RunAttribute, workflows.MethodAttribute, workflows.StatusAttribute}
	if registered := connect.SearchAttributes(); !slices.Equal(registered, written) {
		t.Errorf("connect registers %v, the workflows write %v", registered, written)
	}
}
