package weights

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strconv"
	"unicode/utf8"
)

// member is one name and value of a JSON object.
type member struct {
	name  string
	value json.RawMessage
}

// decodeObject parses one JSON object and keeps its order. Unlike encoding/json it refuses names that occur twice,
// text that is not UTF-8, names in another case than expected (the caller compares them) and anything behind the object.
func decodeObject(data []byte) ([]member, error) {
	if !utf8.Valid(data) {
		return nil, errors.New("not UTF-8")
	}
	decoder := json.NewDecoder(bytes.NewReader(data))
	first, err := decoder.Token()
	if err != nil {
		return nil, notJSON(err)
	}
	if first != json.Delim('{') {
		return nil, fmt.Errorf("starts with %v, expected a JSON object", first)
	}
	var members []member
	seen := map[string]bool{}
	for decoder.More() {
		key, err := decoder.Token()
		if err != nil {
			return nil, notJSON(err)
		}
		name, _ := key.(string) // the decoder only yields strings here
		if seen[name] {
			return nil, fmt.Errorf("%q occurs twice", name)
		}
		seen[name] = true
		var value json.RawMessage
		if err := decoder.Decode(&value); err != nil {
			return nil, notJSON(err)
		}
		members = append(members, member{name, value})
	}
	if _, err := decoder.Token(); err != nil {
		return nil, notJSON(err)
	}
	if rest := bytes.TrimLeft(data[decoder.InputOffset():], " \t\r\n"); len(rest) > 0 {
		return nil, fmt.Errorf("%d bytes follow the JSON object", len(rest))
	}
	return members, nil
}

func notJSON(err error) error {
	if errors.Is(err, io.EOF) { // what the decoder says of text that ends between two tokens
		err = io.ErrUnexpectedEOF
	}
	return fmt.Errorf("not JSON: %w", err)
}

// decodeStrings parses a JSON object whose values are strings.
func decodeStrings(data []byte) (map[string]string, error) {
	members, err := decodeObject(data)
	if err != nil {
		return nil, err
	}
	out := make(map[string]string, len(members))
	for _, m := range members {
		if out[m.name], err = decodeString(m.value); err != nil {
			return nil, fmt.Errorf("%q: %w", m.name, err)
		}
	}
	return out, nil
}

func decodeString(data json.RawMessage) (string, error) {
	var text *string
	if err := json.Unmarshal(data, &text); err != nil || text == nil {
		return "", fmt.Errorf("%s is not a string", clip(data))
	}
	return *text, nil
}

// decodeWhole parses a JSON array of whole numbers, none negative, none beyond an int of so many bits.
func decodeWhole(data json.RawMessage, bits int) ([]int64, error) {
	var list []json.RawMessage
	if err := json.Unmarshal(data, &list); err != nil || list == nil {
		return nil, fmt.Errorf("%s is not an array of whole numbers", clip(data))
	}
	out := make([]int64, len(list))
	for i, text := range list {
		v, err := strconv.ParseUint(string(text), 10, bits-1)
		if err != nil {
			return nil, fmt.Errorf("%s is not a whole number from 0 to %d", clip(text), int64(1)<<(bits-1)-1)
		}
		out[i] = int64(v)
	}
	return out, nil
}

// clip shortens what a file holds for an error.
func clip(data []byte) string {
	const most = 60
	if len(data) <= most {
		return string(data)
	}
	return string(bytes.ToValidUTF8(data[:most], nil)) + "…"
}
