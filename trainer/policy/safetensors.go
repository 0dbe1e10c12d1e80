package policy

import (
	"bufio"
	"bytes"
	"cmp"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
)

// The safetensors format: eight bytes of header length (little endian), a JSON header that maps
// names to dtype, shape and offsets, then the data. https://github.com/huggingface/safetensors

// maxHeaderBytes is the format's own limit on the header.
const maxHeaderBytes = 100 << 20

type tensorHeader struct {
	DType   string   `json:"dtype"`
	Shape   []int    `json:"shape"`
	Offsets [2]int64 `json:"data_offsets"`
}

// putFloats writes as many values as fit into buffer, little endian, and returns how many.
func putFloats(buffer []byte, data []float32) int {
	n := min(len(buffer)/4, len(data))
	for i, v := range data[:n] {
		binary.LittleEndian.PutUint32(buffer[4*i:], math.Float32bits(v))
	}
	return n
}

// EncodeWeights writes the weights as a safetensors file. Equal weights give equal bytes.
func (m *Model) EncodeWeights(w io.Writer) error {
	var header bytes.Buffer
	header.WriteString(`{"__metadata__":{"format":"pt"}`)
	offset := int64(0)
	for _, p := range m.parameters {
		end := offset + 4*int64(len(p.Data))
		entry, err := json.Marshal(tensorHeader{DType: "F32", Shape: p.Shape, Offsets: [2]int64{offset, end}})
		if err != nil {
			return fmt.Errorf("encode weights: %s: %w", p.Name, err)
		}
		fmt.Fprintf(&header, ",%q:%s", p.Name, entry)
		offset = end
	}
	header.WriteByte('}')
	for header.Len()%8 != 0 {
		header.WriteByte(' ')
	}
	out := bufio.NewWriterSize(w, 1<<16)
	var buffer [4096]byte
	binary.LittleEndian.PutUint64(buffer[:8], uint64(header.Len()))
	out.Write(buffer[:8]) // bufio keeps the first error and Flush returns it
	out.Write(header.Bytes())
	for _, p := range m.parameters {
		for data := p.Data; len(data) > 0; {
			n := putFloats(buffer[:], data)
			out.Write(buffer[:4*n])
			data = data[n:]
		}
	}
	if err := out.Flush(); err != nil {
		return fmt.Errorf("encode weights: %w", err)
	}
	return nil
}

// DecodeWeights reads a safetensors file that holds exactly the tensors of the shape c, in float32.
// A truncated file, a header that does not match the data, a missing, unknown or misshapen tensor,
// another dtype and a weight that is not finite are errors that name the tensor and what was expected.
func DecodeWeights(c Config, data []byte) (*Model, error) {
	if err := c.Validate(); err != nil {
		return nil, err
	}
	header, body, err := decodeHeader(data)
	if err != nil {
		return nil, fmt.Errorf("decode weights: %w", err)
	}
	// The size is compared before anything is allocated, so that a small file with a large shape fails cheaply.
	if want := 4 * c.parameterCount(); len(body) != want {
		return nil, fmt.Errorf("decode weights: %d bytes of data, the network's shape needs %d: %w", len(body), want, explainMismatch(c, header))
	}
	m, err := newZero(c)
	if err != nil {
		return nil, err
	}
	for _, p := range m.parameters {
		entry, ok := header[p.Name]
		if !ok {
			return nil, fmt.Errorf("decode weights: tensor %s is missing, expected F32 %v", p.Name, p.Shape)
		}
		delete(header, p.Name)
		if err := checkTensor(p.Name, entry, p.Shape); err != nil {
			return nil, fmt.Errorf("decode weights: %w", err)
		}
		for i := range p.Data {
			v := math.Float32frombits(binary.LittleEndian.Uint32(body[entry.Offsets[0]+4*int64(i):]))
			if math.IsNaN(float64(v)) || math.IsInf(float64(v), 0) {
				return nil, fmt.Errorf("decode weights: tensor %s: element %d is %v, expected a finite number", p.Name, i, v)
			}
			p.Data[i] = v
		}
	}
	for name := range header {
		return nil, fmt.Errorf("decode weights: unknown tensor %s: the network has none of that name", name)
	}
	return m, nil
}

func checkTensor(name string, entry tensorHeader, shape []int) error {
	if entry.DType != "F32" {
		return fmt.Errorf("tensor %s: dtype %q, expected \"F32\": convert the file to float32", name, entry.DType)
	}
	if !slices.Equal(entry.Shape, shape) {
		return fmt.Errorf("tensor %s: shape %v, expected %v", name, entry.Shape, shape)
	}
	return nil
}

// explainMismatch finds the tensor to blame when sizes disagree.
func explainMismatch(c Config, header map[string]tensorHeader) error {
	for _, s := range layout(c) {
		entry, ok := header[s.name]
		if !ok {
			return fmt.Errorf("tensor %s is missing, expected F32 %v", s.name, s.shape)
		}
		if err := checkTensor(s.name, entry, s.shape); err != nil {
			return err
		}
		delete(header, s.name)
	}
	for name := range header {
		return fmt.Errorf("unknown tensor %s: the network has none of that name", name)
	}
	return errors.New("the data are truncated")
}

// decodeHeader parses and checks a safetensors header against the bytes that follow it: every
// tensor lies inside the data, has the size its shape says, and together they cover the data once.
func decodeHeader(data []byte) (map[string]tensorHeader, []byte, error) {
	if len(data) < 8 {
		return nil, nil, fmt.Errorf("%d bytes, a safetensors file has at least 8", len(data))
	}
	length := binary.LittleEndian.Uint64(data)
	if length > maxHeaderBytes || length > uint64(len(data)-8) {
		return nil, nil, fmt.Errorf("header of %d bytes announced, the file has %d: it is truncated or not safetensors", length, len(data)-8)
	}
	body := data[8+length:]
	raw, err := decodeObject(data[8 : 8+length])
	if err != nil {
		return nil, nil, fmt.Errorf("header: %w", err)
	}
	header := make(map[string]tensorHeader, len(raw))
	var order []string
	for name, value := range raw {
		if name == "__metadata__" {
			continue
		}
		entry, err := decodeEntry(value, int64(len(body)))
		if err != nil {
			return nil, nil, fmt.Errorf("tensor %s: %w", name, err)
		}
		header[name] = entry
		order = append(order, name)
	}
	slices.SortFunc(order, func(a, b string) int {
		x, y := header[a].Offsets, header[b].Offsets
		return cmp.Or(cmp.Compare(x[0], y[0]), cmp.Compare(x[1], y[1]))
	})
	at := int64(0)
	for _, name := range order {
		if entry := header[name]; entry.Offsets[0] != at {
			return nil, nil, fmt.Errorf("tensor %s: starts at byte %d, expected %d: tensors overlap or leave a gap", name, entry.Offsets[0], at)
		}
		at = header[name].Offsets[1]
	}
	if at != int64(len(body)) {
		return nil, nil, fmt.Errorf("tensors cover %d bytes, the file has %d", at, len(body))
	}
	return header, body, nil
}

func decodeEntry(raw json.RawMessage, size int64) (tensorHeader, error) {
	var entry tensorHeader
	decoder := json.NewDecoder(bytes.NewReader(raw))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&entry); err != nil {
		return entry, err
	}
	start, end := entry.Offsets[0], entry.Offsets[1]
	if start < 0 || end < start || end > size {
		return entry, fmt.Errorf("bytes %d to %d, the file has %d", start, end, size)
	}
	width := map[string]int64{"F64": 8, "I64": 8, "F32": 4, "I32": 4, "BF16": 2, "F16": 2, "I16": 2, "I8": 1, "U8": 1, "BOOL": 1}[entry.DType]
	if width == 0 {
		return entry, fmt.Errorf("unknown dtype %q, expected \"F32\"", entry.DType)
	}
	bytes := width
	for _, s := range entry.Shape {
		if s < 0 || int64(s) > size || (s > 0 && bytes > size/int64(s)) {
			return entry, fmt.Errorf("shape %v does not fit %d bytes", entry.Shape, size)
		}
		bytes *= int64(s)
	}
	if bytes != end-start {
		return entry, fmt.Errorf("shape %v of %s needs %d bytes, %d to %d holds %d", entry.Shape, entry.DType, bytes, start, end, end-start)
	}
	return entry, nil
}

// decodeObject parses one JSON object and refuses duplicate keys and trailing data.
func decodeObject(data []byte) (map[string]json.RawMessage, error) {
	decoder := json.NewDecoder(bytes.NewReader(data))
	first, err := decoder.Token()
	if err != nil {
		return nil, err
	}
	if first != json.Delim('{') {
		return nil, fmt.Errorf("starts with %v, expected a JSON object", first)
	}
	object := map[string]json.RawMessage{}
	for decoder.More() {
		key, err := decoder.Token()
		if err != nil {
			return nil, err
		}
		name, _ := key.(string) // the decoder only yields strings as keys
		if _, twice := object[name]; twice {
			return nil, fmt.Errorf("%q occurs twice", name)
		}
		var value json.RawMessage
		if err := decoder.Decode(&value); err != nil {
			return nil, err
		}
		object[name] = value
	}
	if _, err := decoder.Token(); err != nil {
		return nil, err
	}
	if rest := bytes.TrimSpace(data[decoder.InputOffset():]); len(rest) > 0 {
		return nil, fmt.Errorf("%d bytes after the object", len(rest))
	}
	return object, nil
}
