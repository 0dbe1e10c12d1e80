package worker

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/turnwise-rl/turnwise/rollout/env"
	"github.com/turnwise-rl/turnwise/rollout/journal"
)

// takeUp rebuilds the conversation and the trajectory from the finished turns. The environment is opened
// before the first turn that is played.
func (e *episode) takeUp(past journal.Past) error {
	e.attempt = len(past.Attempts) + 1
	environment, known := e.player.Environments[e.task.Env]
	renderer, rendered := e.player.Renderers[e.task.Env]
	if !known || !rendered {
		return fmt.Errorf("no environment %q in this run", e.task.Env)
	}
	e.env, e.renderer = environment, renderer
	conversation, err := renderer.Begin(e.task.Prompt)
	if err != nil {
		return err
	}
	e.conversation = conversation
	turns := past.Turns
	if environment.Continuation() == env.Restarts && !past.Ended() {
		turns, e.discarded = nil, len(turns)
	}
	e.from = len(turns)
	e.observe(conversation.Prompt())
	for i, turn := range turns {
		if err := e.replay(turn); err != nil {
			return fmt.Errorf("take up turn %d: %w", i, err)
		}
	}
	if e.from > 0 {
		e.recorded = &turns[e.from-1]
	}
	return nil
}

// replay adds a recorded turn. What is recorded stands; that this program would render the same tokens
// is checked, since the turns to come depend on it.
func (e *episode) replay(turn journal.Turn) error {
	if turn.Turn == 0 && !slices.Equal(turn.Prompt, e.out.Tokens) {
		return fmt.Errorf("the recorded prompt has %d tokens and is not the task's, which has %d: the turns were recorded with another tokenizer or environment", len(turn.Prompt), len(e.out.Tokens))
	}
	if turn.Stop == "" {
		observation, err := e.answer(turn)
		if err != nil {
			return err
		}
		if !slices.Equal(observation, turn.Observation) {
			return fmt.Errorf("the recorded observation has %d tokens and is not what its replies render to, %d tokens: the turns were recorded with another tokenizer or template", len(turn.Observation), len(observation))
		}
	}
	e.add(turn)
	return nil
}

// open opens the environment, if it is not, and brings it to where the recorded turns end.
func (e *episode) open(ctx context.Context) error {
	if e.live != nil {
		return nil
	}
	live, err := guard(func() (env.Episode, error) { return e.env.Open(e.task) })
	if err != nil {
		return fmt.Errorf("open: %w", err)
	}
	e.live = live
	restorer, restores := live.(env.Restorer)
	if !restores && e.env.Continuation() == env.Restores {
		return fmt.Errorf("open: environment %s restores, but its episodes have no Snapshot and Restore", e.env.Name())
	}
	if e.recorded == nil {
		return nil
	}
	if e.env.Continuation() == env.Restores {
		_, err := guard(func() (struct{}, error) { return struct{}{}, restorer.Restore(ctx, e.recorded.State) })
		if err != nil {
			return fmt.Errorf("restore after turn %d: %w", e.recorded.Turn, err)
		}
	}
	state, err := e.state()
	if err != nil {
		return err
	}
	if state != e.recorded.After {
		return fmt.Errorf("after turn %d the environment had state %q; it was brought to %q", e.recorded.Turn, e.recorded.After, state)
	}
	return nil
}

// state is the hash of the environment's state.
func (e *episode) state() (string, error) {
	state, err := guard(func() (string, error) { return e.live.State(), nil })
	if err != nil {
		return "", fmt.Errorf("state: %w", err)
	}
	return state, nil
}

// remember adds to a turn what another process needs to go on after it.
func (e *episode) remember(turn *journal.Turn) error {
	var err error
	if turn.After, err = e.state(); err != nil {
		return err
	}
	if e.env.Continuation() != env.Restores || e.log == (nothing{}) {
		return nil
	}
	restorer, ok := e.live.(env.Restorer)
	if !ok {
		return errors.New("no snapshot")
	}
	if turn.State, err = guard(restorer.Snapshot); err != nil {
		return fmt.Errorf("snapshot: %w", err)
	}
	return nil
}
