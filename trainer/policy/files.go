package policy

import (
	"bytes"
	"fmt"
	"io"
	"slices"

	"github.com/turnwise-rl/turnwise/kernels/device"
	"github.com/turnwise-rl/turnwise/trainer/weights"
)

// EncodeWeights writes all parameters as one safetensors file in float32. Equal weights give equal
// bytes. A weight that is not finite is an error that names the tensor.
func (m *Model) EncodeWeights(w io.Writer) error {
	return weights.Encode(w, m.tensors(m.parameters), weights.Options{})
}

// EncodedBytes is what EncodeWeights writes besides a header.
func (m *Model) EncodedBytes() int { return m.form.size() * device.F32.Size() }

// tensors are parameters on their way into a file, piece by piece from the device.
func (m *Model) tensors(parameters []Parameter) []weights.Tensor {
	all := make([]weights.Tensor, len(parameters))
	for i, p := range parameters {
		all[i] = weights.Tensor{Name: p.Name, Shape: p.Shape, Fill: func(from int, dst []float32) error {
			return m.dev.Download(dst, p.Data.Slice(from, from+len(dst)))
		}}
	}
	return all
}

// DecodeWeights reads what EncodeWeights wrote: a safetensors file that holds exactly the tensors of
// the shape and the options. A truncated file, a header that does not match the data, a missing,
// unknown or misshapen tensor and a weight that is not finite are errors that name the tensor and what
// was expected.
func DecodeWeights(dev device.Device, c Config, o Options, data []byte) (*Model, error) {
	if err := c.Validate(); err != nil {
		return nil, err
	}
	from, err := weights.Decode("weights", bytes.NewReader(data), int64(len(data)))
	if err != nil {
		return nil, err
	}
	m, err := readModel(dev, c, o, from)
	if err != nil {
		return nil, fmt.Errorf("decode weights: %w", err)
	}
	return m.ready()
}

// DecodeNetwork is DecodeWeights and Share, for weights that are only sampled from: the model's own memory is held no
// longer.
func DecodeNetwork(dev device.Device, c Config, o Options, data []byte) (*Network, error) {
	if err := c.Validate(); err != nil {
		return nil, err
	}
	o.Frozen = true
	from, err := weights.Decode("weights", bytes.NewReader(data), int64(len(data)))
	if err != nil {
		return nil, err
	}
	m, err := readModel(dev, c, o, from)
	if err != nil {
		return nil, fmt.Errorf("decode network: %w", err)
	}
	if m, err = m.ready(); err != nil {
		return nil, err
	}
	defer m.Free()
	return m.Share()
}

// ReplaceWeights is DecodeWeights into a model that is there already, without a second copy. When the
// tensors are not the model's nothing has changed; when a value is not finite the weights are of no use.
func (m *Model) ReplaceWeights(data []byte) error {
	from, err := weights.Decode("weights", bytes.NewReader(data), int64(len(data)))
	if err == nil {
		err = checkTensors(from, m.form.layout())
	}
	if err == nil {
		err = m.Detach()
	}
	if err == nil {
		err = m.read(from, m.parameters)
	}
	if err != nil {
		return fmt.Errorf("replace weights: %w", err)
	}
	return m.Refresh()
}

// readModel makes a model from a set of files, without the forms that passes read. Shapes are compared before anything is allocated, so
// that a small file with a large shape fails cheaply.
func readModel(dev device.Device, c Config, o Options, from *weights.Folder) (*Model, error) {
	if err := checkTensors(from, newForm(c, o).layout()); err != nil {
		return nil, err
	}
	m, err := newZero(dev, c, o)
	if err != nil {
		return nil, err
	}
	if err := m.read(from, m.parameters); err != nil {
		m.Free()
		return nil, err
	}
	return m, nil
}

// checkTensors demands that the files hold exactly the tensors of a layout.
func checkTensors(from *weights.Folder, layout []span) error {
	known := make(map[string]bool, len(layout))
	for _, s := range layout {
		known[s.name] = true
		info, ok := from.Lookup(s.name)
		if !ok {
			return fmt.Errorf("tensor %s is missing, expected shape %v", s.name, s.shape)
		}
		if !slices.Equal(info.Shape, s.shape) {
			return fmt.Errorf("tensor %s of %s has shape %v, the config says %v", s.name, info.File, info.Shape, s.shape)
		}
		if !info.DType.Convertible() {
			return fmt.Errorf("tensor %s of %s is %s; convert to F32, BF16 or F16", s.name, info.File, info.DType)
		}
	}
	for _, info := range from.Tensors() {
		if !known[info.Name] {
			return fmt.Errorf("tensor %s of %s is unknown: the network has none of that name", info.Name, info.File)
		}
	}
	return nil
}

// read brings parameters from the files to the device, piece by piece.
func (m *Model) read(from *weights.Folder, parameters []Parameter) error {
	for _, p := range parameters {
		for at := 0; at < p.Data.Len(); at += pieceElements {
			m.piece = resized(m.piece, min(pieceElements, p.Data.Len()-at))
			if err := from.ReadRange(p.Name, at, m.piece); err != nil {
				return err
			}
			m.bring(p, at)
		}
	}
	return nil
}
