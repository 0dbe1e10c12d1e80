//go:build slim

package temporalserver

import (
	"strings"
	"testing"
)

func TestSlimSaysHowToGoOn(t *testing.T) {
	_, err := Start(t.Context(), Config{DataDir: t.TempDir()})
	if err == nil || !strings.Contains(err.Error(), "-tags slim") || !strings.Contains(err.Error(), "TEMPORAL_ADDRESS") {
		t.Fatalf("got %v, expected what is missing and what to do", err)
	}
}
