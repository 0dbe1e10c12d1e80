package env

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/turnwise-rl/turnwise/rollout"
	"github.com/turnwise-rl/turnwise/rollout/tool"
)

// TestContinuationsAreWhatTheySay opens every environment of the table and looks at what its episodes can do.
func TestContinuationsAreWhatTheySay(t *testing.T) {
	for _, e := range builtAll(t) {
		episode, err := e.Open(e.Task(rollout.Train, 1, 0))
		if err != nil {
			t.Fatal(err)
		}
		_, restorer := episode.(Restorer)
		switch e.Continuation() {
		case Restores:
			if !restorer {
				t.Errorf("%s restores, but its episodes have no Snapshot and Restore", e.Name())
			}
		case Replays:
			if episode.State() != "" {
				t.Errorf("%s replays, but its episodes remember: state %q", e.Name(), episode.State())
			}
		case Restarts:
		default:
			t.Errorf("%s goes on in the unknown way %q", e.Name(), e.Continuation())
		}
	}
}

// TestRestoredEpisodesGoOnAlike plays random calls, takes the episode up elsewhere after a random number of
// them, and plays the rest: results and states are those of the episode that was never interrupted.
func TestRestoredEpisodesGoOnAlike(t *testing.T) {
	for _, e := range builtAll(t) {
		t.Run(e.Name(), func(t *testing.T) {
			rapid.Check(t, func(rt *rapid.T) {
				task := e.Task(rollout.Train, rapid.Uint64().Draw(rt, "seed"), rapid.IntRange(0, 50).Draw(rt, "index"))
				calls := drawCalls(rt, e, task)
				kept := rapid.IntRange(0, len(calls)).Draw(rt, "kept")
				whole, err := e.Open(task)
				if err != nil {
					rt.Fatal(err)
				}
				answer(t, rt, whole, calls[:kept])
				snapshot, err := whole.(Restorer).Snapshot()
				if err != nil || !json.Valid(snapshot) {
					rt.Fatalf("snapshot %s, %v", snapshot, err)
				}
				elsewhere, err := e.Open(task)
				if err != nil {
					rt.Fatal(err)
				}
				if err := elsewhere.(Restorer).Restore(t.Context(), snapshot); err != nil {
					rt.Fatal(err)
				}
				if whole.State() != elsewhere.State() {
					rt.Fatalf("state %s, restored %s", whole.State(), elsewhere.State())
				}
				if diff := cmp.Diff(answer(t, rt, whole, calls[kept:]), answer(t, rt, elsewhere, calls[kept:])); diff != "" {
					rt.Fatalf("(-never interrupted +restored):\n%s", diff)
				}
				again, err := elsewhere.(Restorer).Snapshot()
				last, lastErr := whole.(Restorer).Snapshot()
				if err != nil || lastErr != nil || string(again) != string(last) {
					rt.Fatalf("snapshots %s and %s, %v, %v", last, again, err, lastErr)
				}
			})
		})
	}
}

// drawCalls draws right calls of a task, some twice, and wrong ones.
func drawCalls(t *rapid.T, e Environment, task rollout.Task) []rollout.Call {
	var right []rollout.Call
	for _, gold := range task.Gold.Calls {
		right = append(right, rollout.Call{Name: gold.Name, Args: gold.Args})
	}
	var calls []rollout.Call
	for range rapid.IntRange(0, 6).Draw(t, "calls") {
		if rapid.Bool().Draw(t, "right") {
			calls = append(calls, rapid.SampledFrom(right).Draw(t, "gold"))
			continue
		}
		spec := rapid.SampledFrom(e.Tools()).Draw(t, "tool")
		args := rollout.Args{}
		for _, param := range spec.Params {
			text := rapid.OneOf(rapid.String(), rapid.SampledFrom([]string{"mira", "mentor", "2 + 2", `"<|end|>"`, "1 / 0"})).Draw(t, "value")
			args[param.Name] = rollout.StringArgs("v", text)["v"]
		}
		calls = append(calls, rollout.Call{Name: spec.Name, Args: args})
	}
	for _, call := range calls {
		if status, text := tool.Check(call, e.Tools()); status != rollout.CallOK {
			t.Fatalf("%v is not checked: %s", call, text)
		}
	}
	return calls
}

type observed struct {
	Result Result
	State  string
}

// answer plays calls and notes the results and the states after them.
func answer(t *testing.T, rt *rapid.T, episode Episode, calls []rollout.Call) []observed {
	var all []observed
	for _, call := range calls {
		result, err := episode.Call(t.Context(), call)
		if err != nil {
			rt.Fatal(err)
		}
		all = append(all, observed{result, episode.State()})
	}
	return all
}

func TestForeignSnapshotsAreRefused(t *testing.T) {
	for _, e := range builtAll(t) {
		for _, snapshot := range []string{"", "null", "{}", `"a"`, `[1]`, `["b","a"]`, `["a","a"]`, `["a"`} {
			episode, err := e.Open(e.Task(rollout.Train, 1, 0))
			if err != nil {
				t.Fatal(err)
			}
			before := episode.State()
			err = episode.(Restorer).Restore(t.Context(), json.RawMessage(snapshot))
			if err == nil || !strings.Contains(err.Error(), "the snapshot") {
				t.Errorf("%s: the snapshot %q is restored: %v", e.Name(), snapshot, err)
			}
			if episode.State() != before {
				t.Errorf("%s: the snapshot %q was refused and left its mark", e.Name(), snapshot)
			}
		}
	}
}

func FuzzRestore(f *testing.F) {
	f.Add([]byte(`["search entity: mira; relation: mentor"]`))
	f.Add([]byte(`[]`))
	f.Fuzz(func(t *testing.T, snapshot []byte) {
		var m memory
		if m.Restore(t.Context(), snapshot) != nil {
			return
		}
		again, err := m.Snapshot()
		if err != nil {
			t.Fatal(err)
		}
		var other memory
		if err := other.Restore(t.Context(), again); err != nil || other.State() != m.State() {
			t.Fatalf("%q is restored as %s, which is restored with state %s instead of %s, %v", snapshot, again, other.State(), m.State(), err)
		}
	})
}
