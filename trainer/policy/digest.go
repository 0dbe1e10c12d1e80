package policy

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"math"

	"github.com/turnwise-rl/turnwise/kernels/device"
	"github.com/turnwise-rl/turnwise/trainer/digests"
)

// Digest identifies shape and weights: "sha256:" and a hexadecimal hash over the config and all parameters in order, by
// the formula of [digests.Of]. Equal digests mean equal bits. The error is the device's.
func (m *Model) Digest() (string, error) {
	text, err := m.form.config.digested()
	if err != nil {
		return "", fmt.Errorf("digest: %w", err)
	}
	described := bytes.NewBuffer(text)
	for _, p := range m.parameters {
		fmt.Fprintf(described, "\n%s %v", p.Name, p.Shape)
	}
	numbers := []device.Buffer{m.weights}
	if m.form.stored == device.BF16 {
		numbers = nil
		for _, p := range m.parameters {
			numbers = append(numbers, p.Data)
		}
	}
	sum, err := digests.Of(m.dev, described.Bytes(), numbers...)
	if err != nil {
		return "", fmt.Errorf("digest: %w", err)
	}
	return sum, nil
}

// digested is the config as digests have it: defaults are left out, so that a new setting changes no digest.
func (c Config) digested() ([]byte, error) {
	if c.Family == Qwen3 {
		c.Family = ""
	}
	if c.RopeScaling.Type == RopePlain {
		c.RopeScaling.Type = ""
	}
	return json.Marshal(c)
}

// SerialDigest identifies shape and weights as manifests have it that name no formula: by one SHA-256 over everything, for
// comparison with these. The error is the device's.
func (m *Model) SerialDigest() (string, error) {
	hash := sha256.New()
	config, err := m.form.config.digested()
	if err != nil {
		return "", fmt.Errorf("digest: %w", err)
	}
	hash.Write(config)
	var buffer [4096]byte
	for _, p := range m.parameters {
		fmt.Fprintf(hash, "\n%s %v\n", p.Name, p.Shape)
		for from := 0; from < p.Data.Len(); from += pieceElements {
			m.piece = resized(m.piece, min(pieceElements, p.Data.Len()-from))
			if err := m.dev.Download(m.piece, p.Data.Slice(from, from+len(m.piece))); err != nil {
				return "", fmt.Errorf("digest: %w", err)
			}
			for data := m.piece; len(data) > 0; {
				n := min(len(buffer)/4, len(data))
				for i, v := range data[:n] {
					binary.LittleEndian.PutUint32(buffer[4*i:], math.Float32bits(v))
				}
				hash.Write(buffer[:4*n])
				data = data[n:]
			}
		}
	}
	return "sha256:" + hex.EncodeToString(hash.Sum(nil)), nil
}
