package tool

import (
	"encoding/json"
	"os"
	"reflect"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/turnwise-rl/turnwise/rollout"
)

func format(t testing.TB, name FormatName) TurnFormat {
	t.Helper()
	f, err := FindFormat(name)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func raw(name string, keyValues ...string) rollout.Call {
	c := rollout.Call{Name: name, Args: rollout.Args{}, Status: rollout.CallOK}
	for i := 0; i < len(keyValues); i += 2 {
		c.Args[keyValues[i]] = json.RawMessage(keyValues[i+1])
	}
	return c
}

func TestFormatsReadCalls(t *testing.T) {
	for _, c := range []struct {
		format FormatName
		text   string
		want   []rollout.Call
	}{
		{Hermes, "<tool_call>\n{\"name\": \"search\", \"arguments\": {\"entity\": \"mira\", \"relation\": \"mentor\"}}\n</tool_call>",
			[]rollout.Call{call("search", "entity", "mira", "relation", "mentor")}},
		{Hermes, "I look.\n<tool_call>{\"arguments\":{},\"name\":\"list\"}</tool_call>\n\n<tool_call>\n{\"name\":\"python\",\"arguments\":{\"code\":\"2*3\"}}\n</tool_call>\n",
			[]rollout.Call{call("list"), call("python", "code", "2*3")}},
		{Hermes, "<think>\nshort or {long}\n</think>\n\n<tool_call>{\"name\":\"list\",\"arguments\":{}}</tool_call>", []rollout.Call{call("list")}},
		{Hermes, "the prompt opened this </think><tool_call>{\"name\":\"list\",\"arguments\":{}}</tool_call>", []rollout.Call{call("list")}},
		{Hermes, `<tool_call>{"name":"say","arguments":{"text":"</tool_call> </think> \u00e9\ud83d\ude00 \\ud800","n":[1, {"a": null}]}}</tool_call>`,
			[]rollout.Call{raw("say", "text", `"</tool_call> </think> \u00e9\ud83d\ude00 \\ud800"`, "n", `[1,{"a":null}]`)}},
		{Llama3, `{"name": "search", "parameters": {"entity": "mira", "relation": "mentor"}}`, []rollout.Call{call("search", "entity", "mira", "relation", "mentor")}},
		{Llama3, " <|python_tag|>{\"name\":\"list\",\"parameters\":{}}\n", []rollout.Call{call("list")}},
		{Llama3, "<think>which?</think>\n{\"name\":\"list\",\"parameters\":{}}", []rollout.Call{call("list")}},
		{Llama3, `{"name":"say","parameters":{"text":"<think>"}}`, []rollout.Call{call("say", "text", "<think>")}},
	} {
		got := format(t, c.format).Parse(c.text)
		for _, one := range got.Calls { // compare what the arguments mean
			for key, value := range one.Args {
				var text string
				if json.Unmarshal(value, &text) == nil && !strings.Contains(string(value), `\`) {
					one.Args[key] = encode(text)
				}
			}
		}
		if want := (Action{Calls: c.want}); !reflect.DeepEqual(got, want) {
			t.Errorf("%s of %q = %+v, want %+v", c.format, c.text, got, want)
		}
	}
}

func TestFormatsReadAnswers(t *testing.T) {
	for _, c := range []struct {
		format     FormatName
		text, want string
	}{
		{Hermes, "tavo", "tavo"}, {Hermes, "\n The answer is **391**.\n", "The answer is **391**."},
		{Hermes, "<think></think>\n\ntavo", "tavo"}, {Hermes, "it was him</think>\ntavo", "tavo"},
		{Hermes, `{"name": "list"}`, `{"name": "list"}`}, {Hermes, "tavo <think>", "tavo <think>"},
		{Hermes, "<think>a</think><think>b</think> tavo", "tavo"},
		{Llama3, "tavo", "tavo"}, {Llama3, " <think>{</think> tavo {", "tavo {"}, {Llama3, "<tool_call>", "<tool_call>"},
	} {
		got := format(t, c.format).Parse(c.text)
		if got.FormatError != "" || !got.Answered || got.Answer != c.want || len(got.Calls) != 0 {
			t.Errorf("%s of %q = %+v, want the answer %q", c.format, c.text, got, c.want)
		}
	}
}

func TestFormatsRefuse(t *testing.T) {
	const ok = `{"name":"list","arguments":{}}`
	for name, texts := range map[FormatName]map[string]string{
		Hermes: {
			"": "neither a call nor an answer", " \n": "neither", "<think>x</think>\n": "neither", "<think>x": "<think> has no </think>",
			"<tool_call>": "is not JSON", "<tool_call>\n" + ok: "</tool_call> must follow", "<tool_call>" + ok + "</tool_call>.": "text goes before the first call",
			"</tool_call>" + "tavo": "closes no call", "</tool_call><tool_call>" + ok + "</tool_call>": "closes no call",
			"<tool_call>search entity: mira</tool_call>": "is not JSON", "<tool_call>[1]</tool_call>": "is not an object", "<tool_call>" + ok + ok + "</tool_call>": "must follow",
			`<tool_call>{"name":"list"}</tool_call>`: "has name and arguments", `<tool_call>{"arguments":{}}</tool_call>`: "has name and arguments",
			`<tool_call>{"name":"","arguments":{}}</tool_call>`: "name is not", `<tool_call>{"name":1,"arguments":{}}</tool_call>`: "name is not",
			`<tool_call>{"name":"list","arguments":"{}"}</tool_call>`: "arguments", `<tool_call>{"name":"list","arguments":null}</tool_call>`: "arguments",
			`<tool_call>{"name":"list","parameters":{}}</tool_call>`: `"parameters" is neither`, `<tool_call>{"Name":"list","arguments":{}}</tool_call>`: "is neither",
			`<tool_call>{"name":"a","name":"b","arguments":{}}</tool_call>`: "given twice", `<tool_call>{"name":"a","arguments":{"x":"1","x":"2"}}</tool_call>`: "given twice",
			`<tool_call>{"name":"a","arguments":{"x":"\ud800"}}</tool_call>`: "not a character", `<tool_call>{"name":"a","arguments":{"x":"\udc00\ud800"}}</tool_call>`: "not a character",
			"tavo\xff": "UTF-8", "<tool_call>" + ok + "</tool_call> and <tool_call>" + ok + "</tool_call>": "text goes before",
			"<tool_call>" + ok + "</tool_call><tool_call>{</tool_call>": "call 2",
		},
		Llama3: {
			"": "neither", "{": "is not JSON", "<|python_tag|>": "is not JSON", "<|python_tag|>print(1)": "is not JSON", ok: `"arguments" is neither`,
			`{"name":"list","parameters":{}}; {"name":"list","parameters":{}}`: "stands alone", `{"name":"list","parameters":{}} done`: "stands alone",
			`<think>{"name":"list","parameters":{}}`: "has no", "\xfe": "UTF-8",
		},
	} {
		for text, want := range texts {
			got := format(t, name).Parse(text)
			if got.Answered || len(got.Calls) != 1 || got.Calls[0].Status != rollout.CallUnparsable || len(got.Calls[0].Args) != 0 || !strings.Contains(got.FormatError, want) {
				t.Errorf("%s of %q = %+v, want it refused, saying %q", name, text, got, want)
			}
		}
	}
}

// TestScripts writes scripted turns of the plain form in every format and reads them again.
func TestScripts(t *testing.T) {
	for _, f := range Formats() {
		for _, turn := range []string{"search entity: mira; relation: mentor", `neighbors entity: "a; <b> \n\"c\""`, "list", "answer: tavo", `answer: "a; b"`} {
			want := Parse(turn)
			got := f.Parse(f.Script(turn, specs))
			if !reflect.DeepEqual(got, want) {
				t.Errorf("%s of %q as %q = %+v, want %+v", f.Name, turn, f.Script(turn, specs), got, want)
			}
		}
		for _, turn := range []string{"search mira mentor", "", "answer:tavo"} {
			if got := f.Parse(f.Script(turn, specs)); got.FormatError == "" {
				t.Errorf("%s reads the malformed %q as %+v", f.Name, turn, got)
			}
		}
	}
	const two = "list\nneighbors entity: mira"
	if got := format(t, Hermes).Parse(format(t, Hermes).Script(two, specs)); !reflect.DeepEqual(got, Parse(two)) {
		t.Errorf("two calls in hermes: %+v", got)
	}
	if got := format(t, Plain).Script(two, specs); got != two {
		t.Errorf("plain rewrites %q to %q", two, got)
	}
}

// TestFormatsInvert writes calls with any strings and reads them again.
func TestFormatsInvert(t *testing.T) {
	for _, f := range Formats() {
		t.Run(string(f.Name), func(t *testing.T) {
			rapid.Check(t, func(t *rapid.T) {
				c := call("search", "entity", rapid.String().Draw(t, "entity"), "relation", rapid.String().Draw(t, "relation"))
				text := f.Call(c, specs[0])
				if got := f.Parse(text); !reflect.DeepEqual(got, Action{Calls: []rollout.Call{c}}) {
					t.Errorf("%q reads as %+v, want %+v", text, got, c)
				}
			})
		})
	}
}

func TestFindFormat(t *testing.T) {
	for _, name := range FormatNames {
		f, err := FindFormat(name)
		if name == Auto {
			if err == nil || !strings.Contains(err.Error(), "plain, hermes, llama3") {
				t.Errorf("auto: %v", err)
			}
			continue
		}
		if err != nil || f.Name != name {
			t.Errorf("%s: %v, %v", name, f.Name, err)
		}
	}
	if f := format(t, Hermes); f.Observation(" error: no") != "error: no" || format(t, Plain).Observation(" 5") != " 5" {
		t.Error("an observation has a space before it just in plain")
	}
}

// TestDetect reads the templates of package render's test data, and the beginnings of others.
func TestDetect(t *testing.T) {
	for file, want := range map[string]FormatName{"qwen2_5": Hermes, "qwen3": Hermes, "llama3_1": Llama3, "llama3_2": Llama3} {
		text, err := os.ReadFile("../render/testdata/templates/" + file + ".jinja")
		if err != nil {
			t.Fatal(err)
		}
		if got, ok := Detect(string(text)); got != want || !ok {
			t.Errorf("%s: %q, %t; want %s", file, got, ok, want)
		}
	}
	for _, text := range []string{
		"", "{{ messages[0].content }}", "{{ '<tool_call>\n<function=' + call.name + '>' }}{{ call.arguments }}",
		`<tool_call>{"name": name, "parameters": values}`, `[TOOL_CALLS] [{"name": name, "arguments": values}]`,
	} {
		if got, ok := Detect(text); ok {
			t.Errorf("%q is %s", text, got)
		}
	}
}

func TestDefinition(t *testing.T) {
	got := Spec{Name: "search", Doc: `finds "facts"`, Params: []Param{{Name: "entity", Doc: "who"}, {Name: "relation"}}}.Definition()
	const want = `{"type": "function", "function": {"name": "search", "description": "finds \"facts\"", "parameters": {"type": "object", ` +
		`"properties": {"entity": {"type": "string", "description": "who"}, "relation": {"type": "string"}}, "required": ["entity", "relation"]}}}`
	if string(got) != want || !json.Valid(got) {
		t.Errorf("got %s\nwant %s", got, want)
	}
	if got := (Spec{Name: "list"}).Definition(); !json.Valid(got) {
		t.Errorf("a tool without parameters: %s", got)
	}
}

// FuzzFormats reads any text in every format: calls and an answer never come together, a refusal holds
// one unparsable call and a reason, and calls that were read are read again from what is written of them.
func FuzzFormats(f *testing.F) {
	for _, seed := range []string{"", "tavo", "search entity: mira", "<think>a</think>b", "</think>", "<tool_call>\n{\"name\": \"a\", \"arguments\": {\"b\": 1}}\n</tool_call>",
		`<|python_tag|>{"name":"a","parameters":{"b":"\ud83d\ude00"}}`, `{"name":"a","parameters":{"b":[{}]}}`, "<tool_call>{}</tool_call>", "\xff", `<tool_call>{"name":"\ud800","arguments":{}}</tool_call>`} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		for _, format := range Formats() {
			got := format.Parse(text)
			if got.FormatError != "" {
				if got.Answered || len(got.Calls) != 1 || got.Calls[0].Status != rollout.CallUnparsable || got.Calls[0].Name != "" {
					t.Fatalf("%s of %q is refused as %+v", format.Name, text, got)
				}
				continue
			}
			if got.Answered == (len(got.Calls) > 0) {
				t.Fatalf("%s of %q = %+v: want either calls or an answer", format.Name, text, got)
			}
			for _, c := range got.Calls {
				for key, value := range c.Args {
					if !json.Valid(value) {
						t.Fatalf("%s of %q: argument %q is %q", format.Name, text, key, value)
					}
				}
				written := format.Call(c, Spec{})
				if again := format.Parse(written); len(again.Calls) != 1 || !reflect.DeepEqual(again.Calls[0], c) {
					t.Fatalf("%s of %q: %+v is written as %q, which reads as %+v", format.Name, text, c, written, again)
				}
			}
		}
	})
}
