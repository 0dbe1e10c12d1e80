// Package worker plays episodes: it renders a task, lets a policy sample a turn, parses it strictly,
// runs its calls through the environment, shows the results and goes on until the policy answers or
// a limit comes first.
//
// A [Player] holds no state between episodes, so any number of goroutines may play at once. What the
// policy does wrong becomes an observation; what breaks around it is a [rollout.Failure] and never a
// reward. With a [Log] each finished turn is durable before the next begins, and an attempt goes on where
// the ones before it ended: the trajectory is the same, token for token, as if it had never been cut off.
package worker

import (
	"context"
	"fmt"
	"time"

	"github.com/turnwise-rl/turnwise/rollout"
	"github.com/turnwise-rl/turnwise/rollout/env"
	"github.com/turnwise-rl/turnwise/rollout/journal"
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
	// EpisodeTimeout bounds one attempt at an episode, without the time that [Player].Gate held it; 0 is no
	// bound of its own.
	EpisodeTimeout time.Duration
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
	// Gate is called before each turn and holds the episode until it returns. Its error ends the attempt
	// between two turns: as the [rollout.Failure] it is, or else as cancelled. nil never holds.
	Gate func(ctx context.Context) error
	// Intercept is called before each tool call, within the call's time limit; its error is the tool's. It
	// is for injecting faults; nil otherwise.
	Intercept func(ctx context.Context, call rollout.Call) error
	// Called is told of each tool call that has ended, and how long it took; nil tells nobody.
	Called func(call rollout.Call, took time.Duration)
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
	task         rollout.Task
	log          Log
	env          env.Environment
	live         env.Episode // nil while none is open
	renderer     render.Renderer
	conversation render.Conversation
	out          rollout.Trajectory
	clock        clock
	// context is that of all tokens so far, see [journal.Context].
	context uint64
	// attempt, from and discarded are what the log is told of the attempt; recorded is the last turn of the
	// attempts before it, nil when it begins with the first.
	attempt, from, discarded int
	recorded                 *journal.Turn
}

// play runs one attempt at an episode with turns from source. Its error is a [rollout.Failure].
func (p *Player) play(ctx context.Context, task rollout.Task, id string, source turnSource, log Log) (rollout.Trajectory, error) {
	if log == nil {
		log = nothing{}
	}
	e := &episode{player: p, task: task, log: log, out: rollout.Trajectory{ID: id}, clock: clock{limit: p.Limits.EpisodeTimeout}, context: journal.Begun}
	if err := e.whole(ctx, source); err != nil {
		failure := e.asFailure(ctx, within(err, "episode %s of task %s", id, task.ID))
		return rollout.Trajectory{}, e.fail(ctx, also(failure, e.close()))
	}
	return e.out, nil
}

// whole takes up the episode where the log says it is and plays it to its end.
func (e *episode) whole(ctx context.Context, source turnSource) error {
	if err := e.takeUp(e.log.Past()); err != nil {
		return failed(rollout.FailedEnvironment, err)
	}
	if e.out.Stop == "" {
		if err := e.run(ctx, source); err != nil {
			return err
		}
	}
	outcome := 0.0
	if e.out.Stop == rollout.StopAnswer {
		var err error
		if outcome, err = guard(func() (float64, error) { return e.env.Verify(e.task, e.out.Answer), nil }); err != nil {
			return failed(rollout.FailedEnvironment, fmt.Errorf("verify: %w", err))
		}
	}
	e.out.Outcome = &outcome
	return nil
}

// close closes what is open.
func (e *episode) close() error {
	if e.live == nil {
		return nil
	}
	live := e.live
	e.live = nil
	_, err := guard(func() (struct{}, error) { return struct{}{}, live.Close() })
	return failed(rollout.FailedEnvironment, within(err, "close"))
}

// run takes turns until the episode stops.
func (e *episode) run(ctx context.Context, source turnSource) error {
	for e.out.Stop == "" {
		turn := len(e.out.Turns)
		if e.room() <= 0 {
			e.out.Stop = rollout.StopMaxTokens
			return e.close()
		}
		err := e.hold(ctx)
		if err == nil {
			err = e.step(ctx, source)
		}
		if err != nil {
			return within(err, "turn %d", turn)
		}
	}
	return nil
}

// room is the most tokens of the next turn.
func (e *episode) room() int {
	limits := e.player.Limits
	return min(limits.MaxTurnTokens, limits.MaxTokens-len(e.out.Tokens))
}

// hold waits at the gate.
func (e *episode) hold(ctx context.Context) error {
	if e.player.Gate == nil {
		return nil
	}
	return failed(rollout.FailedCancelled, e.player.Gate(ctx))
}

// step plays one turn and records it.
func (e *episode) step(ctx context.Context, source turnSource) error {
	ctx, stop := e.clock.start(ctx)
	defer stop()
	if err := e.open(ctx); err != nil {
		return failed(rollout.FailedEnvironment, err)
	}
	begin := journal.Begin{Attempt: e.attempt, From: e.from, Discarded: e.discarded, Turn: len(e.out.Turns)}
	if err := e.log.Begin(ctx, begin); err != nil {
		return failed(rollout.FailedStorage, err)
	}
	sampled, more, err := source.next(ctx, e, e.room())
	switch {
	case err != nil:
		return failed(rollout.FailedEngine, err)
	case !more:
		e.out.Stop = rollout.StopVoid
		return e.close()
	case len(sampled.tokens) == 0:
		e.out.Stop = rollout.StopMaxTokens
		return e.close()
	}
	turn, err := e.take(ctx, begin, sampled)
	if err != nil {
		return err
	}
	if turn.Stop != "" { // a turn is not finished while its end can still fail
		if err := e.close(); err != nil {
			return err
		}
	}
	turn.Seconds = time.Since(e.clock.began).Seconds()
	// A turn that is played is recorded even when the episode was withdrawn meanwhile.
	if err := e.log.Finish(context.WithoutCancel(ctx), turn); err != nil {
		return failed(rollout.FailedStorage, err)
	}
	e.add(turn)
	return nil
}

// take answers a sampled turn. The episode's trajectory stays as it is.
func (e *episode) take(ctx context.Context, begin journal.Begin, sampled sampledTurn) (journal.Turn, error) {
	start := len(e.out.Tokens)
	state, err := e.state()
	if err != nil {
		return journal.Turn{}, failed(rollout.FailedEnvironment, err)
	}
	turn := journal.Turn{
		Begin: begin, Context: e.context,
		Tokens: sampled.tokens, LogProbs: sampled.logProbs, Entropies: sampled.entropies, Versions: sampled.versions,
		Record: rollout.Turn{Start: start, End: start + len(sampled.tokens), State: state, Calls: []rollout.Call{}, Entropy: mean(sampled.entropies)},
	}
	if begin.Turn == 0 {
		turn.Prompt = e.conversation.Prompt()
	}
	action := e.parse(sampled.tokens)
	turn.Record.FormatOK = action.FormatError == ""
	if action.Answered {
		turn.Stop, turn.Answer = rollout.StopAnswer, action.Answer
		return turn, nil
	}
	if err := e.answerCalls(ctx, &turn, action); err != nil {
		return turn, err
	}
	observation, err := e.answer(turn)
	if err != nil {
		return turn, failed(rollout.FailedEnvironment, err)
	}
	if turn.Record.End+len(observation) >= e.player.Limits.MaxTokens {
		turn.Stop, turn.Replies = rollout.StopMaxTokens, nil
		return turn, nil
	}
	turn.Observation = observation
	turn.Record.Observation = &rollout.Span{Start: turn.Record.End, End: turn.Record.End + len(observation)}
	if begin.Turn+1 == e.player.Limits.MaxTurns {
		turn.Stop = rollout.StopMaxTurns
		return turn, nil
	}
	return turn, failed(rollout.FailedEnvironment, e.remember(&turn))
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

// answerCalls runs the calls of a turn and adds them and what the policy reads next, one reply a call.
func (e *episode) answerCalls(ctx context.Context, turn *journal.Turn, action tool.Action) error {
	if action.FormatError != "" {
		turn.Record.Calls = action.Calls
		turn.Replies = []journal.Reply{e.reply("", " error: "+action.FormatError)}
		return nil
	}
	for i, call := range action.Calls {
		call.Key = fmt.Sprintf("%s/%d/%d", e.out.ID, turn.Turn, i)
		status, text := tool.Check(call, e.env.Tools())
		if status == rollout.CallOK {
			result, err := e.callTool(ctx, call)
			if err != nil {
				return failed(rollout.FailedTool, within(err, "tool %s", call.Name))
			}
			status, text = result.Status, result.Text
		}
		call.Status = status
		turn.Replies = append(turn.Replies, e.reply(call.Name, text))
		turn.Record.Calls = append(turn.Record.Calls, call)
	}
	return nil
}

// reply is what the policy reads in answer to a call.
func (e *episode) reply(name, text string) journal.Reply {
	return journal.Reply{Name: name, Text: e.player.Format.Observation(text)}
}

// answer is the tokens of a turn's replies.
func (e *episode) answer(turn journal.Turn) ([]int32, error) {
	replies := make([]render.Message, len(turn.Replies))
	for i, reply := range turn.Replies {
		replies[i] = render.Message{Role: render.RoleTool, Name: reply.Name, Content: reply.Text}
	}
	return e.conversation.Answer(turn.Tokens, replies...)
}

// callTool runs one call within the time it has.
func (e *episode) callTool(ctx context.Context, call rollout.Call) (env.Result, error) {
	ctx, cancel := context.WithTimeout(ctx, e.player.Limits.ToolTimeout)
	defer cancel()
	if called, started := e.player.Called, time.Now(); called != nil {
		defer func() { called(call, time.Since(started)) }()
	}
	if e.player.Intercept != nil {
		if err := e.player.Intercept(ctx, call); err != nil {
			return env.Result{}, err
		}
	}
	return guard(func() (env.Result, error) { return e.live.Call(ctx, call) })
}
