package runfolder

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"time"

	"github.com/turnwise-rl/turnwise/internal/blob"
	"github.com/turnwise-rl/turnwise/rollout"
	"github.com/turnwise-rl/turnwise/trainer"
	"github.com/turnwise-rl/turnwise/workflows/runstate"
)

// Manifest is the record of one committed step. Its existence is what makes the step committed.
type Manifest struct {
	Schema string `json:"schema"` // manifestSchema
	Step   int    `json:"step"`
	// Kind is "init" for step 0.
	Kind runstate.Kind `json:"kind"`
	// Fence is the token the learner held when it committed.
	Fence     int       `json:"fence"`
	Committed time.Time `json:"committed"`
	// ISA is what computed the step: a processor's instruction set, or "cuda" and "cuda fast". Bits agree only within one.
	ISA string `json:"isa"`
	// Config is the revision of the config that made the step; 0 is run.yaml. In the first steps of a fork it is a
	// revision of the run that the fork comes from.
	Config int `json:"config,omitempty"`
	// Inputs are what was prepared for the run beside its config; only step 0 has them.
	Inputs []blob.Ref `json:"inputs,omitempty"`
	// Batch are the groups trained, in order; nil for a warm step.
	Batch []runstate.GroupRef `json:"batch,omitempty"`
	// Dropped are the groups that were given up since the step before: no step is going to train them.
	Dropped []Dropped `json:"dropped,omitempty"`
	// WeightsDigest and OptimizerDigest identify the state after the step, whether or not it is stored.
	WeightsDigest   string `json:"weights_digest"`
	OptimizerDigest string `json:"optimizer_digest"`
	// Digests names the formula of both. Manifests without one have the plain SHA-256 of everything.
	Digests string `json:"digests,omitempty"`
	// Weights are stored when samplers need the version; nil otherwise.
	Weights *blob.Ref `json:"weights,omitempty"`
	// Checkpoint is stored when one is due; nil otherwise.
	Checkpoint *Checkpoint    `json:"checkpoint,omitempty"`
	Report     trainer.Report `json:"report"`
	Rewards    Rewards        `json:"rewards"`
	Seconds    Seconds        `json:"seconds"`
	// Ledger has one row a trajectory of the batch, and one a member that was replaced because its attempts failed.
	Ledger []LedgerRow `json:"ledger,omitempty"`
}

const manifestSchema = "turnwise.step/v1"

// InitKind marks the manifest of step 0: the untrained policy.
const InitKind runstate.Kind = "init"

// Dropped is a group that is settled without being trained.
type Dropped struct {
	Group  int    `json:"group"`
	Reason string `json:"reason"`
	// Object is the group in the store; nil when it was never finished.
	Object *runstate.Ref `json:"object,omitempty"`
}

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
	// Divergence is what rewards were charged for leaving the reference policy; nil when they were not.
	Divergence *Divergence `json:"divergence,omitempty"`
}

// Divergence is a penalty in rewards for leaving the reference policy, as it stood at one step.
type Divergence struct {
	// Coef is the coefficient the step was made with.
	Coef float64 `json:"coef"`
	// Mean is the divergence that the coefficient adapts to, per sampled token or per trajectory, over so many
	// trajectories.
	Mean         float64 `json:"mean"`
	Trajectories int     `json:"trajectories"`
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
	// State is "trained", "dropped" when the trajectory does not move the policy, or "failed" when there is none.
	State  string `json:"state"`
	Reason string `json:"reason,omitempty"`
	// Attempt is the number of the attempt that made the trajectory, or of the last that failed, from 1; 0 when it is
	// unknown.
	Attempt int `json:"attempt,omitempty"`
	// Versions are the smallest and largest policy version that sampled a token; 0 where none did.
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

// FormatError says that a file of the folder is not what this program writes. Reading it again does
// not help.
type FormatError struct {
	// Path is the file, or the folder when files are missing from it.
	Path string
	Err  error
}

func (e *FormatError) Error() string { return fmt.Sprintf("%s: %v", e.Path, e.Err) }
func (e *FormatError) Unwrap() error { return e.Err }

// unseal checks every byte against the digest and decodes strictly.
func (f *Folder) unseal(key string, data []byte, schema string, into any) error {
	path := filepath.Join(f.Path, key)
	var sealed envelope
	if err := strict(data, &sealed); err != nil {
		return &FormatError{Path: path, Err: fmt.Errorf("not a sealed object: %w; restore it from a copy", err)}
	}
	if got := digest(sealed.Body); got != sealed.Digest {
		return &blob.CorruptError{Key: path, Want: sealed.Digest, Got: got}
	}
	// What is outside the body is under no digest and has only one spelling.
	if whole, err := json.Marshal(sealed); err != nil || !bytes.Equal(append(whole, '\n'), data) {
		return &blob.CorruptError{Key: path, Want: digest(append(whole, '\n')), Got: digest(data)}
	}
	var header struct {
		Schema string `json:"schema"`
	}
	if err := json.Unmarshal(sealed.Body, &header); err != nil {
		return &FormatError{Path: path, Err: err}
	}
	if header.Schema != schema {
		return &FormatError{Path: path, Err: fmt.Errorf("schema %q, this program reads %q: use the release that made the run", header.Schema, schema)}
	}
	if err := strict(sealed.Body, into); err != nil {
		return &FormatError{Path: path, Err: err}
	}
	return nil
}

// strict decodes one JSON value without unknown fields and with nothing after it.
func strict(data []byte, into any) error {
	decoder := json.NewDecoder(bytes.NewReader(data))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(into); err != nil {
		return err
	}
	if _, err := decoder.Token(); !errors.Is(err, io.EOF) {
		return errors.New("something follows the JSON value")
	}
	return nil
}

// Manifest reads a step's manifest; blob.ErrNotFound when the step is not committed. A file with any
// byte changed is a [*blob.CorruptError] or a [*FormatError].
func (f *Folder) Manifest(ctx context.Context, step int) (Manifest, error) {
	var manifest Manifest
	data, err := f.Read(ctx, manifestKey(step))
	if err != nil {
		return manifest, err
	}
	if err := f.unseal(manifestKey(step), data, manifestSchema, &manifest); err != nil {
		return manifest, err
	}
	if manifest.Step != step {
		return manifest, &FormatError{Path: filepath.Join(f.Path, manifestKey(step)), Err: fmt.Errorf("manifest of step %d", manifest.Step)}
	}
	return manifest, nil
}

// Committed returns the last committed step, and −1 when not even step 0 is. A gap in the sequence is
// a [*FormatError].
func (f *Folder) Committed(ctx context.Context) (int, error) {
	steps, err := f.numbers(ctx, "steps/")
	if err != nil {
		return 0, err
	}
	for i, step := range steps {
		if step != i {
			return 0, &FormatError{Path: filepath.Join(f.Path, "steps"),
				Err: fmt.Errorf("there is step %d and no step %d: restore %s from a copy", step, i, manifestKey(i))}
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
	manifest.Schema = manifestSchema
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
		data, err := seal(sealedFence{Schema: fenceSchema, Fence: fence})
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
	data, err := f.Dir.Read(ctx, fenceKey) // replaced now and then, so without a digest
	if errors.Is(err, blob.ErrNotFound) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	var sealed sealedFence
	err = f.unseal(fenceKey, data, fenceSchema, &sealed)
	return sealed.Fence, err
}

// sealedFence is what fence.json holds.
type sealedFence struct {
	Schema string `json:"schema"` // fenceSchema
	Fence  int    `json:"fence"`
}

const fenceSchema = "turnwise.fence/v1"

// Input reads what was prepared for the run. Once step 0 is committed every byte is checked.
func (f *Folder) Input(ctx context.Context, key string) ([]byte, error) {
	manifest, err := f.Manifest(ctx, 0)
	if err != nil && !errors.Is(err, blob.ErrNotFound) {
		return nil, err
	}
	for _, ref := range manifest.Inputs {
		if ref.Key == key {
			return f.Get(ctx, ref)
		}
	}
	return f.Read(ctx, key)
}
