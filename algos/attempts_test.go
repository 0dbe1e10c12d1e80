package algos_test

import (
	"os"

	"github.com/turnwise-rl/turnwise/rollout"
	"github.com/turnwise-rl/turnwise/rollout/record"
)

// attempts are three attempts at one task: two searches and the right answer; one search and an answer too soon; a
// call without its relation, a right one and a wrong one.
func attempts() []rollout.Group {
	file, err := os.Open("testdata/attempts.jsonl")
	if err != nil {
		panic(err)
	}
	defer file.Close()
	group, err := record.NewReader(file, file.Name()).Next()
	if err != nil {
		panic(err)
	}
	return []rollout.Group{group}
}
