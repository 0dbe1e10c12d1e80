package ptx

import (
	"fmt"
	"os"
	"regexp"
	"strings"
	"testing"
)

// TestRegistersAreDocumented wants the table of the guide to GPUs to have the registers that are written down.
func TestRegistersAreDocumented(t *testing.T) {
	guide, err := os.ReadFile("../../../../docs/gpu.md")
	if err != nil {
		t.Fatal(err)
	}
	registers, err := os.ReadFile(registersFile)
	if err != nil {
		t.Fatal(err)
	}
	size := regexp.MustCompile(`_(64|128|1024|2048|4096)$`)
	_, table, _ := strings.Cut(string(guide), "| kernel | a block has |")
	table, _, _ = strings.Cut(table, "\n\n")
	told := 0
	for line := range strings.Lines(string(registers)) {
		var kernel string
		var count, stores, loads int
		if n, _ := fmt.Sscan(line, &kernel, &count, &stores, &loads); n < 4 || !strings.HasPrefix(kernel, "fast_") {
			continue
		}
		row := regexp.MustCompile("(?m)^\\| `" + size.ReplaceAllString(kernel, "") + "[_`].*|(?m)^\\| `fast_\\w+`, `" + kernel + "`.*").FindString(table)
		if row == "" {
			continue
		}
		told++
		want := fmt.Sprint(count)
		if stores+loads > 0 {
			want = fmt.Sprintf("%d (spills %d and %d bytes)", count, stores, loads)
		}
		if !regexp.MustCompile(`[ ,]` + regexp.QuoteMeta(want) + `( |,|$)`).MatchString(row) {
			t.Errorf("%s takes %s registers, and docs/gpu.md says:\n%s", kernel, want, row)
		}
	}
	if told < 15 {
		t.Errorf("docs/gpu.md tells the registers of %d kernels, want 15", told)
	}
}
