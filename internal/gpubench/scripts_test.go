package gpubench

import (
	"os"
	"os/exec"
	"strings"
	"testing"
)

// scripts is where the comparison's scripts are, seen from this package's folder.
const scripts = "../../scripts/gpu"

// python runs the machine's Python in the scripts' folder, and returns what it says.
func python(t *testing.T, words ...string) string {
	t.Helper()
	if _, err := os.Stat(scripts); err != nil {
		t.Skipf("the scripts are not here: %v", err)
	}
	program, err := exec.LookPath("python3")
	if err != nil {
		t.Skipf("there is no Python to run %s with: %v", scripts, err)
	}
	c := exec.CommandContext(t.Context(), program, append([]string{"-B"}, words...)...)
	c.Dir = scripts
	text, err := c.CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, text)
	}
	return string(text)
}

// TestScripts runs the tests of the scripts that compare with PyTorch.
func TestScripts(t *testing.T) {
	python(t, "-m", "unittest", "discover", ".")
}

// TestScriptsReadResults has the comparison run this binary on the emulated GPU and make its table of what that wrote.
func TestScriptsReadResults(t *testing.T) {
	if absent != nil || !emulated {
		t.Skip("compare.py measures a GPU")
	}
	binary, err := os.Executable()
	must(t, err)
	text := python(t, "compare.py", "--rehearse", "--sides", "turnwise", "--rounds", "1", "--steps", "1", "--bench", binary)
	for _, row := range []string{"training 2x9", "training 12,5", "decoding 3 × (7 + 5)", "a rehearsal without a GPU", "training: not measured", "decoding: not measured"} {
		if !strings.Contains(text, row) {
			t.Errorf("%q is not in\n%s", row, text)
		}
	}
}
