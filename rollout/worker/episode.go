// Package worker plays episodes: it renders a task, lets a policy sample a turn, parses it strictly,
// runs its calls through the environment, shows the results and goes on until the policy answers or
// a limit comes first.
//
// A [Player] holds no state between episodes, so any number of goroutines may play at once. What the
// policy does wrong becomes an observation; what breaks around it is an error and never a reward.
package worker

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/turnwise-rl/turnwise/rollout"
	"github.com/turnwise-rl/turnwise/rollout/env"
	"github.com/turnwise-rl/turnwise/rollout/render"
	"github.com/turnwise-rl/turnwise/rollout/tool"
)

// Limits bound one episode.
type Limits struct {
	// MaxTurns is the most turns the policy may take.
	MaxTurns int
	// MaxTurnTokens is the most tokens of one turn.
	MaxTurnTokens int
	// MaxTokens is the most tokens of the whole episode, observations included.
	MaxTokens int
	// ToolTimeout bounds one tool call.
	ToolTimeout time.Duration
}

// Player plays episodes of the given environments.
type Player struct {
	Environments map[string]env.Environment
	// Renderers turn the episodes of each environment into tokens, by the environment's name: a chat
	// template shows the environment's tools.
	Renderers map[string]render.Renderer
	// Format is how turns write calls and answers.
	Format tool.TurnFormat
	Limits Limits
}

// turnSource supplies the tokens of an episode's turns: a sampling policy or a script.
type turnSource interface {
	// next returns the tokens of the episode's next turn, at most limit of them, and false when the
	// source has no further turn. No tokens means that its own context is full.
	next(ctx context.Context, e *episode, limit int) (sampledTurn, bool, error)
}

// sampledTurn is one turn's tokens; the other slices have the same length or are nil.
type sampledTurn struct {
	tokens    []int32
	logProbs  []float32
	entropies []float32
	versions  []rollout.Version
}

// episode is the state of one attempt.
type episode struct {
	player       *Player
	env          env.Environment
	live         env.Episode
	renderer     render.Renderer
	conversation render.Conversation
	out          rollout.Trajectory
}

// play runs one episode with turns from source.
func (p *Player) play(ctx context.Context, task rollout.Task, id string, source turnSource) (rollout.Trajectory, error) {
	environment, known := p.Environments[task.Env]
	renderer, rendered := p.Renderers[task.Env]
	if !known || !rendered {
		return rollout.Trajectory{}, fmt.Errorf("task %s: no environment %q in this run", task.ID, task.Env)
	}
	conversation, err := renderer.Begin(task.Prompt)
	if err != nil {
		return rollout.Trajectory{}, fmt.Errorf("task %s: %w", task.ID, err)
	}
	live, err := environment.Open(task)
	if err != nil {
		return rollout.Trajectory{}, fmt.Errorf("task %s: open: %w", task.ID, err)
	}
	started := time.Now()
	e := &episode{player: p, env: environment, live: live, renderer: renderer, conversation: conversation, out: rollout.Trajectory{ID: id}}
	e.observe(conversation.Prompt())
	err = errors.Join(e.run(ctx, source), live.Close())
	if err != nil {
		return rollout.Trajectory{}, fmt.Errorf("episode %s of task %s: %w", id, task.ID, err)
	}
	outcome := 0.0
	if e.out.Stop == rollout.StopAnswer {
		outcome = environment.Verify(task, e.out.Answer)
	}
	e.out.Outcome = &outcome
	e.out.ElapsedSeconds = time.Since(started).Seconds()
	return e.out, nil
}

// run takes turns until the episode stops.
func (e *episode) run(ctx context.Context, source turnSource) error {
	limits := e.player.Limits
	for turn := 0; ; turn++ {
		room := min(limits.MaxTurnTokens, limits.MaxTokens-len(e.out.Tokens))
		switch {
		case turn == limits.MaxTurns:
			e.out.Stop = rollout.StopMaxTurns
			return nil
		case room <= 0:
			e.out.Stop = rollout.StopMaxTokens
			return nil
		}
		sampled, more, err := source.next(ctx, e, room)
		if err != nil {
			return fmt.Errorf("turn %d: %w", turn, err)
		}
		if !more {
			e.out.Stop = rollout.StopVoid
			return nil
		}
		if len(sampled.tokens) == 0 {
			e.out.Stop = rollout.StopMaxTokens
			return nil
		}
		done, err := e.take(ctx, turn, sampled)
		if err != nil {
			return fmt.Errorf("turn %d: %w", turn, err)
		}
		if done {
			return nil
		}
	}
}

// take records one sampled turn and answers it; done is true when the turn ends the episode.
func (e *episode) take(ctx context.Context, index int, sampled sampledTurn) (done bool, err error) {
	turn := rollout.Turn{Start: len(e.out.Tokens), End: len(e.out.Tokens) + len(sampled.tokens), State: e.live.State(), Calls: []rollout.Call{}}
	turn.Entropy = mean(sampled.entropies)
	e.sample(sampled)

	action := e.parse(sampled.tokens)
	turn.FormatOK = action.FormatError == ""
	if action.Answered {
		e.out.Answer = action.Answer
		e.out.Stop = rollout.StopAnswer
		e.out.Turns = append(e.out.Turns, turn)
		return true, nil
	}
	replies, calls, err := e.answerCalls(ctx, index, action)
	if err != nil {
		return false, err
	}
	turn.Calls = calls
	observation, err := e.conversation.Answer(sampled.tokens, replies...)
	if err != nil {
		return false, err
	}
	if len(e.out.Tokens)+len(observation) >= e.player.Limits.MaxTokens {
		e.out.Stop = rollout.StopMaxTokens
		e.out.Turns = append(e.out.Turns, turn)
		return true, nil
	}
	turn.Observation = &rollout.Span{Start: turn.End, End: turn.End + len(observation)}
	e.out.Turns = append(e.out.Turns, turn)
	e.observe(observation)
	return false, nil
}

// parse reads a turn's text strictly. A turn that does not end where the policy ends its turns is
// not parsed further: half a call is no call.
func (e *episode) parse(tokens []int32) tool.Action {
	text, ended := e.renderer.Turn(tokens)
	if !ended {
		return tool.Action{
			Calls:       []rollout.Call{{Args: rollout.Args{}, Status: rollout.CallUnparsable}},
			FormatError: fmt.Sprintf("turn cut off after %d tokens", len(tokens)),
		}
	}
	return e.player.Format.Parse(text)
}

// answerCalls runs the calls of a turn and returns what the policy reads next, one reply a call.
func (e *episode) answerCalls(ctx context.Context, turn int, action tool.Action) ([]render.Message, []rollout.Call, error) {
	if action.FormatError != "" {
		return []render.Message{e.reply("", " error: "+action.FormatError)}, action.Calls, nil
	}
	replies := make([]render.Message, 0, len(action.Calls))
	calls := make([]rollout.Call, 0, len(action.Calls))
	for i, call := range action.Calls {
		call.Key = fmt.Sprintf("%s/%d/%d", e.out.ID, turn, i)
		status, text := tool.Check(call, e.env.Tools())
		if status == rollout.CallOK {
			result, err := e.callTool(ctx, call)
			if err != nil {
				return nil, nil, fmt.Errorf("tool %s: %w", call.Name, err)
			}
			status, text = result.Status, result.Text
		}
		call.Status = status
		replies = append(replies, e.reply(call.Name, text))
		calls = append(calls, call)
	}
	return replies, calls, nil
}

// reply is the message that answers a call.
func (e *episode) reply(name, text string) render.Message {
	return render.Message{Role: render.RoleTool, Name: name, Content: e.player.Format.Observation(text)}
}

func (e *episode) callTool(ctx context.Context, call rollout.Call) (env.Result, error) {
	ctx, cancel := context.WithTimeout(ctx, e.player.Limits.ToolTimeout)
	defer cancel()
	return e.live.Call(ctx, call)
}

// observe appends tokens the policy did not choose.
func (e *episode) observe(tokens []int32) {
	n := len(tokens)
	e.out.Tokens = append(e.out.Tokens, tokens...)
	e.out.Sampled = append(e.out.Sampled, make([]bool, n)...)
	e.out.BehaviorLogProbs = append(e.out.BehaviorLogProbs, make([]float32, n)...)
	e.out.Entropies = append(e.out.Entropies, make([]float32, n)...)
	e.out.Versions = append(e.out.Versions, make([]rollout.Version, n)...)
}

// sample appends tokens the policy chose.
func (e *episode) sample(turn sampledTurn) {
	e.observe(turn.tokens)
	from := len(e.out.Tokens) - len(turn.tokens)
	for t := from; t < len(e.out.Tokens); t++ {
		e.out.Sampled[t] = true
	}
	copy(e.out.BehaviorLogProbs[from:], turn.logProbs)
	copy(e.out.Entropies[from:], turn.entropies)
	copy(e.out.Versions[from:], turn.versions)
}

func mean(values []float32) float64 {
	if len(values) == 0 {
		return 0
	}
	sum := 0.0
	for _, v := range values {
		sum += float64(v)
	}
	return sum / float64(len(values))
}
