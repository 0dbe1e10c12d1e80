package gpubench

import (
	"slices"
	"strings"

	"github.com/turnwise-rl/turnwise/trainer/policy"
)

// Schema names the form of [Results].
const Schema = "turnwise.gpubench/v1"

// Results are what one run of the measurements wrote. What was not asked for is absent.
type Results struct {
	Schema string `json:"schema"`
	Date   string `json:"date"` // of the beginning, RFC 3339
	GPU    GPU    `json:"gpu"`
	// Ceilings are what the device reaches in the same process.
	Ceilings *Ceilings `json:"ceilings,omitempty"`
	Networks []Network `json:"networks"`
}

// GPU is what computed.
type GPU struct {
	Name string `json:"name"`
	UUID string `json:"uuid"`
	// Device is the device's name with its mode: "cuda:0 fast".
	Device      string `json:"device"`
	Capability  string `json:"capability"` // "9.0"
	MemoryBytes int64  `json:"memory_bytes"`
	// Emulated says that no number here means anything.
	Emulated bool `json:"emulated"`
	// NominalOperations are what the vendor promises of dense bf16 products, in operations a second; 0 where it is not known here.
	NominalOperations float64 `json:"nominal_operations_per_second"`
}

// Nominal is what the vendor's data sheets promise of dense products in bf16, in operations a second, by the name of the GPU; 0
// for others.
func Nominal(gpu string) float64 {
	switch gpu {
	case "NVIDIA H200", "NVIDIA H100 80GB HBM3":
		return 989.5e12
	case "NVIDIA A100-SXM4-40GB", "NVIDIA A100-SXM4-80GB", "NVIDIA A100-PCIE-40GB", "NVIDIA A100 80GB PCIe":
		return 312e12
	}
	return 0
}

// Spread sums up repeated measurements of one thing.
type Spread struct {
	Min    float64 `json:"min"`
	Median float64 `json:"median"` // of an even number, the mean of the middle two
	Max    float64 `json:"max"`
}

// SpreadOf samples, of which there is at least one.
func SpreadOf(samples []float64) Spread {
	sorted := slices.Sorted(slices.Values(samples))
	n := len(sorted)
	return Spread{Min: sorted[0], Median: (sorted[(n-1)/2] + sorted[n/2]) / 2, Max: sorted[n-1]}
}

// Ceilings are the fastest of several, by the device's clock.
type Ceilings struct {
	// BytesPerSecond of a large copy: bytes read and bytes written, both counted.
	BytesPerSecond float64 `json:"bytes_per_second"`
	CopiedBytes    int64   `json:"copied_bytes"`
	// OperationsPerSecond of a product of square bf16 matrices of random numbers, a multiply-add being two.
	OperationsPerSecond float64 `json:"operations_per_second"`
	ProductSize         int     `json:"product_size"` // rows, columns and inner width
}

// Network is a shape and what was measured of it, with random weights.
type Network struct {
	Name       string        `json:"name"` // "0.6b"
	Config     policy.Config `json:"config"`
	Parameters int           `json:"parameters"`
	Kernels    []Kernel      `json:"kernels,omitempty"`
	Training   []Training    `json:"training,omitempty"`
	Decoding   *Decoding     `json:"decoding,omitempty"`
	Step       *Step         `json:"step,omitempty"`
}

// Kernel is one operation by itself, with data that no cache holds, by the device's clock.
type Kernel struct {
	Name string `json:"name"` // as [TrainingKernels] and [DecodingKernels] have it
	// Batch is "32x1024" in training, and "64 at 768" for 64 sequences of so many positions in decoding.
	Batch      string  `json:"batch"`
	Bytes      float64 `json:"bytes"`
	Operations float64 `json:"operations"`
	// FloorUS is the time that the ceilings of this device allow, TookUS what the fastest of some tries took, in microseconds.
	FloorUS float64 `json:"floor_us"`
	TookUS  float64 `json:"took_us"`
	OfFloor float64 `json:"of_floor"` // the first over the second: 1 at the floor
	// BytesPerSecond and OperationsPerSecond are Bytes and Operations over the time.
	BytesPerSecond      float64 `json:"bytes_per_second"`
	OperationsPerSecond float64 `json:"operations_per_second"`
}

// Memory is what the measurement took of the GPU at its peak, in bytes.
type Memory struct {
	// Allocated is that of the device's own account: what was asked for.
	Allocated int64 `json:"allocated"`
	// Driver is what the driver does not have free: besides allocations, what is kept for later ones, cuBLASLt's workspace,
	// kernels, the context, and what others hold.
	Driver int64 `json:"driver"`
}

// Training is steps of a learner as a run takes them: forward, the mean of −log π over every token that has one, backward,
// clipping and AdamW.
type Training struct {
	// Lengths are those of the sequences, as the flag has them: "32x1024".
	Lengths   string `json:"lengths"`
	Tokens    int    `json:"tokens"`
	Sequences int    `json:"sequences"`
	// MicroBatches is how many passes a step has, of MicroBatchTokens at most.
	MicroBatches     int  `json:"micro_batches"`
	MicroBatchTokens int  `json:"micro_batch_tokens"`
	Recompute        bool `json:"recompute"`
	// Stored is the type that the matrices are kept in between steps: "f32" or "bf16".
	Stored          string  `json:"stored"`
	Steps           int     `json:"steps"` // timed ones
	StepMS          Spread  `json:"step_ms"`
	TokensPerSecond float64 `json:"tokens_per_second"` // of the median step
	// ModelOperations are those of a step by the usual count: see [ModelOperations].
	ModelOperations     float64 `json:"model_operations"`
	OperationsPerSecond float64 `json:"operations_per_second"` // of the median step
	// OfProduct and OfNominal are these over the product's ceiling and over the vendor's promise; 0 where that is not known.
	OfProduct float64 `json:"of_product_ceiling"`
	OfNominal float64 `json:"of_nominal"`
	// Pieces are the laps of a learner in the median step: see [Step].
	Pieces []Piece `json:"pieces"`
	Memory Memory  `json:"memory_bytes"`
	// FirstLoss and LastLoss are of the first and the last step, warm-up included.
	FirstLoss float64 `json:"first_loss"`
	LastLoss  float64 `json:"last_loss"`
}

// Decoding is prompts that arrive at once at the engine that rollouts use, each continued by the same number of tokens at
// temperature 1, with the log-probability and the entropy of each.
type Decoding struct {
	Sequences int `json:"sequences"`
	Prompt    int `json:"prompt"` // tokens of each
	New       int `json:"new"`
	Rounds    int `json:"rounds"`
	// RoundMS is the time from the arrival to the last token.
	RoundMS Spread `json:"round_ms"`
	// TokensPerSecond counts the new tokens of the median round.
	TokensPerSecond float64 `json:"tokens_per_second"`
	// PrefillMS is the median time until each sequence has its first new token.
	PrefillMS float64 `json:"prefill_ms"`
	// PassMS is the median time of the passes behind, each of which continues every sequence by a token.
	PassMS float64 `json:"pass_ms"`
	// PassBytes are those of a pass, at half of the new tokens: see [DecodingBytes].
	PassBytes      float64 `json:"pass_bytes"`
	BytesPerSecond float64 `json:"bytes_per_second"`
	OfCopy         float64 `json:"of_copy_ceiling"` // these over the copy's ceiling
	// Passes is how many passes a round had, on average.
	Passes float64 `json:"passes"`
	Memory Memory  `json:"memory_bytes"`
}

// Step is a whole step of GRPO on one device: the learner's network, its reference and the engine with its cache are there at
// once.
type Step struct {
	Groups    int `json:"groups"`
	GroupSize int `json:"group_size"`
	Prompt    int `json:"prompt"`
	New       int `json:"new"`
	Slots     int `json:"slots"`
	Tokens    int `json:"tokens"` // of all episodes, prompts included
	Rounds    int `json:"rounds"`
	// Pieces of the median step, in order. Those with a slash are within the piece of the name before it, by the clock of the
	// host: what it queued and did not wait for is in the next one that waits, so the backward pass is in "train/optimize".
	Pieces []Piece `json:"pieces"`
	// TotalMS is the sum of the pieces without a slash.
	TotalMS float64 `json:"total_ms"`
	// SampledPerSecond are the tokens sampled over the time of decoding, TrainedPerSecond those trained over that of training.
	SampledPerSecond float64 `json:"sampled_per_second"`
	TrainedPerSecond float64 `json:"trained_per_second"`
	// OperationsPerSecond are those of training by the usual count.
	OperationsPerSecond float64 `json:"operations_per_second"`
	OfProduct           float64 `json:"of_product_ceiling"`
	// Apart is the mean distance of the sampler's log-probabilities from the learner's, in nats.
	Apart  float64 `json:"apart"`
	Memory Memory  `json:"memory_bytes"`
}

// Piece is a part of a step. See [Together].
type Piece struct {
	Name  string  `json:"name"`
	MS    float64 `json:"ms"`
	Share float64 `json:"share"` // of the whole step
}

// Together is the median of each piece over the rounds, which have the same ones, with its share of the whole, and the sum of
// those that are in no other.
func Together(rounds [][]Piece) (pieces []Piece, totalMS float64) {
	for i, p := range rounds[0] {
		var samples []float64
		for _, round := range rounds {
			samples = append(samples, round[i].MS)
		}
		p.MS = SpreadOf(samples).Median
		if !strings.Contains(p.Name, "/") {
			totalMS += p.MS
		}
		pieces = append(pieces, p)
	}
	for i := range pieces {
		pieces[i].Share = pieces[i].MS / totalMS
	}
	return pieces, totalMS
}
