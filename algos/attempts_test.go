package algos_test

import (
	"encoding/json"
	"os"

	"github.com/turnwise-rl/turnwise/rollout"
)

// attempts reads testdata/attempts.jsonl: two searches and the right answer; one search and an answer too soon; a
// call without its relation, a right one and a wrong one.
func attempts() []rollout.Group {
	text, err := os.ReadFile("testdata/attempts.jsonl")
	if err != nil {
		panic(err)
	}
	var file struct {
		rollout.Group
		Trajectories []struct {
			rollout.Trajectory
			Sampled []int `json:"sampled"`
		} `json:"trajectories"`
	}
	if err := json.Unmarshal(text, &file); err != nil {
		panic(err)
	}
	for _, member := range file.Trajectories {
		t := member.Trajectory
		for _, sampled := range member.Sampled {
			t.Sampled = append(t.Sampled, sampled == 1)
		}
		file.Group.Trajectories = append(file.Group.Trajectories, t)
	}
	return []rollout.Group{file.Group}
}
