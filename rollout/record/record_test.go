package record

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/turnwise-rl/turnwise/rollout"
	"pgregory.net/rapid"
)

// example is the group that the format's description shows.
const example = `{"schema":"turnwise.group/v1","group":"g17","task":{"id":"t17","env":"lookup","prompt":"…","gold":{"answer":"rome","calls":[{"name":"search","args":{"q":"cat","k":3}}]}},"trajectories":[{"id":"g17/0","parent":null,"tokens":[5,9,11,3,7,7,2],"sampled":[0,0,1,1,0,1,1],"behavior_logprobs":[0,0,-0.4,-1.2,0,-0.1,-0.7],"versions":[0,0,3,3,0,4,4],"turns":[{"start":2,"end":4,"observation":{"start":4,"end":5},"calls":[{"name":"search","args":{"q":"cat"},"status":"ok"}],"format_ok":true,"state":"s0","entropy":0.9,"rewards":{"env":0.0}},{"start":5,"end":7,"calls":[],"format_ok":true,"state":"s1","entropy":0.2,"rewards":{}}],"stop":"answer","answer":"rome","outcome":1.0,"scores":{},"elapsed_seconds":3.2}]}`

func exampleGroup() rollout.Group {
	one := 1.0
	return rollout.Group{
		ID: "g17",
		Task: rollout.Task{ID: "t17", Env: "lookup", Prompt: "…", Gold: rollout.Gold{
			Answer: "rome",
			Calls:  []rollout.GoldCall{{Name: "search", Args: rollout.Args{"q": []byte(`"cat"`), "k": []byte("3")}}},
		}},
		Trajectories: []rollout.Trajectory{{
			ID:               "g17/0",
			Tokens:           []int32{5, 9, 11, 3, 7, 7, 2},
			Sampled:          []bool{false, false, true, true, false, true, true},
			BehaviorLogProbs: []float32{0, 0, -0.4, -1.2, 0, -0.1, -0.7},
			Versions:         []rollout.Version{0, 0, 3, 3, 0, 4, 4},
			Turns: []rollout.Turn{
				{Start: 2, End: 4, Observation: &rollout.Span{Start: 4, End: 5}, FormatOK: true, State: "s0", Entropy: 0.9,
					Calls:   []rollout.Call{{Name: "search", Args: rollout.StringArgs("q", "cat"), Status: rollout.CallOK}},
					Rewards: map[string]float64{"env": 0}},
				{Start: 5, End: 7, FormatOK: true, State: "s1", Entropy: 0.2},
			},
			Stop: rollout.StopAnswer, Answer: "rome", Outcome: &one, ElapsedSeconds: 3.2,
		}},
	}
}

func TestReadsTheDocumentedExample(t *testing.T) {
	reader := NewReader(strings.NewReader("\n"+example+"\n\n"), "groups.jsonl")
	got, err := reader.Next()
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(exampleGroup(), got); diff != "" {
		t.Errorf("the example reads differently (-want +got):\n%s", diff)
	}
	if _, err := reader.Next(); err != io.EOF {
		t.Errorf("after the last group: got %v, want EOF", err)
	}
}

func TestReaderRejects(t *testing.T) {
	for _, test := range []struct{ name, old, new, want string }{
		{"lengths", `"sampled":[0,0,1,1,0,1,1]`, `"sampled":[0,0,1,1,0,1]`, "groups.jsonl:3: trajectories[0].sampled: 6 entries for 7 tokens"},
		{"sampled 2", `"sampled":[0,0,1`, `"sampled":[0,0,2`, "trajectories[0].sampled[2]: 2, want 0 or 1"},
		{"sampled bool", `"sampled":[0,0,1`, `"sampled":[0,0,true`, "trajectories[0].sampled: bool does not fit int64"},
		{"null token", `"tokens":[5,9`, `"tokens":[5,null`, "trajectories[0].tokens: the list holds a null"},
		{"big token", `"tokens":[5`, `"tokens":[5000000000`, "trajectories[0].tokens: number 5000000000 does not fit int32"},
		{"negative token", `"tokens":[5`, `"tokens":[-5`, "trajectories[0].tokens[0]: -5 is negative"},
		{"runs", `"start":5,"end":7`, `"start":6,"end":7`, "trajectories[0].turns[1]: [6,7) disagrees with sampled, whose run is [5,7)"},
		{"no such run", `"sampled":[0,0,1,1,0,1,1],"behavior_logprobs":[0,0,-0.4,-1.2,0,-0.1,-0.7],"versions":[0,0,3,3,0,4,4]`, `"sampled":[0,0,1,1,0,0,0]`, "turns[1]: [5,7), but sampled has only 1 runs"},
		{"run without turn", `,{"start":5,"end":7,"calls":[],"format_ok":true,"state":"s1","entropy":0.2,"rewards":{}}`, ``, "turns: 1 turns, but sampled has another run at [5,7)"},
		{"observation", `{"start":4,"end":5}`, `{"start":4,"end":6}`, "turns[0].observation: [4,6) is not within [4,5)"},
		{"status", `"status":"ok"`, `"status":"fine"`, `turns[0].calls[0].status: "fine" is unknown; known: ok, error, unknown_tool, bad_args, unparsable`},
		{"stop", `"stop":"answer"`, `"stop":"done"`, `trajectories[0].stop: "done" is unknown; known: answer, max_turns`},
		{"logprob elsewhere", `[0,0,-0.4`, `[-1,0,-0.4`, "behavior_logprobs[0]: -1 where sampled is 0, want 0"},
		{"version elsewhere", `"versions":[0`, `"versions":[1`, "versions[0]: 1 where sampled is 0, want 0"},
		{"negative version", `"versions":[0,0,3`, `"versions":[0,0,-3`, "versions[2]: -3 is negative"},
		{"versions length", `"versions":[0,`, `"versions":[`, "versions: 6 entries for 7 tokens"},
		{"logprob null", `[0,0,-0.4`, `[null,0,null`, `trajectories[0].behavior_logprobs[2]: trajectory "g17/0", token 2: not a finite number where sampled is 1`},
		{"logprob NaN", `[0,0,-0.4`, `[NaN,0,NaN`, `trajectories[0].behavior_logprobs[2]: trajectory "g17/0", token 2: not a finite number where sampled is 1`},
		{"logprob too big", `[0,0,-0.4`, `[0,0,-1e39`, `behavior_logprobs[2]: trajectory "g17/0", token 2: not a finite number`},
		{"logprob string", `[0,0,-0.4`, `[0,0,"-0.4"`, `trajectories[0].behavior_logprobs[2]: string, want a number`},
		{"infinite outcome", `"outcome":1.0`, `"outcome":-Infinity`, `trajectories[0].outcome: not a finite number`},
		{"NaN argument", `{"q":"cat"},"status"`, `{"q":[NaN]},"status"`, `trajectories[0].turns[0].calls[0].args.q: holds a number that is not finite`},
		{"NaN world", `"prompt":"…"`, `"prompt":"…","world":{"a":Infinity}`, `task.world: holds a number that is not finite`},
		{"NaN token", `"tokens":[5`, `"tokens":[NaN`, `trajectories[0].tokens: not a finite number`},
		{"no word", `"outcome":1.0`, `"outcome":NaNa`, `byte `},
		{"values length", `"stop"`, `"values":[1],"stop"`, "values: 1 entries for 7 tokens"},
		{"value NaN", `"stop"`, `"values":[0,0,0,0,0,0,NaN],"stop"`, `trajectories[0].values[6]: trajectory "g17/0", token 6: not a finite number`},
		{"reference length", `"stop"`, `"reference_logprobs":[],"stop"`, "reference_logprobs: 0 entries for 7 tokens"},
		{"reference infinite", `"stop"`, `"reference_logprobs":[0,0,1e999,0,0,0,0],"stop"`, `reference_logprobs[2]: trajectory "g17/0", token 2: not a finite number`},
		{"entropies length", `"stop"`, `"entropies":[1],"stop"`, "entropies: 1 entries for 7 tokens"},
		{"unknown field", `"state":"s1"`, `"stage":"s1"`, "trajectories[0].turns[1].stage: unknown field; known: start, end"},
		{"line break", `"state":"s1"`, `"sta\nte":"s1"`, `turns[1].sta\nte: unknown field`},
		{"other case", `"state":"s1"`, `"State":"s1"`, "trajectories[0].turns[1].State: unknown field"},
		{"twice", `"state":"s1"`, `"state":"s1","state":"s1"`, "trajectories[0].turns[1].state: the field is there twice"},
		{"missing", `"stop":"answer",`, ``, "trajectories[0].stop: the field is missing"},
		{"required null", `"stop":"answer"`, `"stop":null`, "trajectories[0].stop: null, but the field is required"},
		{"wrong type", `"answer":"rome","outcome"`, `"answer":7,"outcome"`, "trajectories[0].answer: number does not fit string"},
		{"schema", `group/v1`, `group/v2`, `schema: "turnwise.group/v2", want "turnwise.group/v1"`},
		{"score null", `"scores":{}`, `"scores":{"judge":null}`, "scores.judge: null, want a number"},
		{"parent", `"parent":null`, `"parent":{"trajectory":"g9/1","turn":0}`, `trajectories[0].parent.trajectory: the group has no trajectory "g9/1"`},
		{"own parent", `"parent":null`, `"parent":{"trajectory":"g17/0","turn":0}`, `"g17/0" descends from itself`},
		{"parent's turn", `"parent":null`, `"parent":{"trajectory":"g17/0","turn":2}`, `parent.turn: 2, but "g17/0" has 2 turns`},
		{"role", `"stop"`, `"role":"best","stop"`, `role: "best" is unknown`},
		{"role without pair", `"stop"`, `"role":"chosen","stop"`, `role: "chosen" needs a pair id`},
		{"pair without role", `"stop"`, `"pair":"p1","stop"`, `pair: "p1" needs role chosen or rejected`},
		{"temperature", `"stop"`, `"temperature":-1,"stop"`, `temperature: -1 is not a temperature`},
		{"elapsed", `3.2`, `-3.2`, `elapsed_seconds: -3.2 is not a duration`},
		{"empty group id", `"group":"g17"`, `"group":""`, "group: the id is empty"},
		{"empty id", `"id":"g17/0"`, `"id":""`, "trajectories[0].id: the id is empty"},
		{"turn no object", `[{"start":2`, `[3,{"start":2`, "trajectories[0].turns[0]: number, want an object"},
		{"cut", `"elapsed_seconds":3.2}]}`, `"elapsed`, "unexpected end of JSON input"},
		{"two values", `3.2}]}`, `3.2}]}{}`, "invalid character '{' after top-level value"},
		{"no object", example, `[]`, "line: list, want an object"},
		{"group twice", "", "", `group: "g1" is already on line 1`},
	} {
		t.Run(test.name, func(t *testing.T) {
			first := strings.NewReplacer(`g17`, `g1`).Replace(example)
			third := strings.Replace(example, test.old, test.new, 1)
			if test.old == "" {
				third = first
			} else if third == example {
				t.Fatalf("the example has no %s to change", test.old)
			}
			reader := NewReader(strings.NewReader(first+"\n\n"+third+"\n"+strings.ReplaceAll(example, "g17", "g3")), "groups.jsonl")
			if _, err := reader.Next(); err != nil {
				t.Fatal(err)
			}
			_, err := reader.Next()
			if err == nil || !strings.HasPrefix(err.Error(), "groups.jsonl:3: ") || !strings.Contains(err.Error(), test.want) {
				t.Errorf("got error %v\nwant groups.jsonl:3: … %s", err, test.want)
			}
			if g, err := reader.Next(); err != nil || g.ID != "g3" {
				t.Errorf("the line after a bad one: got %q and %v, want g3", g.ID, err)
			}
		})
	}
}

func TestReaderIgnoresNumbersOfUnsampledTokens(t *testing.T) {
	line := strings.Replace(example, `[0,0,-0.4`, `[NaN,null,-0.4`, 1)
	line = strings.Replace(line, `"stop"`, `"values":[1e999,-Infinity,1,2,NaN,3,4],"reference_logprobs":[null,null,-1,-1,null,-1,-1],"stop"`, 1)
	line = strings.Replace(line, `"rome","outcome"`, `"NaN \"Infinity","outcome"`, 1)
	got, err := NewReader(strings.NewReader(line), "stdin").Next()
	if err != nil {
		t.Fatal(err)
	}
	want := exampleGroup()
	want.Trajectories[0].Values = []float32{0, 0, 1, 2, 0, 3, 4}
	want.Trajectories[0].ReferenceLogProbs = []float32{0, 0, -1, -1, 0, -1, -1}
	want.Trajectories[0].Answer = `NaN "Infinity`
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestReaderNamesReadFailures(t *testing.T) {
	broken := io.MultiReader(strings.NewReader(example+"\n"), failing{})
	reader := NewReader(broken, "stdin")
	if _, err := reader.Next(); err != nil {
		t.Fatal(err)
	}
	if _, err := reader.Next(); err == nil || err.Error() != "stdin:2: the cable is cut" {
		t.Errorf("got %v, want stdin:2: the cable is cut", err)
	}
}

func TestReaderRefusesRepeatedTrajectories(t *testing.T) {
	other := strings.Replace(example, `"group":"g17"`, `"group":"g18"`, 1)
	reader := NewReader(strings.NewReader(example+"\n"+other), "stdin")
	if _, err := reader.Next(); err != nil {
		t.Fatal(err)
	}
	if _, err := reader.Next(); err == nil || !strings.Contains(err.Error(), `trajectories[0].id: "g17/0" is already on line 1`) {
		t.Errorf("got %v, want an error about the repeated id", err)
	}
}

func TestBranches(t *testing.T) {
	g := exampleGroup()
	branch := g.Trajectories[0]
	branch.ID, branch.Parent = "g17/1", &rollout.Parent{Trajectory: "g17/0", Turn: 1}
	g.Trajectories = append(g.Trajectories, branch)
	if err := Validate(g); err != nil {
		t.Errorf("a branch that shares its parent's tokens: %v", err)
	}
	g.Trajectories[1].Tokens = []int32{5, 9, 11, 3, 8, 7, 2}
	if err := Validate(g); err == nil || err.Error() != `trajectories[1].tokens: the first 5 differ from those of its parent "g17/0"` {
		t.Errorf("a branch with other tokens: %v", err)
	}
	g.Trajectories[1].Tokens = g.Trajectories[0].Tokens
	g.Trajectories[0].Parent = &rollout.Parent{Trajectory: "g17/1", Turn: 0}
	if err := Validate(g); err == nil || !strings.Contains(err.Error(), "descends from itself") {
		t.Errorf("two trajectories that are each other's parent: %v", err)
	}
}

func TestValidateRefusesWhatJSONCannotSay(t *testing.T) {
	nan := math.NaN()
	for _, test := range []struct {
		want   string
		change func(*rollout.Trajectory)
	}{
		{"trajectories[0].behavior_logprobs[2]: -Inf is not finite", func(t *rollout.Trajectory) { t.BehaviorLogProbs[2] = float32(math.Inf(-1)) }},
		{"trajectories[0].outcome: NaN is not finite", func(t *rollout.Trajectory) { t.Outcome = &nan }},
		{"trajectories[0].scores.judge: NaN is not finite", func(t *rollout.Trajectory) { t.Scores = map[string]float64{"judge": nan} }},
		{"trajectories[0].turns[0].rewards.env: NaN is not finite", func(t *rollout.Trajectory) { t.Turns[0].Rewards["env"] = nan }},
		{"trajectories[0].turns[1].entropy: NaN is not finite", func(t *rollout.Trajectory) { t.Turns[1].Entropy = nan }},
		{"trajectories[0].entropies[6]: NaN is not finite", func(t *rollout.Trajectory) { t.Entropies = make([]float32, 7); t.Entropies[6] = float32(nan) }},
		{"trajectories[0].elapsed_seconds: +Inf is not a duration", func(t *rollout.Trajectory) { t.ElapsedSeconds = math.Inf(1) }},
		{`trajectories[0].turns[0].calls[0].args.q: "cat" is not valid JSON`, func(t *rollout.Trajectory) { t.Turns[0].Calls[0].Args["q"] = []byte("cat") }},
	} {
		g := exampleGroup()
		test.change(&g.Trajectories[0])
		if err := Validate(g); err == nil || err.Error() != test.want {
			t.Errorf("got %v, want %s", err, test.want)
		}
		if err := WriteGroup(failing{}, g); err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("writing: got %v, want %s", err, test.want)
		}
		if _, err := EncodeSegment(g); err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("encoding: got %v, want %s", err, test.want)
		}
	}
	twice := exampleGroup()
	twice.Trajectories = append(twice.Trajectories, twice.Trajectories[0])
	if err := Validate(twice); err == nil || err.Error() != `trajectories[1].id: "g17/0" is also the id of trajectories[0]` {
		t.Errorf("an id twice: %v", err)
	}
	if err := Validate(rollout.Group{ID: "g1"}); err == nil || err.Error() != "trajectories: the group has none" {
		t.Errorf("an empty group: %v", err)
	}
}

func TestWriteGroupIsOneWrite(t *testing.T) {
	var writes counting
	if err := WriteGroup(&writes, exampleGroup()); err != nil {
		t.Fatal(err)
	}
	if writes.calls != 1 || bytes.Count(writes.data, []byte("\n")) != 1 || !bytes.HasSuffix(writes.data, []byte("\n")) {
		t.Errorf("%d writes of %q, want one write of one line", writes.calls, writes.data)
	}
	if err := WriteGroup(failing{}, exampleGroup()); err == nil || err.Error() != `write group "g17": the cable is cut` {
		t.Errorf("a writer that fails: got %v", err)
	}
}

func TestGroupsRoundTrip(t *testing.T) {
	same := cmp.Options{cmpopts.EquateEmpty()}
	rapid.Check(t, func(t *rapid.T) {
		g := groups().Draw(t, "group")
		if err := Validate(g); err != nil {
			t.Fatalf("the generator made an invalid group: %v", err)
		}
		var line bytes.Buffer
		if err := WriteGroup(&line, g); err != nil {
			t.Fatal(err)
		}
		fromLine, err := NewReader(bytes.NewReader(line.Bytes()), "line").Next()
		if err != nil {
			t.Fatalf("%v\n%s", err, line.Bytes())
		}
		if diff := cmp.Diff(g, fromLine, same); diff != "" {
			t.Fatalf("JSON changed the group:\n%s", diff)
		}
		data, err := EncodeSegment(g)
		if err != nil {
			t.Fatal(err)
		}
		fromSegment, err := DecodeSegment(data)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(fromLine, fromSegment, same); diff != "" {
			t.Fatalf("the segment changed the group:\n%s", diff)
		}
		again, err := EncodeSegment(fromSegment)
		if err != nil || !bytes.Equal(again, data) {
			t.Fatalf("encoding the decoded segment gave other bytes (%v)", err)
		}
	})
}

func FuzzReader(f *testing.F) {
	f.Add([]byte(example))
	f.Add([]byte(`{"schema":"turnwise.group/v1","group":"g","task":{},"trajectories":[{"id":"a","tokens":[],"sampled":[],"turns":[],"stop":"void"}]}`))
	f.Add([]byte(strings.Replace(example, `"stop"`, `"values":[NaN,null,1,2,-Infinity,3,4],"reference_logprobs":[0,0,-1,-1,0,-1,-1],"stop"`, 1)))
	f.Add([]byte(strings.Replace(example, `"trajectories"`, `"attempts":[{"trajectory":"g17/0","attempt":1,"tenure":3,"from":1,"discarded":0,"failure":null,"reason":""}],"trajectories"`, 1)))
	f.Add([]byte("{\"schema\":null}\n{\"trajectories\":[{\"turns\":[{\"rewards\":{\"a\":1e999}}]}]}"))
	f.Fuzz(func(t *testing.T, data []byte) {
		reader := NewReader(bytes.NewReader(data), "fuzz")
		for {
			g, err := reader.Next()
			if err == io.EOF {
				return
			}
			if err != nil {
				if !strings.HasPrefix(err.Error(), "fuzz:") || strings.Contains(err.Error(), "\n") {
					t.Fatalf("the error %q does not name the input on one line", err)
				}
				continue
			}
			if err := WriteGroup(io.Discard, g); err != nil {
				t.Fatalf("what was read cannot be written: %v", err)
			}
		}
	})
}

type failing struct{}

func (failing) Read([]byte) (int, error)  { return 0, errors.New("the cable is cut") }
func (failing) Write([]byte) (int, error) { return 0, errors.New("the cable is cut") }

type counting struct {
	calls int
	data  []byte
}

func (c *counting) Write(data []byte) (int, error) {
	c.calls++
	c.data = append(c.data, data...)
	return len(data), nil
}

// groups generates valid groups, branches included.
func groups() *rapid.Generator[rollout.Group] {
	return rapid.Custom(func(t *rapid.T) rollout.Group {
		g := rollout.Group{ID: rapid.StringN(1, 8, -1).Draw(t, "id"), Task: rollout.Task{
			ID: rapid.String().Draw(t, "task"), Env: rapid.String().Draw(t, "env"), Prompt: rapid.String().Draw(t, "prompt"),
			Gold: rollout.Gold{Answer: rapid.String().Draw(t, "gold")},
		}}
		for range rapid.IntRange(0, 2).Draw(t, "gold calls") {
			g.Task.Gold.Calls = append(g.Task.Gold.Calls, rollout.GoldCall{Name: rapid.String().Draw(t, "call"), Args: drawArgs(t)})
		}
		if rapid.Bool().Draw(t, "world") {
			g.Task.World = []byte(`{"facts":[["a","<b>"],1.50]}`)
		}
		for i := range rapid.IntRange(1, 3).Draw(t, "members") {
			g.Trajectories = append(g.Trajectories, drawTrajectory(t, fmt.Sprintf("%s/%d", g.ID, i)))
		}
		if first := &g.Trajectories[0]; len(first.Turns) > 0 && rapid.Bool().Draw(t, "branch") {
			branch := *first
			branch.ID = g.ID + "/branch"
			branch.Parent = &rollout.Parent{Trajectory: first.ID, Turn: rapid.IntRange(0, len(first.Turns)-1).Draw(t, "turn")}
			g.Trajectories = append(g.Trajectories, branch)
		}
		g.Attempts = drawAttempts(t, g)
		return g
	})
}

func drawTrajectory(t *rapid.T, id string) rollout.Trajectory {
	number := rapid.Float64Range(-1e6, 1e6)
	trajectory := rollout.Trajectory{
		ID: id, Stop: rapid.SampledFrom(rollout.StopReasons).Draw(t, "stop"), Answer: rapid.String().Draw(t, "answer"),
		Tokens: []int32{}, Sampled: []bool{},
		ElapsedSeconds: rapid.Float64Range(0, 1e4).Draw(t, "elapsed"), Temperature: rapid.Float64Range(0, 2).Draw(t, "temperature"),
		Scores: rapid.MapOfN(rapid.String(), number, 0, 2).Draw(t, "scores"),
	}
	if rapid.Bool().Draw(t, "known outcome") {
		outcome := number.Draw(t, "outcome")
		trajectory.Outcome = &outcome
	}
	switch trajectory.Role = rapid.SampledFrom([]string{"", "greedy", "chosen", "rejected"}).Draw(t, "role"); trajectory.Role {
	case "chosen", "rejected":
		trajectory.Pair = "p1"
	}
	extend := func(n int, sampled bool) (start, end int) {
		start = len(trajectory.Tokens)
		for range n {
			trajectory.Tokens = append(trajectory.Tokens, rapid.Int32Range(0, math.MaxInt32).Draw(t, "token"))
			trajectory.Sampled = append(trajectory.Sampled, sampled)
		}
		return start, start + n
	}
	extend(rapid.IntRange(0, 3).Draw(t, "prompt"), false)
	for range rapid.IntRange(0, 3).Draw(t, "turns") {
		turn := rollout.Turn{FormatOK: rapid.Bool().Draw(t, "format"), State: rapid.String().Draw(t, "state"),
			Entropy: rapid.Float64Range(0, 9).Draw(t, "entropy"), Rewards: rapid.MapOfN(rapid.String(), number, 0, 2).Draw(t, "rewards")}
		for range rapid.IntRange(0, 2).Draw(t, "calls") {
			turn.Calls = append(turn.Calls, rollout.Call{Name: rapid.String().Draw(t, "name"), Args: drawArgs(t),
				Status: rapid.SampledFrom(rollout.CallStatuses).Draw(t, "status"), Key: rapid.String().Draw(t, "key")})
		}
		turn.Start, turn.End = extend(rapid.IntRange(1, 4).Draw(t, "sampled"), true)
		start, end := extend(rapid.IntRange(1, 3).Draw(t, "observed"), false)
		if rapid.Bool().Draw(t, "observation") {
			turn.Observation = &rollout.Span{Start: start, End: end}
		}
		trajectory.Turns = append(trajectory.Turns, turn)
	}
	drawColumns(t, &trajectory)
	return trajectory
}

func drawColumns(t *rapid.T, trajectory *rollout.Trajectory) {
	n := len(trajectory.Tokens)
	if rapid.Bool().Draw(t, "with logprobs") {
		trajectory.BehaviorLogProbs = make([]float32, n)
	}
	if rapid.Bool().Draw(t, "with versions") {
		trajectory.Versions = make([]rollout.Version, n)
	}
	if rapid.Bool().Draw(t, "with entropies") {
		trajectory.Entropies = rapid.SliceOfN(rapid.Float32Range(0, 9), n, n).Draw(t, "entropies")
	}
	if rapid.Bool().Draw(t, "with values") {
		trajectory.Values = rapid.SliceOfN(rapid.Float32Range(-9, 9), n, n).Draw(t, "values")
	}
	if rapid.Bool().Draw(t, "with reference") {
		trajectory.ReferenceLogProbs = rapid.SliceOfN(rapid.Float32Range(-9, 0), n, n).Draw(t, "reference")
	}
	for i, sampled := range trajectory.Sampled {
		if sampled && trajectory.BehaviorLogProbs != nil {
			trajectory.BehaviorLogProbs[i] = rapid.Float32Range(-100, 0).Draw(t, "logprob")
		}
		if sampled && trajectory.Versions != nil {
			trajectory.Versions[i] = rollout.Version(rapid.Int32Range(0, math.MaxInt32).Draw(t, "version"))
		}
	}
}

func drawArgs(t *rapid.T) rollout.Args {
	value := rapid.SampledFrom([]string{`"cat"`, `3`, `null`, `{"a":[1,"<&>"]}`, `-0.50`, `"\u00e9"`})
	args := rollout.Args{}
	for range rapid.IntRange(0, 2).Draw(t, "args") {
		args[rapid.String().Draw(t, "arg")] = []byte(value.Draw(t, "value"))
	}
	return args
}
