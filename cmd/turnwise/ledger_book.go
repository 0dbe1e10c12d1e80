package main

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/turnwise-rl/turnwise/internal/blob"
	"github.com/turnwise-rl/turnwise/internal/runfolder"
	"github.com/turnwise-rl/turnwise/rollout"
	"github.com/turnwise-rl/turnwise/rollout/journal"
	"github.com/turnwise-rl/turnwise/rollout/record"
)

// book is what a run's folder tells of its groups: manifests, segments and the records of turns. Groups
// are read when they are asked for.
type book struct {
	run *recorded
	// manifests are those of all committed steps, by step.
	manifests []runfolder.Manifest
	// trainedAt and droppedAt are the steps that settled groups; dropReason says why a group was dropped.
	trainedAt, droppedAt map[int]int
	dropReason           map[int]string
	// stored are the groups in the store.
	stored map[int]bool
	// turns are the records of turns; of trained groups it has no turns, for the store has them.
	turns *journal.History
	// numbers are all groups that anything is known of, ascending.
	numbers []int
}

// openBook reads what is small: config, manifests, and which groups there are.
func (a *app) openBook(ctx context.Context, prefix string) (*book, error) {
	folder, id, err := a.findRun(prefix)
	if err != nil {
		return nil, err
	}
	r := &recorded{id: id, folder: folder, committed: -1}
	if err := r.readConfig(ctx); err != nil {
		return nil, err
	}
	if r.config == nil {
		return nil, fmt.Errorf("run %s is not prepared yet: %s holds no config; see `turnwise describe run %s`", id, folder.Path, id)
	}
	b := &book{run: r, trainedAt: map[int]int{}, droppedAt: map[int]int{}, dropReason: map[int]string{}, stored: map[int]bool{}}
	if r.events, err = folder.Events(ctx); err != nil {
		return nil, err
	}
	if err := b.readManifests(ctx); err != nil {
		return nil, err
	}
	if err := b.readTurns(a.note); err != nil {
		return nil, err
	}
	groups, err := folder.Groups(ctx)
	if err != nil {
		return nil, err
	}
	known := map[int]bool{}
	for _, number := range groups {
		b.stored[number], known[number] = true, true
	}
	for _, number := range b.turns.Groups() {
		known[number] = true
	}
	for _, settled := range []map[int]int{b.trainedAt, b.droppedAt} {
		for number := range settled {
			known[number] = true
		}
	}
	b.numbers = slices.Sorted(maps.Keys(known))
	return b, nil
}

func (b *book) readManifests(ctx context.Context) error {
	var err error
	if b.run.committed, err = b.run.folder.Committed(ctx); err != nil {
		return fmt.Errorf("%w; `turnwise ledger %s --check` shows everything that does not fit", err, b.run.id)
	}
	for step := range b.run.committed + 1 {
		manifest, err := b.run.folder.Manifest(ctx, step)
		if err != nil {
			return fmt.Errorf("%w; `turnwise ledger %s --check` shows everything that does not fit", err, b.run.id)
		}
		b.manifests = append(b.manifests, manifest)
		for _, ref := range manifest.Batch {
			b.trainedAt[ref.Number] = step
		}
		for _, drop := range manifest.Dropped {
			b.droppedAt[drop.Group], b.dropReason[drop.Group] = step, drop.Reason
		}
	}
	return nil
}

// readTurns reads the records of turns. Damage in them is said, and what is whole is used.
func (b *book) readTurns(note func(format string, args ...any)) error {
	var err error
	b.turns, err = journal.ReadGroups(b.run.folder.TurnsPath(), func(group int) bool { _, trained := b.trainedAt[group]; return !trained })
	if b.turns == nil {
		return err
	}
	if err != nil {
		note("some records of turns are damaged, what is whole is shown: %s", oneLine(err.Error()))
	}
	return nil
}

func (b *book) knows(group int) bool {
	_, found := slices.BinarySearch(b.numbers, group)
	return found
}

// page is what became of one group.
type page struct {
	book   *book
	number int
	// group is what the store holds; nil when it holds nothing.
	group *rollout.Group
	// manifest is that of the step that settled the group; nil while none has.
	manifest *runfolder.Manifest
	lines    []ledgerLine
	// attempts are those at each member, in order; empty when none are recorded.
	attempts map[int][]rollout.Attempt
	rows     map[int]runfolder.LedgerRow // by member
	recorded map[int]journal.Past        // by member
}

// page reads one group.
func (b *book) page(ctx context.Context, number int) (*page, error) {
	p := &page{book: b, number: number, attempts: map[int][]rollout.Attempt{}, rows: map[int]runfolder.LedgerRow{}, recorded: map[int]journal.Past{}}
	if step, ok := b.trainedAt[number]; ok {
		p.manifest = &b.manifests[step]
	} else if step, ok := b.droppedAt[number]; ok {
		p.manifest = &b.manifests[step]
	}
	if b.stored[number] {
		if err := p.readGroup(ctx); err != nil {
			return nil, err
		}
	}
	for _, member := range b.turns.Members(number) {
		past := b.turns.Past(journal.Episode{Group: number, Member: member})
		p.recorded[member] = past
		if p.group == nil || p.group.Attempts == nil { // what the store says of attempts is complete
			p.attempts[member] = past.Attempts
		}
	}
	if p.manifest != nil {
		for _, row := range p.manifest.Ledger {
			if group, member, ok := trajectoryNumbers(row.Trajectory); ok && group == number {
				p.rows[member] = row
			}
		}
	}
	p.write()
	return p, nil
}

func (p *page) readGroup(ctx context.Context) error {
	key, folder := runfolder.SegmentKey(p.number), p.book.run.folder
	var data []byte
	var err error
	if ref, trained := p.trainedRef(); trained {
		data, err = folder.Get(ctx, ref)
	} else {
		data, err = folder.Read(ctx, key)
	}
	if err != nil {
		return fmt.Errorf("%w; `turnwise ledger %s --check` shows everything that does not fit", err, p.book.run.id)
	}
	group, err := record.DecodeSegment(data)
	if err != nil {
		return fmt.Errorf("%s of run %s: %w", key, p.book.run.id, err)
	}
	p.group = &group
	for _, attempt := range group.Attempts {
		if _, member, ok := trajectoryNumbers(attempt.Trajectory); ok {
			p.attempts[member] = append(p.attempts[member], attempt)
		}
	}
	return nil
}

// trainedRef is what a step trained of the group; false when none did.
func (p *page) trainedRef() (blob.Ref, bool) {
	if p.manifest != nil {
		for _, ref := range p.manifest.Batch {
			if ref.Number == p.number {
				return blob.Ref(ref.Object), true
			}
		}
	}
	return blob.Ref{}, false
}

// write makes the lines, by member.
func (p *page) write() {
	members := map[int]bool{}
	trajectories := map[int]rollout.Trajectory{}
	if p.group != nil {
		for _, t := range p.group.Trajectories {
			if _, member, ok := trajectoryNumbers(t.ID); ok {
				members[member], trajectories[member] = true, t
			}
		}
	}
	for member := range p.attempts {
		members[member] = true
	}
	for member := range p.rows {
		members[member] = true
	}
	for member := range p.recorded {
		members[member] = true
	}
	if len(members) == 0 { // a dropped group of which nothing is left but its number
		for member := range p.book.run.config.Run.Training.GroupSize {
			members[member] = true
		}
	}
	for member := range members {
		line := ledgerLine{Trajectory: fmt.Sprintf("%s/%d", groupName(p.number), member), group: p.number, member: member}
		if t, finished := trajectories[member]; finished {
			p.finished(&line, t)
		} else {
			p.unfinished(&line)
		}
		p.lines = append(p.lines, line)
	}
	slices.SortFunc(p.lines, func(x, y ledgerLine) int { return cmp.Compare(x.member, y.member) })
}

// finished tells of a trajectory that the store holds.
func (p *page) finished(line *ledgerLine, t rollout.Trajectory) {
	if low, high, ok := versionRange(t, 0, len(t.Tokens)); ok {
		line.Versions = []int{int(low), int(high)}
	}
	turns := len(t.Turns)
	line.Turns = &turns
	p.attempt(line)
	switch row, credited := p.rows[line.member]; {
	case credited:
		p.credited(line, row)
	case p.manifest != nil:
		line.State, line.Step, line.Reason = stateDropped, &p.manifest.Step, p.book.dropReason[p.number]
	default:
		line.State, line.Reason = statePending, p.book.waiting()
	}
}

// credited tells what a step made of the trajectory.
func (p *page) credited(line *ledgerLine, row runfolder.LedgerRow) {
	line.State, line.Step, line.Reason = row.State, &p.manifest.Step, row.Reason
	if row.Attempt > 0 {
		line.Attempt = &row.Attempt
	}
	if row.State == stateFailed {
		return
	}
	line.AdvantageMean = &row.AdvantageMean
	if line.Versions == nil {
		line.Versions = []int{int(row.Versions[0]), int(row.Versions[1])}
	}
}

// unfinished tells of a member that has no trajectory in the store: it failed, it is in flight, or its
// group was given up, and then the records may be gone.
func (p *page) unfinished(line *ledgerLine) {
	record, known := p.recorded[line.member]
	if known {
		turns := len(record.Turns)
		line.Turns = &turns
		for _, turn := range record.Turns {
			for _, version := range turn.Versions {
				line.Versions = widen(line.Versions, int(version))
			}
		}
	}
	p.attempt(line)
	attempts := p.attempts[line.member]
	failure := ""
	if n := len(attempts); n > 0 && attempts[n-1].Failure != "" {
		failure = failureText(attempts[n-1])
	}
	row, credited := p.rows[line.member]
	switch {
	case credited: // the segment has gone since
		p.credited(line, row)
	case p.group != nil && failure != "":
		line.State, line.Reason = stateFailed, failure // the group came together without it
	case p.manifest != nil:
		line.State, line.Step, line.Reason = stateDropped, &p.manifest.Step, p.book.dropReason[p.number]
		if failure != "" {
			line.State, line.Reason = stateFailed, failure+"; the group was dropped: "+p.book.dropReason[p.number]
		}
	default:
		line.State, line.Reason = statePending, p.pendingFor(record, failure)
	}
}

// pendingFor says what a member that is not finished, or whose group is not, waits for.
func (p *page) pendingFor(record journal.Past, failure string) string {
	outcome, _ := p.book.run.ending()
	switch {
	case outcome != "":
		return fmt.Sprintf("the run has ended (%s)", outcome)
	case record.Ended():
		return "finished, waits for the rest of its group"
	case failure != "":
		return "goes on or is replaced after " + failure
	}
	return "in flight"
}

// attempt fills in which attempt finished the member, or the last one.
func (p *page) attempt(line *ledgerLine) {
	if attempts := p.attempts[line.member]; len(attempts) > 0 {
		number := attempts[len(attempts)-1].Number
		line.Attempt = &number
	}
}

// waiting says what a finished group waits for.
func (b *book) waiting() string {
	if outcome, _ := b.run.ending(); outcome != "" {
		return fmt.Sprintf("the run has ended (%s)", outcome)
	}
	return "waits for training"
}

func failureText(attempt rollout.Attempt) string {
	text := string(attempt.Failure)
	if attempt.Reason != "" {
		text += ": " + oneLine(attempt.Reason)
	}
	return text
}

// widen makes a range hold a value; nil is the empty range.
func widen(versions []int, v int) []int {
	if versions == nil {
		return []int{v, v}
	}
	return []int{min(versions[0], v), max(versions[1], v)}
}

// trajectoryNumbers reads group and member of "g7/3".
func trajectoryNumbers(id string) (group, member int, ok bool) {
	name, index, found := strings.Cut(id, "/")
	digits, named := strings.CutPrefix(name, "g")
	group, err := strconv.Atoi(digits)
	if !found || !named || err != nil || group < 0 {
		return 0, 0, false
	}
	member, err = strconv.Atoi(index)
	return group, member, err == nil && member >= 0
}
