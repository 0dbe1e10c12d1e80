package batchfile

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"math"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/turnwise-rl/turnwise/kernels"
)

// example is the batch that the format's description shows.
const example = `{"schema":"turnwise.batch/v1","sequences":[
  {"logprobs":[-1.0,-1.1],"proximal":[-1.1,-1.0],"behavior":[-1.2,-1.0],"reference":null,
   "entropy":null,"values":null,"old_values":null,"returns":null,
   "advantages":[0.5,0.5],"loss_weights":null,"sampled":[1,1],"turn":[0,0]}]}`

// full has every field of the format.
const full = `{"schema":"turnwise.batch/v1","version":7,"sequences":[
  {"logprobs":[null,-1.0,-1.1,NaN,-0.5],"proximal":[1e999,-1.1,-1.0,0,-0.25],"behavior":[-Infinity,-1.2,-1.0,0,-0.75],"reference":[0,-1,-1,0,-1],
   "entropy":[0,0.5,0.25,0,1],"values":[0,1,2,0,3],"old_values":[0,1,2,0,2],"returns":[0,1,1,0,1],"advantages":[0,0.5,0.5,0,-1],
   "loss_weights":[0,1,2,0,1],"ce_weights":[0,0,1,0,0],"reference_kl_weights":[0,1,0,0,0],
   "sampled":[0,1,1,0,1],"turn":[null,0,0,-1,1],"versions":[-3.5,6,6,null,7],
   "rank_score":1,"outcome":0.5,"clip_high":0.28,"group":"a","pair":{"id":"x","role":"chosen"}},
  {"logprobs":[-2],"proximal":[-2],"behavior":[-2],"reference":[-2],"entropy":[1],"values":[0],"old_values":[0],"returns":[0],"advantages":[1],
   "loss_weights":null,"sampled":[1],"turn":[0],"versions":[2],"rank_score":-1e-3,"outcome":0,"group":"b","pair":{"id":"x","role":"rejected"}}]}`

func read(t testing.TB, text string) Batch {
	t.Helper()
	b, err := NewReader(strings.NewReader(text), "batch.json").Next()
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestReadsTheDocumentedExample(t *testing.T) {
	reader := NewReader(strings.NewReader("\n"+example+"\n"+example), "batch.json")
	for _, line := range []int{2, 6} {
		got, err := reader.Next()
		if err != nil {
			t.Fatal(err)
		}
		want := Batch{Line: line, Batch: kernels.Batch[float64]{
			Offsets: []int32{0, 2}, Sampled: []bool{true, true}, Turn: []int32{0, 0}, LogProbs: []float64{-1, -1.1},
			Proximal: []float64{-1.1, -1}, Behavior: []float64{-1.2, -1}, Advantages: []float64{0.5, 0.5},
		}}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("(-want +got):\n%s", diff)
		}
	}
	for range 2 {
		if _, err := reader.Next(); err != io.EOF {
			t.Errorf("after the last batch: got %v, want EOF", err)
		}
	}
}

func TestReadsEveryField(t *testing.T) {
	nan, inf := math.NaN(), math.Inf(1)
	want := Batch{Line: 1, HasVersion: true, Batch: kernels.Batch[float64]{
		Offsets: []int32{0, 5, 6}, Sampled: []bool{false, true, true, false, true, true}, Turn: []int32{-1, 0, 0, -1, 1, 0},
		LogProbs: []float64{nan, -1, -1.1, nan, -0.5, -2}, Proximal: []float64{inf, -1.1, -1, 0, -0.25, -2},
		Behavior: []float64{-inf, -1.2, -1, 0, -0.75, -2}, Reference: []float64{0, -1, -1, 0, -1, -2},
		Entropy: []float64{0, 0.5, 0.25, 0, 1, 1}, Values: []float64{0, 1, 2, 0, 3, 0}, OldValues: []float64{0, 1, 2, 0, 2, 0},
		Returns: []float64{0, 1, 1, 0, 1, 0}, Advantages: []float64{0, 0.5, 0.5, 0, -1, 1},
		LossWeights: []float64{0, 1, 2, 0, 1, 1}, CEWeights: []float64{0, 0, 1, 0, 0, 0}, ReferenceKLWeights: []float64{0, 1, 0, 0, 0, 0},
		Versions: []int32{0, 6, 6, 0, 7, 2}, Version: 7, Pair: []int32{0, 0}, Chosen: []bool{true, false},
		Group: []int32{0, 1}, RankScores: []float64{1, -1e-3}, Outcomes: []float64{0.5, 0}, ClipHigh: []float64{0.28, nan},
	}}
	got := read(t, full)
	if diff := cmp.Diff(want, got, cmpopts.EquateNaNs()); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	got.FillClipHigh(0.2)
	if got.ClipHigh[0] != 0.28 || got.ClipHigh[1] != 0.2 {
		t.Errorf("clip bounds %v, want the sequence's own and the program's", got.ClipHigh)
	}
	if err := got.Check(kernels.Program{Ratio: kernels.RatioOne, Objective: kernels.CrossEntropy{}}, kernels.Count(got.Batch)); err != nil {
		t.Errorf("what is read cannot be evaluated: %v", err)
	}
}

func TestStreamsThatSomeSequencesLack(t *testing.T) {
	got := read(t, `{"schema":"turnwise.batch/v1","sequences":[{"logprobs":[-1],"sampled":[1]},
		{"logprobs":[-1,-1],"sampled":[1,0],"loss_weights":[2,2],"ce_weights":[3,3],"reference_kl_weights":[4,4]},
		{"logprobs":[0],"sampled":[0]},{"logprobs":[],"sampled":[],"advantages":[]}]}`)
	for _, stream := range []struct {
		name      string
		got, want []float64
	}{
		{"loss_weights", got.LossWeights, []float64{1, 2, 2, 1}}, {"ce_weights", got.CEWeights, []float64{0, 3, 3, 0}},
		{"reference_kl_weights", got.ReferenceKLWeights, []float64{0, 4, 4, 0}},
	} {
		if diff := cmp.Diff(stream.want, stream.got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", stream.name, diff)
		}
	}
}

func TestReaderRejects(t *testing.T) {
	for _, test := range []struct{ name, old, new, want string }{
		{"empty object", full, `{}`, ":1: schema: the field is missing"},
		{"list", full, `[]`, ":1: batch: a list, want an object"},
		{"number", full, `7`, ":1: batch: a number, want an object"},
		{"words", full, `hello`, `:1: batch: 'h', want an object`},
		{"cut", full, `{"schema":`, ":1: schema: the end of the input, want a string"},
		{"cut string", full, `{"sche`, ":1: batch: the input ends within a string"},
		{"no schema", `"schema":"turnwise.batch/v1",`, ``, ":1: schema: the field is missing"},
		{"other schema", `batch/v1`, `group/v1`, `:1: schema: "turnwise.group/v1", want "turnwise.batch/v1"`},
		{"no sequences", full, `{"schema":"turnwise.batch/v1"}`, ":1: sequences: the field is missing"},
		{"null sequences", full, `{"schema":"turnwise.batch/v1","sequences":null}`, ":1: sequences: null, but the field is required"},
		{"empty sequences", full, "{\"schema\":\"turnwise.batch/v1\",\n\"sequences\":[]}", ":2: sequences: the batch has none"},
		{"sequences object", `"sequences":[`, `"sequences":{`, ":1: sequences: an object, want a list"},
		{"sequence number", `"sequences":[`, `"sequences":[3,`, ":1: sequences[0]: a number, want an object"},
		{"batch field", `"version"`, `"versoin"`, ":1: versoin: unknown field; known: schema, version, sequences"},
		{"version", `"version":7`, `"version":7.5`, ":1: version: 7.5, want a whole number from 0"},
		{"negative version", `"version":7`, `"version":-1`, ":1: version: -1, want a whole number from 0"},
		{"old version", `"version":7`, `"version":6`, ":5: sequences[0].versions[4]: 7 is newer than the batch's version 6"},
		{"unknown field", `"advantages":[0,`, `"advantage":[0,`, ":3: sequences[0].advantage: unknown field; known: logprobs, proximal"},
		{"other case", `"advantages":[0,`, `"Advantages":[0,`, ":3: sequences[0].Advantages: unknown field"},
		{"twice", `"outcome":0.5`, `"outcome":0.5,"outcome":0.5`, ":6: sequences[0].outcome: the field is there twice"},
		{"no logprobs", `"logprobs":[-2],`, ``, ":7: sequences[1].logprobs: the field is missing"},
		{"null logprobs", `"logprobs":[-2]`, `"logprobs":null`, ":7: sequences[1].logprobs: null, but the field is required"},
		{"no sampled", `"sampled":[1],`, ``, ":7: sequences[1].sampled: the field is missing"},
		{"sampled 2", `"sampled":[0,1,1`, `"sampled":[0,1,2`, ":5: sequences[0].sampled[2]: 2, want 0 or 1"},
		{"sampled null", `"sampled":[0,1,1`, `"sampled":[0,1,null`, ":5: sequences[0].sampled[2]: null, want 0 or 1"},
		{"sampled bool", `"sampled":[0,1,1`, `"sampled":[0,1,true`, ":5: sequences[0].sampled[2]: a bool, want a number"},
		{"sampled short", `"sampled":[0,1,1,0,1]`, `"sampled":[0,1,1,0]`, ":5: sequences[0].sampled: 4 entries for 5 tokens"},
		{"sampled long", `"sampled":[1]`, `"sampled":[1,0]`, ":8: sequences[1].sampled: 2 entries for 1 tokens"},
		{"proximal short", `"proximal":[-2]`, `"proximal":[]`, ":7: sequences[1].proximal: 0 entries for 1 tokens"},
		{"turn long", `"turn":[0]`, `"turn":[0,0]`, ":8: sequences[1].turn: 2 entries for 1 tokens"},
		{"versions long", `"versions":[2]`, `"versions":[2,2]`, ":8: sequences[1].versions: 2 entries for 1 tokens"},
		{"stream number", `"proximal":[-2]`, `"proximal":-2`, ":7: sequences[1].proximal: a number, want a list"},
		{"stream string", `"proximal":[-2]`, `"proximal":["-2"]`, ":7: sequences[1].proximal[0]: a string, want a number"},
		{"stream nested", `"proximal":[-2]`, `"proximal":[[-2]]`, ":7: sequences[1].proximal[0]: a list, want a number"},
		{"plus", `"proximal":[-2]`, `"proximal":[+2]`, ":7: sequences[1].proximal[0]: '+', want a number"},
		{"leading zero", `"proximal":[-2]`, `"proximal":[-02]`, ":7: sequences[1].proximal: a number, want a comma or the end of the list"},
		{"point", `"proximal":[-2]`, `"proximal":[-2.]`, ":7: sequences[1].proximal[0]: a number, want a number"},
		{"trailing comma", `"proximal":[-2]`, `"proximal":[-2,]`, ":7: sequences[1].proximal[1]: ']', want a number"},
		{"null logprob", `-1.0,-1.1,NaN`, `-1.0,null,NaN`, ":2: sequences[0].logprobs[2]: sequence 0, token 2: null where sampled is 1, want a finite number"},
		{"NaN behavior", `-1.2,-1.0`, `-1.2, NaN`, ":2: sequences[0].behavior[2]: sequence 0, token 2: NaN where sampled is 1, want a finite number"},
		{"infinite reference", `"reference":[-2]`, `"reference":[-Infinity]`, ":7: sequences[1].reference[0]: sequence 1, token 0: -Infinity where sampled is 1"},
		{"huge advantage", `"advantages":[1]`, "\"advantages\":[\n1e999]", ":8: sequences[1].advantages[0]: sequence 1, token 0: 1e999 where sampled is 1"},
		{"NaN weight", `"loss_weights":[0,1`, `"loss_weights":[0,NaN`, ":4: sequences[0].loss_weights[1]: sequence 0, token 1: NaN where sampled is 1"},
		{"NaN value", `"values":[0]`, `"values":[NaN]`, ":7: sequences[1].values[0]: sequence 1, token 0: NaN where sampled is 1"},
		{"null turn", `"turn":[null,0`, `"turn":[null,null`, ":5: sequences[0].turn[1]: sequence 0, token 1: null where sampled is 1, want a whole number from 0"},
		{"turn -1", `"turn":[0]`, `"turn":[-1]`, ":8: sequences[1].turn[0]: sequence 1, token 0: -1 where sampled is 1, want a whole number"},
		{"turn 0.5", `"turn":[0]`, `"turn":[0.5]`, ":8: sequences[1].turn[0]: sequence 1, token 0: 0.5 where sampled is 1, want a whole number"},
		{"turn back", `"turn":[null,0,0`, `"turn":[null,2,2`, ":5: sequences[0].turn[4]: 1 after turn 2: turns never decrease"},
		{"version 1.5", `"versions":[2]`, `"versions":[1.5]`, ":8: sequences[1].versions[0]: sequence 1, token 0: 1.5 where sampled is 1, want a whole number from 0"},
		{"rank score", `"rank_score":1`, `"rank_score":1e999`, ":6: sequences[0].rank_score: 1e999 is not a finite number"},
		{"outcome", `"outcome":0.5`, `"outcome":NaN`, ":6: sequences[0].outcome: NaN is not a finite number"},
		{"outcome list", `"outcome":0.5`, `"outcome":[0.5]`, ":6: sequences[0].outcome: a list, want a number"},
		{"clip_high", `"clip_high":0.28`, `"clip_high":"0.28"`, ":6: sequences[0].clip_high: a string, want a number"},
		{"group number", `"group":"a"`, `"group":1`, ":6: sequences[0].group: a number, want a string"},
		{"some groups", `"group":"a",`, ``, ":2: sequences[0].group: null, but sequences[1] has it: give it to all sequences or to none"},
		{"some scores", `"rank_score":-1e-3,`, ``, ":7: sequences[1].rank_score: null, but sequences[0] has it"},
		{"some streams", `"behavior":[-2]`, `"behavior":null`, ":7: sequences[1].behavior: null, but sequences[0] has it: give it to all sequences or to none"},
		{"some turns", `"turn":[0],`, ``, ":7: sequences[1].turn: null, but sequences[0] has it"},
		{"role", `"role":"chosen"`, `"role":"best"`, `:6: sequences[0].pair.role: "best" is unknown; known: chosen, rejected`},
		{"no role", `,"role":"chosen"`, ``, `:6: sequences[0].pair.role: the field is missing`},
		{"pair id", `"id":"x","role":"chosen"`, `"id":1,"role":"chosen"`, `:6: sequences[0].pair.id: a number, want a string`},
		{"same role", `"role":"rejected"`, `"role":"chosen"`, `:7: sequences[1].pair: "x" has sequences[0] in the same role: a pair is one chosen and one rejected`},
		{"no partner", `"id":"x","role":"rejected"`, `"id":"y","role":"rejected"`, `:2: sequences[0].pair: "x" has no partner: a pair is one chosen and one rejected`},
		{"unsampled pair", `"sampled":[1]`, `"sampled":[0]`, `:7: sequences[1].pair: "x" has a sequence without a sampled token`},
		{"bad escape", `"group":"a"`, `"group":"\x"`, `:6: sequences[0].group: invalid character 'x' in string escape code`},
		{"after", `]}` + "\n", "", ""},
		{"no comma", `"version":7,`, `"version":7`, ":1: batch: a string, want a comma or the end of the object"},
		{"no colon", `"version":7`, `"version" 7`, ":1: version: a number, want a colon"},
	} {
		if test.want == "" {
			continue
		}
		t.Run(test.name, func(t *testing.T) {
			text := strings.Replace(full, test.old, test.new, 1)
			if text == full {
				t.Fatalf("the batch has no %s to change", test.old)
			}
			reader := NewReader(strings.NewReader(text), "batch.json")
			_, err := reader.Next()
			if err == nil || !strings.HasPrefix(err.Error(), "batch.json"+test.want) {
				t.Fatalf("got error %v\nwant batch.json%s", err, test.want)
			}
			if _, again := reader.Next(); again != err {
				t.Errorf("asked again: %v, want the same error", again)
			}
		})
	}
}

func TestReaderRejectsWhatFollows(t *testing.T) {
	reader := NewReader(strings.NewReader(example+"\n]"), "stdin")
	if _, err := reader.Next(); err != nil {
		t.Fatal(err)
	}
	if _, err := reader.Next(); err == nil || err.Error() != "stdin:5: batch: ']', want an object" {
		t.Errorf("got %v", err)
	}
}

func TestReaderNamesReadFailures(t *testing.T) {
	reader := NewReader(io.MultiReader(strings.NewReader(example), failing{}), "stdin")
	if _, err := reader.Next(); err == nil || err.Error() != "stdin: the cable is cut" {
		t.Errorf("got %v, want stdin: the cable is cut", err)
	}
}

func TestWriteRefusesWhatCannotBeRead(t *testing.T) {
	b := read(t, full)
	b.LogProbs[1] = math.NaN()
	for _, test := range []struct {
		batch Batch
		want  string
	}{
		{b, "write batch: sequence 0, token 1: logprobs is NaN where the policy sampled"},
		{Batch{}, "write batch: it has no sequences"},
	} {
		if err := Write(failing{}, test.batch); err == nil || err.Error() != test.want {
			t.Errorf("got %v, want %s", err, test.want)
		}
	}
	if err := Write(failing{}, read(t, example)); err == nil || err.Error() != "the cable is cut" {
		t.Errorf("a writer that fails: %v", err)
	}
}

func FuzzDecode(f *testing.F) {
	f.Add([]byte(example))
	f.Add([]byte(full))
	f.Add([]byte(`{"schema":"turnwise.batch/v1","sequences":[{"logprobs":[],"sampled":[]}]}` + "\n" + example))
	f.Add([]byte("{\"version\":2147483648,\n\"sequences\":[{\"logprobs\":[-0.0e+5,1e-999]}]}"))
	f.Fuzz(func(t *testing.T, data []byte) {
		reader := NewReader(bytes.NewReader(data), "fuzz")
		for {
			b, err := reader.Next()
			if err == io.EOF {
				return
			}
			if err != nil {
				if !strings.HasPrefix(err.Error(), "fuzz:") || strings.Contains(err.Error(), "\n") {
					t.Fatalf("the error %q does not name the input on one line", err)
				}
				return
			}
			var line bytes.Buffer
			if err := Write(&line, b); err != nil {
				t.Fatalf("what was read cannot be written: %v", err)
			}
			if !json.Valid(line.Bytes()) || bytes.Count(line.Bytes(), []byte("\n")) != 1 {
				t.Fatalf("no line of JSON: %s", line.Bytes())
			}
			again, err := NewReader(&line, "again").Next()
			if err != nil {
				t.Fatalf("what was written cannot be read: %v", err)
			}
			again.Line = b.Line
			if diff := cmp.Diff(b, again, cmp.Comparer(sameUpToInfinity)); diff != "" {
				t.Errorf("a round trip changed the batch:\n%s", diff)
			}
		}
	})
}

// sameUpToInfinity compares numbers; those that are not finite are all null in the format.
func sameUpToInfinity(a, b float64) bool { return a == b || a-a != 0 && b-b != 0 }

type failing struct{}

func (failing) Read([]byte) (int, error)  { return 0, errors.New("the cable is cut") }
func (failing) Write([]byte) (int, error) { return 0, errors.New("the cable is cut") }
