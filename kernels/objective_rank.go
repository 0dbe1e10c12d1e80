package kernels

// Rank orders the sequences of a group by their scores. With p_i = Σ_t log π / n_i^LengthPower over the n_i
// sampled tokens of sequence i,
//
//	L = Coef·Σ_{s_i > s_j} max(0, p_j − p_i) + BestCoef·mean_t(−log π) of the group's best sequence
//
// averaged over groups; of several best ones the first. Sequences without a sampled token take no part. RRHF, arXiv 2304.05302, eq. 3; TRICE,
// arXiv 2305.13068; ToolPlanner, arXiv 2409.14826.
type Rank struct {
	// Coef weighs the hinge. Default 1; TRICE's code has 100.
	Coef float64 `yaml:"coef" json:"coef"`
	// LengthPower is the power of the length the log-probability is divided by. Default 1.
	LengthPower float64 `yaml:"length_power" json:"length_power"`
	// BestCoef weighs the imitation of the best sequence. Default 1.
	BestCoef float64 `yaml:"best_coef" json:"best_coef"`
}

// Reads are the streams the objective needs.
func (Rank) Reads() Stream { return ReadsRankScores }

// UsesRatio is false.
func (Rank) UsesRatio() bool { return false }

// Scope is the whole update.
func (Rank) Scope() Scope { return WholeUpdate }

// Validate reports settings that are negative.
func (r Rank) Validate() error {
	if err := notNegative("coef", r.Coef); err != nil {
		return err
	}
	if err := notNegative("length_power", r.LengthPower); err != nil {
		return err
	}
	return notNegative("best_coef", r.BestCoef)
}
