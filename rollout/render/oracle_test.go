package render

import (
	"encoding/json"
	"os"
	"slices"
	"testing"
)

// testdata/encodings.json holds what another implementation of the format (Hugging Face's for
// JavaScript) makes of testdata/tokenizer.json; testdata/oracle.mjs wrote it.
func TestAgreesWithAnIndependentImplementation(t *testing.T) {
	data, err := os.ReadFile("testdata/tokenizer.json")
	if err != nil {
		t.Fatal(err)
	}
	tok, err := DecodeTokenizer(data)
	if err != nil {
		t.Fatal(err)
	}
	data, err = os.ReadFile("testdata/encodings.json")
	if err != nil {
		t.Fatal(err)
	}
	var cases []struct {
		Text string  `json:"text"`
		IDs  []int32 `json:"ids"`
	}
	if err := json.Unmarshal(data, &cases); err != nil {
		t.Fatal(err)
	}
	if len(cases) < 100 {
		t.Fatalf("the fixture has %d cases, want at least 100", len(cases))
	}
	for _, c := range cases {
		if got := tok.Tokens(c.Text); !slices.Equal(got, c.IDs) {
			t.Errorf("%q encodes as %v, want %v", c.Text, got, c.IDs)
		}
		if got := tok.Text(c.IDs); got != c.Text {
			t.Errorf("%v decodes as %q, want %q", c.IDs, got, c.Text)
		}
	}
}

// testdata/conversation.json holds what a Jinja implementation renders with the chat template.
func TestChatTemplateRendersAnEpisode(t *testing.T) {
	data, err := os.ReadFile("testdata/conversation.json")
	if err != nil {
		t.Fatal(err)
	}
	var fixture struct{ Template, Rendered string }
	if err := json.Unmarshal(data, &fixture); err != nil {
		t.Fatal(err)
	}
	if fixture.Template != chatTemplate {
		t.Error("the chat template changed since testdata/oracle.mjs rendered it; run the script again")
	}
	tok := tokenizer(t)
	episode := append(tok.Prompt("who is mira?\n"), tok.Tokens(" <call>search(mira)</call> ")...)
	episode = append(episode, tok.End())
	episode = append(episode, tok.Observation("\n  mira < tolan & 'perun'")...)
	if got := tok.Text(episode); got != fixture.Rendered {
		t.Errorf("an episode reads %q, the template renders %q", got, fixture.Rendered)
	}
}
