package runfolder

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func steps(t *testing.T, f *Folder) []int {
	t.Helper()
	lines, err := f.Metrics(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var out []int
	for _, line := range lines {
		out = append(out, line.Step)
	}
	return out
}

// TestMetricsAreMadeUp commits steps whose learners die before they write a line.
func TestMetricsAreMadeUp(t *testing.T) {
	f, ctx := open(t), t.Context()
	for step := range 6 {
		commit(t, f, step, 1)
	}
	for _, test := range []struct {
		upTo int
		want []int
	}{{1, []int{1}}, {1, []int{1}}, {4, []int{1, 2, 3, 4}}, {2, []int{1, 2, 3, 4}}, {5, []int{1, 2, 3, 4, 5}}} {
		if err := f.AppendMetrics(ctx, test.upTo); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(test.want, steps(t, f)); diff != "" {
			t.Errorf("up to %d (-want +got):\n%s", test.upTo, diff)
		}
	}
	if err := f.AppendMetrics(ctx, 6); err == nil {
		t.Error("a step that is not committed gets a line")
	}
	lines, err := f.Metrics(ctx)
	if err != nil {
		t.Fatal(err)
	}
	want := sample(5, 1).Line()
	if diff := cmp.Diff(want, lines[4]); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if want.Reward != 0.5 || want.Loss != -0.25 || want.TokensTrained != 3 || want.UpdateSeconds != 2 {
		t.Errorf("the line leaves something out: %+v", want)
	}
}

// TestTornLastLine cuts the log at every place in its last line, as a crash may. Readers leave the
// rest of a line out, and the next writer makes it up, also when only the line break is missing.
func TestTornLastLine(t *testing.T) {
	f, ctx := open(t), t.Context()
	for step := range 4 {
		commit(t, f, step, 1)
	}
	if err := f.AppendMetrics(ctx, 2); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(f.Path, MetricsKey)
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	first := strings.IndexByte(string(whole), '\n') + 1
	for cut := first; cut < len(whole); cut += 7 {
		for _, at := range []int{cut, len(whole) - 1} {
			write(t, f, MetricsKey, string(whole[:at]))
			if diff := cmp.Diff([]int{1}, steps(t, f)); diff != "" {
				t.Fatalf("cut at %d of %d (-want +got):\n%s", at, len(whole), diff)
			}
			if err := f.AppendMetrics(ctx, 3); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff([]int{1, 2, 3}, steps(t, f)); diff != "" {
				t.Fatalf("written again after a cut at %d of %d (-want +got):\n%s", at, len(whole), diff)
			}
		}
	}
}

// TestBadLine is not a crash: a line in the middle that cannot be read is an error with its place.
func TestBadLine(t *testing.T) {
	f := open(t)
	write(t, f, MetricsKey, "{\"step\":1}\n{\"step\":\n{\"step\":3}\n")
	var malformed *FormatError
	if _, err := f.Metrics(t.Context()); !errors.As(err, &malformed) || !strings.Contains(err.Error(), MetricsKey+":2") {
		t.Errorf("%v; want an error at line 2", err)
	}
}

// TestTwoLearnersWriteMetrics writes the same lines twice at once: each step has one.
func TestTwoLearnersWriteMetrics(t *testing.T) {
	f := open(t)
	for step := range 5 {
		commit(t, f, step, 1)
	}
	var writing sync.WaitGroup
	for range 4 {
		writing.Go(func() {
			if err := f.AppendMetrics(t.Context(), 4); err != nil {
				t.Error(err)
			}
		})
	}
	writing.Wait()
	if diff := cmp.Diff([]int{1, 2, 3, 4}, steps(t, f)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestEvents(t *testing.T) {
	f, ctx := open(t), t.Context()
	if got, err := f.Events(ctx); err != nil || got != nil {
		t.Errorf("before the first: %v, %v", got, err)
	}
	want := []Event{{Time: time.Unix(1, 0).UTC(), Text: "one\nline"}, {Time: time.Unix(2, 0).UTC(), Text: "two"}}
	for _, event := range want {
		if err := f.AppendEvent(ctx, event); err != nil {
			t.Fatal(err)
		}
	}
	got, err := f.Events(ctx)
	if diff := cmp.Diff(want, got); err != nil || diff != "" {
		t.Errorf("%v (-want +got):\n%s", err, diff)
	}
}
