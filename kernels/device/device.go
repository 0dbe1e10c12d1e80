package device

// Device is one piece of hardware. Its methods may be called by several goroutines at once as long as
// they do not write the same elements; operations of one goroutine take effect in the order of its calls.
type Device interface {
	Storage
	Schedule
	Products
	Layers
	Attention
	Cache
	Head
	Optimizer
}

// Storage is a device's memory.
type Storage interface {
	// Name is "cpu" or "cuda:0".
	Name() string
	// Supports reports whether operations compute on elements of the type; see [ComputesIn].
	Supports(t DType) bool
	// Allocate returns a zeroed buffer of any type. The error of a device without enough memory is an *[OutOfMemory].
	Allocate(p Purpose, t DType, n int) (Buffer, error)
	// Free gives back an allocation; b is what Allocate returned. Freeing an absent buffer does nothing.
	Free(b Buffer)
	// Usage is the memory held by allocations now and at most so far, in bytes.
	Usage() Usage
	// Upload copies host values into dst, rounded to nearest even where dst is narrower. len(src) = dst.Len().
	// src is the caller's to change when it returns, here and in UploadInts.
	Upload(dst Buffer, src []float32)
	// UploadInts copies host values into dst of type I32.
	UploadInts(dst Buffer, src []int32)
	// Download copies src to the host, exactly, after everything queued before it.
	Download(dst []float32, src Buffer) error
	// DownloadInts is Download for type I32.
	DownloadInts(dst []int32, src Buffer) error
	// Copy copies src to dst of the same length; where the types differ it converts, rounding to nearest even.
	Copy(dst, src Buffer)
	// CopyRows copies rows of so many columns. dst and src may be equal, in which case nothing happens.
	CopyRows(dst, src Rows, rows, width int)
	// Zero sets every element to zero.
	Zero(b Buffer)
	// Sync waits until everything queued has been computed and returns the device's first error.
	Sync() error
}

// Usage is memory in bytes.
type Usage struct {
	Bytes int64 `json:"bytes"` // held now
	Peak  int64 `json:"peak"`  // held at most so far
}

// Schedule says how a device likes its work cut.
type Schedule interface {
	// PassRows is the number of packed rows at which the device computes best: a processor wants a
	// pass's activations in its caches, a GPU wants all rows at once and answers with a large number.
	PassRows() int
	// Cores is how many tasks Each runs at once; 1 on a GPU.
	Cores() int
	// Each runs tasks 0 … tasks−1 and returns when all are done: several at once on a processor with free
	// cores, one after the other on a GPU. Operations inside a task run on the task's own core. Tasks must
	// not write the same elements.
	Each(tasks int, run func(task int))
}

// Use says which products read a weight matrix.
type Use uint8

// The uses of a weight matrix.
const (
	// Forward is Product alone: a frozen or sampling network.
	Forward Use = iota + 1
	// ForwardBack is Product and ProductBack: a network that is trained, or one under trained adapters.
	ForwardBack
)

// Weights is a matrix [out × in] in the form that a device's products read: packed panels on a
// processor, the compute type on a GPU.
type Weights interface {
	// Out and In are the shape.
	Out() int
	In() int
	// DType is the compute type: that of the rows which are multiplied with the matrix.
	DType() DType
}

// Products are the matrix products, where nearly all arithmetic is. Sums are float32 in every compute type and
// are rounded to the type of the result once.
type Products interface {
	// NewWeights makes the form in which products of a compute type read the float32 matrix in w, row-major
	// [out × in], as it is now. Later changes of w are seen after Refresh. A matrix in w of the compute type BF16 is its
	// own form, where later changes are seen at once. The error is that of [ComputesIn] or an *[OutOfMemory].
	NewWeights(w Buffer, t DType, out, in int, use Use) (Weights, error)
	// Refresh makes the form again from w.
	Refresh(w Weights)
	// FreeWeights gives the form's memory back; the matrix it was made from stays. nil is ignored.
	FreeWeights(w Weights)
	// Product computes y = x·Wᵀ, or y += x·Wᵀ, for rows of In inputs and Out outputs. Each element is
	// one chain of multiply-adds over the inputs in ascending order, beginning with y when add is set. x has
	// the weights' type, y that or F32.
	Product(y, x Rows, rows int, w Weights, add bool)
	// ProductOnto computes y = base + x·Wᵀ for base of y's type, with the bits of CopyRows and a Product that adds. base
	// and y may be equal.
	ProductOnto(y, base, x Rows, rows int, w Weights)
	// ProductBack computes dx = dy·W, or dx += dy·W, through Product; both have the weights' type.
	ProductBack(dx, dy Rows, rows int, w Weights, add bool)
	// ProductGrad adds dyᵀ·x to dw in float32, row-major [out × in], summing rows in ascending order.
	ProductGrad(dw Buffer, dy, x Rows, rows, out, in int)
	// AddBias adds bias to each row of y; the width is that of bias.
	AddBias(y Rows, bias Buffer, rows int)
	// BiasGrad adds the sum of the rows of dy to dBias, in ascending order.
	BiasGrad(dBias Buffer, dy Rows, rows int)
}

// Layers are the operations between the products.
type Layers interface {
	// RMSNorm computes y = x·r ⊙ weight with r = 1/√(mean(x²) + eps) for each row and writes r to roots,
	// one per row. The width is that of weight. y and x must not overlap.
	RMSNorm(y, x Rows, weight, roots Buffer, rows int, eps float32)
	// RMSNormBack adds the gradients of RMSNorm to dx and dWeight, and writes the norm's output once more over dy, for
	// products that are to sum a gradient over it. An absent dWeight is left out. roots are those of RMSNorm.
	RMSNormBack(dx Rows, dWeight Buffer, dy, x Rows, weight, roots Buffer, rows int)
	// SwiGLU computes y = silu(gate) ⊙ up, where the first width columns of gateUp are gate and the next are up.
	SwiGLU(y, gateUp Rows, rows, width int)
	// SwiGLUBack writes the gradient of gateUp, and SwiGLU's output once more over dy. dGateUp and gateUp may be equal.
	SwiGLUBack(dGateUp, dy, gateUp Rows, rows, width int)
	// Rotate writes the heads of h.X, normalised where h has a norm and rotated by position, to y.
	Rotate(y Rows, h Heads)
	// RotateBoth is Rotate of q to yq and of k to yk, with its bits: queries and keys of the same rows, whose heads have one
	// width, with the same positions and rotations.
	RotateBoth(yq, yk Rows, q, k Heads)
	// RotateBack writes the gradient of h.X to dx and adds that of the norm's weight to dWeight, which
	// is absent when h has no norm or its weight is frozen. It may overwrite dy.
	RotateBack(dx Rows, dWeight Buffer, dy Rows, h Heads)
	// Gather copies row index[i] of table, which is of float32 or of dst's type, to row i of dst.
	Gather(dst, table Rows, index Buffer, rows, width int)
	// ScatterAdd adds row i of src to row index[i] of table, which is of float32 or of src's type, in ascending
	// order of i; each sum of two rows is rounded to the table's type.
	ScatterAdd(table Rows, index Buffer, src Rows, rows, width int)
}

// Attention is causal grouped-query attention within packed sequences.
type Attention interface {
	// KeptWidth is how many float32 numbers of each row Attend leaves for AttendBack in [Attended.Kept], for so many
	// query heads of elements of the type; 0 where AttendBack needs none.
	KeptWidth(t DType, heads int) int
	// Attend writes softmax(scale·q·kᵀ)·v of each query head to out, laid out like q. A row sees the
	// rows of its sequence up to itself. The bits of out do not depend on whether Kept is there.
	Attend(out Rows, a Attended)
	// AttendBack writes the gradients of q, k and v, given out and its gradient. Without Kept it finds out again what
	// Attend would have kept.
	AttendBack(dq, dk, dv, dOut, out Rows, a Attended)
}

// Cache keeps the keys and values of sequences in pages for decoding. Its arithmetic has the bits of
// Attend on devices whose rows' bits depend on their own inputs alone.
type Cache interface {
	// NewPages allocates the pages of a cache; their contents are unspecified. The error is that of
	// [ComputesIn] or an *[OutOfMemory].
	NewPages(shape PageShape) (Pages, error)
	// FreePages gives them back. nil is ignored.
	FreePages(p Pages)
	// Place checks a placement and brings its numbers to the device. Call it once before a pass that uses it, and
	// again when it has changed: the operations of each layer do not look at all of it.
	Place(at *Placement)
	// WritePages stores the keys and values of the placed rows in a layer's pages.
	WritePages(p Pages, layer int, k, v Rows, at *Placement)
	// AttendPages is Attend of the placed rows over the pages of their sequences, which hold the rows'
	// own keys and values already.
	AttendPages(out, q Rows, p Pages, layer, heads int, scale float32, at *Placement)
	// CopyPage copies a page in all layers, so that a branch can write behind a shared history.
	CopyPage(p Pages, dst, src int)
}

// Head turns hidden rows into distributions over the vocabulary.
type Head interface {
	// Score writes the log-probability of each row's target and the entropy of its distribution,
	// softmax(x·Wᵀ·inverse temperature), without keeping logits. Logits are float32 in every compute type.
	// Log-probabilities are never positive.
	Score(s Scored)
	// ScoreBack writes the gradient of x and adds that of the head's matrix to dHead, which is absent when
	// it is frozen, given those of the log-probabilities and of the entropies; absent dEntropies are zero.
	ScoreBack(dx Rows, dHead, dLogProbs, dEntropies Buffer, s Scored)
	// PlaceSampling brings to the device how the tokens of as many rows of logits over so many tokens are chosen, and
	// makes room in d for the choices. Call it before a Draw whose rows are chosen otherwise than the last. The error
	// is an *[OutOfMemory]; d holds no memory then.
	PlaceSampling(d *Draws, how []Sampling, vocabulary int) error
	// Draw chooses a token for each placed row of float32 logits, which it may overwrite. It neither waits nor moves
	// anything between host and device, nor allocates, so that it can be recorded: see [Draws].
	Draw(d *Draws, logits Rows)
	// Drawn waits for the choices of the last Draw. len(dst) = rows.
	Drawn(dst []Sampled, d *Draws) error
	// FreeDraws gives the memory of d back and leaves an empty Draws.
	FreeDraws(d *Draws)
}

// Optimizer is what an update needs.
type Optimizer interface {
	// NewTensors prepares tensors for updates, whose operands stay where they are until FreeTensors. The error is an
	// *[OutOfMemory].
	NewTensors(list []Tensor) (Tensors, error)
	// FreeTensors gives back what NewTensors took; the operands stay. nil is ignored.
	FreeTensors(t Tensors)
	// Update clips the gradients by the norm of all of them and takes one step of AdamW on every tensor, unless a
	// gradient is not finite. It waits once, for its own end.
	Update(t Tensors, u Update) (Updated, error)
	// AdamW takes one step on float32 elements; see [AdamWStep].
	AdamW(s AdamWStep)
	// SquaredNorm is Σ b², summed in float64 in an order that depends on the length alone.
	SquaredNorm(b Buffer) (float64, error)
	// Scale multiplies every element, of any compute type, by a factor.
	Scale(b Buffer, factor float32)
	// Add computes dst += factor·src.
	Add(dst, src Buffer, factor float32)
	// FirstNonFinite is the index of the first element that is infinite or not a number, −1 when there is none.
	FirstNonFinite(b Buffer) (int, error)
}
