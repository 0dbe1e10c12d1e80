package runfolder

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"time"

	"github.com/turnwise-rl/turnwise/internal/blob"
)

// Evaluation is the result of playing held-out tasks with one version. Success is the verifier's.
type Evaluation struct {
	Schema      string    `json:"schema"` // evaluationSchema
	Version     int       `json:"version"`
	Finished    time.Time `json:"finished"`
	Temperature float64   `json:"temperature"`
	// Success is the share of all tasks solved.
	Success float64 `json:"success"`
	Tasks   int     `json:"tasks"`
	Turns   float64 `json:"turns"` // mean
	// ByEnvironment has one entry an environment, in the config's order.
	ByEnvironment []EnvironmentScore `json:"by_environment"`
	// Transcripts are the first episodes of each environment, in task order, for people.
	Transcripts []Transcript `json:"transcripts"`
	Seconds     float64      `json:"seconds"`
}

const evaluationSchema = "turnwise.evaluation/v1"

// EnvironmentScore is one environment's share of an evaluation.
type EnvironmentScore struct {
	Environment string  `json:"environment"`
	Success     float64 `json:"success"`
	Tasks       int     `json:"tasks"`
}

// Transcript is one episode as text.
type Transcript struct {
	Environment string           `json:"environment"`
	Task        string           `json:"task"`
	Prompt      string           `json:"prompt"`
	Turns       []TranscriptTurn `json:"turns"`
	Answer      string           `json:"answer"`
	Gold        string           `json:"gold"`
	Stop        string           `json:"stop"`
	Success     bool             `json:"success"`
}

// TranscriptTurn is what the policy wrote and what it read in reply.
type TranscriptTurn struct {
	Policy      string `json:"policy"`
	Observation string `json:"observation,omitempty"`
}

// Evaluation reads the evaluation of a version; blob.ErrNotFound when there is none.
func (f *Folder) Evaluation(ctx context.Context, version int) (Evaluation, error) {
	var evaluation Evaluation
	data, err := f.Read(ctx, evaluationKey(version))
	if err != nil {
		return evaluation, err
	}
	if err := f.unseal(evaluationKey(version), data, evaluationSchema, &evaluation); err != nil {
		return evaluation, err
	}
	if evaluation.Version != version {
		return evaluation, &FormatError{Path: filepath.Join(f.Path, evaluationKey(version)), Err: fmt.Errorf("evaluation of version %d", evaluation.Version)}
	}
	return evaluation, nil
}

// PutEvaluation records an evaluation once; a second one of the same version is ignored.
func (f *Folder) PutEvaluation(ctx context.Context, evaluation Evaluation) error {
	evaluation.Schema = evaluationSchema
	data, err := seal(evaluation)
	if err != nil {
		return err
	}
	_, err = f.Put(ctx, evaluationKey(evaluation.Version), data)
	if errors.Is(err, blob.ErrExists) {
		return nil
	}
	return err
}

// Evaluations returns the versions with a recorded evaluation, ascending.
func (f *Folder) Evaluations(ctx context.Context) ([]int, error) {
	return f.numbers(ctx, "evaluations/")
}
