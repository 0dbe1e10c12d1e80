package configs

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestBad loads each file of testdata/bad with the overrides its comments give. What Load says must
// be what the .want file beside it holds.
func TestBad(t *testing.T) {
	files, err := filepath.Glob("testdata/bad/*.yaml")
	if err != nil || len(files) == 0 {
		t.Fatalf("no files: %v", err)
	}
	for _, path := range files {
		t.Run(strings.TrimSuffix(filepath.Base(path), ".yaml"), func(t *testing.T) {
			data, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			_, err = Load([]Source{{Name: filepath.Base(path), Data: data}}, overridesOf(data))
			var all Errors
			if !errors.As(err, &all) {
				t.Fatalf("got %v, want Errors", err)
			}
			golden(t, strings.TrimSuffix(path, ".yaml")+".want", []byte(err.Error()+"\n"))
		})
	}
}

// overridesOf reads the "# override: key=value" lines of a file.
func overridesOf(data []byte) []string {
	var overrides []string
	for line := range strings.Lines(string(data)) {
		if text, ok := strings.CutPrefix(line, "# override: "); ok {
			overrides = append(overrides, strings.TrimSuffix(text, "\n"))
		}
	}
	return overrides
}
