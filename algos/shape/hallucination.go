package shape

import (
	"github.com/turnwise-rl/turnwise/algos/fact"
	"github.com/turnwise-rl/turnwise/algos/scored"
)

// Hallucination rewards format and punishes calls that no tool answered:
//
//	R ← R + FormatWeight·F + CallWeight·min(0, 0.2·(responses − calls))
//	F = 0.5 where every turn is well-formed, else −0.5 − 0.01·residue
//
// residue is how many characters stand outside the tags and responses how many tool responses the trajectory
// read, both recorded as scores; residue is read only where a turn is malformed. calls are those the policy
// issued. MindWatcher, arXiv 2512.23412.
type Hallucination struct {
	// FormatWeight multiplies the format term. Default 0.1.
	FormatWeight float64 `yaml:"format_weight"`
	// CallWeight multiplies the term for calls without a response. Default 0.05.
	CallWeight float64 `yaml:"call_weight"`
	// ResidueScore names the score with the characters outside tags. Default residue.
	ResidueScore string `yaml:"residue_score"`
	// ResponsesScore names the score with the tool responses. Default responses.
	ResponsesScore string `yaml:"responses_score"`
}

// NewHallucination returns Hallucination with its defaults.
func NewHallucination() Hallucination {
	return Hallucination{FormatWeight: 0.1, CallWeight: 0.05, ResidueScore: "residue", ResponsesScore: "responses"}
}

// Validate reports weights that are out of range and scores without a name.
func (s Hallucination) Validate() error {
	return first(fact.NotNegative("format_weight", s.FormatWeight), fact.NotNegative("call_weight", s.CallWeight),
		fact.Named("residue_score", s.ResidueScore), fact.Named("responses_score", s.ResponsesScore))
}

// Shape adds both terms.
func (s Hallucination) Shape(g *scored.Group) error {
	for _, i := range kept(g) {
		t := &g.Trajectories[i]
		format := 0.5
		if malformed(t) > 0 {
			residue, err := fact.Score(t, s.ResidueScore)
			if err != nil {
				return err
			}
			format = -0.5 - 0.01*residue
		}
		responses, err := fact.Score(t, s.ResponsesScore)
		if err != nil {
			return err
		}
		calls := float64(CountIssued.calls(t, nil))
		g.Outcome[i] += s.FormatWeight*format + s.CallWeight*min(0, 0.2*(responses-calls))
	}
	return nil
}
