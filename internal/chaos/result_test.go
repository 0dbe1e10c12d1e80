package chaos

import (
	"encoding/json"
	"testing"
)

// The form of the result is a contract with other programs: names and order of fields, and what null means.
func TestResultAsJSON(t *testing.T) {
	ratio, equal := 0.88, true
	for want, r := range map[string]Result{
		`{"kills":20,"faults":{"corrupt_blob":1,"disk_full":1,"hung_tool":1,"partition":3,"sigkill":14},"steps_committed":60,"steps_lost":0,` +
			`"trajectories_lost":0,"trained_twice":0,"finished_turns_resampled":0,"unfinished_turns_restarted_max_per_kill":16,"episodes_in_flight":16,` +
			`"recovery_seconds":{"p50":4.1,"p99":9},"effective_training_time_ratio":0.88,"digest_equal":true}`: {
			Kills: 20, Faults: map[Kind]int{SIGKILL: 14, Partition: 3, DiskFull: 1, CorruptBlob: 1, HungTool: 1}, StepsCommitted: 60,
			RestartedMax: 16, InFlight: 16, Recovery: RecoverySeconds{4.1, 9}, TrainingTimeRatio: &ratio, DigestEqual: &equal,
			Broken: []string{"is said elsewhere"}},
		`{"kills":0,"faults":{},"steps_committed":0,"steps_lost":0,"trajectories_lost":0,"trained_twice":0,"finished_turns_resampled":0,` +
			`"unfinished_turns_restarted_max_per_kill":0,"episodes_in_flight":0,"recovery_seconds":{"p50":0,"p99":0},` +
			`"effective_training_time_ratio":null,"digest_equal":null}`: Sum(nil),
	} {
		got, err := json.Marshal(r)
		if err != nil || string(got) != want {
			t.Errorf("got %s, %v\nwant %s", got, err, want)
		}
	}
}
