//go:build !amd64

package cpu

func (i isa) element(e Element, dst, a, b []float32, c0, c1 float32) bool { return false }

func (i isa) sumDouble(x []float32) float64 { return sumDoubleGo(x) }

func (i isa) excess(x []float32) float32 { return excessGo(x) }
