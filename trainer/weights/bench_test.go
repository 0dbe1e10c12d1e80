package weights

import (
	"bytes"
	"io"
	"os"
	"path/filepath"
	"testing"
)

// BenchmarkFolder measures reading, in float32 bytes per second: from a mapped file in the operating system's cache, from
// the same file through a buffer, and piece by piece as for an upload; and writing without a disk.
func BenchmarkFolder(b *testing.B) {
	values := make([]float32, 1<<24)
	for i := range values {
		values[i] = float32(i%1000) / 7
	}
	tensors := []Tensor{{"x", []int{len(values)}, FromSlice(values)}}
	for _, dtype := range []DType{F32, BF16, F16} {
		folder := b.TempDir()
		if err := Save(folder, tensors, Options{DType: dtype}); err != nil {
			b.Fatal(err)
		}
		f, err := Open(folder)
		if err != nil {
			b.Fatal(err)
		}
		defer f.Close()
		data, err := os.ReadFile(filepath.Join(folder, singleName))
		if err != nil {
			b.Fatal(err)
		}
		stream, err := Decode("stream", bytes.NewReader(data), int64(len(data)))
		if err != nil {
			b.Fatal(err)
		}
		run := func(name string, step func() error) {
			b.Run(string(dtype)+"/"+name, func(b *testing.B) {
				b.SetBytes(int64(4 * len(values)))
				b.ReportAllocs()
				for b.Loop() {
					if err := step(); err != nil {
						b.Fatal(err)
					}
				}
			})
		}
		run("mapped", func() error { return f.Read("x", values) })
		run("stream", func() error { return stream.Read("x", values) })
		run("upload", func() error {
			buffer := values[:1<<16]
			for from := 0; from < len(values); from += len(buffer) {
				if err := f.ReadRange("x", from, buffer); err != nil {
					return err
				}
			}
			return nil
		})
		run("encode", func() error { return Encode(io.Discard, tensors, Options{DType: dtype}) })
	}
}
