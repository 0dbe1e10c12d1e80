package policy

import (
	"errors"
	"fmt"
	"slices"
)

// LoRA trains a low-rank correction of some matrices and freezes the rest (Hu et al., arXiv 2106.09685):
//
//	y = x·Wᵀ + (alpha/rank)·(x·Aᵀ)·Bᵀ,  A [rank × in], B [out × rank]
//
// A starts uniform in ±1/√in, B at zero, so that the correction starts at nothing.
type LoRA struct {
	// Rank is the width between A and B; 0 means that there are no adapters and every weight is trained.
	Rank int `yaml:"rank" json:"r"`
	// Alpha scales the correction, which is multiplied by alpha/rank.
	Alpha float64 `yaml:"alpha" json:"lora_alpha"`
	// Targets are the matrices with adapters, by Hugging Face's names: q_proj, k_proj, v_proj, o_proj,
	// gate_proj, up_proj, down_proj and lm_head.
	Targets []string `yaml:"targets" json:"target_modules"`
}

// headTarget is the name of the head's matrix. An adapter there leaves a tied embedding alone.
const headTarget = "lm_head"

// loraTargets are the matrices that can have adapters.
var loraTargets = []string{"q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj", headTarget}

// Validate reports every field that is out of range.
func (l LoRA) Validate() error {
	if l.Rank == 0 {
		if l.Alpha != 0 || len(l.Targets) > 0 {
			return errors.New("lora.rank is 0, which means no adapters: set it, or leave alpha and targets out")
		}
		return nil
	}
	var all []error
	if l.Rank < 0 || l.Rank > maxDimension {
		all = append(all, fmt.Errorf("lora.rank is %d, must be between 0 and %d", l.Rank, maxDimension))
	}
	if !(l.Alpha > 0) || l.Alpha > maxDimension {
		all = append(all, fmt.Errorf("lora.alpha is %v, must be positive and at most %d", l.Alpha, maxDimension))
	}
	if len(l.Targets) == 0 {
		all = append(all, fmt.Errorf("lora.targets is empty, expected some of %s", listed(loraTargets)))
	}
	for i, t := range l.Targets {
		if !slices.Contains(loraTargets, t) {
			all = append(all, fmt.Errorf("lora.targets[%d] is %q, expected %s", i, t, listed(loraTargets)))
		} else if slices.Contains(l.Targets[:i], t) {
			all = append(all, fmt.Errorf("lora.targets[%d] is %q, which occurs twice", i, t))
		}
	}
	return errors.Join(all...)
}

// targets reports whether a matrix has an adapter.
func (l LoRA) targets(name string) bool { return l.Rank > 0 && slices.Contains(l.Targets, name) }

// scale is the factor of the correction.
func (l LoRA) scale() float32 { return float32(l.Alpha / float64(l.Rank)) }

// equal reports whether the same matrices get the same adapters.
func (l LoRA) equal(other LoRA) bool {
	same := func(a, b []string) bool {
		for _, t := range a {
			if !slices.Contains(b, t) {
				return false
			}
		}
		return true
	}
	return l.Rank == other.Rank && l.Alpha == other.Alpha && same(l.Targets, other.Targets) && same(other.Targets, l.Targets)
}
