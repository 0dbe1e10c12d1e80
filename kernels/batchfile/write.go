package batchfile

import (
	"encoding/json"
	"fmt"
	"io"
	"math"
	"slices"
	"strconv"

	"github.com/turnwise-rl/turnwise/kernels"
)

// line is a batch as the format writes it.
type line struct {
	Schema    string         `json:"schema"`
	Version   *int32         `json:"version,omitempty"`
	Sequences []sequenceLine `json:"sequences"`
}

type sequenceLine struct {
	LogProbs           numbers   `json:"logprobs"`
	Proximal           numbers   `json:"proximal"`
	Behavior           numbers   `json:"behavior"`
	Reference          numbers   `json:"reference"`
	Entropy            numbers   `json:"entropy"`
	Values             numbers   `json:"values"`
	OldValues          numbers   `json:"old_values"`
	Returns            numbers   `json:"returns"`
	Advantages         numbers   `json:"advantages"`
	LossWeights        numbers   `json:"loss_weights"`
	CEWeights          numbers   `json:"ce_weights,omitempty"`
	ReferenceKLWeights numbers   `json:"reference_kl_weights,omitempty"`
	Sampled            []int8    `json:"sampled"`
	Turn               []int32   `json:"turn"`
	Versions           []int32   `json:"versions,omitempty"`
	RankScore          *float64  `json:"rank_score,omitempty"`
	Outcome            *float64  `json:"outcome,omitempty"`
	ClipHigh           *float64  `json:"clip_high,omitempty"`
	Group              string    `json:"group,omitempty"`
	Pair               *pairLine `json:"pair,omitempty"`
}

type pairLine struct {
	ID   string `json:"id"`
	Role string `json:"role"`
}

// numbers write what JSON has no number for as null.
type numbers []float64

func (n numbers) MarshalJSON() ([]byte, error) {
	if n == nil {
		return []byte("null"), nil
	}
	out := []byte{'['}
	for i, x := range n {
		if i > 0 {
			out = append(out, ',')
		}
		if math.IsNaN(x) || math.IsInf(x, 0) {
			out = append(out, "null"...)
			continue
		}
		out = strconv.AppendFloat(out, x, 'g', -1, 64)
	}
	return append(out, ']'), nil
}

// Write writes one batch as one line. Reading gives an equal batch, but for values where the policy did not
// sample that are not finite: those come back as NaN. A batch that could not be read back is an error and
// nothing is written.
func Write(w io.Writer, b Batch) error {
	checked := b
	checked.ClipHigh = slices.Clone(b.ClipHigh)
	checked.FillClipHigh(0) // NaN means that the sequence has none

	imitation := kernels.Program{Ratio: kernels.RatioOne, Objective: kernels.CrossEntropy{}} // needs nothing else
	if err := checked.Check(imitation, kernels.Count(b.Batch)); err != nil {
		return fmt.Errorf("write %w", err)
	}
	if b.Sequences() == 0 {
		return fmt.Errorf("write batch: it has no sequences")
	}
	out := line{Schema: Schema, Sequences: make([]sequenceLine, b.Sequences())}
	if b.HasVersion {
		out.Version = &b.Version
	}
	for i := range out.Sequences {
		out.Sequences[i] = newLine(b, i)
	}
	data, err := json.Marshal(out)
	if err != nil {
		return fmt.Errorf("write batch: %w", err)
	}
	_, err = w.Write(append(data, '\n'))
	return err
}

// newLine is sequence i.
func newLine(b Batch, i int) sequenceLine {
	from, to := b.Offsets[i], b.Offsets[i+1]
	part := func(stream []float64) numbers {
		if stream == nil {
			return nil
		}
		return stream[from:to]
	}
	one := func(stream []float64) *float64 {
		if stream == nil || math.IsNaN(stream[i]) {
			return nil
		}
		return &stream[i]
	}
	s := sequenceLine{
		LogProbs: part(b.LogProbs), Proximal: part(b.Proximal), Behavior: part(b.Behavior), Reference: part(b.Reference),
		Entropy: part(b.Entropy), Values: part(b.Values), OldValues: part(b.OldValues), Returns: part(b.Returns),
		Advantages: part(b.Advantages), LossWeights: part(b.LossWeights), CEWeights: part(b.CEWeights),
		ReferenceKLWeights: part(b.ReferenceKLWeights), Sampled: make([]int8, to-from),
		RankScore: one(b.RankScores), Outcome: one(b.Outcomes), ClipHigh: one(b.ClipHigh),
	}
	if s.LogProbs == nil { // of a batch without tokens
		s.LogProbs = numbers{}
	}
	for t, sampled := range b.Sampled[from:to] {
		if sampled {
			s.Sampled[t] = 1
		}
	}
	if b.Turn != nil {
		s.Turn = b.Turn[from:to]
	}
	if b.Versions != nil {
		s.Versions = b.Versions[from:to]
	}
	if b.Group != nil {
		s.Group = "g" + strconv.Itoa(int(b.Group[i]))
	}
	if b.Pair != nil && b.Pair[i] >= 0 {
		role := "rejected"
		if b.Chosen[i] {
			role = "chosen"
		}
		s.Pair = &pairLine{ID: "p" + strconv.Itoa(int(b.Pair[i])), Role: role}
	}
	return s
}
