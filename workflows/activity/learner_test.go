package activity

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/turnwise-rl/turnwise/internal/blob"
	"github.com/turnwise-rl/turnwise/internal/runfolder"
	"github.com/turnwise-rl/turnwise/rollout"
	"github.com/turnwise-rl/turnwise/rollout/record"
	"github.com/turnwise-rl/turnwise/trainer/policy"
	"github.com/turnwise-rl/turnwise/workflows"
	"github.com/turnwise-rl/turnwise/workflows/runstate"
)

// apprentice drives the learner's activities by hand, step by step. Its groups are scripted episodes that count as
// sampled by a version of the policy, so that they depend on the group's number and the version alone.
type apprentice struct {
	t     *testing.T
	dir   string
	run   string
	a     *Activities
	fence int
	// behind is how many versions before a step's base its groups are sampled.
	behind func(step int) int
}

func newApprentice(t *testing.T, overrides ...string) *apprentice {
	t.Helper()
	p := &apprentice{t: t, dir: prepared(t, overrides...), run: runID, behind: func(int) int { return 0 }}
	p.restart()
	return p
}

// restart throws the process away, and with it the learner in memory.
func (p *apprentice) restart() { p.a = fresh(p.dir) }

func (p *apprentice) folder() *runfolder.Folder {
	p.t.Helper()
	folder, err := runfolder.Open(p.dir, p.run)
	if err != nil {
		p.t.Fatal(err)
	}
	return folder
}

func (p *apprentice) manifest(step int) runfolder.Manifest {
	p.t.Helper()
	manifest, err := p.folder().Manifest(p.t.Context(), step)
	if err != nil {
		p.t.Fatal(err)
	}
	return manifest
}

// group makes a group and puts it into the store, unless it is there.
func (p *apprentice) group(number, version int) runstate.GroupRef {
	p.t.Helper()
	ctx := p.t.Context()
	r, err := p.a.openRun(ctx, p.run)
	if err != nil {
		p.t.Fatal(err)
	}
	ref, err := r.folder.Stat(ctx, runfolder.SegmentKey(number))
	if errors.Is(err, blob.ErrNotFound) {
		return p.store(p.scripted(r, number, version), number)
	}
	if err != nil {
		p.t.Fatal(err)
	}
	return runstate.GroupRef{Number: number, Object: runstate.Ref(ref)}
}

// store puts a group into the store.
func (p *apprentice) store(group rollout.Group, number int) runstate.GroupRef {
	p.t.Helper()
	data, err := record.EncodeSegment(group)
	if err != nil {
		p.t.Fatal(err)
	}
	ref, err := p.folder().Put(p.t.Context(), runfolder.SegmentKey(number), data)
	if err != nil {
		p.t.Fatal(err)
	}
	return runstate.GroupRef{Number: number, Object: runstate.Ref(ref)}
}

func (p *apprentice) scripted(r *run, number, version int) rollout.Group {
	p.t.Helper()
	ctx := p.t.Context()
	model, err := r.frozen(ctx, p.a.Processor, *p.manifest(version).Weights)
	if err != nil {
		p.t.Fatal(err)
	}
	defer model.Free()
	task := r.trainTask(number)
	group := rollout.Group{ID: groupID(number), Task: task}
	for _, environment := range r.environments {
		if environment.Name() != task.Env {
			continue
		}
		turns, err := demonstrate(environment, task, 1)
		if err != nil {
			p.t.Fatal(err)
		}
		for member := range r.config.Training.GroupSize {
			id := fmt.Sprintf("%s/%d", group.ID, member)
			trajectory, err := r.player().PlayScript(ctx, task, id, turns)
			if err != nil {
				p.t.Fatal(err)
			}
			scores, err := model.Score(ctx, policy.Packed{Tokens: trajectory.Tokens, Offsets: []int32{0, int32(len(trajectory.Tokens))}}, 1)
			if err != nil {
				p.t.Fatal(err)
			}
			n := len(trajectory.Tokens)
			trajectory.BehaviorLogProbs, trajectory.Versions, trajectory.Entropies = make([]float32, n), make([]rollout.Version, n), make([]float32, n)
			for i, sampled := range trajectory.Sampled {
				if sampled {
					trajectory.BehaviorLogProbs[i], trajectory.Versions[i], trajectory.Entropies[i] = scores.LogProbs[i], rollout.Version(version), scores.Entropies[i]
				}
			}
			outcome := float64((number + member) % 2)
			trajectory.Outcome, trajectory.ElapsedSeconds = &outcome, 0
			group.Trajectories = append(group.Trajectories, trajectory)
		}
	}
	return group
}

// input is the order for a step, as the machine gives it: the groups in order, and a checkpoint where one is due.
func (p *apprentice) input(step int) workflows.TrainInput {
	p.t.Helper()
	r, err := p.a.openRun(p.t.Context(), p.run)
	if err != nil {
		p.t.Fatal(err)
	}
	spec := Spec(r.config)
	p.fence++
	input := workflows.TrainInput{Run: p.run, Step: step, Kind: runstate.Warm, Fence: p.fence, Checkpoint: spec.CheckpointDue(step)}
	if step > spec.WarmSteps {
		input.Kind = runstate.Reinforce
		for i := range spec.GroupsPerStep {
			number := (step-spec.WarmSteps-1)*spec.GroupsPerStep + i
			input.Batch = append(input.Batch, p.group(number, step-1-p.behind(step)))
		}
	}
	return input
}

func (p *apprentice) order(input workflows.TrainInput) (workflows.TrainResult, error) {
	result, err := p.a.trainStep(p.t.Context(), input, input.Fence<<attemptBits|1)
	return result, classify(err)
}

// trainTo makes the steps up to one.
func (p *apprentice) trainTo(last int) {
	p.t.Helper()
	committed, err := p.folder().Committed(p.t.Context())
	if err != nil {
		p.t.Fatal(err)
	}
	for step := committed + 1; step <= last; step++ {
		p.train(p.input(step))
	}
}

func (p *apprentice) train(input workflows.TrainInput) {
	p.t.Helper()
	result, err := p.order(input)
	if err != nil || result.Corrupt != nil || result.Step != input.Step {
		p.t.Fatalf("step %d: %+v, %v", input.Step, result, err)
	}
}

// digests are those of the committed steps from one on.
func (p *apprentice) digests(from int) []string {
	p.t.Helper()
	committed, err := p.folder().Committed(p.t.Context())
	if err != nil {
		p.t.Fatal(err)
	}
	var out []string
	for step := from; step <= committed; step++ {
		m := p.manifest(step)
		out = append(out, fmt.Sprint(step, " ", m.WeightsDigest, " ", m.OptimizerDigest))
	}
	return out
}

// spoil changes one byte in the middle of an object.
func (p *apprentice) spoil(key string) {
	p.t.Helper()
	path := filepath.Join(p.folder().Path, key)
	data, err := os.ReadFile(path)
	if err != nil {
		p.t.Fatal(err)
	}
	data[len(data)/2] ^= 1
	if err := os.Remove(path); err != nil { // a fork may have the file under another name
		p.t.Fatal(err)
	}
	if err := os.WriteFile(path, data, 0o600); err != nil {
		p.t.Fatal(err)
	}
}

// sound looks whether an object is what its reference says.
func (p *apprentice) sound(ref blob.Ref) {
	p.t.Helper()
	if _, err := p.folder().Get(p.t.Context(), ref); err != nil {
		p.t.Errorf("after the repair: %v", err)
	}
}

// equalSteps compares the steps of two runs.
func equalSteps(t *testing.T, want, got []string) {
	t.Helper()
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("steps differ (-want +got):\n%s", diff)
	}
}
