package render

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestMarkersOfAFolder recognises what SaveFolder wrote, and nothing else.
func TestMarkersOfAFolder(t *testing.T) {
	trained, err := Train([]string{"say yes"}, 270)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	if err := trained.SaveFolder(dir); err != nil {
		t.Fatal(err)
	}
	folder, err := LoadFolder(dir)
	if err != nil {
		t.Fatal(err)
	}
	markers, ok := folder.Markers()
	if !ok || markers.Stops()[0] != trained.End() {
		t.Fatalf("the folder's renderer: %v, %t", markers, ok)
	}
	if text, err := folder.ChatTemplate(true); err != nil || text != chatTemplate {
		t.Errorf("template %q, %v", text, err)
	}
	if err := os.WriteFile(filepath.Join(dir, templateFile), []byte(chatTemplate+" "), 0o600); err != nil {
		t.Fatal(err)
	}
	if folder, err = LoadFolder(dir); err != nil {
		t.Fatal(err)
	}
	if _, ok := folder.Markers(); ok {
		t.Error("another template is rendered in markers")
	}
	for _, c := range checkpoints {
		folder, err := LoadFolder(c.write(t))
		if err != nil {
			t.Fatal(err)
		}
		if _, ok := folder.Markers(); ok {
			t.Errorf("%s is rendered in markers", c.template)
		}
		if text, err := folder.ChatTemplate(true); err != nil || !strings.Contains(text, "add_generation_prompt") {
			t.Errorf("%s: template %.40q, %v", c.template, text, err)
		}
	}
}
