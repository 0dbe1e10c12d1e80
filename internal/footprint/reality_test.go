package footprint_test

import (
	"bytes"
	"context"
	"fmt"
	"runtime"
	"strings"
	"testing"

	"github.com/turnwise-rl/turnwise/configs"
	"github.com/turnwise-rl/turnwise/internal/footprint"
	"github.com/turnwise-rl/turnwise/internal/gpu"
	"github.com/turnwise-rl/turnwise/kernels/device"
	"github.com/turnwise-rl/turnwise/kernels/device/cpu"
	"github.com/turnwise-rl/turnwise/trainer"
	"github.com/turnwise-rl/turnwise/trainer/digests"
	"github.com/turnwise-rl/turnwise/trainer/optim"
	"github.com/turnwise-rl/turnwise/trainer/policy"
)

// most is how far an estimate may be above what is held; anything is for what depends on what happens together.
const most, anything = 1.3, 1e9

// setting is a network or a manner of training or sampling: overrides, and a name for them.
type setting struct {
	name      string
	overrides []string
}

// The networks: the quickstart's, one several times larger, one whose logits and embedding outweigh its blocks.
var networks = []setting{
	{"small", nil},
	{"medium", []string{"policy={layers: 4, hidden: 192, heads: 6, kv_heads: 3, head_dim: 32, ffn: 576}", "tokenizer.vocab_size=4096", "training.micro_batch_tokens=1024", "sampling.slots=12"}},
	{"wide", []string{"policy={layers: 2, hidden: 96, heads: 4, kv_heads: 2, head_dim: 24, ffn: 256, untied_head: true}", "tokenizer.vocab_size=16384", "training.micro_batch_tokens=1024"}},
}

// The manners of training.
var manners = []setting{
	{"all weights", nil},
	{"recomputed", []string{"policy.recompute=true"}},
	{"adapters", []string{"policy.lora={rank: 8, alpha: 16, targets: [q_proj, v_proj, down_proj]}"}},
	{"adapters everywhere", []string{"policy.lora={rank: 4, alpha: 8, targets: [q_proj, k_proj, v_proj, o_proj, gate_proj, up_proj, down_proj, lm_head]}", "policy.recompute=true"}},
	{"critic", []string{"method=ppo"}},
	{"stale", []string{"training.staleness=2", "training.micro_batch_tokens=512"}},
}

func load(t *testing.T, settings ...setting) (configs.Run, policy.Config) {
	t.Helper()
	var overrides []string
	for _, s := range settings {
		overrides = append(overrides, s.overrides...)
	}
	text := "environments: [{type: calc}]\nmethod: gpg\nsampling: {max_tokens: 256, slots: 32}\ntraining: {micro_batch_tokens: 4096}\n"
	resolved, err := configs.Load([]configs.Source{{Name: "run.yaml", Data: []byte(text)}}, overrides)
	if err != nil {
		t.Fatal(err)
	}
	shape := resolved.Run.Policy.Config
	shape.VocabSize = resolved.Run.Tokenizer.VocabSize
	return resolved.Run, shape
}

// processor is the device that estimates are compared with, on so many cores.
func processor(t *testing.T, cores int) (*cpu.Device, footprint.Machine) {
	t.Helper()
	cpu.SetThreads(cores)
	t.Cleanup(func() { cpu.SetThreads(0) })
	dev := cpu.New()
	return dev, footprint.Machine{Cores: cores, PassRows: dev.PassRows()}
}

// heap is what the Go runtime has allocated and something still refers to.
func heap() int64 {
	var m runtime.MemStats
	runtime.GC()
	runtime.GC() // what pools let go of with the first
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

// lineOf is what a line of an estimate takes of a device of a kind; 0 when there is no such line.
func lineOf(e footprint.Estimate, name string, kind gpu.Kind) int64 {
	total := int64(0)
	for _, line := range e.Lines {
		if line.Name == name && (!line.Host || kind == gpu.CPU) {
			total += line.Bytes
		}
	}
	return total
}

// own is what an estimate has of a device, without what belongs to the machine around it.
func own(e footprint.Estimate, without ...string) int64 {
	total := e.Bytes(gpu.GPU)
	for _, name := range without {
		total -= lineOf(e, name, gpu.GPU)
	}
	return total
}

// within demands that an estimate covers what was measured and is at most so many times that.
func within(t *testing.T, what string, estimate, measured int64, times float64) {
	t.Helper()
	ratio := float64(estimate) / float64(measured)
	t.Logf("%-40s estimate %11d, held %11d: %.3f", what, estimate, measured, ratio)
	if ratio < 1 {
		t.Errorf("%s: estimated %d bytes, %d are held", what, estimate, measured)
	}
	if ratio > times {
		t.Errorf("%s: estimated %d bytes, only %d are held", what, estimate, measured)
	}
}

func TestLearnerHoldsWhatIsEstimated(t *testing.T) {
	for _, network := range networks {
		for _, manner := range manners {
			t.Run(network.name+"/"+manner.name, func(t *testing.T) {
				run, shape := load(t, network, manner)
				trained(t, run, shape, 1, most)
				if network.name == "small" {
					trained(t, run, shape, 2, anything) // whether both cores work at once is the system's affair
				}
			})
		}
	}
}

// trained compares what a learner holds that trains on so many cores with what is estimated.
func trained(t *testing.T, run configs.Run, shape policy.Config, cores int, times float64) {
	t.Helper()
	dev, machine := processor(t, cores)
	estimate := footprint.On(machine, run, shape).Learner
	before := heap()
	model, optimizer := learn(t, dev, run, shape)
	held := heap() - before
	usage := dev.Usage()
	// What operations keep for themselves is in the heap alone, what was held at the peak on the device alone.
	within(t, fmt.Sprintf("%d cores", cores), own(estimate), held+usage.Peak-usage.Bytes, times)
	if counted := own(estimate, footprint.Logits); usage.Peak > counted {
		t.Errorf("the device held %d bytes, estimated without logits %d", usage.Peak, counted)
	}
	compareParts(t, estimate, model, optimizer)
	model.Free()
	optimizer.Free()
}

// computed is the type that the activations of a run have.
func computed(run configs.Run) device.DType {
	if run.Device.Precision == configs.BF16 {
		return device.BF16
	}
	return device.F32
}

// stored is the type in which a run keeps matrices.
func stored(run configs.Run) device.DType {
	if run.Policy.Stored == configs.BF16 {
		return device.BF16
	}
	return device.F32
}

// learn makes a learner and lets it do all that takes memory once, on passes that are as long as they may be.
func learn(t *testing.T, dev device.Device, run configs.Run, shape policy.Config) (*policy.Model, *optim.AdamW) {
	t.Helper()
	critic := run.Method.NeedsCritic()
	model, err := policy.New(dev, shape, policy.Options{Seed: 1, Recompute: run.Policy.Recompute, LoRA: run.Policy.LoRA, ValueHead: critic, Compute: computed(run), Stored: stored(run)})
	if err != nil {
		t.Fatal(err)
	}
	packed := longest(run, shape)
	derivatives := make([]float32, len(packed.Tokens))
	for i := range derivatives {
		derivatives[i] = 1e-4
	}
	ctx := context.Background()
	if critic || run.Training.Staleness > 0 {
		if _, err := model.Score(ctx, packed, 1); err != nil {
			t.Fatal(err)
		}
	}
	model.ZeroGrad()
	if err := model.Accumulate(ctx, packed, 1, func(policy.Scores) (policy.Scores, error) {
		return policy.Scores{LogProbs: derivatives, Entropies: derivatives}, nil
	}); err != nil {
		t.Fatal(err)
	}
	network, err := model.Share() // a sampler of the same process still reads these weights
	if err != nil {
		t.Fatal(err)
	}
	forms, err := model.Forms()
	if err != nil {
		t.Fatal(err)
	}
	optimizer, err := trainer.NewOptimizer(model, run.Optimizer, 7) // weights are where the step writes them
	if err != nil {
		t.Fatal(err)
	}
	if _, err := optimizer.Step(1e-3, forms...); err != nil {
		t.Fatal(err)
	}
	model.Rejoin()
	network.Free()
	return model, optimizer
}

// longest is a micro-batch that is as long as it may be, of episodes that are as long as they may be.
func longest(run configs.Run, shape policy.Config) policy.Packed {
	packed := policy.Packed{Tokens: make([]int32, run.Training.MicroBatchTokens)}
	for at := 0; at <= len(packed.Tokens); at += run.Sampling.MaxTokens {
		packed.Offsets = append(packed.Offsets, int32(at))
	}
	for i := range packed.Tokens {
		packed.Tokens[i] = int32(i * 7919 % shape.VocabSize)
	}
	return packed
}

// compareParts compares single lines with what the model and the optimizer say of themselves.
func compareParts(t *testing.T, e footprint.Estimate, model *policy.Model, optimizer *optim.AdamW) {
	t.Helper()
	memory := model.Memory()
	for name, measured := range map[string]int64{footprint.Activations: memory.Activations, footprint.Optimizer: optimizer.Bytes()} {
		// A GPU keeps a number of each query head for its attention, or none.
		if got := lineOf(e, name, gpu.CPU); got < measured || float64(got) > 1.02*float64(measured) {
			t.Errorf("%s: estimated %d bytes, %d are held", name, got, measured)
		}
	}
	if got := lineOf(e, footprint.Gradients, gpu.CPU); got < memory.Gradients {
		t.Errorf("gradients: estimated %d bytes, %d are held", got, memory.Gradients)
	}
	var weights, moments bytes.Buffer
	if err := model.EncodeWeights(&weights); err != nil {
		t.Fatal(err)
	}
	if err := optimizer.Encode(&moments); err != nil {
		t.Fatal(err)
	}
	within(t, "files", lineOf(e, footprint.Copies, gpu.CPU)-onTheWay(model), int64(weights.Len()+moments.Len())-1<<16, most)
}

// onTheWay is what copies have room for besides files.
func onTheWay(model *policy.Model) int64 {
	weights, moments := int64(model.EncodedBytes()), 2*model.Memory().Gradients
	const chunk = digests.HostBytes / 3
	most := max(weights, moments)
	return 2<<20 + min(3, (most+chunk-1)/chunk)*min(chunk, most) + 2*min(2<<20, weights)
}

func TestReferenceHoldsWhatIsEstimated(t *testing.T) {
	for _, network := range networks {
		t.Run(network.name, func(t *testing.T) {
			run, shape := load(t, network, setting{"compares", []string{"method={preset: grpo, loss: {regularizers: [{type: kl}]}}"}})
			dev, machine := processor(t, 1)
			estimate := footprint.On(machine, run, shape).Learner
			frozen, err := policy.New(dev, shape, policy.Options{Frozen: true})
			if err != nil {
				t.Fatal(err)
			}
			defer frozen.Free()
			if _, err := frozen.Score(context.Background(), longest(run, shape), 1); err != nil {
				t.Fatal(err)
			}
			within(t, "reference", lineOf(estimate, footprint.Reference, gpu.CPU), dev.Usage().Peak, most)
		})
	}
}

func TestSamplersHoldWhatIsEstimated(t *testing.T) {
	for _, network := range networks {
		for _, manner := range []setting{
			{"whole cache", nil}, {"short cache", []string{"sampling.cache_bytes=2000000"}},
			{"adapters", []string{"sampling.slots=40", "policy.lora={rank: 8, alpha: 16, targets: [q_proj, v_proj, lm_head]}"}},
		} {
			t.Run(network.name+"/"+manner.name, func(t *testing.T) {
				run, shape := load(t, network, manner)
				// Parts of a pass are cut behind whole sequences, so that how large those of several cores get
				// depends on what arrives together; the estimate is what they may come to.
				sampled(t, run, shape, 2, true, anything)
				sampled(t, run, shape, 1, true, most)
				sampled(t, run, shape, 1, false, most)
			})
		}
	}
}

// sampled compares what an engine holds that samples on so many cores with what is estimated.
func sampled(t *testing.T, run configs.Run, shape policy.Config, cores int, swaps bool, times float64) {
	t.Helper()
	dev, machine := processor(t, cores)
	estimates := footprint.On(machine, run, shape)
	e := estimates.Evaluate
	if swaps {
		e = estimates.Rollout
	}
	before := heap()
	file := published(t, run, shape)
	engine := play(t, dev, run, shape, file, swaps)
	held := heap() - before - int64(len(file))
	runtime.KeepAlive(file)
	within(t, fmt.Sprintf("%d cores, swaps %t", cores, swaps), own(e), max(held, dev.Usage().Peak), times)
	if err := engine.Close(); err != nil {
		t.Fatal(err)
	}
}

// published is a version's file.
func published(t *testing.T, run configs.Run, shape policy.Config) []byte {
	t.Helper()
	model, err := policy.New(cpu.New(), shape, policy.Options{LoRA: run.Policy.LoRA, Frozen: true})
	if err != nil {
		t.Fatal(err)
	}
	defer model.Free()
	var out bytes.Buffer
	if err := model.EncodeWeights(&out); err != nil {
		t.Fatal(err)
	}
	return bytes.Clone(out.Bytes())
}

func TestEveryLineSaysWhereItComesFrom(t *testing.T) {
	run, shape := load(t, setting{"all", []string{"method={preset: ppo, loss: {regularizers: [{type: value, coef: 0.5}, {type: kl}]}}", "policy.lora={rank: 8, alpha: 16, targets: [q_proj, lm_head]}"}})
	seen := map[string]bool{}
	for _, kind := range []configs.DeviceKind{configs.CPU, configs.CUDA} {
		run.Device.Kind = kind
		all := footprint.Of(run, shape)
		for role, e := range map[string]footprint.Estimate{"learner": all.Learner, "rollout": all.Rollout, "evaluate": all.Evaluate} {
			at := 0
			for _, line := range e.Lines {
				seen[line.Name] = true
				for at < len(footprint.Names()) && footprint.Names()[at] != line.Name {
					at++
				}
				if at == len(footprint.Names()) {
					t.Errorf("%s on %s: %q is no name, or comes out of order", role, kind, line.Name)
				}
				if line.From == "" || line.Bytes <= 0 || strings.HasSuffix(line.From, ".") {
					t.Errorf("%s on %s: %+v", role, kind, line)
				}
			}
			if e.Bytes(gpu.GPU) >= e.Bytes(gpu.CPU) {
				t.Errorf("%s on %s: nothing lies in the machine's memory beside a GPU's", role, kind)
			}
		}
	}
	for _, name := range footprint.Names() {
		if !seen[name] {
			t.Errorf("no estimate has a line %q", name)
		}
	}
}

// TestNothingOverflows estimates runs whose settings are as large as they may be: never a negative line, and more memory
// than there is.
func TestNothingOverflows(t *testing.T) {
	const large = "9223372036854775807"
	for _, s := range []setting{
		{"slots", []string{"sampling.slots=" + large}},
		{"batch", []string{"training.groups_per_step=" + large, "training.group_size=" + large, "training.micro_batch_tokens=" + large}},
		{"demonstrations", []string{"warm_start={demonstrations: " + large + ", batch_size: " + large + "}", "training.micro_batch_tokens=" + large}},
		{"cache", []string{"sampling.cache_bytes=" + large}},
		{"network", []string{"policy={hidden: 4096, ffn: 16384, layers: 8, heads: 32, head_dim: 128, kv_heads: 32, max_positions: 1000000}", "tokenizer.vocab_size=1000", "sampling={max_tokens: 1000000, slots: " + large + "}"}},
	} {
		run, shape := load(t, s)
		for _, named := range []configs.DeviceKind{configs.CPU, configs.CUDA} {
			run.Device.Kind = named
			kind := run.Device.Leased()
			all := footprint.Of(run, shape)
			for role, e := range map[string]footprint.Estimate{"learner": all.Learner, "rollout": all.Rollout, "evaluate": all.Evaluate} {
				for _, line := range e.Lines {
					if line.Bytes <= 0 {
						t.Errorf("%s, %s on %s: %+v", s.name, role, kind, line)
					}
				}
				if e.Bytes(kind) <= 0 {
					t.Errorf("%s, %s on %s: %d bytes", s.name, role, kind, e.Bytes(kind))
				}
			}
			if total := all.Learner.Bytes(gpu.CPU) + all.Rollout.Bytes(gpu.CPU); total < 1<<50 {
				t.Errorf("%s on %s: only %d bytes", s.name, kind, total)
			}
		}
	}
}
