package policy

// Sizes are how much the parts of a network take, in numbers of float32 unless it is a [Width]. They are sums
// over the lists that [New], its passes and [Model.Share] allocate from, so that they can be told before
// anything is. None depends on the compute type.
type Sizes struct {
	// Parameters are all weights; Trained are those with a gradient.
	Parameters, Trained int
	// Lanes is how many partial gradients a backward pass has at most; the first is the gradient itself.
	Lanes int
	// Joined is the matrix of a head with an adapter beside that adapter's own, JoinedGradient what each lane
	// has of it. Both are 0 without one.
	Joined, JoinedGradient int
	// Matrices are those that products read, each in a form of the device's own, in the compute type.
	Matrices []MatrixSize
	// Direct are the weights that passes read as they are, which a network of [Model.Share] copies: the embedding to the compute type.
	Direct Width
	// Kept is what stays of each token between the forward and the backward pass.
	Kept Width
	// TrainRow, ScoreRow and DecodeRow are what one row of a task's work takes while it trains, only scores
	// and decodes; BothRow is that of tasks that train and score in turn.
	TrainRow, ScoreRow, DecodeRow, BothRow Width
	// LastRow is what a task that decodes takes besides for the last row of each sequence.
	LastRow Width
	// ValueRow is what a row takes that has a derivative of its value.
	ValueRow Width
	// Position is what the rotations of one position take.
	Position int
}

// MatrixSize is the shape of a matrix that products read.
type MatrixSize struct {
	Out, In int
	// Frozen says that no optimizer's step changes it: it is of the base network under adapters.
	Frozen bool
}

// SizesOf tells the sizes of the network that [New] would make on a device whose KeptWidth is kept. The config and the
// options are valid.
func SizesOf(c Config, o Options, kept int) Sizes {
	f := newForm(c, o)
	f.kept = kept
	c = f.config
	s := Sizes{Parameters: f.size(), Matrices: f.matrices(), Direct: f.direct(), Position: c.HeadDim / 2 * 2}
	if !o.Frozen {
		s.Trained = s.Parameters - f.trainFrom()
	}
	if s.Trained > 0 {
		s.Lanes = laneCount(s.Trained)
	}
	if f.lora.targets(headTarget) {
		s.Joined = c.VocabSize * (c.Hidden + f.lora.Rank)
		s.JoinedGradient = c.VocabSize * (c.Hidden + 2*f.lora.Rank)
	}
	k := keepAll
	if o.Recompute {
		k = keepInputs
	}
	// The residual stream is kept before each block and after the last.
	s.Kept.Computed = (c.Layers + 1) * c.Hidden
	if k == keepAll {
		for range c.Layers {
			s.Kept = s.Kept.plus(width(new(activations).fields(f, needBack)))
		}
	}
	s.TrainRow, s.ScoreRow = f.rowWidth(scratchNeeds(k)), f.rowWidth(scratchNeeds(keepNothing))
	s.BothRow, s.DecodeRow = f.rowWidth(scratchNeeds(k)|scratchNeeds(keepNothing)), f.rowWidth(needOnce|needStream)
	s.LastRow.Computed = c.qDim() + c.Hidden
	if f.valueHead {
		s.ValueRow.Computed = 1
	}
	return s
}

// rowWidth is how many numbers a scratch has for each row.
func (f form) rowWidth(needs need) Width {
	fields, groups := new(scratch).fields(f, needs)
	return width(fields).plus(Width{Computed: widest(groups)})
}

// matrices lists what products read, in the order of the network's forms.
func (f form) matrices() []MatrixSize {
	var all []MatrixSize
	stacks, under := f.config.stacks(), f.lora.Rank > 0
	for range f.config.Layers {
		for _, s := range stacks {
			all = append(all, MatrixSize{s.out(), s.in, under})
			for _, part := range s.parts {
				if f.lora.targets(part.name) {
					all = append(all, MatrixSize{Out: f.lora.Rank, In: s.in}, MatrixSize{Out: part.out, In: f.lora.Rank})
				}
			}
		}
	}
	head := MatrixSize{f.config.VocabSize, f.config.Hidden, under}
	if f.lora.targets(headTarget) {
		all = append(all, MatrixSize{Out: f.lora.Rank, In: head.In})
		head.In, head.Frozen = head.In+f.lora.Rank, false
	}
	all = append(all, head)
	if f.valueHead {
		all = append(all, MatrixSize{Out: 1, In: f.config.Hidden})
	}
	return all
}

// direct counts the embedding, the norms and the biases.
func (f form) direct() Width {
	c := f.config
	layer := 2 * c.Hidden
	if c.headNorms() {
		layer += 2 * c.HeadDim
	}
	for _, s := range c.stacks() {
		if s.bias {
			layer += s.out()
		}
	}
	total := Width{Computed: c.VocabSize * c.Hidden, Float32: c.Hidden + c.Layers*layer}
	if f.valueHead {
		total.Float32++
	}
	return total
}
