package record

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"hash/crc32"
	"io"
	"math"

	"github.com/turnwise-rl/turnwise/rollout"
)

// A segment is, in this order and little-endian throughout:
//
//	magic    8 bytes "TWGROUP\x00"
//	version  uint32, 1
//	length   uint32, bytes of the header
//	header   JSON: the group, with the number of tokens and which columns there are
//	columns  per trajectory: tokens int32 × tokens; behaviour log-probabilities float32 × sampled
//	         tokens; versions int32 × sampled tokens; entropies, values and reference
//	         log-probabilities float32 × tokens each
//	crc      uint32, CRC-32C of everything before
//
// Which tokens were sampled follows from the turns, and what is 0 where the policy did not sample is
// not stored there.
const (
	segmentMagic   = "TWGROUP\x00"
	segmentVersion = 1
	segmentPrefix  = len(segmentMagic) + 8
	segmentSuffix  = 4
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

type segmentHeader struct {
	ID           string              `json:"group"`
	Task         rollout.Task        `json:"task"`
	Trajectories []segmentTrajectory `json:"trajectories"`
	Attempts     []rollout.Attempt   `json:"attempts,omitempty"`
}

// segmentTrajectory is a trajectory without its columns: the fields declared here stand in place of
// the trajectory's fields of the same JSON name.
type segmentTrajectory struct {
	Tokens            int       `json:"tokens"`
	Sampled           *struct{} `json:"sampled,omitempty"`
	BehaviorLogProbs  bool      `json:"behavior_logprobs"`
	Versions          bool      `json:"versions"`
	Entropies         bool      `json:"entropies"`
	Values            bool      `json:"values,omitempty"`
	ReferenceLogProbs bool      `json:"reference_logprobs,omitempty"`
	rollout.Trajectory
}

// EncodeSegment writes a group in the binary form. Equal groups give equal bytes. An invalid group
// is an error.
func EncodeSegment(g rollout.Group) ([]byte, error) {
	if err := Validate(g); err != nil {
		return nil, fmt.Errorf("encode segment of group %q: %w", g.ID, err)
	}
	header := segmentHeader{ID: g.ID, Task: taskLine(g.Task), Trajectories: make([]segmentTrajectory, len(g.Trajectories)), Attempts: g.Attempts}
	for i, t := range g.Trajectories {
		header.Trajectories[i] = segmentTrajectory{
			Tokens: len(t.Tokens), BehaviorLogProbs: t.BehaviorLogProbs != nil,
			Versions: t.Versions != nil, Entropies: t.Entropies != nil, Values: t.Values != nil,
			ReferenceLogProbs: t.ReferenceLogProbs != nil, Trajectory: t,
		}
		header.Trajectories[i].Turns = turnLines(t.Turns)
		header.Trajectories[i].Scores = orEmptyMap(t.Scores)
	}
	encoded, err := marshal(header)
	if err != nil {
		return nil, fmt.Errorf("encode segment of group %q: %w", g.ID, err)
	}
	if len(encoded) > math.MaxUint32 {
		return nil, fmt.Errorf("encode segment of group %q: the header has %d bytes, at most %d fit", g.ID, len(encoded), math.MaxUint32)
	}
	data := append([]byte(nil), segmentMagic...)
	data = binary.LittleEndian.AppendUint32(data, segmentVersion)
	data = binary.LittleEndian.AppendUint32(data, uint32(len(encoded)))
	data = append(data, encoded...)
	for i := range g.Trajectories {
		data = appendColumns(data, &g.Trajectories[i])
	}
	return binary.LittleEndian.AppendUint32(data, crc32.Checksum(data, castagnoli)), nil
}

func appendColumns(data []byte, t *rollout.Trajectory) []byte {
	for _, token := range t.Tokens {
		data = binary.LittleEndian.AppendUint32(data, uint32(token))
	}
	for i, p := range t.BehaviorLogProbs {
		if t.Sampled[i] {
			data = binary.LittleEndian.AppendUint32(data, math.Float32bits(p))
		}
	}
	for i, v := range t.Versions {
		if t.Sampled[i] {
			data = binary.LittleEndian.AppendUint32(data, uint32(v))
		}
	}
	for _, c := range columns(t)[1:] {
		for _, x := range c.values {
			data = binary.LittleEndian.AppendUint32(data, math.Float32bits(x))
		}
	}
	return data
}

// DecodeSegment reads what [EncodeSegment] wrote. Data that is cut, changed, of another version or
// not a segment at all is an error that says which.
func DecodeSegment(data []byte) (rollout.Group, error) {
	g, err := decodeSegment(data)
	if err != nil {
		return rollout.Group{}, fmt.Errorf("decode segment: %w", err)
	}
	return g, nil
}

func decodeSegment(data []byte) (g rollout.Group, err error) {
	if len(data) < segmentPrefix+segmentSuffix {
		return g, fmt.Errorf("%d bytes are too few for a segment; the data was cut", len(data))
	}
	if string(data[:len(segmentMagic)]) != segmentMagic {
		return g, fmt.Errorf("the data starts with %q, a segment with %q", data[:len(segmentMagic)], segmentMagic)
	}
	if version := binary.LittleEndian.Uint32(data[len(segmentMagic):]); version != segmentVersion {
		return g, fmt.Errorf("version %d is not known, only %d; read it with a newer program", version, segmentVersion)
	}
	body := data[:len(data)-segmentSuffix]
	if got, want := crc32.Checksum(body, castagnoli), binary.LittleEndian.Uint32(data[len(body):]); got != want {
		return g, fmt.Errorf("the checksum is %08x, the data says %08x; it was changed or cut", got, want)
	}
	length := binary.LittleEndian.Uint32(data[len(segmentMagic)+4:])
	rest := body[segmentPrefix:]
	if uint64(length) > uint64(len(rest)) {
		return g, fmt.Errorf("the header has %d bytes, but only %d follow", length, len(rest))
	}
	var header segmentHeader
	decoder := json.NewDecoder(bytes.NewReader(rest[:length]))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&header); err != nil {
		return g, fmt.Errorf("header: %w", err)
	}
	if _, err := decoder.Token(); err != io.EOF {
		return g, fmt.Errorf("header: data follows the JSON value")
	}
	columns := columnReader{rest[length:]}
	g = rollout.Group{ID: header.ID, Task: header.Task, Trajectories: make([]rollout.Trajectory, len(header.Trajectories)), Attempts: header.Attempts}
	for i := range header.Trajectories {
		if g.Trajectories[i], err = columns.trajectory(&header.Trajectories[i]); err != nil {
			return g, fmt.Errorf("trajectories[%d].%w", i, err)
		}
	}
	if extra := len(columns.rest); extra > 0 {
		return g, fmt.Errorf("%d bytes follow the last column", extra)
	}
	tidy(&g)
	return g, Validate(g)
}

// columnReader takes columns off the front of the data.
type columnReader struct{ rest []byte }

func (r *columnReader) trajectory(h *segmentTrajectory) (rollout.Trajectory, error) {
	t := h.Trajectory
	tokens, err := take(r, "tokens", h.Tokens, func(bits uint32) int32 { return int32(bits) })
	if err != nil {
		return t, err
	}
	t.Tokens, t.Sampled = tokens, make([]bool, len(tokens))
	sampled := 0
	for i, turn := range t.Turns {
		if turn.Start < 0 || turn.End > len(tokens) || turn.Start > turn.End {
			return t, fmt.Errorf("turns[%d]: [%d,%d) is not within %d tokens", i, turn.Start, turn.End, len(tokens))
		}
		for at := turn.Start; at < turn.End; at++ {
			if t.Sampled[at] {
				return t, fmt.Errorf("turns[%d]: token %d belongs to an earlier turn too", i, at)
			}
			t.Sampled[at] = true
		}
		sampled += turn.End - turn.Start
	}
	if h.BehaviorLogProbs {
		values, err := take(r, "behavior_logprobs", sampled, math.Float32frombits)
		if err != nil {
			return t, err
		}
		t.BehaviorLogProbs = spread(values, t.Sampled)
	}
	if h.Versions {
		values, err := take(r, "versions", sampled, func(bits uint32) rollout.Version { return rollout.Version(bits) })
		if err != nil {
			return t, err
		}
		t.Versions = spread(values, t.Sampled)
	}
	for _, c := range []struct {
		name   string
		have   bool
		target *[]float32
	}{
		{"entropies", h.Entropies, &t.Entropies}, {"values", h.Values, &t.Values},
		{"reference_logprobs", h.ReferenceLogProbs, &t.ReferenceLogProbs},
	} {
		if !c.have {
			continue
		}
		if *c.target, err = take(r, c.name, len(tokens), math.Float32frombits); err != nil {
			return t, err
		}
	}
	return t, nil
}

// take reads n four-byte entries. It allocates only what the data can fill.
func take[T any](r *columnReader, field string, n int, convert func(uint32) T) ([]T, error) {
	if n < 0 || n > len(r.rest)/4 {
		return nil, fmt.Errorf("%s: %d entries of 4 bytes, but only %d bytes are left", field, n, len(r.rest))
	}
	values := make([]T, n)
	for i := range values {
		values[i] = convert(binary.LittleEndian.Uint32(r.rest[4*i:]))
	}
	r.rest = r.rest[4*n:]
	return values, nil
}

// spread puts the values of sampled tokens at their places and 0 elsewhere.
func spread[T any](values []T, sampled []bool) []T {
	all := make([]T, len(sampled))
	for i := range sampled {
		if sampled[i] {
			all[i], values = values[0], values[1:]
		}
	}
	return all
}

// tidy makes empty lists and maps nil, so that both forms of a group read back the same.
func tidy(g *rollout.Group) {
	if string(g.Task.World) == "null" {
		g.Task.World = nil
	}
	g.Task.Gold.Calls, g.Attempts = orNil(g.Task.Gold.Calls), orNil(g.Attempts)
	for i := range g.Task.Gold.Calls {
		g.Task.Gold.Calls[i].Args = orNilMap(g.Task.Gold.Calls[i].Args)
	}
	for i := range g.Trajectories {
		t := &g.Trajectories[i]
		t.Turns, t.Scores = orNil(t.Turns), orNilMap(t.Scores)
		for j := range t.Turns {
			turn := &t.Turns[j]
			turn.Calls, turn.Rewards = orNil(turn.Calls), orNilMap(turn.Rewards)
			for k := range turn.Calls {
				turn.Calls[k].Args = orNilMap(turn.Calls[k].Args)
			}
		}
	}
}

func orNil[T any](list []T) []T {
	if len(list) == 0 {
		return nil
	}
	return list
}

func orNilMap[M ~map[string]V, V any](m M) M {
	if len(m) == 0 {
		return nil
	}
	return m
}
