package tool

import (
	"reflect"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/turnwise-rl/turnwise/rollout"
)

var specs = []Spec{
	{Name: "search", Params: []Param{{Name: "entity"}, {Name: "relation"}}},
	{Name: "neighbors", Params: []Param{{Name: "entity"}}},
	{Name: "list"},
}

func call(name string, keyValues ...string) rollout.Call {
	return rollout.Call{Name: name, Args: rollout.StringArgs(keyValues...), Status: rollout.CallOK}
}

func TestParseCalls(t *testing.T) {
	for _, c := range []struct {
		text string
		want []rollout.Call
	}{
		{"search entity: mira; relation: mentor", []rollout.Call{call("search", "entity", "mira", "relation", "mentor")}},
		{"python code: 12*34-17", []rollout.Call{call("python", "code", "12*34-17")}},
		{"list", []rollout.Call{call("list")}},
		{"list\nneighbors entity: mira", []rollout.Call{call("list"), call("neighbors", "entity", "mira")}},
		{"say text: two words, and: a colon", []rollout.Call{call("say", "text", "two words, and: a colon")}},
		{`say text: "a; b\n\"<c>"; to: mira`, []rollout.Call{call("say", "text", "a; b\n\"<c>", "to", "mira")}},
		{`say text: ""`, []rollout.Call{call("say", "text", "")}},
		{`say text: "\u00e9\ud83d\ude00"`, []rollout.Call{call("say", "text", "é😀")}},
		{"tool_2 key_3: v", []rollout.Call{call("tool_2", "key_3", "v")}},
	} {
		got := Parse(c.text)
		if want := (Action{Calls: c.want}); !reflect.DeepEqual(got, want) {
			t.Errorf("Parse(%q) = %+v, want %+v", c.text, got, want)
		}
	}
}

func TestParseAnswers(t *testing.T) {
	for text, want := range map[string]string{
		"answer: tavo":        "tavo",
		"answer: 391":         "391",
		"answer: two words .": "two words .",
		`answer: "a; b"`:      "a; b",
		`answer: ""`:          "",
	} {
		got := Parse(text)
		if got.FormatError != "" || !got.Answered || got.Answer != want || len(got.Calls) != 0 {
			t.Errorf("Parse(%q) = %+v, want the answer %q", text, got, want)
		}
	}
}

func TestParseRefusesEveryOtherForm(t *testing.T) {
	for _, text := range []string{
		"", " ", "\n", "Search entity: mira", " search entity: mira", "search ", "search  entity: mira",
		"search entity", "search entity:", "search entity: ", "search entity:mira", "search entity:  mira",
		"search entity: mira ", "search entity: mira;", "search entity: mira; ", "search entity: mira;relation: boss",
		"search entity: mira;  relation: boss", "search entity: mira; entity: tavo", "search mira boss",
		"search entity : mira", "search: mira", "search(entity=mira)", "search entity: mi\"ra", "search entity: <mira>",
		"search entity: mira\n", "\nsearch entity: mira", "list\n\nlist", "search entity: mi\tra", "search entity: mira\r",
		`say text: "open`, `say text: "a" b`, `say text: "a"b`, `say text: "\x"`, `say text: "\ud800"`, "say text: \"a\nb\"", `say text: "a\`,
		"answer", "answer:", "answer: ", "answer:tavo", "answer:  tavo", "answer: tavo\nlist", "list\nanswer: tavo",
		"answer: tavo; why: because", "answer text: tavo", "answer: tavo\n", "say text: \xff", "2search entity: mira", "_a",
	} {
		got := Parse(text)
		want := []rollout.Call{{Args: rollout.Args{}, Status: rollout.CallUnparsable}}
		if got.FormatError == "" || got.Answered || got.Answer != "" || !reflect.DeepEqual(got.Calls, want) {
			t.Errorf("Parse(%q) = %+v, want one unparsable call and a format error", text, got)
		}
	}
}

func TestFormatErrorsPoint(t *testing.T) {
	for text, want := range map[string]string{
		"list\nSearch":          `line 2: "Search" does not begin with a tool's name`,
		"search entity: ":       `line 1: argument entity: "" is not a bare value; write it as a JSON string`,
		"search entity: a;b: c": `line 1: one space must come before "b: c"`,
		"answer: a; b":          `an answer stands alone, but "; b" follows it`,
		"answer x: y":           `line 1: "answer" is reserved for the final answer, which stands alone`,
		"list\n":                `line 2: "" does not begin with a tool's name`,
	} {
		if got := Parse(text).FormatError; got != want {
			t.Errorf("Parse(%q) says %q, want %q", text, got, want)
		}
	}
}

func TestFormat(t *testing.T) {
	for _, c := range []struct {
		call rollout.Call
		spec Spec
		want string
	}{
		{call("search", "relation", "boss", "entity", "mira"), specs[0], "search entity: mira; relation: boss"},
		{call("search", "zeal", "1", "relation", "boss", "area", "2"), specs[0], "search relation: boss; area: 2; zeal: 1"},
		{call("list"), specs[2], "list"},
		{call("neighbors", "entity", " mira"), specs[1], `neighbors entity: " mira"`},
		{call("neighbors", "entity", "<|end|>"), specs[1], `neighbors entity: "\u003c|end|\u003e"`},
		{rollout.Call{Name: "neighbors", Args: rollout.Args{"entity": []byte("12")}}, specs[1], "neighbors entity: 12"},
	} {
		if got := Format(c.call, c.spec); got != c.want {
			t.Errorf("Format(%s %s) = %q, want %q", c.call.Name, c.call.Args, got, c.want)
		}
	}
}

func TestParseInvertsFormat(t *testing.T) {
	word := rapid.StringMatching(`[a-z][a-z0-9_]{0,6}`)
	value := rapid.OneOf(rapid.String(), rapid.StringMatching(`[a-z;:"<>\\ \n]{0,8}`), word)
	rapid.Check(t, func(t *rapid.T) {
		args := rollout.Args{}
		spec := Spec{Name: word.Filter(func(s string) bool { return s != "answer" }).Draw(t, "name")}
		for key, v := range rapid.MapOfN(word, value, 0, 4).Draw(t, "args") {
			args[key] = encode(v)
			if rapid.Bool().Draw(t, "declared") {
				spec.Params = append(spec.Params, Param{Name: key})
			}
		}
		want := rollout.Call{Name: spec.Name, Args: args, Status: rollout.CallOK}
		text := Format(want, spec)
		if got := Parse(text); !reflect.DeepEqual(got, Action{Calls: []rollout.Call{want}}) {
			t.Fatalf("%s parses to %+v, want %+v", text, got, want)
		}
		answer := value.Draw(t, "answer")
		if got := Parse(FormatAnswer(answer)); !got.Answered || got.Answer != answer {
			t.Fatalf("%s parses to %+v, want the answer %q", FormatAnswer(answer), got, answer)
		}
	})
}

func TestCheck(t *testing.T) {
	for _, c := range []struct {
		call   rollout.Call
		status rollout.CallStatus
		text   string
	}{
		{call("search", "entity", "mira", "relation", "boss"), rollout.CallOK, ""},
		{call("list"), rollout.CallOK, ""},
		{call("serch", "entity", "mira"), rollout.CallUnknownTool, " error: no tool serch; tools: search, neighbors, list"},
		{call("search", "entity", "mira"), rollout.CallBadArgs, " error: search takes entity, relation"},
		{call("search", "entity", "mira", "relation", "boss", "more", "x"), rollout.CallBadArgs, " error: search takes entity, relation"},
		{call("search", "entity", "mira", "relations", "boss"), rollout.CallBadArgs, " error: search takes entity, relation"},
		{call("list", "entity", "mira"), rollout.CallBadArgs, " error: list takes nothing"},
		{rollout.Call{Name: "neighbors", Args: rollout.Args{"entity": []byte("12")}}, rollout.CallBadArgs, " error: neighbors takes entity"},
		{Parse("what?").Calls[0], rollout.CallUnparsable, " error: not a call; write tool key: value; or answer: value"},
	} {
		status, text := Check(c.call, specs)
		if status != c.status || text != c.text {
			t.Errorf("Check(%s %s) = %s, %q; want %s, %q", c.call.Name, c.call.Args, status, text, c.status, c.text)
		}
	}
	if _, text := Check(call("search"), nil); text != " error: no tool search; tools: none" {
		t.Errorf("without tools, Check says %q", text)
	}
}

func TestNormalize(t *testing.T) {
	for answer, want := range map[string]string{
		"Tavo": "tavo", "  tavo . ": "tavo", "The  Answer:\ttavo!": "the answer tavo", "": "", "?!": "",
		"391": "391", "-391": "-391", "12-34": "12 34", "12 - 34": "12 34", "3.5": "3.5", "3.": "3", ".5": "5",
		"Été": "été", "re-use": "re use", "1,000": "1 000", "--5": "-5",
	} {
		if got := Normalize(answer); got != want {
			t.Errorf("Normalize(%q) = %q, want %q", answer, got, want)
		}
	}
}

func TestExcerptIsHarmless(t *testing.T) {
	for text, want := range map[string]string{
		"mira": "mira", "<|im_end|>": "??im_end??", "a\nb": "a?b", "\xff": "?",
		strings.Repeat("x", 40): strings.Repeat("x", 24) + "..",
	} {
		if got := Excerpt(text); got != want {
			t.Errorf("Excerpt(%q) = %q, want %q", text, got, want)
		}
	}
}

func FuzzParse(f *testing.F) {
	for _, seed := range []string{
		"search entity: mira; relation: mentor", "python code: 12*34-17", "answer: tavo", "list\nlist",
		`say text: "a; b\n\u00e9"; to: x`, `answer: "\ud800"`, "search entity: mira\nanswer: x", " ", "a b: c; b: d",
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		action := Parse(text)
		if action.FormatError != "" {
			if action.Answered || len(action.Calls) != 1 || action.Calls[0].Status != rollout.CallUnparsable || action.Calls[0].Name != "" {
				t.Fatalf("%q is refused (%s) but yields %+v", text, action.FormatError, action)
			}
			return
		}
		if action.Answered != (len(action.Calls) == 0) {
			t.Fatalf("%q yields both or neither of calls and an answer: %+v", text, action)
		}
		written := FormatAnswer(action.Answer)
		if !action.Answered {
			lines := make([]string, len(action.Calls))
			for i, call := range action.Calls {
				lines[i] = Format(call, Spec{})
			}
			written = strings.Join(lines, "\n")
		}
		if again := Parse(written); !reflect.DeepEqual(again, action) {
			t.Fatalf("%q yields %+v; written as %q it yields %+v", text, action, written, again)
		}
	})
}
