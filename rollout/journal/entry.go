package journal

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"

	"github.com/turnwise-rl/turnwise/rollout"
)

// entry is what one frame says: exactly one of the three.
type entry struct {
	begin  *Begin
	turn   *Turn
	failed *Failed
}

// The first byte of a frame's payload.
const (
	beginKind  = 'B'
	turnKind   = 'T'
	failedKind = 'F'
)

func encodeBegin(begin Begin) ([]byte, error) {
	p := &packer{data: []byte{beginKind}}
	packBegin(p, begin)
	return p.data, p.err
}

func packBegin(p *packer, begin Begin) {
	packAttempt(p, begin.Episode, begin.Attempt, begin.From, begin.Discarded)
	p.number("turn", begin.Turn)
}

func packAttempt(p *packer, episode Episode, attempt, from, discarded int) {
	p.number("group", episode.Group)
	p.number("member", episode.Member)
	p.number("attempt", attempt)
	p.number("from", from)
	p.number("discarded", discarded)
}

func encodeFailed(failed Failed) ([]byte, error) {
	p := &packer{data: []byte{failedKind}}
	packAttempt(p, failed.Episode, failed.Attempt, failed.From, failed.Discarded)
	p.text(string(failed.Kind))
	p.text(failed.Reason)
	return p.data, p.err
}

func encodeTurn(turn Turn) ([]byte, error) {
	p := &packer{data: make([]byte, 1, 256+20*len(turn.Tokens)+4*len(turn.Observation)+4*len(turn.Prompt))}
	p.data[0] = turnKind
	if err := turn.check(); err != nil {
		return nil, err
	}
	token := func(value int32) uint32 { return uint32(value) }
	packBegin(p, turn.Begin)
	p.long(turn.Context)
	packColumn(p, turn.Prompt, token)
	packColumn(p, turn.Tokens, token)
	packColumn(p, turn.LogProbs, math.Float32bits)
	packColumn(p, turn.Entropies, math.Float32bits)
	packColumn(p, turn.Versions, func(version rollout.Version) uint32 { return uint32(version) })
	packColumn(p, turn.Observation, token)
	p.listHead(turn.Replies == nil, len(turn.Replies))
	for _, reply := range turn.Replies {
		p.text(reply.Name)
		p.text(reply.Text)
	}
	packRecord(p, turn.Record)
	p.blob(turn.State)
	p.text(turn.After)
	p.text(string(turn.Stop))
	p.text(turn.Answer)
	p.float(turn.Seconds)
	return p.data, p.err
}

// check reports columns whose lengths disagree.
func (t *Turn) check() error {
	if n := len(t.Tokens); len(t.LogProbs) != n || len(t.Entropies) != n || len(t.Versions) != n {
		return fmt.Errorf("%d tokens, %d log-probabilities, %d entropies, %d versions", n, len(t.LogProbs), len(t.Entropies), len(t.Versions))
	}
	return nil
}

func packRecord(p *packer, turn rollout.Turn) {
	p.number("start", turn.Start)
	p.number("end", turn.End)
	p.bool(turn.Observation != nil)
	if turn.Observation != nil {
		p.number("observation.start", turn.Observation.Start)
		p.number("observation.end", turn.Observation.End)
	}
	p.listHead(turn.Calls == nil, len(turn.Calls))
	for _, call := range turn.Calls {
		p.text(call.Name)
		packMap(p, call.Args, func(value json.RawMessage) { p.blob(value) })
		p.text(string(call.Status))
		p.text(call.Key)
	}
	p.bool(turn.FormatOK)
	p.text(turn.State)
	p.float(turn.Entropy)
	packMap(p, turn.Rewards, p.float)
}

var errKind = errors.New("a frame of an unknown kind; read the file with a newer program")

// decodeEntry reads a frame's payload.
func decodeEntry(payload []byte) (entry, error) {
	if len(payload) == 0 {
		return entry{}, errShort
	}
	u := &unpacker{data: payload[1:]}
	var e entry
	switch payload[0] {
	case beginKind:
		e.begin = new(Begin)
		*e.begin = unpackBegin(u)
	case failedKind:
		e.failed = &Failed{Episode: Episode{u.number(), u.number()}, Attempt: u.number(), From: u.number(), Discarded: u.number()}
		e.failed.Kind, e.failed.Reason = rollout.FailureKind(u.text()), u.text()
	case turnKind:
		e.turn = new(Turn)
		unpackTurn(u, e.turn)
	default:
		return entry{}, errKind
	}
	return e, u.end()
}

func unpackBegin(u *unpacker) Begin {
	return Begin{Episode: Episode{u.number(), u.number()}, Attempt: u.number(), From: u.number(), Discarded: u.number(), Turn: u.number()}
}

func unpackTurn(u *unpacker, turn *Turn) {
	token := func(bits uint32) int32 { return int32(bits) }
	turn.Begin = unpackBegin(u)
	turn.Context = u.long()
	turn.Prompt = unpackColumn(u, token)
	turn.Tokens = unpackColumn(u, token)
	turn.LogProbs = unpackColumn(u, math.Float32frombits)
	turn.Entropies = unpackColumn(u, math.Float32frombits)
	turn.Versions = unpackColumn(u, func(bits uint32) rollout.Version { return rollout.Version(bits) })
	turn.Observation = unpackColumn(u, token)
	if length, some := u.listHead(8); some {
		turn.Replies = make([]Reply, length)
		for i := range turn.Replies {
			turn.Replies[i] = Reply{u.text(), u.text()}
		}
	}
	turn.Record = unpackRecord(u)
	turn.State = u.blob()
	turn.After = u.text()
	turn.Stop, turn.Answer = rollout.StopReason(u.text()), u.text()
	turn.Seconds = u.float()
	if err := turn.check(); err != nil && u.err == nil {
		u.fail(err)
	}
}

func unpackRecord(u *unpacker) rollout.Turn {
	turn := rollout.Turn{Start: u.number(), End: u.number()}
	if u.bool() {
		turn.Observation = &rollout.Span{Start: u.number(), End: u.number()}
	}
	if length, some := u.listHead(16); some {
		turn.Calls = make([]rollout.Call, length)
		for i := range turn.Calls {
			turn.Calls[i] = rollout.Call{
				Name: u.text(), Args: unpackMap[rollout.Args](u, 4, func() json.RawMessage { return u.blob() }),
				Status: rollout.CallStatus(u.text()), Key: u.text(),
			}
		}
	}
	turn.FormatOK, turn.State, turn.Entropy = u.bool(), u.text(), u.float()
	turn.Rewards = unpackMap[map[string]float64](u, 8, u.float)
	return turn
}
