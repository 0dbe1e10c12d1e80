package journal

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/turnwise-rl/turnwise/rollout"
)

// record writes entries in a tenure of their own and closes it.
func record(t testing.TB, dir string, entries ...any) {
	t.Helper()
	w := openWriter(t, dir)
	note(t, w, entries...)
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
}

func note(t testing.TB, w *Writer, entries ...any) {
	t.Helper()
	for _, entry := range entries {
		var err error
		switch entry := entry.(type) {
		case Begin:
			err = w.Begin(t.Context(), entry)
		case Turn:
			err = errors.Join(w.Begin(t.Context(), entry.Begin), w.Finish(t.Context(), entry))
		case Failed:
			err = w.Fail(t.Context(), entry)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

// from says that turns belong to an attempt which began with one of them.
func (s *script) from(attempt int) *script {
	copied := *s
	copied.attempt = attempt
	return &copied
}

func TestEpisodesGoOnOverTenures(t *testing.T) {
	dir := t.TempDir()
	s := newScript(4, 1, 1)
	first, second := s.turn(1, ""), s.turn(1, "")
	cut := s.from(1).turn(1, "").Begin
	s.attempt = 2
	third := s.turn(2, "")
	third.From = 2
	fourth := s.turn(2, rollout.StopAnswer)
	fourth.From = 2
	record(t, dir, first, second, cut)
	record(t, dir, third, Failed{Episode: s.episode, Attempt: 2, From: 2, Kind: rollout.FailedTool, Reason: "away"})
	fourth.Attempt, fourth.From = 3, 3
	record(t, dir, fourth)
	h := read(t, dir)
	want := Past{
		Turns: []Turn{first, second, third, fourth},
		Attempts: []rollout.Attempt{
			{Trajectory: "g4/1", Number: 1, Tenure: 1, Failure: rollout.FailedLost, Reason: loopGone},
			{Trajectory: "g4/1", Number: 2, Tenure: 2, From: 2, Failure: rollout.FailedTool, Reason: "away"},
			{Trajectory: "g4/1", Number: 3, Tenure: 3, From: 3},
		},
	}
	if diff := cmp.Diff(want, h.Past(s.episode)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]any{[]int{4}, []int{1}}, []any{h.Groups(), h.Members(4)}); diff != "" {
		t.Error(diff)
	}
	if past := h.Past(Episode{4, 0}); past.Turns != nil || past.Attempts != nil {
		t.Errorf("an episode nobody began has the past %+v", past)
	}
}

// TestTwoLoopsPlayOneEpisode lets a loop that was given up go on beside its successor: the turn of the first
// stands, and turns that continue the other one do not.
func TestTwoLoopsPlayOneEpisode(t *testing.T) {
	for name, test := range map[string]struct {
		owner int // whose tokens the second loop samples; the first loop's are 1
		want  int
	}{
		"they sample the same":    {owner: 1, want: 4},
		"they sample differently": {owner: 2, want: 3},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			old, young := openWriter(t, dir), openWriter(t, dir)
			s := newScript(4, 1, 1)
			note(t, old, s.turn(1, ""), s.turn(1, ""))
			other := s.from(2)
			note(t, old, s.turn(1, ""))
			note(t, young, other.turn(test.owner, ""), other.turn(test.owner, ""))
			h := read(t, dir)
			past := h.Past(s.episode)
			if len(past.Turns) != test.want || past.Turns[2].Tokens[0] != 1000 {
				t.Errorf("%d turns, the third begins with token %d", len(past.Turns), past.Turns[2].Tokens[0])
			}
			want := []rollout.Attempt{
				{Trajectory: "g4/1", Number: 1, Tenure: 1, Failure: rollout.FailedLost, Reason: takenOver},
				{Trajectory: "g4/1", Number: 2, Tenure: 2},
			}
			if diff := cmp.Diff(want, past.Attempts); diff != "" {
				t.Errorf("attempts (-want +got):\n%s", diff)
			}
		})
	}
}

// TestDiscardedTurnsAreVoid restarts an episode: what was recorded before does not stand.
func TestDiscardedTurnsAreVoid(t *testing.T) {
	dir := t.TempDir()
	s := newScript(4, 1, 1)
	record(t, dir, s.turn(1, ""), s.turn(1, ""))
	again := newScript(4, 1, 2)
	first := again.turn(2, "")
	first.Discarded = 2
	record(t, dir, first)
	h := read(t, dir)
	past := h.Past(s.episode)
	if diff := cmp.Diff([]Turn{first}, past.Turns); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if len(past.Attempts) != 2 || past.Attempts[1].Discarded != 2 {
		t.Errorf("attempts %+v", past.Attempts)
	}
}

// TestDamagedFilesAreUsedAndNamed damages one of two files: everything else is in the history.
func TestDamagedFilesAreUsedAndNamed(t *testing.T) {
	dir := t.TempDir()
	s, other := newScript(1, 0, 1), newScript(2, 0, 1)
	record(t, dir, s.turn(1, ""), s.turn(1, ""), s.turn(1, ""))
	record(t, dir, other.turn(1, ""))
	path := filepath.Join(dir, "000001.log")
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	data[len(data)/2] ^= 4
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
	h, err := ReadGroups(dir, all)
	var damaged *DamagedError
	if !errors.As(err, &damaged) || damaged.File != path || !strings.Contains(err.Error(), "the others are sampled again") {
		t.Fatalf("error %v, want damage in %s", err, path)
	}
	if len(h.Past(s.episode).Turns) != 1 || len(h.Past(other.episode).Turns) != 1 {
		t.Errorf("%d and %d turns are used, want 1 and 1", len(h.Past(s.episode).Turns), len(h.Past(other.episode).Turns))
	}
	if removed, err := Prune(dir, func(int) bool { return true }); removed != 0 || err != nil {
		t.Errorf("%d files removed, %v; a damaged file stays", removed, err)
	}
}

func TestUnwantedGroupsTakeNoRoom(t *testing.T) {
	dir := t.TempDir()
	s, other := newScript(1, 0, 1), newScript(2, 0, 1)
	record(t, dir, s.turn(1, ""), s.turn(1, rollout.StopAnswer), other.turn(1, ""))
	h, err := ReadGroups(dir, func(group int) bool { return group == 2 })
	if err != nil {
		t.Fatal(err)
	}
	if past := h.Past(s.episode); past.Turns != nil || len(past.Attempts) != 1 || past.Attempts[0].Failure != "" {
		t.Errorf("an unwanted group has %+v", past)
	}
	if past := h.Past(other.episode); len(past.Turns) != 1 {
		t.Errorf("a wanted group has %+v", past)
	}
	if diff := cmp.Diff([]int{1, 2}, h.Groups()); diff != "" {
		t.Error(diff)
	}
}

// TestPrune removes files of settled groups alone, also those that a living writer has left behind.
func TestPrune(t *testing.T) {
	dir := t.TempDir()
	if removed, err := Prune(filepath.Join(dir, "none"), func(int) bool { return true }); removed != 0 || err != nil {
		t.Errorf("a folder that is not there: %d, %v", removed, err)
	}
	record(t, dir, newScript(1, 0, 1).turn(1, ""))
	record(t, dir, newScript(1, 0, 2).turn(1, ""), newScript(7, 0, 1).turn(1, ""))
	living, err := open(dir, 200, nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, group := range []int{2, 3, 7, 3} {
		if err := living.Finish(t.Context(), newScript(group, 1, 1).turn(1, "")); err != nil {
			t.Fatal(err)
		}
	}
	names := func() (names []string) {
		parts, err := list(dir)
		if err != nil {
			t.Fatal(err)
		}
		for _, p := range parts {
			names = append(names, p.name())
		}
		return names
	}
	if diff := cmp.Diff([]string{"000001.log", "000002.log", "000003.log", "000003.2.log", "000003.3.log", "000003.4.log"}, names()); diff != "" {
		t.Fatalf("(-want +got):\n%s", diff)
	}
	removed, err := Prune(dir, func(group int) bool { return group < 7 })
	if err != nil || removed != 3 {
		t.Errorf("%d files removed, %v", removed, err)
	}
	if diff := cmp.Diff([]string{"000002.log", "000003.3.log", "000003.4.log"}, names()); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	for tenure, want := range map[int]bool{2: false, 3: true} {
		if living, err := alive(dir, tenure); err != nil || living != want {
			t.Errorf("tenure %d is alive: %v, %v; the writer of the third lives", tenure, living, err)
		}
	}
	another := openWriter(t, dir)
	if removed, err := Prune(dir, func(int) bool { return true }); err != nil || removed != 2 {
		t.Errorf("%d files removed, %v; two have no writer", removed, err)
	}
	if err := living.Close(); err != nil {
		t.Fatal(err)
	}
	if removed, err := Prune(dir, func(int) bool { return true }); err != nil || removed != 1 {
		t.Errorf("%d files removed, %v; the writer has left the third", removed, err)
	}
	if another.Tenure() != 4 {
		t.Errorf("tenure %d", another.Tenure())
	}
}

func TestOtherNamesAreLeftAlone(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{"1.log", "000001.1.log", "0000001.log", "000001.log.bak", "notes", "000001.02.log"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte("x"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if files, err := Files(dir); err != nil || len(files) != 0 {
		t.Errorf("%v, files %+v", err, files)
	}
}

// TestLogKnowsWhatItRecords makes two attempts in one loop: the log's past is that of the file.
func TestLogKnowsWhatItRecords(t *testing.T) {
	dir := t.TempDir()
	s := newScript(4, 1, 1)
	record(t, dir, s.turn(1, ""))
	w := openWriter(t, dir)
	log := w.Log(s.episode, read(t, dir).Past(s.episode))
	steps := []func() error{
		func() error { return log.Begin(t.Context(), Begin{Attempt: 2, From: 1, Turn: 1}) },
		func() error {
			s.attempt = 2
			turn := s.turn(2, "")
			turn.Episode, turn.From = Episode{}, 1
			return log.Finish(t.Context(), turn)
		},
		func() error {
			return log.Fail(t.Context(), Failed{Attempt: 2, From: 1, Kind: rollout.FailedEngine, Reason: "away"})
		},
		func() error {
			return log.Fail(t.Context(), Failed{Attempt: 3, From: 2, Kind: rollout.FailedEnvironment, Reason: "shut"})
		},
		func() error { return log.Begin(t.Context(), Begin{Attempt: 4, From: 2, Turn: 2}) },
		func() error {
			s.attempt = 4
			turn := s.turn(2, rollout.StopAnswer)
			turn.From = 2
			return log.Finish(t.Context(), turn)
		},
	}
	for i, step := range steps {
		if err := step(); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(read(t, dir).Past(s.episode), log.Past()); diff != "" {
			t.Errorf("after step %d (-file +log):\n%s", i, diff)
		}
	}
	if past := log.Past(); !past.Ended() || len(past.Turns) != 3 || len(past.Attempts) != 4 {
		t.Errorf("%d turns, attempts %+v", len(past.Turns), past.Attempts)
	}
}
