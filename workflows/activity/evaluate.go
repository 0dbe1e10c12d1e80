package activity

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/turnwise-rl/turnwise/internal/blob"
	"github.com/turnwise-rl/turnwise/internal/runfolder"
	"github.com/turnwise-rl/turnwise/rollout"
	"github.com/turnwise-rl/turnwise/rollout/render"
	"github.com/turnwise-rl/turnwise/rollout/worker"
	"github.com/turnwise-rl/turnwise/workflows"
)

// Evaluate plays held-out tasks with one version and records the verifier's verdicts. An episode that fails
// is played again and never scored; when that does not help the evaluation is made again.
// One whose run is stopped meanwhile ends without a record.
func (a *Activities) Evaluate(ctx context.Context, input workflows.EvaluateInput) error {
	defer heartbeat(ctx)()
	err := a.evaluate(ctx, input)
	if errors.Is(err, errStopped) {
		a.Log.Info("the run has ended, and so does the evaluation", "run", input.Run, "version", input.Version)
		return nil
	}
	if err != nil && ctx.Err() == nil {
		a.Log.Error("evaluation failed", "run", input.Run, "version", input.Version, "error", err)
	}
	return classify(err)
}

func (a *Activities) evaluate(ctx context.Context, input workflows.EvaluateInput) error {
	r, err := a.openRun(ctx, input.Run)
	if err != nil {
		return err
	}
	if _, err := r.folder.Evaluation(ctx, input.Version); !errors.Is(err, blob.ErrNotFound) {
		return err // recorded already, or unreadable
	}
	return a.underLease(ctx, job{run: input.Run, under: input.Lease, spares: samplerSpares}, func(ctx context.Context, at *bay) error {
		return a.play(ctx, input, r, at)
	})
}

// play plays the evaluation that input asks for.
func (a *Activities) play(ctx context.Context, input workflows.EvaluateInput, r *run, at *bay) error {
	engine, err := a.newEngine(at, r)
	if err != nil {
		return err
	}
	defer engine.Close()
	if err := engine.Use(ctx, blob.Ref(input.Weights), input.Version); err != nil {
		return err
	}
	started := time.Now()
	player := r.player()
	player.Intercept = a.Intercept
	playing, end, err := r.untilStopped(ctx)
	if err != nil {
		return err
	}
	defer end()
	played, err := r.playHeldOut(playing, player, worker.Sampling{Sampler: engine, Temperature: r.config.Evaluation.Temperature})
	if err != nil {
		if cause := context.Cause(playing); errors.Is(cause, errStopped) {
			return cause
		}
		return err
	}
	evaluation := r.judge(played)
	evaluation.Version, evaluation.Finished = input.Version, time.Now().UTC()
	evaluation.Seconds = time.Since(started).Seconds()
	err = r.folder.PutEvaluation(ctx, evaluation)
	if err == nil {
		a.observer().Evaluated(input.Run, evaluation)
	}
	return err
}

// errStopped ends what is played for a run that has ended.
var errStopped = errors.New("the run has ended")

// untilStopped returns a context that ends with [errStopped] when the control object comes to say that the run has
// ended, and the function that ends it otherwise. A run that is started again may find such a word of its earlier
// life: only a later one counts.
func (r *run) untilStopped(ctx context.Context) (context.Context, func(), error) {
	control := controlFile{folder: r.folder}
	if _, _, err := control.read(ctx); err != nil {
		return nil, nil, err
	}
	ctx, stop := context.WithCancelCause(ctx)
	var watching sync.WaitGroup
	watching.Go(func() {
		ticker := time.NewTicker(controlInterval)
		defer ticker.Stop()
		for {
			select {
			case <-ticker.C:
			case <-ctx.Done():
				return
			}
			// What cannot be read now is read the next time.
			if now, changed, err := control.read(ctx); err == nil && changed && now.Stopped {
				stop(errStopped)
			}
		}
	})
	return ctx, func() { stop(nil); watching.Wait() }, nil
}

// attempt is one held-out task and what the policy made of it.
type attempt struct {
	environment string
	task        rollout.Task
	trajectory  rollout.Trajectory
}

// playHeldOut plays the same held-out tasks with the same seeds for every version.
func (r *run) playHeldOut(ctx context.Context, player *worker.Player, sampling worker.Sampling) ([]attempt, error) {
	per := r.config.Evaluation.Tasks
	attempts := make([]attempt, len(r.environments)*per)
	playing, ctx := errgroup.WithContext(ctx)
	playing.SetLimit(r.config.Sampling.Slots)
	for e, environment := range r.environments {
		for i := range per {
			playing.Go(func() error {
				task := environment.Task(rollout.HeldOut, rollout.Seed(r.config.Seed, heldOutTaskStream), i)
				own := sampling
				own.Seed = rollout.Seed(r.config.Seed, evaluationStream, uint64(e), uint64(i))
				trajectory, err := r.playAgain(ctx, player, task, fmt.Sprintf("eval%d.%d/0", e, i), own)
				attempts[e*per+i] = attempt{environment: environment.Name(), task: task, trajectory: trajectory}
				return err
			})
		}
	}
	return attempts, playing.Wait()
}

// playAgain plays an episode that nothing records until it comes to its end, as often as a member of a group
// is tried.
func (r *run) playAgain(ctx context.Context, player *worker.Player, task rollout.Task, id string, sampling worker.Sampling) (rollout.Trajectory, error) {
	for tried := 0; ; tried++ {
		trajectory, err := player.Play(ctx, task, id, sampling, nil)
		if err == nil || ctx.Err() != nil || tried >= r.config.Failures.Retries {
			return trajectory, err
		}
	}
}

// transcribed is how many episodes of each environment an evaluation keeps as text.
const transcribed = 8

// judge counts the verifier's verdicts.
func (r *run) judge(attempts []attempt) runfolder.Evaluation {
	out := runfolder.Evaluation{Temperature: r.config.Evaluation.Temperature, Tasks: len(attempts)}
	for _, environment := range r.environments {
		score := runfolder.EnvironmentScore{Environment: environment.Name()}
		for _, a := range attempts {
			if a.environment != score.Environment {
				continue
			}
			if score.Tasks < transcribed {
				out.Transcripts = append(out.Transcripts, Transcribe(r.tokenizer, a.task, a.trajectory))
			}
			score.Tasks++
			out.Turns += float64(len(a.trajectory.Turns)) / float64(len(attempts))
			if *a.trajectory.Outcome >= 1 {
				score.Success++
			}
		}
		out.Success += score.Success / float64(len(attempts))
		score.Success /= float64(max(1, score.Tasks))
		out.ByEnvironment = append(out.ByEnvironment, score)
	}
	return out
}

// Transcribe writes an episode as text, turn by turn, without special tokens. Of observations it leaves
// out the line breaks at either end, which chat templates write.
func Transcribe(tokenizer *render.Tokenizer, task rollout.Task, t rollout.Trajectory) runfolder.Transcript {
	out := runfolder.Transcript{Environment: task.Env, Task: task.ID, Prompt: task.Prompt, Answer: t.Answer,
		Gold: task.Gold.Answer, Stop: string(t.Stop), Success: t.Outcome != nil && *t.Outcome >= 1}
	for _, turn := range t.Turns {
		line := runfolder.TranscriptTurn{Policy: tokenizer.PlainText(t.Tokens[turn.Start:turn.End])}
		if turn.Observation != nil {
			line.Observation = strings.Trim(tokenizer.PlainText(t.Tokens[turn.Observation.Start:turn.Observation.End]), "\n")
		}
		out.Turns = append(out.Turns, line)
	}
	return out
}
