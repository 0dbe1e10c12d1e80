package activity

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/turnwise-rl/turnwise/internal/blob"
	"github.com/turnwise-rl/turnwise/internal/runfolder"
	"github.com/turnwise-rl/turnwise/rollout"
	"github.com/turnwise-rl/turnwise/rollout/journal"
	"github.com/turnwise-rl/turnwise/workflows"
	"github.com/turnwise-rl/turnwise/workflows/runstate"
)

// TestPause holds every episode at its next turn, says when all of them wait, and goes on.
func TestPause(t *testing.T) {
	staged(t, func(t *testing.T, s *stand) {
		s.engine.lag = time.Second
		l := s.live(time.Hour)
		s.until(func() bool { return s.serving() == 1 })
		s.assign(1, group(0), group(1), group(2))
		time.Sleep(1500 * time.Millisecond)
		quiet := func() int {
			for _, news := range s.news {
				if news.State == workflows.PoolQuiet && news.Revision == s.control.Revision {
					return news.Revision
				}
			}
			return 0
		}
		s.publish(func(c *runstate.Control) { c.Paused = true })
		s.until(func() bool { return quiet() > 0 })
		before := len(s.engine.sampled)
		time.Sleep(time.Minute)
		if after := len(s.engine.sampled); after != before || before == 0 {
			t.Errorf("%d turns before the pause and %d in it", before, after)
		}
		s.publish(func(c *runstate.Control) { c.Staleness = 1 }) // still paused: the run asks again
		s.until(func() bool { return quiet() > 0 })
		s.publish(func(c *runstate.Control) { c.Paused = false })
		s.until(func() bool { return len(s.ready()) == 3 })
		s.publish(func(c *runstate.Control) { c.Paused, c.Shares[0].Groups = true, nil })
		s.until(func() bool { return quiet() > 0 }) // nothing is in flight
		l.end()
		for key, times := range s.engine.sampled {
			if times != 1 {
				t.Errorf("turn %s is sampled %d times", key, times)
			}
		}
	})
}

// TestLeavesWhilePaused lets a paused loop hand over: its episodes wait at a turn and end there.
func TestLeavesWhilePaused(t *testing.T) {
	staged(t, func(t *testing.T, s *stand) {
		s.engine.lag = time.Second
		l := s.live(time.Minute)
		s.until(func() bool { return s.serving() == 1 })
		s.assign(1, group(0))
		time.Sleep(1500 * time.Millisecond)
		s.publish(func(c *runstate.Control) { c.Paused = true })
		<-l.ended
		if l.err != nil || l.result.Reason != "it hands over to a fresh loop" {
			t.Errorf("it leaves with %+v, %v", l.result, l.err)
		}
	})
}

// TestStopsWhatIsNotItsShare takes a group away in the middle and gives it back: it goes on where it was.
func TestStopsWhatIsNotItsShare(t *testing.T) {
	staged(t, func(t *testing.T, s *stand) {
		s.engine.lag = 2 * time.Second
		l := s.live(time.Hour)
		s.until(func() bool { return s.serving() == 1 })
		s.assign(1, group(0), group(1))
		time.Sleep(11 * time.Second)
		s.assign(1)
		time.Sleep(time.Second)
		before := len(s.engine.sampled)
		time.Sleep(time.Minute)
		if after := len(s.engine.sampled); after != before || before == 0 {
			t.Errorf("%d turns before its share was taken, %d after", before, after)
		}
		s.assign(1, moved(0), moved(1))
		s.until(func() bool { return len(s.ready()) == 2 })
		l.end()
		if twice := finishedTwice(t, s.folder().TurnsPath()); twice != nil {
			t.Errorf("finished twice: %v", twice)
		}
	}, "sampling.slots=6")
}

// TestStaleGroups withdraws a group that began too many versions ago, and no other.
func TestStaleGroups(t *testing.T) {
	staged(t, func(t *testing.T, s *stand) {
		s.engine.before = func(ctx context.Context, sequence string, _ int) error {
			if sequence == "g0/2" {
				<-ctx.Done()
				return ctx.Err()
			}
			return nil
		}
		s.publish(func(c *runstate.Control) { c.Version, c.Staleness = 2, 1 })
		l := s.live(time.Hour)
		s.until(func() bool { return s.serving() == 1 })
		s.assign(1, group(0))
		time.Sleep(time.Second)
		s.publish(func(c *runstate.Control) { c.Version = 3 })
		time.Sleep(time.Second)
		if len(s.dropped()) != 0 {
			t.Errorf("dropped although one version is allowed: %+v", s.dropped())
		}
		s.publish(func(c *runstate.Control) { c.Version = 4; c.Shares[0].Groups = append(c.Shares[0].Groups, group(1)) })
		s.until(func() bool { return len(s.dropped()) > 0 && len(s.ready()) > 0 })
		if got := s.dropped()[0]; got.Number != 0 || !strings.HasPrefix(got.Reason, "stale") || s.ready()[0] != 1 {
			t.Errorf("dropped %+v, ready %v", got, s.ready())
		}
		l.end()
	})
}

// TestCorruptWeights reports weights that cannot be read once, and goes on when they can.
func TestCorruptWeights(t *testing.T) {
	for name, cause := range map[string]error{
		"corrupt": &blob.CorruptError{Key: "weights/000003.x"}, "missing": blob.ErrNotFound, "not weights": lasting(errors.New("of another shape")),
	} {
		t.Run(name, func(t *testing.T) {
			staged(t, func(t *testing.T, s *stand) {
				var mended atomic.Bool
				s.engine.using = func(int) error {
					if mended.Load() {
						return nil
					}
					return cause
				}
				s.publish(func(c *runstate.Control) { c.Version, c.Weights.Key = 3, "weights/000003.x" })
				l := s.live(time.Hour)
				s.until(func() bool { return s.serving() == 1 })
				s.assign(1, group(0))
				time.Sleep(time.Minute)
				var told []string
				s.mu.Lock()
				for _, report := range s.reports {
					told = append(told, report.CorruptWeights)
				}
				s.mu.Unlock()
				if diff := cmp.Diff([]string{"weights/000003.x"}, told); diff != "" {
					t.Errorf("reports (-want +got):\n%s", diff)
				}
				mended.Store(true)
				s.until(func() bool { return len(s.ready()) == 1 })
				l.end()
			})
		})
	}
}

// TestFullDisk fails recording and storing for a while. Nothing is lost or sampled again, and the loop
// stays.
func TestFullDisk(t *testing.T) {
	for _, what := range []string{"turns", "segments", "reading"} {
		t.Run(what, func(t *testing.T) {
			staged(t, func(t *testing.T, s *stand) {
				var full atomic.Bool
				full.Store(true)
				fault := func() error {
					if full.Load() {
						return &os.PathError{Op: "write", Path: what, Err: syscall.ENOSPC}
					}
					return nil
				}
				switch what {
				case "turns":
					s.a.recordFault = fault
				case "segments":
					s.a.faults = faultOn("put", "segments/", fault)
				case "reading":
					s.a.faults = faultOn("stat", "segments/", fault)
				}
				l := s.live(time.Hour)
				s.until(func() bool { return s.serving() == 1 })
				s.assign(1, group(0), group(1))
				time.Sleep(5 * time.Minute)
				if len(s.reports) != 0 {
					t.Errorf("reports while the disk is full: %+v", s.reports)
				}
				select {
				case <-l.ended:
					t.Fatalf("the loop ended with %+v, %v", l.result, l.err)
				default:
				}
				full.Store(false)
				s.until(func() bool { return len(s.ready()) == 2 })
				l.end()
				for key, times := range s.engine.sampled {
					if times != 1 {
						t.Errorf("turn %s is sampled %d times", key, times)
					}
				}
			})
		})
	}
}

func faultOn(op, prefix string, fault func() error) func(string, string) error {
	return func(asked, key string) error {
		if asked == op && strings.HasPrefix(key, prefix) {
			return fault()
		}
		return nil
	}
}

// TestInvalidControl keeps a loop at work while the control object cannot be read.
func TestInvalidControl(t *testing.T) {
	staged(t, func(t *testing.T, s *stand) {
		l := s.live(time.Hour)
		s.until(func() bool { return s.serving() == 1 })
		path := filepath.Join(s.folder().Path, runfolder.ControlKey)
		if err := os.WriteFile(path, []byte(`{"revision": nonsense`), 0o600); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Minute)
		if err := os.Remove(path); err != nil {
			t.Fatal(err)
		}
		s.assign(1, group(0))
		s.until(func() bool { return len(s.ready()) == 1 })
		l.end()
	})
}

// TestCorruptSegment breaks a stored group, which is then asked for again: it is set aside and made from
// the records of its turns, bit for bit, without sampling anything.
func TestCorruptSegment(t *testing.T) {
	for _, same := range []bool{true, false} {
		t.Run(fmt.Sprint("the same loop ", same), func(t *testing.T) {
			staged(t, func(t *testing.T, s *stand) {
				l := s.live(time.Hour)
				s.until(func() bool { return s.serving() == 1 })
				s.assign(1, group(0), group(1))
				s.until(func() bool { return len(s.ready()) == 2 })
				want, tenure := s.stored(1), 1
				s.assign(1)
				time.Sleep(time.Second)
				if !same {
					l.end()
					tenure = 2
				}
				path := filepath.Join(s.folder().Path, runfolder.SegmentKey(1))
				data, err := os.ReadFile(path)
				if err != nil {
					t.Fatal(err)
				}
				data[len(data)/2] ^= 1
				if err := os.WriteFile(path, data, 0o600); err != nil {
					t.Fatal(err)
				}
				sampled := len(s.engine.sampled)
				if !same {
					l = s.live(time.Hour)
					s.until(func() bool { return s.serving() == tenure })
				}
				s.reports = nil
				s.assign(tenure, moved(1))
				s.until(func() bool { return len(s.ready()) == 1 })
				l.end()
				if diff := cmp.Diff(want, s.stored(1)); diff != "" || len(s.engine.sampled) != sampled {
					t.Errorf("%d turns are sampled for it (-before +again):\n%s", len(s.engine.sampled)-sampled, diff)
				}
				if keys, err := s.folder().List(t.Context(), "corrupt/"); err != nil || len(keys) != 1 {
					t.Errorf("set aside: %v, %v", keys, err)
				}
			})
		})
	}
}

// TestSettledTurnsAreRemoved prunes the records of a tenure that is gone once a checkpoint covers its groups,
// unless they are to be kept.
func TestSettledTurnsAreRemoved(t *testing.T) {
	for _, keep := range []bool{false, true} {
		t.Run(fmt.Sprint("keep ", keep), func(t *testing.T) {
			staged(t, func(t *testing.T, s *stand) {
				for tenure := 1; tenure <= 2; tenure++ {
					l := s.live(time.Hour)
					s.until(func() bool { return s.serving() == tenure })
					s.assign(tenure, group(tenure-1))
					s.until(func() bool { return len(s.ready()) == tenure })
					l.end()
				}
				manifest := runfolder.Manifest{Step: 1, Kind: runstate.Reinforce, Fence: 9, Batch: []runstate.GroupRef{{Number: 0}}, Checkpoint: &runfolder.Checkpoint{}}
				if err := s.folder().Commit(t.Context(), manifest); err != nil {
					t.Fatal(err)
				}
				l := s.live(time.Hour)
				s.until(func() bool { return s.serving() == 3 })
				time.Sleep(time.Minute)
				l.end()
				history, err := journal.ReadGroups(s.folder().TurnsPath(), everyGroup)
				want := []int{1}
				if keep {
					want = []int{0, 1}
				}
				if diff := cmp.Diff(want, history.Groups()); err != nil || diff != "" {
					t.Errorf("%v, groups with records (-want +got):\n%s", err, diff)
				}
			}, fmt.Sprint("checkpoint.keep_turns=", keep))
		})
	}
}

// TestKilledAnywhere kills loops at random moments, as seen from the disk: whatever was written until
// then is all that the next loop has. The groups come out token for token as those of a loop that nothing
// happens to, no finished turn is sampled again, and nothing is lost.
func TestKilledAnywhere(t *testing.T) {
	const groups = 6
	var all []runstate.Assignment
	for number := range groups {
		all = append(all, moved(number))
	}
	times := cmpopts.IgnoreFields(rollout.Group{}, "Attempts")
	dir := prepared(t)
	var want []rollout.Group
	synctest.Test(t, func(t *testing.T) {
		s := newStand(t, dir)
		s.engine.lag = time.Second
		l := s.live(24 * time.Hour)
		s.until(func() bool { return s.serving() == 1 })
		s.assign(1, all...)
		s.until(func() bool { return len(s.ready()) == groups })
		l.end()
		for number := range groups {
			want = append(want, s.stored(number))
		}
	})
	total, seeds := 0, 8
	if testing.Short() {
		seeds = 3
	}
	for seed := range uint64(seeds) {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
			draws := rand.New(rand.NewPCG(seed, 7))
			dir, kills := prepared(t), 0
			for done := false; !done; kills++ {
				next := t.TempDir()
				synctest.Test(t, func(t *testing.T) { done = lifeUntilKilled(t, draws, dir, next, all) })
				if !done {
					dir = next
				}
			}
			s := newStand(t, dir)
			for number := range groups {
				if diff := cmp.Diff(want[number], s.stored(number), times); diff != "" {
					t.Errorf("after %d kills group %d differs (-undisturbed +this):\n%s", kills, number, diff)
				}
			}
			if twice := finishedTwice(t, s.folder().TurnsPath()); twice != nil {
				t.Errorf("finished twice: %v", twice)
			}
			total += kills
		})
	}
	if total < 3*seeds {
		t.Errorf("only %d kills", total)
	}
}

// lifeUntilKilled lives one loop on a folder. Unless it comes to its end, it is killed and next is the
// folder as the kill leaves it.
func lifeUntilKilled(t *testing.T, draws *rand.Rand, dir, next string, all []runstate.Assignment) bool {
	s := newStand(t, dir)
	s.engine.lag = time.Second
	past, err := journal.ReadGroups(s.folder().TurnsPath(), everyGroup)
	if err != nil {
		t.Fatal(err)
	}
	left := 1 + draws.IntN(9)
	var mu sync.Mutex
	var killed atomic.Bool
	s.engine.before = func(_ context.Context, sequence string, context int) error {
		mu.Lock()
		defer mu.Unlock()
		checkNotFinished(t, past, sequence, context)
		if left--; left == 0 {
			if err := copyLiving(next, dir); err != nil {
				t.Error(err)
			}
			killed.Store(true)
			s.wakeUp()
		}
		return nil
	}
	l := s.live(24 * time.Hour)
	defer func() {
		l.cancel()
		<-l.ended
	}()
	s.until(func() bool { return s.serving() > 0 })
	s.assign(s.serving(), all...)
	s.until(func() bool { return killed.Load() || len(s.ready()) == len(all) })
	return !killed.Load()
}

// copyLiving copies a folder in which others write. A file that has got its final name since it was listed is found under that
// by another try.
func copyLiving(to, from string) error {
	for {
		err := os.CopyFS(to, os.DirFS(from))
		if !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		if err := os.RemoveAll(to); err != nil {
			return err
		}
	}
}

// checkNotFinished reports a turn that is sampled although it is recorded.
func checkNotFinished(t *testing.T, past *journal.History, sequence string, context int) {
	var episode journal.Episode
	if _, err := fmt.Sscanf(sequence, "g%d/%d", &episode.Group, &episode.Member); err != nil {
		t.Error(err)
	}
	for _, turn := range past.Past(episode).Turns {
		if turn.Record.Start == context {
			t.Errorf("turn %d of %s is sampled again although it was finished", turn.Turn, sequence)
		}
	}
}
