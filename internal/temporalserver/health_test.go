//go:build !slim

package temporalserver

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

func TestHealthIsLostOnceNothingIsAnswered(t *testing.T) {
	silent := errors.New("shard status unknown")
	for name, c := range map[string]struct {
		answers func(time.Duration) error // by the time since the start
		want    time.Duration             // when health is lost; 0 for never
	}{
		"always answering": {func(time.Duration) error { return nil }, 0},
		"never answering":  {func(time.Duration) error { return silent }, 10 * time.Second},
		"silent for a moment": {func(at time.Duration) error {
			return map[bool]error{true: silent}[at > 20*time.Second && at < 28*time.Second]
		}, 0},
		"silent from second 20": {func(at time.Duration) error { return map[bool]error{true: silent}[at > 20*time.Second] }, 30 * time.Second},
	} {
		synctest.Test(t, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
			defer cancel()
			started := time.Now()
			err := watchHealth(ctx, func(context.Context) error { return c.answers(time.Since(started)) }, time.Second, time.Second, 10*time.Second)
			switch lost := time.Since(started); {
			case (err != nil) != (c.want > 0):
				t.Errorf("%s: got %v", name, err)
			case err != nil && (lost != c.want || !errors.Is(err, silent) || !strings.Contains(err.Error(), "for 10 s")):
				t.Errorf("%s: lost after %v with %v, want %v", name, lost, err, c.want)
			}
		})
	}
}

// A probe that was under way while the process was stopped for minutes proves nothing.
func TestHealthSurvivesAStoppedProcess(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Minute)
		defer cancel()
		probes := 0
		err := watchHealth(ctx, func(context.Context) error {
			if probes++; probes == 5 {
				time.Sleep(2 * time.Minute)
				return context.DeadlineExceeded
			}
			return nil
		}, time.Second, time.Second, 10*time.Second)
		if err != nil {
			t.Errorf("got %v after one failure", err)
		}
	})
}

func TestHealthCountsHangingProbes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		started := time.Now()
		err := watchHealth(t.Context(), func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() }, 2*time.Second, 5*time.Second, 20*time.Second)
		if took := time.Since(started); !errors.Is(err, context.DeadlineExceeded) || took != 21*time.Second {
			t.Errorf("lost after %v with %v, want 3 probes of 7 s", took, err)
		}
	})
}
