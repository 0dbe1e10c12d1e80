package ledger

import "fmt"

// Check returns every disagreement among the facts, nil when there is none. Findings come in the order of
// the store: steps, groups and rows, objects, lines, history.
func Check(facts Facts) []Finding {
	c := checker{Facts: facts, steps: map[int]Step{}, segments: map[int]Segment{}, trainedAt: map[int]int{}, droppedAt: map[int]int{}}
	for _, step := range facts.Steps {
		c.steps[step.Number] = step
		c.committed = max(c.committed, step.Number)
	}
	for _, segment := range facts.Segments {
		c.segments[segment.Group] = segment
	}
	for _, object := range facts.Unreadable {
		c.find(Unread, "%s cannot be read: %s", object.Key, object.Problem)
	}
	c.gaps()
	for _, step := range facts.Steps {
		c.batch(step)
		c.rows(step)
	}
	for _, step := range facts.Steps {
		c.dropped(step)
	}
	c.settled()
	c.objects()
	c.lines()
	if facts.History != nil {
		c.history(*facts.History)
	}
	return c.findings
}

// checker gathers findings about one run.
type checker struct {
	Facts
	committed            int // largest step with a manifest
	steps                map[int]Step
	segments             map[int]Segment
	trainedAt, droppedAt map[int]int // step by group
	findings             []Finding
}

func (c *checker) find(kind Kind, format string, args ...any) {
	c.findings = append(c.findings, Finding{kind, fmt.Sprintf(format, args...)})
}

// gaps looks for steps without a manifest. A manifest that cannot be read has a finding of its own as
// well: it commits nothing that can be shown.
func (c *checker) gaps() {
	next := 0
	for _, step := range c.Steps {
		for ; next < step.Number; next++ {
			c.find(StepGap, "step %d has no manifest that can be read, and step %d has one", next, step.Number)
		}
		next = step.Number + 1
	}
}

// batch compares the groups that a step trained with those in the store.
func (c *checker) batch(step Step) {
	for _, trained := range step.Batch {
		if first, twice := c.trainedAt[trained.Group]; twice {
			c.find(TrainedTwice, "group g%d is trained at step %d and at step %d", trained.Group, first, step.Number)
		} else {
			c.trainedAt[trained.Group] = step.Number
		}
		segment, there := c.segments[trained.Group]
		switch {
		case !there:
			c.find(SegmentMissing, "group g%d, trained at step %d, is not in the store", trained.Group, step.Number)
		case segment.Digest != trained.Digest:
			c.find(SegmentChanged, "group g%d was trained at step %d as %s, the store holds %s", trained.Group, step.Number, trained.Digest, segment.Digest)
		case segment.Problem != "":
			c.find(Unread, "group g%d, trained at step %d, cannot be read: %s", trained.Group, step.Number, segment.Problem)
		}
	}
}

// rows compares the ledger of a step with the trajectories of its batch. Trajectories of segments that
// are missing or changed are not known, and rows of such groups are taken at their word.
func (c *checker) rows(step Step) {
	rows := map[string]Row{}
	for _, row := range step.Rows {
		if _, twice := rows[row.Trajectory]; twice {
			c.find(RowTwice, "trajectory %s has two rows in the ledger of step %d", row.Trajectory, step.Number)
		}
		rows[row.Trajectory] = row
		c.row(step, row)
	}
	known := true
	for _, trained := range step.Batch {
		segment, there := c.segments[trained.Group]
		if !there || segment.Digest != trained.Digest || segment.Problem != "" {
			known = false
			continue
		}
		for _, trajectory := range segment.Trajectories {
			row, there := rows[trajectory.ID]
			delete(rows, trajectory.ID)
			switch {
			case !there:
				c.find(RowMissing, "trajectory %s was in the batch of step %d and has no row in its ledger", trajectory.ID, step.Number)
			case row.State == Failed:
				c.find(RowMistaken, "the ledger of step %d calls trajectory %s failed, and it is in the batch", step.Number, trajectory.ID)
			case trajectory.Sampled && row.Versions != trajectory.Versions:
				c.find(RowVersions, "trajectory %s has versions %d to %d in the ledger of step %d, its tokens have %d to %d",
					trajectory.ID, row.Versions[0], row.Versions[1], step.Number, trajectory.Versions[0], trajectory.Versions[1])
			}
		}
	}
	if !known {
		return
	}
	for _, row := range step.Rows {
		if _, left := rows[row.Trajectory]; left && row.State != Failed {
			delete(rows, row.Trajectory)
			c.find(RowUnfounded, "the ledger of step %d has a row of trajectory %s, which is not in its batch", step.Number, row.Trajectory)
		}
	}
}

// row holds a trained trajectory to the versions that the step could use: step s trains version s − 1, and
// its tokens may be so many versions older as the staleness says.
func (c *checker) row(step Step, row Row) {
	switch row.State {
	case Trained:
	case Left, Failed:
		return
	default:
		c.find(RowMistaken, "trajectory %s has state %q in the ledger of step %d", row.Trajectory, row.State, step.Number)
		return
	}
	base := step.Number - 1
	if age := base - row.Versions[0]; age > step.Staleness {
		c.find(Stale, "trajectory %s, trained at step %d, has tokens of version %d: %d versions old, and staleness %d was in force",
			row.Trajectory, step.Number, row.Versions[0], age, step.Staleness)
	}
	if row.Versions[1] > base {
		c.find(FromTheFuture, "trajectory %s, trained at step %d, has tokens of version %d, which that step could not know", row.Trajectory, step.Number, row.Versions[1])
	}
}

// dropped looks for groups that are given up and trained, or given up twice.
func (c *checker) dropped(step Step) {
	for _, drop := range step.Dropped {
		if at, trained := c.trainedAt[drop.Group]; trained {
			c.find(DroppedTrained, "group g%d is trained at step %d and dropped at step %d (%s)", drop.Group, at, step.Number, drop.Reason)
		}
		if first, twice := c.droppedAt[drop.Group]; twice {
			c.find(DroppedTwice, "group g%d is dropped at step %d and at step %d", drop.Group, first, step.Number)
			continue
		}
		c.droppedAt[drop.Group] = step.Number
	}
}

// settled looks for groups that a completed run neither trained nor dropped. A run that failed or was
// cancelled goes on from its folder when it is submitted again, so its groups may wait.
func (c *checker) settled() {
	if c.Ended != "completed" {
		return
	}
	for _, segment := range c.Segments {
		_, trained := c.trainedAt[segment.Group]
		_, dropped := c.droppedAt[segment.Group]
		if !trained && !dropped {
			c.find(Unsettled, "group g%d is in the store, and the completed run neither trained nor dropped it", segment.Group)
		}
	}
}

// objects looks for weights and checkpoints that are missing or hold other bytes.
func (c *checker) objects() {
	for _, object := range c.Objects {
		switch {
		case object.Problem != "":
			c.find(ObjectCorrupt, "%s of step %d, %s, cannot be read: %s", object.What, object.Step, object.Key, object.Problem)
		case object.Got == "" && !object.MayExpire:
			c.find(ObjectMissing, "%s of step %d, %s, are missing and not yet due to be removed", object.What, object.Step, object.Key)
		case object.Got != "" && object.Got != object.Want:
			c.find(ObjectCorrupt, "%s of step %d, %s, have digest %s, the manifest says %s", object.What, object.Step, object.Key, object.Got, object.Want)
		}
	}
}

// lines compares metrics.jsonl and the run's last event with the manifests. The line of the newest step
// of a run at work may be yet to come: it is written after the commit.
func (c *checker) lines() {
	lines := map[int]bool{}
	for _, step := range c.Metrics {
		switch _, committed := c.steps[step]; {
		case lines[step]:
			c.find(LineUnfounded, "metrics.jsonl has two lines of step %d", step)
		case !committed && (c.Ended != "" || step <= c.committed):
			c.find(LineUnfounded, "metrics.jsonl has a line of step %d, which has no manifest that can be read", step)
		}
		lines[step] = true
	}
	for _, step := range c.Steps {
		late := step.Number == c.committed && c.Ended == ""
		if step.Number > 0 && !late && !lines[step.Number] {
			c.find(LineMissing, "step %d is committed and has no line in metrics.jsonl", step.Number)
		}
	}
	if c.Ended != "" && c.EndedAt != c.committed {
		c.find(EndingWrong, "events.jsonl says that the run %s at step %d, the last manifest is of step %d", ended(c.Ended), c.EndedAt, c.committed)
	}
	if c.Ended == "completed" && c.committed < c.LastStep {
		c.find(EndingWrong, "events.jsonl says that the run completed, and %d of %d steps are committed", c.committed, c.LastStep)
	}
}

func ended(outcome string) string {
	if outcome == "cancelled" {
		return "was cancelled"
	}
	return outcome
}
