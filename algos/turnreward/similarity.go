package turnreward

import (
	"bytes"
	"encoding/json"
	"strconv"
	"strings"

	"github.com/turnwise-rl/turnwise/rollout"
)

// Similarity compares a call with a gold call:
//
//	S = 0                                              when the names differ (case-insensitive)
//	S = (1 + J(keys) + #{k ∈ gold : call[k] = gold[k]}) / (2 + |gold|)   otherwise
//
// with J the Jaccard index of the argument names, 1 when neither has any. Argument values are equal
// when their JSON is, whatever its spacing, key order and number notation. S is in [0, 1]. An
// unparsable call has similarity 0 to everything. Source: MatchTIR, arXiv 2601.10712.
func Similarity(call rollout.Call, gold rollout.GoldCall) float64 {
	if call.Status == rollout.CallUnparsable || !strings.EqualFold(call.Name, gold.Name) {
		return 0
	}
	shared, equal := 0, 0
	for key, want := range gold.Args {
		got, ok := call.Args[key]
		if !ok {
			continue
		}
		shared++
		if sameJSON(got, want) {
			equal++
		}
	}
	jaccard := 1.0
	if union := len(call.Args) + len(gold.Args) - shared; union > 0 {
		jaccard = float64(shared) / float64(union)
	}
	return (1 + jaccard + float64(equal)) / float64(2+len(gold.Args))
}

// similarities is the matrix of similarities, one row per call.
func similarities(calls []rollout.Call, gold []rollout.GoldCall) [][]float64 {
	all, rows := make([]float64, len(calls)*len(gold)), make([][]float64, len(calls))
	for i, call := range calls {
		rows[i], all = all[:len(gold):len(gold)], all[len(gold):]
		for j, want := range gold {
			rows[i][j] = Similarity(call, want)
		}
	}
	return rows
}

// sameJSON reports whether two JSON values are equal. What does not parse equals only its own bytes.
func sameJSON(a, b json.RawMessage) bool {
	a, b = bytes.TrimSpace(a), bytes.TrimSpace(b)
	if bytes.Equal(a, b) {
		return true
	}
	if plainString(a) && plainString(b) {
		return false
	}
	x, okX := canonical(a)
	y, okY := canonical(b)
	return okX && okY && bytes.Equal(x, y)
}

// plainString is true for a JSON string without escapes, whose bytes are its only spelling but for
// escaped ones.
func plainString(raw []byte) bool {
	return len(raw) > 0 && raw[0] == '"' && bytes.IndexByte(raw, '\\') < 0
}

// canonical spells a JSON value with sorted keys, no spaces and one notation per number.
func canonical(raw []byte) ([]byte, bool) {
	decoder := json.NewDecoder(bytes.NewReader(raw))
	decoder.UseNumber()
	var value any
	if decoder.Decode(&value) != nil || decoder.More() {
		return nil, false
	}
	out, err := json.Marshal(normal(value))
	return out, err == nil
}

// normal rewrites numbers: an integer keeps its digits, anything else becomes the shortest spelling of
// its float64, so that 3, 3.0 and 30e-1 agree and integers beyond 2^53 stay exact.
func normal(value any) any {
	switch v := value.(type) {
	case map[string]any:
		for key := range v {
			v[key] = normal(v[key])
		}
	case []any:
		for i := range v {
			v[i] = normal(v[i])
		}
	case json.Number:
		if !strings.ContainsAny(v.String(), ".eE") {
			if v == "-0" {
				return json.Number("0")
			}
			return v
		}
		f, err := v.Float64()
		if err != nil {
			return v
		}
		if f == 0 {
			return json.Number("0") // −0 included
		}
		if f == float64(int64(f)) && f > -1<<53 && f < 1<<53 {
			return json.Number(strconv.FormatInt(int64(f), 10))
		}
		return json.Number(strconv.FormatFloat(f, 'g', -1, 64))
	}
	return value
}
