package activity

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/turnwise-rl/turnwise/configs"
	"github.com/turnwise-rl/turnwise/internal/blob"
	"github.com/turnwise-rl/turnwise/internal/runfolder"
	"github.com/turnwise-rl/turnwise/kernels/device/cpu"
	"github.com/turnwise-rl/turnwise/rollout"
	"github.com/turnwise-rl/turnwise/rollout/record"
	"github.com/turnwise-rl/turnwise/rollout/render"
	"github.com/turnwise-rl/turnwise/trainer/policy"
	"github.com/turnwise-rl/turnwise/trainer/weights"
	"github.com/turnwise-rl/turnwise/workflows"
	"github.com/turnwise-rl/turnwise/workflows/runstate"
)

// fromRun is smallRun without what a checkpoint decides, with room for a chat template.
const fromRun = `
name: small
seed: 3
method:
  preset: matchtir
environments:
  - type: lookup
  - type: calc
warm_start: {steps: 2, updates_per_step: 10, demonstrations: 16, batch_size: 4, learning_rate: 0.01}
training: {steps: 3, groups_per_step: 3, group_size: 3, minibatches: 2, learning_rate_end: 0.5, micro_batch_tokens: 4000}
sampling: {max_turns: 3, max_turn_tokens: 120, max_tokens: 2000, slots: 2}
evaluation: {tasks: 1, every: 2, temperature: 1}
checkpoint: {every: 3, keep: 1}
`

// family is a checkpoint's layout, with the tokenizer and the chat template that go with it.
type family struct {
	family              policy.Family
	tokenizer, template string
	stops               []string
}

var (
	qwen  = family{policy.Qwen2, "qwen3", "qwen2_5", []string{"<|im_end|>", "<|endoftext|>"}}
	llama = family{policy.Llama, "llama3", "llama3_1", []string{"<|end_of_text|>", "<|eom_id|>", "<|eot_id|>"}}
)

// texts are the folders of package render's test data.
const texts = "../../rollout/render/testdata/"

// checkpoint writes a small checkpoint with random weights in BF16 and in shards, its vocabulary padded,
// as Hugging Face's tools write one.
func (f family) checkpoint(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	read := func(name string) []byte {
		data, err := os.ReadFile(texts + name)
		if err != nil {
			t.Fatal(err)
		}
		return data
	}
	tokenizer := read("families/" + f.tokenizer + "/tokenizer.json")
	words, err := render.DecodeTokenizer(tokenizer)
	if err != nil {
		t.Fatal(err)
	}
	var ids []int32
	for _, stop := range f.stops {
		id, _ := words.Special(stop)
		ids = append(ids, id)
	}
	shape := policy.DefaultConfig()
	shape.Family, shape.Layers, shape.Hidden, shape.Heads, shape.KVHeads, shape.HeadDim, shape.FFN = f.family, 1, 32, 2, 1, 16, 64
	shape.MaxPositions, shape.VocabSize = 2048, words.VocabSize()+14
	model, err := policy.New(cpu.New(), shape, policy.Options{Seed: 7})
	if err != nil {
		t.Fatal(err)
	}
	defer model.Free()
	if err := model.SaveFolder(dir, weights.Options{DType: weights.BF16, MaxShardBytes: 20_000}); err != nil {
		t.Fatal(err)
	}
	config, err := os.ReadFile(filepath.Join(dir, "config.json"))
	if err != nil {
		t.Fatal(err)
	}
	for name, data := range map[string][]byte{
		"tokenizer.json": tokenizer, "chat_template.jinja": read("templates/" + f.template + ".jinja"),
		"tokenizer_config.json":  fmt.Appendf(nil, `{"eos_token": %q, "unread": [1]}`, f.stops[0]),
		"generation_config.json": fmt.Appendf(nil, `{"eos_token_id": %s, "top_k": 20}`, strings.Join(strings.Fields(fmt.Sprint(ids)), ", ")),
		"config.json":            bytes.Replace(config, []byte("{\n"), []byte("{\n  \"use_cache\": true,\n"), 1),
	} {
		if f.family == policy.Llama && name == "tokenizer_config.json" {
			data = []byte(`{"eos_token": "<|eot_id|>", "bos_token": "<|begin_of_text|>"}`)
		}
		if err := os.WriteFile(filepath.Join(dir, name), data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// digestOf loads a folder and identifies its weights.
func digestOf(t *testing.T, dir string) string {
	t.Helper()
	model, err := policy.LoadFolder(cpu.New(), dir, policy.Options{Frozen: true})
	if err != nil {
		t.Fatal(err)
	}
	defer model.Free()
	digest, err := model.Digest()
	if err != nil {
		t.Fatal(err)
	}
	return digest
}

// from is a driver of a run that starts from a folder, before it is prepared.
func from(t *testing.T, checkpoint string, overrides ...string) (*driver, configs.Run) {
	t.Helper()
	resolved, err := configs.Load([]configs.Source{{Name: "from.yaml", Data: []byte(fromRun)}}, append(overrides, "policy.from="+checkpoint))
	if err != nil {
		t.Fatal(err)
	}
	d := newDriver(t, t.TempDir())
	d.spec = Spec(resolved.Run)
	d.machine = runstate.New(d.spec)
	if _, err := d.folder().Put(t.Context(), runfolder.ConfigKey, resolved.YAML()); err != nil {
		t.Fatal(err)
	}
	return d, resolved.Run
}

// punished makes every step of a run without a warm start move the weights, whatever the policy samples:
// turns are too short to hold more than the beginning of a call, and what is cut off has an advantage of
// −1 of its own.
var punished = []string{"warm_start.steps=0", "sampling.max_turn_tokens=4", "method.shape=[{type: turn_format, penalty: -1}]",
	"method.advantage.terms[0].center=none", "method.advantage.terms[0].scale=none",
	"method.advantage.terms[1].center=none", "method.advantage.terms[1].scale=none"}

// TestRunFromACheckpoint goes in with a checkpoint in BF16 shards and comes out with one that holds what
// was trained, although the checkpoint goes away once the run is prepared and the process dies later. What
// comes out goes in again.
func TestRunFromACheckpoint(t *testing.T) {
	learnerAlone(t)
	for _, f := range []family{qwen, llama} {
		t.Run(string(f.family), func(t *testing.T) {
			dir := f.checkpoint(t)
			start, kept := digestOf(t, dir), map[string][]byte{}
			for _, name := range policy.FolderFiles()[1:] {
				if data, err := os.ReadFile(filepath.Join(dir, name)); err == nil {
					kept[name] = data
				}
			}
			d, config := from(t, dir, punished...)
			if err := CheckStart(config); err != nil {
				t.Fatal(err)
			}
			d.beforeStep = func(step int) {
				switch step {
				case 1:
					if err := os.RemoveAll(dir); err != nil {
						t.Fatal(err)
					}
				case 3:
					d.restart()
				}
			}
			complete(t, d)
			traces := d.traces()
			if traces[0].Weights != start {
				t.Errorf("step 0 has the weights %s, the checkpoint %s", traces[0].Weights, start)
			}
			for step := 1; step <= 3; step++ {
				if r := traces[step].Report; traces[step].Weights == traces[step-1].Weights || r.Updates != 2 || r.OnPolicyGap != 0 || r.ReferenceKL == 0 {
					t.Errorf("step %d: %+v; want 2 updates, no gap between sampler and learner, and a distance from the checkpoint", step, r)
				}
			}
			exported := d.folder().PolicyPath()
			if got, want := digestOf(t, exported), traces[len(traces)-1].Weights; got != want {
				t.Errorf("exported %s, trained %s", got, want)
			}
			for name, want := range kept {
				if got, err := os.ReadFile(filepath.Join(exported, name)); err != nil || !bytes.Equal(got, want) {
					t.Errorf("%s comes out otherwise than it went in: %v", name, err)
				}
			}
			if got, err := os.ReadFile(filepath.Join(exported, "config.json")); err != nil || !bytes.Contains(got, []byte(`"use_cache": true`)) {
				t.Errorf("config.json comes out as %s, %v", got, err)
			}
			again, config := from(t, exported)
			if err := CheckStart(config); err != nil {
				t.Fatal(err)
			}
			if err := again.play(0); err != nil {
				t.Fatal(err)
			}
			if got, want := again.traces()[0].Weights, traces[len(traces)-1].Weights; got != want {
				t.Errorf("the next run starts with %s, the last one ended with %s", got, want)
			}
		})
	}
}

// TestAdaptersFromACheckpoint trains adapters of a checkpoint and exports them merged, with its files.
func TestAdaptersFromACheckpoint(t *testing.T) {
	learnerAlone(t)
	dir := qwen.checkpoint(t)
	d, config := from(t, dir, append([]string{"policy.lora={rank: 2, alpha: 4, targets: [q_proj, v_proj]}", "policy.recompute=true"}, punished...)...)
	if err := CheckStart(config); err != nil {
		t.Fatal(err)
	}
	complete(t, d)
	for step, tr := range d.traces()[1:] {
		if tr.Report.Updates != 2 || tr.Report.OnPolicyGap != 0 {
			t.Errorf("step %d: %+v; want 2 updates and no gap between sampler and learner", step+1, tr.Report)
		}
	}
	exported := d.folder().PolicyPath()
	if digestOf(t, exported) == digestOf(t, dir) {
		t.Error("the export holds the weights of the checkpoint")
	}
	if _, config = from(t, exported); CheckStart(config) != nil {
		t.Errorf("the export does not go in again: %v", CheckStart(config))
	}
}

// TestChatDemonstrations plays the same scripts in markers and by chat templates: the calls, what becomes
// of them, the answers and the outcomes are the same.
func TestChatDemonstrations(t *testing.T) {
	learnerAlone(t)
	plain := newDriver(t, t.TempDir())
	config := resolve(t, "sampling.max_tokens=400").YAML()
	if _, err := plain.folder().Put(t.Context(), runfolder.ConfigKey, config); err != nil {
		t.Fatal(err)
	}
	want := demonstrated(t, plain)
	for _, f := range []family{qwen, llama} {
		d, _ := from(t, f.checkpoint(t))
		got := demonstrated(t, d)
		for i, group := range got {
			if err := record.Validate(group); err != nil {
				t.Error(err)
			}
			a, b := want[i].Trajectories[0], group.Trajectories[0]
			if a.Stop != b.Stop || a.Answer != b.Answer || *a.Outcome != *b.Outcome || len(a.Turns) != len(b.Turns) {
				t.Errorf("%s, demonstration %d: stop %s, answer %q in %d turns; in markers %s, %q, %d", f.family, i, b.Stop, b.Answer, len(b.Turns), a.Stop, a.Answer, len(a.Turns))
				continue
			}
			for k := range a.Turns {
				if x, y := calls(a.Turns[k]), calls(b.Turns[k]); !slices.Equal(x, y) {
					t.Errorf("%s, demonstration %d, turn %d: %q, in markers %q", f.family, i, k, y, x)
				}
			}
		}
	}
}

// demonstrated returns the demonstrations of a run that has imitated them.
func demonstrated(t *testing.T, d *driver) []rollout.Group {
	t.Helper()
	if err := d.play(1); err != nil {
		t.Fatal(err)
	}
	if traces := d.traces(); traces[0].Weights == traces[1].Weights {
		t.Error("imitation changes no weight")
	}
	r, err := d.a.openRun(t.Context(), runID)
	if err != nil {
		t.Fatal(err)
	}
	groups, err := r.demonstrations(t.Context())
	if err != nil || len(groups) != 16 {
		t.Fatalf("%d demonstrations, %v", len(groups), err)
	}
	return groups
}

func calls(turn rollout.Turn) []string {
	out := []string{fmt.Sprint(turn.FormatOK)}
	for _, call := range turn.Calls {
		out = append(out, fmt.Sprintf("%s %s %s", call.Name, call.Args, call.Status))
	}
	return out
}

// TestRunFromAnExport goes on from the export of a run from random weights, in the same tokens.
func TestRunFromAnExport(t *testing.T) {
	learnerAlone(t)
	first := newDriver(t, prepared(t))
	complete(t, first)
	traces := first.traces()
	d, config := from(t, first.folder().PolicyPath(), "sampling={max_turns: 3, max_turn_tokens: 24, max_tokens: 250, slots: 2}")
	if err := CheckStart(config); err != nil {
		t.Fatal(err)
	}
	complete(t, d)
	if got, want := d.traces()[0].Weights, traces[len(traces)-1].Weights; got != want {
		t.Errorf("starts with %s, the first run ended with %s", got, want)
	}
	a, b := demonstrated(t, newDriver(t, first.dir)), demonstrated(t, newDriver(t, d.dir))
	for i := range a {
		if !slices.Equal(a[i].Trajectories[0].Tokens, b[i].Trajectories[0].Tokens) {
			t.Errorf("demonstration %d has other tokens", i)
		}
	}
	if got, want := digestOf(t, d.folder().PolicyPath()), d.traces()[5].Weights; got != want {
		t.Errorf("exported %s, trained %s", got, want)
	}
}

// moreTokens are n added tokens as tokenizer.json lists them.
func moreTokens(first, n int) string {
	var b strings.Builder
	for id := first; id < first+n; id++ {
		fmt.Fprintf(&b, `{"id":%d,"content":"<|more%d|>","single_word":false,"lstrip":false,"rstrip":false,"normalized":false,"special":true},`, id, id)
	}
	return b.String()
}

// TestCheckStart refuses what a run could not start from, at the value that is to blame.
func TestCheckStart(t *testing.T) {
	learnerAlone(t)
	write := func(name, text string) func(string) error {
		return func(dir string) error { return os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600) }
	}
	replace := func(name, old, text string) func(string) error {
		return func(dir string) error {
			data, err := os.ReadFile(filepath.Join(dir, name))
			if err == nil && !bytes.Contains(data, []byte(old)) {
				err = fmt.Errorf("%s holds no %s", name, old)
			}
			return errors.Join(err, write(name, strings.ReplaceAll(string(data), old, text))(dir))
		}
	}
	remove := func(name string) func(string) error {
		return func(dir string) error { return os.RemoveAll(filepath.Join(dir, name)) }
	}
	for name, test := range map[string]struct {
		spoil      func(dir string) error
		overrides  []string
		path, says string
	}{
		"missing folder":       {spoil: remove("."), path: "policy.from", says: "no such folder"},
		"file":                 {spoil: func(dir string) error { return errors.Join(os.RemoveAll(dir), os.WriteFile(dir, nil, 0o600)) }, path: "policy.from", says: "is a file"},
		"no config":            {spoil: remove("config.json"), path: "policy.from", says: "config.json"},
		"unknown architecture": {spoil: replace("config.json", "Qwen2ForCausalLM", "MambaForCausalLM"), path: "policy.from", says: "MambaForCausalLM"},
		"no weights":           {spoil: remove("model.safetensors.index.json"), path: "policy.from", says: "safetensors"},
		"other shape":          {spoil: replace("config.json", `"intermediate_size": 64`, `"intermediate_size": 65`), path: "policy.from", says: "the config says"},
		"no tokenizer":         {spoil: remove("tokenizer.json"), path: "policy.from", says: "tokenizer.json"},
		"unknown tokenizer":    {spoil: replace("tokenizer.json", `"BPE"`, `"Unigram"`), path: "policy.from", says: "Unigram"},
		"no template":          {spoil: remove("chat_template.jinja"), path: "policy.from", says: "no chat template"},
		"template that cannot be continued": {spoil: write("chat_template.jinja", `{% for m in messages %}<tool_call>"arguments"{{ m.content }}{% endfor %}`),
			path: "policy.from", says: "turn by turn"},
		"template without a form of calls": {spoil: replace("chat_template.jinja", "<tool_call>", "<call>"), path: "policy.tool_format", says: "say hermes, llama3 or plain"},
		"vocabulary too small":             {spoil: replace("tokenizer.json", `"added_tokens":[`, `"added_tokens":[`+moreTokens(1826, 15)), path: "policy.from", says: "belong to different checkpoints"},
		"context too short":                {overrides: []string{"sampling.max_tokens=2049"}, path: "sampling.max_tokens", says: "max_position_embeddings of the checkpoint is 2048"},
		"prompt too long":                  {overrides: []string{"sampling.max_tokens=200"}, path: "sampling.max_tokens", says: "with its tools"},
		"script too long":                  {overrides: []string{"sampling.max_turn_tokens=20"}, path: "sampling.max_turn_tokens", says: "demonstrations have turns of"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := qwen.checkpoint(t)
			_, config := from(t, dir, test.overrides...)
			if test.spoil != nil {
				if err := test.spoil(dir); err != nil {
					t.Fatal(err)
				}
			}
			err := CheckStart(config)
			var located *configs.PathError
			if !errors.As(err, &located) || located.Path != test.path || !strings.Contains(err.Error(), test.says) {
				t.Errorf("got %v, want it at %s, saying %q", err, test.path, test.says)
			}
		})
	}
	if err := CheckStart(resolve(t).Run); err != nil {
		t.Errorf("a run from random weights: %v", err)
	}
}

// TestStartIsGuarded prepares from a folder that is not there, goes on with a copy that changed, and
// prepares again from a checkpoint that changed meanwhile: errors that no retry can cure.
func TestStartIsGuarded(t *testing.T) {
	learnerAlone(t)
	dir := qwen.checkpoint(t)
	d, _ := from(t, filepath.Join(dir, "elsewhere"))
	if err := d.play(0); !isLasting(err) || !strings.Contains(err.Error(), "on the machine that prepares the run") {
		t.Errorf("a folder that is not there: %v", err)
	}
	d, _ = from(t, dir)
	d.faults = func(op, key string) error {
		if strings.HasPrefix(key, "weights/") {
			return context.DeadlineExceeded
		}
		return nil
	}
	d.restart()
	if err := d.play(0); err == nil || isLasting(err) {
		t.Fatalf("a disk that is away: %v", err)
	}
	if err := os.WriteFile(filepath.Join(dir, "generation_config.json"), []byte("{}"), 0o600); err != nil {
		t.Fatal(err)
	}
	d.faults = nil
	d.restart()
	if err := d.play(0); !isLasting(err) || !errors.Is(err, runfolder.ErrChanged) {
		t.Errorf("another checkpoint: %v", err)
	}
	d, _ = from(t, dir)
	if err := d.play(1); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(d.folder().StartPath(), "tokenizer_config.json")
	if err := errors.Join(os.Chmod(path, 0o600), os.WriteFile(path, []byte("{}"), 0o600)); err != nil {
		t.Fatal(err)
	}
	d.restart()
	var corrupt *blob.CorruptError
	_, err := d.a.trainStep(t.Context(), workflows.TrainInput{Run: runID, Step: 2, Kind: "warm", Fence: 9}, 9<<attemptBits)
	if !errors.As(err, &corrupt) || !isLasting(classify(err)) {
		t.Errorf("a copy that changed: %v", err)
	}
}
