package algos_test

import (
	"encoding/json"
	"os"
	"regexp"
	"strings"
	"testing"
)

// named is a test as docs/conformance.md names it.
var named = regexp.MustCompile(`([\w./]+_test\.go):(Test\w+)`)

// TestConformancePageIsComplete: every entry of the reference vectors stands on the page, and the tests it names exist.
func TestConformancePageIsComplete(t *testing.T) {
	page := read(t, "../docs/conformance.md")
	for _, file := range []string{"testdata/vectors.json", "../kernels/testdata/vectors.json"} {
		var families map[string]map[string]json.RawMessage
		if err := json.Unmarshal([]byte(read(t, file)), &families); err != nil {
			t.Fatal(err)
		}
		for family, entries := range families {
			for entry := range entries {
				if entry != "in" && entry != "note" && !strings.Contains(page, "`"+family+"."+entry+"`") {
					t.Errorf("docs/conformance.md does not say which test holds %s.%s of %s", family, entry, file)
				}
			}
		}
	}
	tests := named.FindAllStringSubmatch(page, -1)
	if len(tests) < 60 {
		t.Errorf("docs/conformance.md names %d tests", len(tests))
	}
	for _, test := range tests {
		if !strings.Contains(read(t, "../"+test[1]), "\nfunc "+test[2]+"(") {
			t.Errorf("docs/conformance.md names %s, which %s does not have", test[2], test[1])
		}
	}
}

func read(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}
