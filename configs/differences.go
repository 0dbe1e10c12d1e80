package configs

import "fmt"

const emptyList = "[]"

// Differences says which values r has otherwise than before, in the order of the config: "training.staleness 0 → 2".
// A value that only one of them has says so, unless it is the empty list: the items that the other one has tell
// of it. Where values come from makes no difference.
func (r *Resolved) Differences(before *Resolved) []string {
	old, now := values(before.tree), values(r.tree)
	var out []string
	leaves(r.tree, "", func(path string, _ *node) {
		switch was, known := old[path]; {
		case !known && now[path] == emptyList:
		case !known:
			out = append(out, fmt.Sprintf("%s %s", path, now[path]))
		case was != now[path]:
			out = append(out, fmt.Sprintf("%s %s → %s", path, was, now[path]))
		}
	})
	leaves(before.tree, "", func(path string, _ *node) {
		if _, still := now[path]; !still && old[path] != emptyList {
			out = append(out, "without "+path)
		}
	})
	return out
}
