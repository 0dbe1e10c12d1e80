package emulator

import (
	"math/rand/v2"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/turnwise-rl/turnwise/kernels/device/cuda/ptx"
)

// FuzzCode reads texts, most of which are broken. Whatever is read can be run: each register is one of the kernel's, and each
// branch goes to an instruction.
func FuzzCode(f *testing.F) {
	r := newCodeReader(f)
	for _, lines := range [][]string{
		{"ret;"},
		{"mov.u32 %r1, %tid.x;", "$L1: add.s32 %r1, %r1, -1;", "setp.gt.s32 %p1, %r1, 0;", "@%p1 bra $L1;", "ret;"},
		{"{ .reg .b16 tmp; mov.b32 {tmp, %rs1}, %r1; }", "mov.b32 %r2, {%rs1, %rs2};", "bra.uni $L2;", "$L2: ret;"},
		{"mov.u64 %rd1, tile;", "mov.u32 %r1, memory;", "ld.shared.v2.f32 {%f1, %f2}, [%r1+-16];", "st.shared.f32 [sum], 0f3F800000;", "ret;"},
		{"ld.param.u64 %rd1, [k_param_0+8];", "cvta.to.global.u64 %rd2, %rd1;", "ld.global.f32 %f1, [%rd2];", "fma.rn.f32 %f1, %f1, %f1, 0f00000000;", "ret;"},
		{"cp.async.cg.shared.global [%r1], [%rd1], 16, %r2;", "cp.async.commit_group;", "cp.async.wait_group 1;", "bar.sync 0;", "ret;"},
		{"mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%f1,%f2,%f3,%f4}, {%r1,%r2,%r3,%r4}, {%r5,%r6}, {%f1,%f2,%f3,%f4};", "@!%p1 ret;", "ret;"},
		{".shared .align 8 .f64 d[3];", ".pragma \"nounroll\";", "/* */ div.rn.f64 %fd1, %fd1, 0d3FF0000000000000;", "ret;"},
	} {
		f.Add(kernelText(lines...))
	}
	for _, file := range ptx.Files() {
		if len(file.Text) < 20_000 {
			f.Add(string(file.Text))
		}
	}
	f.Fuzz(func(t *testing.T, text string) {
		if strings.IndexByte(text, 0) < 0 { // a text ends there
			readSoundly(t, r, text)
		}
	})
}

// TestMutatedTextsAreReadOrRefused moves, drops and repeats words of kernels. Not all that is read of them need be right, but sound.
func TestMutatedTextsAreReadOrRefused(t *testing.T) {
	r := newCodeReader(t)
	random := rand.New(rand.NewPCG(1, 2))
	words := regexp.MustCompile(`[\w$%.]+|\s+|.`)
	read := 0
	for _, file := range ptx.Files() {
		for _, at := range entryText.FindAllStringIndex(string(file.Text), -1) {
			if at[1]-at[0] > 10_000 {
				continue
			}
			text := words.FindAllString(".version 7.0\n.target sm_80\n.address_size 64\n"+string(file.Text[at[0]:at[1]]), -1)
			for range 40 {
				mutated := slices.Clone(text)
				for range 1 + random.IntN(3) {
					i, j := random.IntN(len(mutated)), random.IntN(len(mutated))
					switch random.IntN(4) {
					case 0:
						mutated = slices.Delete(mutated, i, i+1)
					case 1:
						mutated = slices.Insert(mutated, i, mutated[j])
					case 2:
						mutated[i] = mutated[j]
					case 3:
						mutated[i], mutated[j] = mutated[j], mutated[i]
					}
				}
				if readSoundly(t, r, strings.Join(mutated, "")) {
					read++
				}
			}
		}
	}
	if read == 0 {
		t.Error("all texts were refused, so that nothing was looked at")
	}
	t.Logf("%d texts were read", read)
}

// readSoundly reads a text and looks at all that is read. It reports whether anything was.
func readSoundly(t *testing.T, r *codeReader, text string) bool {
	t.Helper()
	all, wrong := r.kernels(text)
	if all != nil && wrong != "" || wrong != "" && !strings.HasPrefix(wrong, "line ") {
		t.Fatalf("%d kernels, wrong: %q", len(all), wrong)
	}
	for _, k := range all {
		for _, i := range k.instructions {
			sound(t, k, i)
		}
	}
	return len(all) > 0
}

// sound fails where an instruction cannot be of the kernel.
func sound(t *testing.T, k readKernel, i instruction) {
	t.Helper()
	branches := i.op == opBranch && i.guard >= 0
	if int(i.op) >= len(operationNames) || int(i.typ) >= len(typeNames) || int(i.operands) > len(i.operand) ||
		int32(i.guard) >= k.registers || i.line < 1 || i.convergence < -1 || i.convergence > k.count || branches != (i.convergence >= 0) {
		t.Fatalf("%s: %+v", k.name, i)
	}
	for _, o := range i.operand[:i.operands] {
		within := o.reg == -1
		switch o.kind {
		case register:
			within = o.reg >= 0 && o.reg < k.registers
		case address:
			within = o.reg >= -1 && o.reg < k.registers
		case place:
			within = o.value < uint64(k.count)
		case special:
			within = o.reg >= 0 && int(o.reg) < len(specialNames)
		}
		if !within {
			t.Fatalf("%s: %+v of %+v", k.name, o, i)
		}
	}
}
