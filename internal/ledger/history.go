package ledger

import (
	"fmt"
	"slices"
	"strings"
)

// history compares what Temporal holds with the store. The store may know more: a commit whose report was
// lost with its workflow is found again when the run is prepared.
func (c *checker) history(history History) {
	for _, commit := range history.Commits {
		c.commit(commit)
	}
	latest := map[int]string{} // a group that was made again is reported again, and the last report counts
	var order []int
	for _, group := range history.Groups {
		if _, again := latest[group.Group]; !again {
			order = append(order, group.Group)
		}
		latest[group.Group] = group.Digest
	}
	for _, group := range order {
		segment, there := c.segments[group]
		switch {
		case !there:
			c.find(ReportLost, "the history has group g%d as finished (%s), and it is not in the store", group, latest[group])
		case segment.Digest != latest[group]:
			c.find(ReportDiffers, "the history has group g%d as %s, the store holds %s", group, latest[group], segment.Digest)
		}
	}
	switch {
	case history.Outcome == "":
	case history.Committed > c.committed:
		c.find(HistoryMistaken, "the workflow %s at step %d, the last manifest is of step %d", ended(history.Outcome), history.Committed, c.committed)
	case history.Outcome == "completed" && c.committed < c.LastStep:
		c.find(HistoryMistaken, "the workflow completed, and %d of %d steps are committed", c.committed, c.LastStep)
	}
}

// commit compares one completion with the manifest of its step.
func (c *checker) commit(commit Commit) {
	step, there := c.steps[commit.Step]
	switch {
	case !there:
		c.find(CommitLost, "the history has step %d as committed, and the store has no manifest of it that can be read", commit.Step)
		return
	case commit.Weights != "" && commit.Weights != step.Weights:
		c.find(CommitDiffers, "the history has weights %s of step %d, the manifest %s", commit.Weights, commit.Step, orNone(step.Weights))
	}
	if !slices.Equal(commit.Batch, step.Batch) {
		c.find(CommitDiffers, "the history had step %d train %s, the manifest says %s", commit.Step, names(commit.Batch), names(step.Batch))
	}
}

// names lists the groups of a batch, with the beginnings of their digests.
func names(batch []Batched) string {
	if len(batch) == 0 {
		return "no groups"
	}
	out := make([]string, len(batch))
	for i, group := range batch {
		_, hash, _ := strings.Cut(group.Digest, ":")
		out[i] = fmt.Sprintf("g%d (%.12s)", group.Group, hash)
	}
	return strings.Join(out, ", ")
}

func orNone(digest string) string {
	if digest == "" {
		return "none"
	}
	return digest
}
