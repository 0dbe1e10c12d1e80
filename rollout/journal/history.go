package journal

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
)

// History is what all loops of a run have recorded, at the moment it was read. It does not change.
type History struct {
	episodes map[Episode]*story
}

// ReadGroups reads the files of all tenures. A folder that is not there has none. It keeps the turns of wanted
// groups alone, which saves memory: of the others the attempts are known, and no turns.
//
// Damage in files comes as an error that holds a [DamagedError] for each place, together with a history of
// all that is whole: a caller says so and goes on. With any other error the history is nil.
func ReadGroups(dir string, wanted func(group int) bool) (*History, error) {
	parts, err := list(dir)
	if err != nil {
		return nil, fmt.Errorf("read the turns of %s: %w", dir, err)
	}
	h := &History{episodes: map[Episode]*story{}}
	var damage []error
	living := map[int]bool{} // tenures whose writer is at work; those that are not looked up yet are missing
	for _, p := range parts {
		if _, known := living[p.tenure]; !known {
			if living[p.tenure], err = alive(dir, p.tenure); err != nil {
				return nil, fmt.Errorf("read the turns of %s: %w", dir, err)
			}
		}
		path := filepath.Join(dir, p.name())
		data, err := os.ReadFile(path)
		if errors.Is(err, fs.ErrNotExist) {
			continue // settled meanwhile
		}
		if err != nil {
			return nil, fmt.Errorf("read the turns of %s: %w", dir, err)
		}
		for _, place := range scan(path, data, func(e entry) { h.take(p.tenure, living[p.tenure], e, wanted) }) {
			damage = append(damage, place)
		}
	}
	return h, errors.Join(damage...)
}

// take adds an entry of a tenure whose writer is alive or not.
func (h *History) take(tenure int, alive bool, e entry, wanted func(int) bool) {
	event := event{tenure: tenure, alive: alive}
	switch {
	case e.begin != nil:
		event.Begin = *e.begin
	case e.turn != nil:
		event.Begin, event.turn = e.turn.Begin, e.turn
		if !wanted(e.turn.Group) {
			event.turn = &Turn{Begin: e.turn.Begin, Stop: e.turn.Stop}
		}
	default:
		f := e.failed
		event.Begin = Begin{Episode: f.Episode, Attempt: f.Attempt, From: f.From, Discarded: f.Discarded}
		event.failed = f
	}
	told := h.episodes[event.Episode]
	if told == nil {
		told = &story{wanted: wanted(event.Group)}
		h.episodes[event.Episode] = told
	}
	told.events = append(told.events, event)
}

// Past is how far an episode is; the zero value when no loop has begun it.
//
// Of several records of one turn, by loops that played the episode at the same time, the first in the
// order of tenures stands, among those that continue the turns before.
func (h *History) Past(episode Episode) Past {
	told := h.episodes[episode]
	if told == nil {
		return Past{}
	}
	return told.past(episode)
}

// Groups lists the groups that have entries, in order.
func (h *History) Groups() []int {
	groups := map[int]bool{}
	for episode := range h.episodes {
		groups[episode.Group] = true
	}
	return slices.Sorted(maps.Keys(groups))
}

// Members lists the members of a group that have entries, in order.
func (h *History) Members(group int) []int {
	var members []int
	for episode := range h.episodes {
		if episode.Group == group {
			members = append(members, episode.Member)
		}
	}
	slices.Sort(members)
	return members
}
