package runfolder

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/turnwise-rl/turnwise/internal/blob"
)

func TestStart(t *testing.T) {
	f := open(t)
	if _, err := f.Start(t.Context()); !errors.Is(err, blob.ErrNotFound) {
		t.Errorf("a run from random weights: %v", err)
	}
	files := map[string][]byte{"config.json": []byte("{}"), "tokenizer.json": []byte("[]")}
	for range 2 { // an attempt that is made again
		if err := f.PutStart(t.Context(), "/models/qwen", files); err != nil {
			t.Fatal(err)
		}
	}
	start, err := f.Start(t.Context())
	if err != nil || start.From != "/models/qwen" || len(start.Files) != 2 || start.Files[1].Key != StartKey("tokenizer.json") {
		t.Fatalf("%+v, %v", start, err)
	}
	for _, other := range []map[string][]byte{
		{"config.json": []byte("{ }"), "tokenizer.json": []byte("[]")},
		{"config.json": []byte("{}")},
	} {
		if err := f.PutStart(t.Context(), "/models/qwen", other); !errors.Is(err, ErrChanged) {
			t.Errorf("other files: %v", err)
		}
	}
	write(t, f, StartKey("config.json"), "{ }")
	var corrupt *blob.CorruptError
	if _, err := f.Start(t.Context()); !errors.As(err, &corrupt) {
		t.Errorf("a copy that changed: %v", err)
	}
	if err := os.Remove(filepath.Join(f.StartPath(), "config.json")); err != nil {
		t.Fatal(err)
	}
	if _, err := f.Start(t.Context()); !errors.Is(err, blob.ErrNotFound) {
		t.Errorf("a copy that is gone: %v", err)
	}
}
