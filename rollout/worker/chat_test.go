package worker

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/turnwise-rl/turnwise/rollout"
	"github.com/turnwise-rl/turnwise/rollout/record"
	"github.com/turnwise-rl/turnwise/rollout/render"
	"github.com/turnwise-rl/turnwise/rollout/sampler"
	"github.com/turnwise-rl/turnwise/rollout/tool"
)

// newChat loads a tokenizer and a chat template of package render's test data for some tools.
func newChat(t *testing.T, family, template, end string, specs []tool.Spec) (*render.Folder, *render.Chat) {
	t.Helper()
	dir := t.TempDir()
	for name, from := range map[string]string{"tokenizer.json": "families/" + family + "/tokenizer.json", "chat_template.jinja": "templates/" + template + ".jinja"} {
		data, err := os.ReadFile("../render/testdata/" + from)
		if err == nil {
			err = os.WriteFile(filepath.Join(dir, name), data, 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(dir, "tokenizer_config.json"), []byte(`{"eos_token": "`+end+`"}`), 0o600); err != nil {
		t.Fatal(err)
	}
	folder, err := render.LoadFolder(dir)
	if err != nil {
		t.Fatal(err)
	}
	var tools []json.RawMessage
	for _, spec := range specs {
		tools = append(tools, spec.Definition())
	}
	chat, err := folder.NewChat(render.ChatConfig{Tools: tools})
	if err != nil {
		t.Fatal(err)
	}
	return folder, chat
}

// newChatStage is a stage whose player renders by a chat template.
func newChatStage(t *testing.T, family, template, end string, format tool.FormatName, turn func(sampler.Request, int) (string, bool)) *stage {
	t.Helper()
	s := newStage(t, turn)
	folder, chat := newChat(t, family, template, end, s.lab.Tools())
	var err error
	if s.player.Format, err = tool.FindFormat(format); err != nil {
		t.Fatal(err)
	}
	s.tokenizer, s.sampler.renderer = folder.Tokenizer, chat
	s.player.Renderers["lab"] = chat
	s.player.Limits.MaxTokens = 2000
	return s
}

// TestChatEpisodes plays an episode by the templates of two families: what goes wrong in a turn has the
// same status as in markers, and the policy reads one message a call, in the template's words.
func TestChatEpisodes(t *testing.T) {
	long := strings.Repeat("hello", 80)
	for name, test := range map[string]struct {
		family, template, end string
		format                tool.FormatName
		turns                 []string
		cut                   int
		observations          []string
		statuses              [][]rollout.CallStatus
	}{
		"qwen": {
			family: "qwen3", template: "qwen2_5", end: "<|im_end|>", format: tool.Hermes, cut: 2,
			turns: []string{
				"<think>two</think>\n<tool_call>\n{\"name\": \"echo\", \"arguments\": {\"text\": \"a\"}}\n</tool_call>\n<tool_call>\n{\"name\": \"sing\", \"arguments\": {}}\n</tool_call>",
				"<tool_call>echo</tool_call>", long, "<think>\n</think>\nyes",
			},
			observations: []string{
				"<|im_start|>user\n<tool_response>\na\n</tool_response>\n<tool_response>\nerror: no tool sing; tools: echo, refuse, break, hang, panic\n</tool_response><|im_end|>\n<|im_start|>assistant\n",
				"<|im_start|>user\n<tool_response>\nerror: call 1: \"echo?/tool_call?\" is not JSON\n</tool_response><|im_end|>\n<|im_start|>assistant\n",
				"<|im_end|>\n<|im_start|>user\n<tool_response>\nerror: turn cut off after 60 tokens\n</tool_response><|im_end|>\n<|im_start|>assistant\n",
			},
			statuses: [][]rollout.CallStatus{{rollout.CallOK, rollout.CallUnknownTool}, {rollout.CallUnparsable}, {rollout.CallUnparsable}, {}},
		},
		"llama": {
			family: "llama3", template: "llama3_1", end: "<|eot_id|>", format: tool.Llama3, cut: -1,
			turns: []string{`<|python_tag|>{"name": "echo", "parameters": {"text": 1}}`, `{"name": "refuse", "parameters": {"text": "b"}}`, "yes"},
			observations: []string{
				"<|start_header_id|>ipython<|end_header_id|>\n\n\"error: echo takes text\"<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\n",
				"<|start_header_id|>ipython<|end_header_id|>\n\n\"error: no b\"<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\n",
			},
			statuses: [][]rollout.CallStatus{{rollout.CallBadArgs}, {rollout.CallError}, {}},
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := newChatStage(t, test.family, test.template, test.end, test.format, func(_ sampler.Request, turn int) (string, bool) {
				return test.turns[turn], turn == test.cut
			})
			got, err := s.play(t)
			if err != nil {
				t.Fatal(err)
			}
			if got.Stop != rollout.StopAnswer || got.Answer != "yes" || *got.Outcome != 1 {
				t.Errorf("stop %s, answer %q, outcome %g", got.Stop, got.Answer, *got.Outcome)
			}
			var observations []string
			var statuses [][]rollout.CallStatus
			for _, turn := range got.Turns {
				all := []rollout.CallStatus{}
				for _, call := range turn.Calls {
					all = append(all, call.Status)
				}
				statuses = append(statuses, all)
				if turn.Observation != nil {
					text := s.tokenizer.Text(got.Tokens[turn.Observation.Start:turn.Observation.End])
					observations = append(observations, strings.TrimPrefix(text, "\n")) // after Qwen's <|im_end|>
				}
			}
			if diff := cmp.Diff(test.observations, observations); diff != "" {
				t.Errorf("observations (-want +got):\n%s", diff)
			}
			if diff := cmp.Diff(test.statuses, statuses); diff != "" {
				t.Errorf("statuses (-want +got):\n%s", diff)
			}
			prompt := s.tokenizer.Text(got.Tokens[:got.Turns[0].Start])
			for _, spec := range s.lab.Tools() {
				if !strings.Contains(prompt, `"`+spec.Name+`"`) {
					t.Errorf("the prompt does not show the tool %s:\n%s", spec.Name, prompt)
				}
			}
			for i, request := range s.sampler.requests {
				if diff := cmp.Diff(got.Tokens[:got.Turns[i].Start], request.Tokens); diff != "" {
					t.Errorf("turn %d was sampled from another context (-recorded +sampled):\n%s", i, diff)
				}
			}
			if err := record.Validate(rollout.Group{ID: "g1", Task: s.lab.Task(rollout.Train, 0, 0), Trajectories: []rollout.Trajectory{got}}); err != nil {
				t.Error(err)
			}
		})
	}
}
