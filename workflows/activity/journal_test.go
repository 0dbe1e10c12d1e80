package activity

import (
	"fmt"
	"maps"
	"testing"

	"github.com/turnwise-rl/turnwise/rollout/journal"
)

// everyGroup wants the turns of every group.
func everyGroup(int) bool { return true }

// finishedTwice lists the turns that were recorded as finished more than once: their sampling was paid twice.
// What an attempt discarded may be finished again.
func finishedTwice(t testing.TB, dir string) (twice []string) {
	t.Helper()
	type turn struct {
		journal.Episode
		turn int
	}
	type attempt struct {
		journal.Episode
		tenure, number int
	}
	times, discarding := map[turn]int{}, map[attempt]bool{}
	files, err := journal.Files(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		discard := func(b journal.Begin) {
			by := attempt{b.Episode, file.Tenure, b.Attempt}
			if b.Discarded > 0 && !discarding[by] {
				discarding[by] = true
				maps.DeleteFunc(times, func(of turn, _ int) bool { return of.Episode == b.Episode })
			}
		}
		err := file.Entries(func(e journal.Entry) {
			switch {
			case e.Begin != nil:
				discard(*e.Begin)
			case e.Turn != nil:
				discard(e.Turn.Begin)
				of := turn{e.Turn.Episode, e.Turn.Turn}
				if times[of]++; times[of] > 1 {
					twice = append(twice, fmt.Sprintf("%s turn %d", of.Episode, of.turn))
				}
			}
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	return twice
}
