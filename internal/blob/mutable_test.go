package blob

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
)

func TestReplaceIsAtomic(t *testing.T) {
	d, ctx := open(t), t.Context()
	whole := []string{strings.Repeat("a", 9000), strings.Repeat("b", 7000)}
	if err := d.Replace(ctx, "control", []byte(whole[0])); err != nil {
		t.Fatal(err)
	}
	var group sync.WaitGroup
	group.Go(func() {
		for i := range 50 {
			if err := d.Replace(ctx, "control", []byte(whole[i%2])); err != nil {
				t.Error(err)
			}
		}
	})
	group.Go(func() {
		for range 200 {
			if data, err := d.Read(ctx, "control"); err != nil || !slices.Contains(whole, string(data)) {
				t.Errorf("a reader saw %d bytes (%v) that nobody wrote", len(data), err)
			}
		}
	})
	group.Wait()
	if got, want := files(t, d), []string{"control"}; !slices.Equal(got, want) {
		t.Errorf("the folder holds %q, want %q", got, want)
	}
}

func TestAppend(t *testing.T) {
	d, ctx := open(t), t.Context()
	if _, _, err := d.Lines(ctx, "run/events"); !errors.Is(err, ErrNotFound) {
		t.Errorf("a log that is not there: got %v", err)
	}
	var group sync.WaitGroup
	for w := range 4 {
		group.Go(func() {
			for i := range 10 {
				if err := d.Append(ctx, "run/events", fmt.Appendf(nil, `{"writer":%d,"line":%d}`, w, i)); err != nil {
					t.Error(err)
				}
			}
		})
	}
	group.Wait()
	lines, torn, err := d.Lines(ctx, "run/events")
	if err != nil || torn != nil || len(lines) != 40 {
		t.Fatalf("the log has %d lines, a torn end %q and error %v, want 40 whole lines", len(lines), torn, err)
	}
	next := [4]int{}
	for _, line := range lines {
		var w, i int
		if _, err := fmt.Sscanf(string(line), `{"writer":%d,"line":%d}`, &w, &i); err != nil || i != next[w] {
			t.Fatalf("line %q is out of order or mixed (%v)", line, err)
		}
		next[w]++
	}
	for _, line := range []string{"", "\n", "a\nb"} {
		if err := d.Append(ctx, "run/events", []byte(line)); err == nil {
			t.Errorf("%q was appended as one line", line)
		}
	}
}

func TestAppendCutsATornLine(t *testing.T) {
	for name, before := range map[string]string{
		"short":     "one\ntw",
		"only torn": "tw",
		"long":      "one\n" + strings.Repeat("t", 10_000),
		"sound":     "one\n",
		"empty":     "",
	} {
		d, ctx := open(t), t.Context()
		if err := os.WriteFile(d.path("log"), []byte(before), 0o600); err != nil {
			t.Fatal(err)
		}
		_, torn, err := d.Lines(ctx, "log")
		if want := before[strings.LastIndexByte(before, '\n')+1:]; err != nil || string(torn) != want {
			t.Errorf("%s: the torn end is %.20q (%v), want %.20q", name, torn, err, want)
		}
		if err := d.Append(ctx, "log", []byte("next\n")); err != nil {
			t.Fatal(err)
		}
		after, _ := d.Read(ctx, "log")
		if want := before[:strings.LastIndexByte(before, '\n')+1] + "next\n"; string(after) != want {
			t.Errorf("%s: the log is %.40q, want %q", name, after, want)
		}
	}
}

func TestRemove(t *testing.T) {
	d, ctx := open(t), t.Context()
	if _, err := d.Put(ctx, "weights/1", []byte("x")); err != nil {
		t.Fatal(err)
	}
	if err := d.Remove(ctx, "weights/1"); err != nil {
		t.Fatal(err)
	}
	if _, err := d.Stat(ctx, "weights/1"); !errors.Is(err, ErrNotFound) {
		t.Errorf("a removed object: got %v", err)
	}
	if _, err := d.Put(ctx, "weights/1", []byte("y")); err != nil {
		t.Errorf("the key of a removed object is not free: %v", err)
	}
}
