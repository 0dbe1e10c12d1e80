package gpubench

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/turnwise-rl/turnwise/trainer/policy"
)

const (
	document    = "../../docs/gpu.md"
	floorsBegin = "<!-- floors: made by `go test ./internal/gpubench -run TestFloors -rewrite` -->\n"
	floorsEnd   = "<!-- end of floors -->\n"
	// What the floors of the document divide by: what a large copy and a large product reach on an H200.
	documentCopy    = 4.3e12
	documentProduct = 790e12
)

// TestFloors holds the tables of docs/gpu.md to what is computed here.
func TestFloors(t *testing.T) {
	data, err := os.ReadFile(document)
	if os.IsNotExist(err) {
		t.Skipf("the document is not here: %v", err)
	}
	must(t, err)
	before, rest, begun := strings.Cut(string(data), floorsBegin)
	shown, after, ended := strings.Cut(rest, floorsEnd)
	if !begun || !ended {
		t.Fatalf("%s has no place for floors, between %q and %q", document, floorsBegin, floorsEnd)
	}
	made := trainingTable() + "\n" + decodingTable() + "\n" + stepTable() + "\n" + kernelTable()
	if shown == made {
		return
	}
	if !*rewrite {
		t.Fatalf("the floors in %s are not those that are computed: go test ./internal/gpubench -run TestFloors -rewrite", document)
	}
	must(t, os.WriteFile(document, []byte(before+floorsBegin+made+floorsEnd+after), 0o644))
}

var documented = []policy.Config{qwen3["0.6b"], qwen3["1.7b"]}

// lines is a table with three columns for each network: bytes and operations in their units, and the floor.
func lines(title string, bytes, operations, floor float64, units [3]string, rows [][2]Part) string {
	var b strings.Builder
	fmt.Fprintf(&b, "| %s | 0.6B: %s | %s | floor, %s | 1.7B: %s | %s | floor, %s |\n|---|---|---|---|---|---|---|\n", title, units[0], units[1], units[2], units[0], units[1], units[2])
	for _, row := range rows {
		fmt.Fprintf(&b, "| %s |", row[0].Name)
		for _, p := range row {
			took := float64(p.Floor(documentCopy, documentProduct))
			fmt.Fprintf(&b, " %s | %s | %s |", digits(p.Bytes/bytes), digits(p.Operations/operations), digits(took/floor))
		}
		b.WriteString("\n")
	}
	return b.String()
}

// digits are three of them, or all of a whole part, and nothing for 0.
func digits(v float64) string {
	switch {
	case v == 0:
		return ""
	case v >= 100:
		return fmt.Sprintf("%.0f", v)
	case v >= 10:
		return fmt.Sprintf("%.1f", v)
	case v >= 1:
		return fmt.Sprintf("%.2f", v)
	}
	return fmt.Sprintf("%.3f", v)
}

// parts are those of both networks, side by side.
func parts(of func(policy.Config) []Part) [][2]Part {
	a, b := of(documented[0]), of(documented[1])
	out := make([][2]Part, len(a))
	for i := range a {
		out[i] = [2]Part{a[i], b[i]}
	}
	return out
}

// named are the rows whose name has an ending, with more behind it.
func named(rows [][2]Part, prefix, more string) [][2]Part {
	var out [][2]Part
	for _, row := range rows {
		if strings.HasPrefix(row[0].Name, prefix) {
			row[0].Name += more
			out = append(out, row)
		}
	}
	return out
}

func trainingTable() string {
	short, long := slices.Repeat([]int{1024}, 32), slices.Repeat([]int{8192}, 4)
	rows := parts(func(c policy.Config) []Part { return TrainingParts(c, short, Masters) })
	text := lines("a training step, 32 × 1024 tokens", 1e9, 1e12, float64(time.Millisecond), [3]string{"GB", "TFLOP", "ms"}, rows)
	variants := append(named(parts(func(c policy.Config) []Part { return TrainingParts(c, long, Masters) }), "attention", ", 4 × 8192"),
		named(parts(func(c policy.Config) []Part { return TrainingParts(c, short, Narrow) }), "optimizer", ", weights in bf16 alone")...)
	text += wholes("all", func(c policy.Config) []Part { return TrainingParts(c, short, Masters) })
	text += wholes("all, 4 × 8192", func(c policy.Config) []Part { return TrainingParts(c, long, Masters) })
	rest := lines("", 1e9, 1e12, float64(time.Millisecond), [3]string{}, variants)
	text += strings.SplitAfterN(rest, "\n", 3)[2]
	text += "\n"
	for i, name := range []string{"0.6B", "1.7B"} {
		c := documented[i]
		floor := Floor(TrainingParts(c, short, Masters), documentCopy, documentProduct).Seconds()
		text += fmt.Sprintf("At its floors a step of %s trains %.0f thousand tokens a second, and its %.0f TFLOP by the usual count are %.0f%% of a product's ceiling.\n",
			name, 32768/floor/1e3, ModelOperations(c, short)/1e12, 100*ModelOperations(c, short)/floor/documentProduct)
	}
	return text
}

// wholes is a row of the sums, whose floor is that of the parts one after the other.
func wholes(name string, of func(policy.Config) []Part) string {
	text := "| " + name + " |"
	for _, c := range documented {
		all := of(c)
		sum := Sum(all)
		text += fmt.Sprintf(" %s | %s | %s |", digits(sum.Bytes/1e9), digits(sum.Operations/1e12), digits(float64(Floor(all, documentCopy, documentProduct))/float64(time.Millisecond)))
	}
	return text + "\n"
}

// Decoding in the document: half-way through 512 + 512 tokens.
const halfWay = 768

func decodingTable() string {
	batch := func(c policy.Config) []Part { return DecodingParts(c, 64, halfWay, 1, 0) }
	episodes := func(c policy.Config) []Part { return DecodingParts(c, 256, halfWay, 8, 512) }
	alone := func(c policy.Config) []Part { return DecodingParts(c, 256, halfWay, 1, 0) }
	units := [3]string{"MB", "GFLOP", "µs"}
	text := lines("a pass of decoding, 64 sequences at 768 positions", 1e6, 1e9, float64(time.Microsecond), units, parts(batch))
	more := append(named(parts(episodes), "keys", ", 256 sequences in groups of 8 that share 512"), named(parts(alone), "keys", ", 256 sequences, nothing shared")...)
	text += strings.SplitAfterN(lines("", 1e6, 1e9, float64(time.Microsecond), units, more), "\n", 3)[2]
	text += "\n"
	for i, name := range []string{"0.6B", "1.7B"} {
		floor := Floor(batch(documented[i]), documentCopy, documentProduct).Seconds()
		text += fmt.Sprintf("At its floors a pass of 64 by %s takes %.0f µs: %.0f thousand tokens a second.\n", name, 1e6*floor, 64/floor/1e3)
	}
	return text
}

// stepTable are the floors of a step of GRPO: 32 prompts of 512 tokens, 8 episodes of 512 more each.
func stepTable() string {
	episodes := slices.Repeat([]int{1024}, 256)
	pieces := []struct {
		name string
		of   func(policy.Config) time.Duration
	}{
		{"prompts", func(c policy.Config) time.Duration {
			all := ScoringParts(c, slices.Repeat([]int{512}, 32))
			return Floor(all[:len(all)-1], documentCopy, documentProduct) // without the head
		}},
		{"512 passes of 256 episodes", func(c policy.Config) time.Duration {
			return 512 * Floor(DecodingParts(c, 256, halfWay, 8, 512), documentCopy, documentProduct)
		}},
		{"score", func(c policy.Config) time.Duration {
			return Floor(ScoringParts(c, episodes), documentCopy, documentProduct)
		}},
		{"reference", func(c policy.Config) time.Duration {
			return Floor(ScoringParts(c, episodes), documentCopy, documentProduct)
		}},
		{"train, one optimizer's step", func(c policy.Config) time.Duration {
			return Floor(TrainingParts(c, episodes, Masters), documentCopy, documentProduct)
		}},
	}
	text := "| a step of GRPO, 32 × 8 episodes of 512 + 512 tokens | 0.6B: floor, ms | 1.7B: floor, ms |\n|---|---|---|\n"
	var totals [2]time.Duration
	for _, p := range pieces {
		text += "| " + p.name + " |"
		for i, c := range documented {
			took := p.of(c)
			totals[i] += took
			text += " " + digits(float64(took)/float64(time.Millisecond)) + " |"
		}
		text += "\n"
	}
	return text + fmt.Sprintf("| all | %s | %s |\n", digits(float64(totals[0])/float64(time.Millisecond)), digits(float64(totals[1])/float64(time.Millisecond)))
}

// kernelTable are single calls.
func kernelTable() string {
	short := slices.Repeat([]int{1024}, 32)
	units := [3]string{"MB", "GFLOP", "µs"}
	return lines("one call in training, 32 × 1024 tokens", 1e6, 1e9, float64(time.Microsecond), units, parts(func(c policy.Config) []Part { return TrainingKernels(c, short) })) + "\n" +
		lines("one call in decoding, 64 sequences at 768 positions", 1e6, 1e9, float64(time.Microsecond), units, parts(func(c policy.Config) []Part { return DecodingKernels(c, 64, halfWay, 8, 512) }))
}
