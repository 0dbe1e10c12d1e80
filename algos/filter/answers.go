package filter

import (
	"strings"

	"github.com/turnwise-rl/turnwise/algos/scored"
)

// tally counts the answers of the members by their text, lower case and with single spaces. Members without
// an answer are not in it.
func tally(g *scored.Group, members []int) map[string]int {
	count := map[string]int{}
	for _, i := range members {
		if answer := strings.Join(strings.Fields(strings.ToLower(g.Trajectories[i].Answer)), " "); answer != "" {
			count[answer]++
		}
	}
	return count
}
