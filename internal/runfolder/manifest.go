package runfolder

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"time"

	"github.com/turnwise-rl/turnwise/internal/blob"
	"github.com/turnwise-rl/turnwise/rollout"
	"github.com/turnwise-rl/turnwise/trainer"
	"github.com/turnwise-rl/turnwise/workflows/runstate"
)

// Manifest is the record of one committed step. Its existence is what makes the step committed.
type Manifest struct {
	Schema string `json:"schema"` // "turnwise.step/v1"
	Step   int    `json:"step"`
	// Kind is "init" for step 0.
	Kind runstate.Kind `json:"kind"`
	// Fence is the token the learner held when it committed.
	Fence     int       `json:"fence"`
	Committed time.Time `json:"committed"`
	// ISA is the instruction set that computed the step; bits agree only within one.
	ISA string `json:"isa"`
	// Batch are the groups trained, in order; nil for a warm step.
	Batch []runstate.GroupRef `json:"batch,omitempty"`
	// WeightsDigest and OptimizerDigest identify the state after the step, whether or not it is stored.
	WeightsDigest   string `json:"weights_digest"`
	OptimizerDigest string `json:"optimizer_digest"`
	// Weights are stored when samplers need the version; nil otherwise.
	Weights *blob.Ref `json:"weights,omitempty"`
	// Checkpoint is stored when one is due; nil otherwise.
	Checkpoint *Checkpoint    `json:"checkpoint,omitempty"`
	Report     trainer.Report `json:"report"`
	Rewards    Rewards        `json:"rewards"`
	Seconds    Seconds        `json:"seconds"`
	// Ledger has one row a trajectory of the batch.
	Ledger []LedgerRow `json:"ledger,omitempty"`
}

// InitKind marks the manifest of step 0: the untrained policy.
const InitKind runstate.Kind = "init"

// Checkpoint is what a learner needs to go on from a step.
type Checkpoint struct {
	Weights   blob.Ref `json:"weights"`
	Optimizer blob.Ref `json:"optimizer"`
}

// Rewards describe the rollouts of a step.
type Rewards struct {
	// Reward is the mean reward of a trajectory: its outcome plus its turn rewards, as the method sees them.
	Reward float64 `json:"reward"`
	// Success is the share of trajectories that the verifier accepts in full.
	Success float64 `json:"success"`
	// ByEnvironment is the same share for each environment.
	ByEnvironment map[string]float64 `json:"by_environment,omitempty"`
	// Turns is the mean number of turns.
	Turns        float64 `json:"turns"`
	Trajectories int     `json:"trajectories"`
	Kept         int     `json:"kept"`
	// SampledTokens and Tokens count over all trajectories.
	SampledTokens int `json:"sampled_tokens"`
	Tokens        int `json:"tokens"`
}

// Seconds say where the learner's time went.
type Seconds struct {
	Credit float64 `json:"credit"`
	Update float64 `json:"update"`
	Commit float64 `json:"commit"`
}

// LedgerRow says what became of one trajectory.
type LedgerRow struct {
	Trajectory string `json:"trajectory"`
	// State is "trained" or "dropped".
	State  string `json:"state"`
	Reason string `json:"reason,omitempty"`
	// Versions are the smallest and largest policy version that sampled a token.
	Versions      [2]rollout.Version `json:"versions"`
	AdvantageMean float64            `json:"advantage_mean"`
	Outcome       float64            `json:"outcome"`
}

// envelope guards a JSON object against silent change.
type envelope struct {
	Digest string          `json:"digest"`
	Body   json.RawMessage `json:"body"`
}

func digest(data []byte) string {
	sum := sha256.Sum256(data)
	return "sha256:" + hex.EncodeToString(sum[:])
}

func seal(value any) ([]byte, error) {
	body, err := json.Marshal(value)
	if err != nil {
		return nil, err
	}
	data, err := json.Marshal(envelope{Digest: digest(body), Body: body})
	return append(data, '\n'), err
}

// unseal checks the digest and decodes strictly.
func (f *Folder) unseal(key string, data []byte, into any) error {
	path := filepath.Join(f.Path, key)
	var sealed envelope
	if err := strict(data, &sealed); err != nil {
		return fmt.Errorf("%s: not a sealed object: %w", path, err)
	}
	if got := digest(sealed.Body); got != sealed.Digest {
		return &blob.CorruptError{Key: path, Want: sealed.Digest, Got: got}
	}
	if err := strict(sealed.Body, into); err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	return nil
}

func strict(data []byte, into any) error {
	decoder := json.NewDecoder(bytes.NewReader(data))
	decoder.DisallowUnknownFields()
	return decoder.Decode(into)
}

// Manifest reads a step's manifest; blob.ErrNotFound when the step is not committed.
func (f *Folder) Manifest(ctx context.Context, step int) (Manifest, error) {
	var manifest Manifest
	data, err := f.Read(ctx, manifestKey(step))
	if err != nil {
		return manifest, err
	}
	if err := f.unseal(manifestKey(step), data, &manifest); err != nil {
		return manifest, err
	}
	if manifest.Step != step {
		return manifest, fmt.Errorf("%s: manifest of step %d", filepath.Join(f.Path, manifestKey(step)), manifest.Step)
	}
	return manifest, nil
}

// Committed returns the last committed step, and −1 when not even step 0 is.
func (f *Folder) Committed(ctx context.Context) (int, error) {
	steps, err := f.numbers(ctx, "steps/")
	if err != nil {
		return 0, err
	}
	for i, step := range steps {
		if step != i {
			return 0, fmt.Errorf("%s: step %d follows step %d: a manifest is missing", filepath.Join(f.Path, "steps"), step, i-1)
		}
	}
	return len(steps) - 1, nil
}

// ErrStale says that a later learner has taken over.
var ErrStale = errors.New("stale fencing token")

// Acquire shows a learner's fencing token. A larger one shown before makes it stale.
func (f *Folder) Acquire(ctx context.Context, fence int) error {
	return f.underFence(ctx, fence, func() error { return nil })
}

// Commit creates the manifest of a step, under the step lock and after comparing the fencing token.
// When the step is committed already, blob.ErrExists.
func (f *Folder) Commit(ctx context.Context, manifest Manifest) error {
	manifest.Schema = "turnwise.step/v1"
	data, err := seal(manifest)
	if err != nil {
		return err
	}
	return f.underFence(ctx, manifest.Fence, func() error {
		_, err := f.Put(ctx, manifestKey(manifest.Step), data)
		return err
	})
}

// underFence runs action under the step lock when no larger fence has been shown.
func (f *Folder) underFence(ctx context.Context, fence int, action func() error) error {
	unlock, err := f.Lock(ctx, stepLock)
	if err != nil {
		return err
	}
	defer unlock()
	shown, err := f.Fence(ctx)
	if err != nil {
		return err
	}
	if shown > fence {
		return fmt.Errorf("%w: %d was shown, this learner holds %d", ErrStale, shown, fence)
	}
	if shown < fence {
		data, err := json.Marshal(fence)
		if err != nil {
			return err
		}
		if err := f.Replace(ctx, fenceKey, data); err != nil {
			return err
		}
	}
	return action()
}

// Fence returns the largest fencing token shown so far; 0 before the first.
func (f *Folder) Fence(ctx context.Context) (int, error) {
	data, err := f.Read(ctx, fenceKey)
	if errors.Is(err, blob.ErrNotFound) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	var fence int
	if err := json.Unmarshal(data, &fence); err != nil {
		return 0, fmt.Errorf("%s: %w", filepath.Join(f.Path, fenceKey), err)
	}
	return fence, nil
}
