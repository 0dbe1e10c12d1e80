//go:build slim

package main

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.starlark.net/starlark"

	"github.com/turnwise-rl/turnwise/internal/runfolder"
)

func TestTableAligns(t *testing.T) {
	list := newTable("NAME", ">N", "WHAT")
	list.add("größe", "1", "x")
	list.add("b", "1,000", "")
	var out buffer
	list.write(&out)
	want := "NAME       N  WHAT\ngröße      1  x\nb      1,000\n"
	if out.String() != want {
		t.Errorf("got\n%q\nwant\n%q", out.String(), want)
	}
}

func TestShortDurations(t *testing.T) {
	for d, want := range map[time.Duration]string{
		-time.Second: "0s", 850 * time.Millisecond: "850ms", 12 * time.Second: "12s", 185 * time.Second: "3m05s",
		133 * time.Minute: "2h13m", 98 * time.Hour: "4d2h",
	} {
		if got := short(d); got != want {
			t.Errorf("%v is %q, want %q", d, got, want)
		}
	}
}

func TestNumbersForPeople(t *testing.T) {
	for n, want := range map[int]string{0: "0", 999: "999", 1812: "1,812", -1234567: "-1,234,567"} {
		if got := thousands(n); got != want {
			t.Errorf("%d is %q, want %q", n, got, want)
		}
	}
	for v, want := range map[float64]string{0: "0", 0.5: "0.500", 1e-6: "1e-06", 123456: "1.23e+05"} {
		if got := number(v); got != want {
			t.Errorf("%g is %q, want %q", v, got, want)
		}
	}
	if got := bar(0.5, 4) + bar(2, 2) + bar(-1, 2); got != "██░░██░░" {
		t.Errorf("bars %q", got)
	}
	if got := spark([]float64{-1, 0, 0.5, 1}); got != "▁▁▅█" {
		t.Errorf("spark %q", got)
	}
	if got := clip("abcdef", 4); got != "abc…" {
		t.Errorf("clip %q", got)
	}
}

func TestStarlarkWords(t *testing.T) {
	for in, want := range map[string]string{
		`a<1&&b`:           `a<1 and b`,
		`a||!b`:            `a or  not b`,
		`a!=1`:             `a!=1`,
		`s=="a&&b" && !c`:  `s=="a&&b"  and   not c`,
		`s=='it\'s!' || c`: `s=='it\'s!'  or  c`,
		`s=="open && `:     `s=="open &&`,
	} {
		if got := starlarkWords(in); got != want {
			t.Errorf("%s is %q, want %q", in, got, want)
		}
	}
}

// FuzzWhere feeds conditions: whatever the text, the answer is a verdict or a usage error, in bounded work.
func FuzzWhere(f *testing.F) {
	for _, seed := range []string{`reward<0.2 && stop=="max_turns"`, `!(a`, `"&&`, `step == None or turns>1`, `answer*3`, `[x for x in answer]`, `lambda: 1`, `stop.foo`, `0 if turns else 1`} {
		f.Add(seed)
	}
	row := trajRow{Stop: "answer", Answer: "rome", Turns: 2}.fields()
	f.Fuzz(func(t *testing.T, text string) {
		w, err := parseWhere(text, trajFieldNames())
		if err == nil {
			_, err = w.holds(row)
		}
		if err != nil && exitCode(err) != exitUsage {
			t.Errorf("%q: %v is no usage error", text, err)
		}
	})
}

// FuzzAddress feeds trajectory addresses: what parses names a run and numbers that are not negative.
func FuzzAddress(f *testing.F) {
	for _, seed := range []string{"run/g7/3", "run/g7/t3", "run/g7", "run", "/g1/2", "a/b/c/d", "r/g-1/0", "r/g99999999999999999999/0"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		address, err := parseAddress(text)
		if err == nil && (address.run == "" || address.group < 0 || address.member < -1) {
			t.Errorf("%q is read as %+v", text, address)
		}
		if err != nil && exitCode(err) != exitUsage {
			t.Errorf("%q: %v is no usage error", text, err)
		}
	})
}

func TestMissingFieldsDoNotMatch(t *testing.T) {
	row := trajRow{Turns: 2}.fields()
	for text, want := range map[string]bool{"advantage > 0": false, "advantage < 0": false, "advantage == None": true, "step != None": false, "turns == 2": true} {
		w, err := parseWhere(text, trajFieldNames())
		if err != nil {
			t.Fatal(err)
		}
		if got, err := w.holds(row); err != nil || got != want {
			t.Errorf("%s: %v, %v; want %v", text, got, err, want)
		}
	}
	if row["advantage"] != starlark.None {
		t.Error("an advantage that is not known has a value")
	}
}

func TestWhereIsBounded(t *testing.T) {
	w, err := parseWhere(`max(range(1000000)) > turns`, trajFieldNames())
	if err != nil {
		t.Fatal(err)
	}
	row := trajRow{Turns: 1}.fields()
	for range 3 { // the bound holds for each row, not for all together
		if got, err := w.holds(row); err == nil && !got {
			t.Error("a true condition does not hold")
		}
	}
}

func TestRecomputedAdvantagesAreCompared(t *testing.T) {
	for _, test := range []struct {
		shift float64
		noted bool
	}{{0, false}, {0.5, true}} {
		dir := t.TempDir()
		if err := (fixture{run: "demo", shiftLedger: test.shift}).write(dir); err != nil {
			t.Fatal(err)
		}
		_, errs, code := runHere(t, dir, "traj", "show", "demo/g0/0")
		if code != exitOK || strings.Contains(errs, "have other advantages in the ledger") != test.noted {
			t.Errorf("shift %g: exit code %d, said %q", test.shift, code, errs)
		}
	}
}

func TestDamagedRunIsShownAndNamed(t *testing.T) {
	dir := t.TempDir()
	for _, run := range []string{"good", "bad"} {
		if err := (fixture{run: run}).write(dir); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Remove(filepath.Join(runfolder.Runs(dir), "bad", "steps", "000001.json")); err != nil {
		t.Fatal(err)
	}
	out, errs, code := runHere(t, dir, "get", "runs")
	if code != exitOK || !strings.Contains(out, "damaged") || !strings.Contains(out, "good") {
		t.Errorf("exit code %d\n%s", code, out)
	}
	if !strings.Contains(errs, "bad: ") || !strings.Contains(errs, "there is step 2 and no step 1") {
		t.Errorf("said %q", errs)
	}
	segment := filepath.Join(runfolder.Runs(dir), "good", "segments", "000000")
	if err := os.Chmod(segment, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(segment, []byte("not a segment"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, errs, code := runHere(t, dir, "traj", "ls", "good"); code != exitFailed || !strings.Contains(errs, "segments/000000") {
		t.Errorf("a changed segment: exit code %d, said %q", code, errs)
	}
}

func TestExportLeavesNoHalfFile(t *testing.T) {
	dir := t.TempDir()
	if err := (fixture{run: "demo"}).write(dir); err != nil {
		t.Fatal(err)
	}
	segment := filepath.Join(runfolder.Runs(dir), "demo", "segments", "000003")
	if err := errors.Join(os.Remove(segment), os.WriteFile(segment, []byte("damaged"), 0o600)); err != nil {
		t.Fatal(err)
	}
	out := filepath.Join(t.TempDir(), "groups.jsonl")
	if _, errs, code := runHere(t, dir, "traj", "export", "demo", "--out", out); code != exitFailed || !strings.Contains(errs, "groups.jsonl") {
		t.Errorf("exit code %d, said %q", code, errs)
	}
	if _, err := os.Stat(out); !os.IsNotExist(err) {
		t.Errorf("a file stays: %v", err)
	}
}

func TestClock(t *testing.T) {
	now := fixtureStart
	if _, err := judgeClock([]listed{{id: "a", started: now.Add(time.Hour)}}, now); err == nil || !strings.Contains(err.Error(), "behind the server's") {
		t.Errorf("a start in the future: %v", err)
	}
	if text, err := judgeClock([]listed{{id: "a", started: now.Add(-time.Hour)}}, now); err != nil || text == "" {
		t.Errorf("a start in the past: %q, %v", text, err)
	}
}
