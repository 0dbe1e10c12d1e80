package journal

import (
	"cmp"
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
	tenures  []Tenure
	highest  int
}

// Tenure is one rollout loop of the run.
type Tenure struct {
	Number int
	// Alive says that its writer was at work.
	Alive bool
	// Begun and Finished are how many turns it began and finished; Failed is how many attempts failed in it.
	Begun, Finished, Failed int
	// Bytes is the size of its files.
	Bytes int64
}

// Read reads the files of all tenures. A folder that is not there has none.
//
// Damage in files comes as an error that holds a [DamagedError] for each place, together with a history of
// all that is whole: a caller says so and goes on. With any other error the history is nil.
func Read(dir string) (*History, error) {
	return ReadGroups(dir, func(int) bool { return true })
}

// ReadGroups is [Read], but keeps the turns of wanted groups alone, which saves memory: the others have no
// past, and count in everything else.
func ReadGroups(dir string, wanted func(group int) bool) (*History, error) {
	parts, err := list(dir)
	if err != nil {
		return nil, fmt.Errorf("read the turns of %s: %w", dir, err)
	}
	h := &History{episodes: map[Episode]*story{}, highest: -1}
	var damage []error
	for _, p := range parts {
		if len(h.tenures) == 0 || h.tenures[len(h.tenures)-1].Number != p.tenure {
			living, err := alive(dir, p.tenure)
			if err != nil {
				return nil, fmt.Errorf("read the turns of %s: %w", dir, err)
			}
			h.tenures = append(h.tenures, Tenure{Number: p.tenure, Alive: living})
		}
		path := filepath.Join(dir, p.name())
		data, err := os.ReadFile(path)
		if errors.Is(err, fs.ErrNotExist) {
			continue // settled meanwhile
		}
		if err != nil {
			return nil, fmt.Errorf("read the turns of %s: %w", dir, err)
		}
		tenure := &h.tenures[len(h.tenures)-1]
		tenure.Bytes += int64(len(data))
		for _, place := range scan(path, data, func(e entry) { h.take(tenure, e, wanted) }) {
			damage = append(damage, place)
		}
	}
	return h, errors.Join(damage...)
}

// take adds an entry.
func (h *History) take(tenure *Tenure, e entry, wanted func(int) bool) {
	event := event{tenure: tenure.Number, alive: tenure.Alive}
	switch {
	case e.begin != nil:
		tenure.Begun++
		event.Begin = *e.begin
	case e.turn != nil:
		tenure.Finished++
		event.Begin, event.turn = e.turn.Begin, e.turn
		if !wanted(e.turn.Group) {
			event.turn = &Turn{Begin: e.turn.Begin, Stop: e.turn.Stop}
		}
	default:
		tenure.Failed++
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
	h.highest = max(h.highest, event.Group)
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

// Tenures lists the loops that have files, in order.
func (h *History) Tenures() []Tenure { return slices.Clone(h.tenures) }

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

// Highest is the highest group that has entries, -1 when none has: no loop has begun a later one.
func (h *History) Highest() int { return h.highest }

// Repeat is a turn that was finished again although it was recorded: its sampling was paid twice.
type Repeat struct {
	Episode
	Turn int
	// First finished it first, Again finished it once more; both are tenures.
	First, Again int
}

// Repeated lists turns that were finished more than once, by episode and turn. Turns that an attempt
// discarded on purpose may be finished again.
func (h *History) Repeated() []Repeat {
	var repeats []Repeat
	for episode, told := range h.episodes {
		repeats = append(repeats, told.repeats(episode)...)
	}
	slices.SortFunc(repeats, func(a, b Repeat) int {
		return cmp.Or(cmp.Compare(a.Group, b.Group), cmp.Compare(a.Member, b.Member), cmp.Compare(a.Turn, b.Turn), cmp.Compare(a.Again, b.Again))
	})
	return repeats
}

// Restarted counts, by tenure, the turns that it began and neither finished nor failed in, of episodes that
// a later tenure took up: what its end cost.
func (h *History) Restarted() map[int]int {
	restarted := map[int]int{}
	for _, told := range h.episodes {
		told.restarted(restarted)
	}
	return restarted
}
