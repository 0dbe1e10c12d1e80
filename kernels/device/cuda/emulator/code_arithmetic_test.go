package emulator

import (
	"math"
	"math/big"
	"math/bits"
	"strings"
)

// signed is a number of a type with its sign.
func signed(kind string, v uint64) int64 {
	switch kind[len(kind)-2:] {
	case "16":
		return int64(int16(v))
	case "32":
		return int64(int32(v))
	}
	return int64(v)
}

func isSigned(kind string) bool { return kind[0] == 's' }

func f32(v uint64) float32  { return math.Float32frombits(uint32(v)) }
func f64(v uint64) float64  { return math.Float64frombits(v) }
func of32(v float32) uint64 { return uint64(math.Float32bits(v)) }
func of64(v float64) uint64 { return math.Float64bits(v) }
func truth(b bool) uint64 {
	if b {
		return 1
	}
	return 0
}

// fused is x·y + z in float32, rounded once.
func fused(x, y, z float32) float32 {
	wide := math.FMA(float64(x), float64(y), float64(z)) // exact but for its last bits
	if wide == 0 || math.IsInf(wide, 0) || wide != wide {
		return float32(wide)
	}
	exact := new(big.Float).SetPrec(1000).SetFloat64(float64(x) * float64(y))
	out, _ := exact.Add(exact, new(big.Float).SetFloat64(float64(z))).Float32()
	return out
}

// flushed is a number with those below 2⁻¹²⁶ made zero.
func flushed(v float64) float64 {
	if math.Abs(v) < 0x1p-126 {
		return math.Copysign(0, v)
	}
	return v
}

var (
	whole   = []string{"u16", "u32", "u64", "s16", "s32", "s64"}
	untyped = []string{"b16", "b32", "b64"}
	real    = []string{"f32", "f64"}
)

// formsThatCompute are all opcodes of which each lane's result follows from its own operands.
func formsThatCompute() []form {
	var out []form
	add := func(opcode, result string, takes string, want func(x [3]uint64) uint64) {
		out = append(out, form{opcode: opcode, result: result, takes: strings.Fields(takes), want: want})
	}
	for _, kind := range whole {
		wholeForms(kind, add)
	}
	for _, kind := range []string{"u16", "s16", "u32", "s32"} {
		wide := map[string]string{"16": "32", "32": "64"}[kind[1:]]
		wide = kind[:1] + wide
		product := func(x [3]uint64) uint64 {
			if isSigned(kind) {
				return uint64(signed(kind, x[0]) * signed(kind, x[1]))
			}
			return x[0] * x[1]
		}
		add("mul.wide."+kind, wide, kind+" "+kind, product)
		add("mad.wide."+kind, wide, kind+" "+kind+" "+wide, func(x [3]uint64) uint64 { return product(x) + x[2] })
	}
	for _, kind := range append([]string{"pred"}, untyped...) {
		add("and."+kind, kind, kind+" "+kind, func(x [3]uint64) uint64 { return x[0] & x[1] })
		add("or."+kind, kind, kind+" "+kind, func(x [3]uint64) uint64 { return x[0] | x[1] })
		add("xor."+kind, kind, kind+" "+kind, func(x [3]uint64) uint64 { return x[0] ^ x[1] })
		add("not."+kind, kind, kind, func(x [3]uint64) uint64 { return ^x[0] })
	}
	for _, kind := range append(append([]string{}, untyped...), whole...) {
		if kind[0] == 'b' {
			add("shl."+kind, kind, kind+" u32", func(x [3]uint64) uint64 { return x[0] << x[1] })
		}
		add("shr."+kind, kind, kind+" u32", func(x [3]uint64) uint64 {
			if isSigned(kind) {
				return uint64(signed(kind, x[0]) >> x[1])
			}
			return x[0] >> x[1]
		})
	}
	add("bfe.u32", "u32", "u32 u32 u32", func(x [3]uint64) uint64 { return x[0] >> (x[1] & 255) & (1<<(x[2]&255) - 1) })
	for _, kind := range append(append(append([]string{"pred"}, untyped...), whole...), real...) {
		add("mov."+kind, kind, kind, func(x [3]uint64) uint64 { return x[0] })
		if kind == "pred" {
			continue
		}
		add("selp."+kind, kind, kind+" "+kind+" pred", func(x [3]uint64) uint64 {
			if x[2] != 0 {
				return x[0]
			}
			return x[1]
		})
	}
	compareForms(add)
	for _, f := range realForms() {
		out = append(out, f)
	}
	convertForms(add)
	add("cvta.global.u64", "u64", "u64", func(x [3]uint64) uint64 { return x[0] })
	add("cvta.to.global.u64", "u64", "u64", func(x [3]uint64) uint64 { return x[0] })
	return out
}

type adder = func(opcode, result string, takes string, want func(x [3]uint64) uint64)

func wholeForms(kind string, add adder) {
	two := kind + " " + kind
	s := func(v uint64) int64 { return signed(kind, v) }
	add("add."+kind, kind, two, func(x [3]uint64) uint64 { return x[0] + x[1] })
	add("sub."+kind, kind, two, func(x [3]uint64) uint64 { return x[0] - x[1] })
	add("mul.lo."+kind, kind, two, func(x [3]uint64) uint64 { return x[0] * x[1] })
	add("mad.lo."+kind, kind, two+" "+kind, func(x [3]uint64) uint64 { return x[0]*x[1] + x[2] })
	add("mul.hi."+kind, kind, two, func(x [3]uint64) uint64 { return highHalf(kind, x[0], x[1]) })
	less := func(x, y uint64) bool { return x < y }
	if isSigned(kind) {
		less = func(x, y uint64) bool { return s(x) < s(y) }
		add("neg."+kind, kind, kind, func(x [3]uint64) uint64 { return -x[0] })
		add("abs."+kind, kind, kind, func(x [3]uint64) uint64 { return uint64(max(s(x[0]), -s(x[0]))) })
	}
	add("min."+kind, kind, two, func(x [3]uint64) uint64 {
		if less(x[1], x[0]) {
			return x[1]
		}
		return x[0]
	})
	add("max."+kind, kind, two, func(x [3]uint64) uint64 {
		if less(x[0], x[1]) {
			return x[1]
		}
		return x[0]
	})
	add("div."+kind, kind, two, func(x [3]uint64) uint64 {
		if x[1] == 0 {
			return math.MaxUint64 // left open
		}
		if isSigned(kind) {
			return uint64(s(x[0]) / s(x[1]))
		}
		return x[0] / x[1]
	})
	add("rem."+kind, kind, two, func(x [3]uint64) uint64 {
		if x[1] == 0 {
			return math.MaxUint64
		}
		if isSigned(kind) {
			return uint64(s(x[0]) % s(x[1]))
		}
		return x[0] % x[1]
	})
}

// highHalf is the upper half of a product.
func highHalf(kind string, x, y uint64) uint64 {
	switch kind {
	case "u64":
		hi, _ := bits.Mul64(x, y)
		return hi
	case "s64":
		product := new(big.Int).Mul(big.NewInt(int64(x)), big.NewInt(int64(y)))
		return uint64(product.Rsh(product, 64).Int64())
	case "s16", "s32":
		return uint64(signed(kind, x) * signed(kind, y) >> bitsOf(kind))
	}
	return x * y >> bitsOf(kind)
}

func compareForms(add adder) {
	compare := func(kind string, x, y uint64) (below, equal, unordered bool) {
		switch {
		case kind == "f32":
			return f32(x) < f32(y), f32(x) == f32(y), f32(x) != f32(x) || f32(y) != f32(y)
		case kind == "f64":
			return f64(x) < f64(y), f64(x) == f64(y), f64(x) != f64(x) || f64(y) != f64(y)
		case isSigned(kind):
			return signed(kind, x) < signed(kind, y), x == y, false
		}
		return x < y, x == y, false
	}
	holds := map[string]func(below, equal, above, unordered bool) bool{
		"eq": func(_, e, _, _ bool) bool { return e }, "ne": func(b, _, a, _ bool) bool { return b || a },
		"lt": func(b, _, _, _ bool) bool { return b }, "le": func(b, e, _, _ bool) bool { return b || e },
		"gt": func(_, _, a, _ bool) bool { return a }, "ge": func(_, e, a, _ bool) bool { return a || e },
		"equ": func(_, e, _, u bool) bool { return e || u }, "neu": func(b, _, a, u bool) bool { return b || a || u },
		"ltu": func(b, _, _, u bool) bool { return b || u }, "leu": func(b, e, _, u bool) bool { return b || e || u },
		"gtu": func(_, _, a, u bool) bool { return a || u }, "geu": func(_, e, a, u bool) bool { return a || e || u },
		"num": func(_, _, _, u bool) bool { return !u }, "nan": func(_, _, _, u bool) bool { return u },
		"lo": func(b, _, _, _ bool) bool { return b }, "ls": func(b, e, _, _ bool) bool { return b || e },
		"hi": func(_, _, a, _ bool) bool { return a }, "hs": func(_, e, a, _ bool) bool { return a || e },
	}
	set := func(names string, kinds ...string) {
		for _, name := range strings.Fields(names) {
			for _, kind := range kinds {
				add("setp."+name+"."+kind, "pred", kind+" "+kind, func(x [3]uint64) uint64 {
					below, equal, unordered := compare(kind, x[0], x[1])
					return truth(holds[name](below, equal, !below && !equal && !unordered, unordered))
				})
			}
		}
	}
	set("eq ne", untyped...)
	set("eq ne lt le gt ge", whole...)
	set("lo ls hi hs", "u16", "u32", "u64")
	set("eq ne lt le gt ge equ neu ltu leu gtu geu num nan", real...)
}

func realForms() []form {
	single := func(opcode string, takes int, near float64, f func(x, y, z float32) float32) form {
		return form{opcode + ".f32", "f32", []string{"f32", "f32", "f32"}[:takes], func(x [3]uint64) uint64 { return of32(f(f32(x[0]), f32(x[1]), f32(x[2]))) }, near}
	}
	double := func(opcode string, takes int, f func(x, y, z float64) float64) form {
		return form{opcode + ".f64", "f64", []string{"f64", "f64", "f64"}[:takes], func(x [3]uint64) uint64 { return of64(f(f64(x[0]), f64(x[1]), f64(x[2]))) }, 0}
	}
	least := func(x, y float64) float64 { // of two of which one is NaN, the other
		if x != x || y != y {
			return map[bool]float64{true: x, false: y}[y != y]
		}
		return math.Min(x, y)
	}
	return []form{
		single("add.rn", 2, 0, func(x, y, _ float32) float32 { return x + y }),
		single("sub.rn", 2, 0, func(x, y, _ float32) float32 { return x - y }),
		single("mul.rn", 2, 0, func(x, y, _ float32) float32 { return x * y }),
		single("div.rn", 2, 0, func(x, y, _ float32) float32 { return x / y }),
		single("fma.rn", 3, 0, fused),
		single("rcp.rn", 1, 0, func(x, _, _ float32) float32 { return 1 / x }),
		single("sqrt.rn", 1, 0, func(x, _, _ float32) float32 { return float32(math.Sqrt(float64(x))) }),
		single("neg", 1, 0, func(x, _, _ float32) float32 { return -x }),
		single("abs", 1, 0, func(x, _, _ float32) float32 { return float32(math.Abs(float64(x))) }),
		single("min", 2, 0, func(x, y, _ float32) float32 { return float32(least(float64(x), float64(y))) }),
		single("max", 2, 0, func(x, y, _ float32) float32 { return -float32(least(-float64(x), -float64(y))) }),
		single("ex2.approx.ftz", 1, 1e-6, func(x, _, _ float32) float32 {
			return float32(flushed(float64(float32(math.Exp2(flushed(float64(x)))))))
		}),
		single("lg2.approx.ftz", 1, 1e-6, func(x, _, _ float32) float32 { return float32(math.Log2(flushed(float64(x)))) }),
		single("rcp.approx.ftz", 1, 1e-6, func(x, _, _ float32) float32 { return float32(flushed(float64(float32(1 / flushed(float64(x)))))) }),
		double("add.rn", 2, func(x, y, _ float64) float64 { return x + y }),
		double("sub.rn", 2, func(x, y, _ float64) float64 { return x - y }),
		double("mul.rn", 2, func(x, y, _ float64) float64 { return x * y }),
		double("div.rn", 2, func(x, y, _ float64) float64 { return x / y }),
		double("fma.rn", 3, math.FMA),
		double("rcp.rn", 1, func(x, _, _ float64) float64 { return 1 / x }),
		double("sqrt.rn", 1, func(x, _, _ float64) float64 { return math.Sqrt(x) }),
		double("neg", 1, func(x, _, _ float64) float64 { return -x }),
		double("abs", 1, func(x, _, _ float64) float64 { return math.Abs(x) }),
		double("min", 2, func(x, y, _ float64) float64 { return least(x, y) }),
		double("max", 2, func(x, y, _ float64) float64 { return -least(-x, -y) }),
	}
}

// clamped is a number towards zero, no further than a type goes; of NaN, 0, or the top bit alone where a type has 64 bits.
func clamped(kind, from string, v float64) uint64 {
	size := bitsOf(kind)
	exact, _ := big.NewFloat(0).SetString("0")
	switch {
	case v != v && (size == 64 || from == "f64"):
		return 1 << (size - 1)
	case v != v:
		return 0
	case math.IsInf(v, 0):
		v = math.Copysign(0x1p200, v)
	}
	least, most := new(big.Int), new(big.Int).Lsh(big.NewInt(1), uint(size))
	if isSigned(kind) {
		least.Neg(new(big.Int).Lsh(big.NewInt(1), uint(size-1)))
		most.Lsh(big.NewInt(1), uint(size-1))
	}
	most.Sub(most, big.NewInt(1))
	n, _ := exact.SetPrec(300).SetFloat64(v).Int(nil)
	if n.Cmp(least) < 0 {
		n = least
	}
	if n.Cmp(most) > 0 {
		n = most
	}
	if n.Sign() < 0 {
		return uint64(n.Int64())
	}
	return n.Uint64()
}

func convertForms(add adder) {
	for _, from := range whole {
		for _, kind := range whole {
			add("cvt."+kind+"."+from, kind, from, func(x [3]uint64) uint64 {
				if isSigned(from) {
					return uint64(signed(from, x[0]))
				}
				return x[0]
			})
		}
	}
	for _, kind := range []string{"u32", "s32", "u64", "s64"} {
		add("cvt.rzi."+kind+".f32", kind, "f32", func(x [3]uint64) uint64 { return clamped(kind, "f32", float64(f32(x[0]))) })
		add("cvt.rzi."+kind+".f64", kind, "f64", func(x [3]uint64) uint64 { return clamped(kind, "f64", f64(x[0])) })
		add("cvt.rn.f32."+kind, "f32", kind, func(x [3]uint64) uint64 {
			if isSigned(kind) {
				return of32(float32(signed(kind, x[0])))
			}
			return of32(float32(x[0]))
		})
		add("cvt.rn.f64."+kind, "f64", kind, func(x [3]uint64) uint64 {
			if isSigned(kind) {
				return of64(float64(signed(kind, x[0])))
			}
			return of64(float64(x[0]))
		})
	}
	add("cvt.f64.f32", "f64", "f32", func(x [3]uint64) uint64 { return of64(float64(f32(x[0]))) })
	add("cvt.rn.f32.f64", "f32", "f64", func(x [3]uint64) uint64 { return of32(float32(f64(x[0]))) })
	add("cvt.rn.bf16x2.f32", "b32", "f32 f32", func(x [3]uint64) uint64 { return nearest16(x[0])<<16 | nearest16(x[1]) })
}

// nearest16 is a float32 rounded to BF16, by trying both neighbours.
func nearest16(v uint64) uint64 {
	value := float64(f32(v))
	if value != value {
		return 0x7fff
	}
	down := v >> 16
	up := down + 1 // away from zero
	if math.IsInf(value, 0) || v&0xffff == 0 {
		return down
	}
	further := float64(f32(up << 16))
	if math.IsInf(further, 0) {
		further = math.Copysign(0x1p128, value)
	}
	near, far := math.Abs(value-float64(f32(down<<16))), math.Abs(further-value)
	if far < near || far == near && down%2 == 1 {
		return up
	}
	return down
}
