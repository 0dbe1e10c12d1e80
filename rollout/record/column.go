package record

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math"
	"strconv"

	"github.com/turnwise-rl/turnwise/rollout"
)

// intoColumn reads a list with one number a token. A null and a number beyond the range become NaN and
// ±Inf, on which [checkColumns] decides: whether they matter depends on the policy having sampled there.
func intoColumn(target *[]float32) func(string, []byte) error {
	return func(at string, raw []byte) error {
		if json.Unmarshal(raw, target) == nil && !bytes.Contains(raw, []byte("null")) {
			return nil
		}
		var items []json.RawMessage
		if err := into(&items)(at, raw); err != nil {
			return err
		}
		*target = make([]float32, len(items))
		for i, item := range items {
			switch kind := kindOf(item); kind {
			case "number":
				x, _ := strconv.ParseFloat(string(item), 32) // valid JSON; what is out of range is ±Inf
				(*target)[i] = float32(x)
			case "null":
				(*target)[i] = float32(math.NaN())
			default:
				return fmt.Errorf("%s[%d]: %s, want a number", at, i, kind)
			}
		}
		return nil
	}
}

// columns are a trajectory's numbers per token under their names.
func columns(t *rollout.Trajectory) []column {
	return []column{
		{"behavior_logprobs", t.BehaviorLogProbs}, {"entropies", t.Entropies},
		{"values", t.Values}, {"reference_logprobs", t.ReferenceLogProbs},
	}
}

type column struct {
	name   string
	values []float32
}

// checkColumns refuses what is no finite number where the policy sampled, and ignores it elsewhere. Lengths
// are checked later.
func checkColumns(at string, t *rollout.Trajectory) error {
	for _, c := range columns(t) {
		for i := range c.values {
			switch {
			case finite(float64(c.values[i])):
			case i < len(t.Sampled) && t.Sampled[i]:
				return fmt.Errorf("%s.%s[%d]: trajectory %q, token %d: not a finite number where sampled is 1", at, c.name, i, t.ID, i)
			default:
				c.values[i] = 0
			}
		}
	}
	return nil
}

// notNumbers are what programs write into JSON for numbers that JSON does not have.
var notNumbers = []string{"NaN", "Infinity"}

// beyond stands for them: a number beyond every range.
const beyond = "1e99999"

// standIn replaces the bare words of [notNumbers] by [beyond], so that the line is JSON and the place of the
// word can be told. Texts stay as they are.
func standIn(line []byte) []byte {
	var out bytes.Buffer
	quoted := false
	for i := 0; i < len(line); i++ {
		if quoted && line[i] == '\\' && i+1 < len(line) {
			out.Write(line[i : i+2])
			i++
			continue
		}
		if line[i] == '"' {
			quoted = !quoted
		}
		if word := wordAt(line[i:]); word != "" && !quoted {
			out.WriteString(beyond)
			i += len(word) - 1
			continue
		}
		out.WriteByte(line[i])
	}
	return out.Bytes()
}

func wordAt(text []byte) string {
	for _, word := range notNumbers {
		if bytes.HasPrefix(text, []byte(word)) {
			return word
		}
	}
	return ""
}
