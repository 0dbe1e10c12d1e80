package emulator

import (
	"slices"
	"strings"
	"testing"
)

// TestWhatIsNotKnownIsRefused reads lines that no kernel of ours has, and wants the line and the words.
func TestWhatIsNotKnownIsRefused(t *testing.T) {
	r := newCodeReader(t)
	for line, want := range map[string]string{
		// opcodes
		"cp.async.ca.shared.global [%r1], [%rd1], 16, %r2;": "the emulator does not know 'cp.async.ca.shared.global'",
		"ld.global.nc.f32 %f1, [%rd1];":                     "the emulator does not know 'ld.global.nc.f32'",
		"ld.local.f32 %f1, [%rd1];":                         "the emulator does not know 'ld.local.f32'",
		"ld.volatile.shared.f32 %f1, [%rd1];":               "the emulator does not know 'ld.volatile.shared.f32'",
		"ld.global.v3.f32 %f1, [%rd1];":                     "the emulator does not know 'ld.global.v3.f32'",
		"st.param.f32 [%rd1], %f1;":                         "the emulator does not know 'st.param.f32'",
		"add.f32 %f1, %f2, %f3;":                            "the emulator does not know 'add.f32'",
		"add.ftz.f32 %f1, %f2, %f3;":                        "the emulator does not know 'add.ftz.f32'",
		"add.rn.ftz.f32 %f1, %f2, %f3;":                     "the emulator does not know 'add.rn.ftz.f32'",
		"add.rz.f32 %f1, %f2, %f3;":                         "the emulator does not know 'add.rz.f32'",
		"add.sat.s32 %r1, %r2, %r3;":                        "the emulator does not know 'add.sat.s32'",
		"add.rn.s32 %r1, %r2, %r3;":                         "the emulator does not know 'add.rn.s32'",
		"add.b32 %r1, %r2, %r3;":                            "the emulator does not know 'add.b32'",
		"mul.s32 %r1, %r2, %r3;":                            "the emulator does not know 'mul.s32'",
		"mul.wide.s64 %rd1, %rd2, %rd3;":                    "the emulator does not know 'mul.wide.s64'",
		"mad.rn.f32 %f1, %f2, %f3, %f4;":                    "the emulator does not know 'mad.rn.f32'",
		"fma.f32 %f1, %f2, %f3, %f4;":                       "the emulator does not know 'fma.f32'",
		"ex2.approx.f32 %f1, %f2;":                          "the emulator does not know 'ex2.approx.f32'",
		"rcp.approx.f32 %f1, %f2;":                          "the emulator does not know 'rcp.approx.f32'",
		"cvt.f32.s32 %f1, %r1;":                             "the emulator does not know 'cvt.f32.s32'",
		"cvt.rzi.s32.u32 %r1, %r2;":                         "the emulator does not know 'cvt.rzi.s32.u32'",
		"cvt.rni.s32.f32 %r1, %f2;":                         "the emulator does not know 'cvt.rni.s32.f32'",
		"cvt.rn.f32.f64.f64 %f1, %fd1;":                     "the emulator does not know 'cvt.rn.f32.f64.f64'",
		"cvt.u32 %r1, %r2;":                                 "the emulator does not know 'cvt.u32'",
		"cvta.shared.u64 %rd1, %rd2;":                       "the emulator does not know 'cvta.shared.u64'",
		"setp.lt.and.s32 %p1, %r1, %r2, %p2;":               "the emulator does not know 'setp.lt.and.s32'",
		"setp.lt.b32 %p1, %r1, %r2;":                        "the emulator does not know 'setp.lt.b32'",
		"setp.nan.s32 %p1, %r1, %r2;":                       "the emulator does not know 'setp.nan.s32'",
		"shfl.sync.up.b32 %r1, %r2, 1, 31, -1;":             "the emulator does not know 'shfl.sync.up.b32'",
		"bar.red.popc.u32 %r1, 0, %p1;":                     "the emulator does not know 'bar.red.popc.u32'",
		"call foo;":                                         "the emulator does not know 'call'",
		"exit;":                                             "the emulator does not know 'exit'",
		"addx.s32 %r1, %r2, %r3;":                           "the emulator does not know 'addx.s32'",
		"add %r1, %r2, %r3;":                                "the emulator does not know 'add'",
		"add. %r1, %r2, %r3;":                               "the emulator does not know 'add.'",
		"add.s32. %r1, %r2, %r3;":                           "the emulator does not know 'add.s32.'",
		"* %r1;":                                            "the emulator does not know '*'",
		"\x01;":                                             "the emulator does not know '?'",
		".local .b8 stack[8];":                              "the emulator does not know '.local'",
		".pragma \"unroll\";":                               "the emulator does not know '\"unroll\"'",
		// operands
		"add.s32 %r1, %r2;":                                      "want ',', got ';'",
		"add.s32 %r1, %r2, %r3, %r4;":                            "want ';', got ','",
		"add.s32 %r1, %r2, %r3":                                  "want ';', got 'ret'",
		"add.s32 %r1, %r2, %r9;":                                 "no register '%r9' is declared",
		"add.s32 %r1, %r2, %r03;":                                "no register '%r03' is declared",
		"add.s32 %r1, %r2, %r;":                                  "no register '%r' is declared",
		"add.s32 %r1, %r2, r3;":                                  "no register 'r3' is declared",
		"add.s32 %r1, %r2, ;":                                    "want a name, got ';'",
		"add.s32 1, %r2, %r3;":                                   "want a name, got '1'",
		"add.s32 %r1, %r2, %rd3;":                                "register '%rd3' is not of the instruction's type",
		"add.s32 %r1, %r2, %f3;":                                 "register '%f3' is not of the instruction's type",
		"add.s32 %r1, %r2, %p3;":                                 "register '%p3' is not of the instruction's type",
		"and.pred %p1, %p2, %r3;":                                "register '%r3' is not of the instruction's type",
		"add.s32 %r1, %r2, 4294967296;":                          "4294967296 does not fit 32 bits",
		"add.s32 %r1, %r2, -2147483649;":                         "-2147483649 does not fit 32 bits",
		"add.s64 %rd1, %rd2, 18446744073709551616;":              "want a register or a number, got '18446744073709551616'",
		"add.s32 %r1, %r2, 017;":                                 "want a register or a number, got '017'",
		"add.s32 %r1, %r2, 1.5;":                                 "want a register or a number, got '1.5'",
		"add.s32 %r1, %r2, -%r3;":                                "want a number, got '%r3'",
		"add.rn.f32 %f1, %f2, 1;":                                "want a register or the bits of a number, 0f and 8 digits, got '1'",
		"add.rn.f32 %f1, %f2, 0f3F8000000;":                      "want a register or the bits of a number, 0f and 8 digits, got '0f3F8000000'",
		"add.rn.f64 %fd1, %fd2, 0f3F800000;":                     "want a register or the bits of a number, 0d and 16 digits, got '0f3F800000'",
		"ld.global.v2.f32 %f1, [%rd1];":                          "want '{', got '%f1'",
		"ld.global.v2.f32 {%f1, %f2, %f3}, [%rd1];":              "want '}', got ','",
		"ld.global.f32 %f1, [%r1];":                              "register '%r1' holds no address of that space",
		"ld.shared.f32 %f1, [%f1];":                              "register '%f1' holds no address of that space",
		"ld.global.f32 %f1, [tile];":                             "'tile' is in another space",
		"ld.shared.f32 %f1, [k_param_0];":                        "'k_param_0' is in another space",
		"ld.shared.f32 %f1, [nothing];":                          "no register and no variable 'nothing' is declared",
		"ld.shared.f32 %f1, [%rd1*4];":                           "want ']', got '*'",
		"ld.shared.f32 %f1, tile;":                               "want '[', got 'tile'",
		"ld.param.u64 %rd1, [k_param_0+17];":                     "8 bytes from 17 on are not all of the parameter's 24",
		"ld.param.u64 %rd1, [k_param_0+-1];":                     "8 bytes from -1 on are not all of the parameter's 24",
		"ld.param.v4.u64 {%rd1, %rd2, %rd3, %rd4}, [k_param_0];": "32 bytes from 0 on are not all of the parameter's 24",
		"ld.global.u64 %r1, [%rd1];":                             "register '%r1' is not of the instruction's type",
		"ld.global.f32 %rd1, [%rd1];":                            "register '%rd1' is not of the instruction's type",
		"st.global.u32 [%rd1], %f9;":                             "no register '%f9' is declared",
		"ld.global.u16 %f1, [%rd1];":                             "register '%f1' is not of the instruction's type",
		"ld.global.u32 %rs1, [%rd1];":                            "register '%rs1' is not of the instruction's type",
		"mul.wide.u32 %r1, %r2, %r3;":                            "register '%r1' is not of the instruction's type",
		"mad.wide.u32 %rd1, %r2, %r3, %r4;":                      "register '%r4' is not of the instruction's type",
		"shr.u64 %rd1, %rd2, %rd3;":                              "register '%rd3' is not of the instruction's type",
		"shl.b16 %rs1, %rs2, %rs3;":                              "register '%rs3' is not of the instruction's type",
		"bfe.u32 %r1, %r2, %r3, %rd3;":                           "register '%rd3' is not of the instruction's type",
		"selp.f32 %f1, %f2, %f3, %r1;":                           "register '%r1' is not of the instruction's type",
		"mov.u32 %r1, %tid.y;":                                   "no register '%tid.y' is declared",
		"mov.u64 %rd1, %tid.x;":                                  "'%tid.x' is of 32 bits",
		"mov.u16 %rs1, tile;":                                    "where 'tile' is does not fit the instruction's type",
		"mov.u32 %r1, nothing;":                                  "no register and no variable 'nothing' is declared",
		"mov.b16 {%rs1, %rs2}, %rs3;":                            "the emulator knows halves of b32 and of b64 alone",
		"mov.b32 {%rs1, %rs2}, {%rs1, %rs2};":                    "halves are moved to halves",
		"mov.b32 {%rs1, %r2}, %r3;":                              "register '%r2' is not of the instruction's type",
		"mov.b32 {_, %rs2}, %r3;":                                "no register '_' is declared",
		"bar.sync 1;":                                            "got 1, want 0: the emulator knows one barrier, of all threads",
		"bar.sync 0, 64;":                                        "want ';', got ','",
		"bar.warp.sync 15;":                                      "got 15, want -1: the emulator knows what all lanes do together",
		"shfl.sync.bfly.b32 %r1, %r2, 1, 31, 1;":                 "got 1, want -1: the emulator knows what all lanes do together",
		"shfl.sync.bfly.b32 %r1|%p1, %r2, 1, 31, -1;":            "want ',', got '|'",
		"cp.async.cg.shared.global [%r1], [%rd1], 8, %r2;":       "got 8, want 16: the emulator knows copies of 16 bytes",
		"cp.async.cg.shared.global [%r1], [%rd1], 16;":           "want ',', got ';'",
		"cp.async.wait_group -1;":                                "want a number, got '-'",
		"cp.async.wait_group 70000;":                             "70000 is more than 65536",
		"@%p1 add.s32 %r1, %r2, %r3;":                            "the emulator knows guards of bra and of ret, not of 'add.s32'",
		"@%r1 bra $L1;":                                          "register '%r1' is not of the instruction's type",
		"@p1 bra $L1;":                                           "no register 'p1' is declared",
		"bra $L1;":                                               "there is no label '$L1'",
		"bra %r1;":                                               "there is no label '%r1'",
		"$L1: $L1:":                                              "label '$L1' is there twice",
		// declarations
		".reg .b32 %r<3>;":               "'%r' is declared twice",
		".reg .b128 %q<3>;":              "the emulator does not know '.b128'",
		".reg .b32 %q<0>;":               "want at least one register '%q'",
		".reg .b32 %q<2000000>;":         "2000000 is more than 1048576",
		".reg .b32 %q<1048576>;":         "a kernel has more than 1048576 registers",
		".shared .align 3 .b8 q[8];":     "an alignment of 3 bytes is no power of two",
		".shared .align 8 .b8 tile[8];":  "'tile' is declared twice",
		".shared .align 8 .b8 q[0];":     "'q' has 0 bytes, want 1 to 49152",
		".shared .align 8 .b64 q[6145];": "'q' has 49160 bytes, want 1 to 49152",
		".shared .pred q;":               "a predicate is in no memory",
		"/* and so on":                   "a comment does not end",
		"\"and so on":                    "a string does not end",
	} {
		if _, got := r.kernels(kernelText(line, "ret;")); !strings.HasPrefix(got, "line ") || strings.SplitN(got, ": ", 2)[1] != want {
			t.Errorf("%q: got %q, want %q", line, got, want)
		}
	}
}

// TestTextsAreRefusedWithTheirLine reads whole texts.
func TestTextsAreRefusedWithTheirLine(t *testing.T) {
	r := newCodeReader(t)
	head := ".version 7.0\n.target sm_80\n.address_size 64\n"
	for _, c := range []struct{ name, text, want string }{
		{"nothing", "", "line 1: want '.version', got the end of the text"},
		{"another version", ".version 8.0\n.target sm_90a\n", "line 1: want '7.0', got '8.0'"},
		{"another GPU", "// a comment\n\n.version 7.0\n.target sm_90\n", "line 4: want 'sm_80', got 'sm_90'"},
		{"a machine's own code", "\x7fELF\x02\x01", "line 1: want '.version', got '?'"},
		{"a variable in global memory", head + ".visible .global .align 4 .u32 n;", "line 4: want '.entry', got '.global'"},
		{"a function", head + ".func f() { ret; }", "line 4: the emulator does not know '.func'"},
		{"two parameters", head + ".visible .entry k(.param .u64 a, .param .u64 b) { ret; }", "line 4: want ')', got ','"},
		{"too many threads", head + ".visible .entry k()\n.maxntid 1024, 2, 1\n{ ret; }", "line 5: a block has 2048 threads, want 1 to 1024"},
		{"no threads", head + ".visible .entry k()\n.maxntid 0\n{ ret; }", "line 5: a block has 0 threads, want 1 to 1024"},
		{"another limit", head + ".visible .entry k()\n.reqntid 32\n{ ret; }", "line 5: want '{', got '.reqntid'"},
		{"one name for two", head + ".entry k() { ret; }\n.entry k() { ret; }", "line 5: 'k' is declared twice"},
		{"no instructions", head + ".entry k() {\n}", "line 5: a kernel goes on behind its last instruction"},
		{"no end", head + ".entry k() { .reg .b32 a;\nadd.s32 a, a, 1;\n}", "line 6: a kernel goes on behind its last instruction"},
		{"an end that is guarded", head + ".entry k() { .reg .pred p;\n@p ret;\n}", "line 6: a kernel goes on behind its last instruction"},
		{"a label behind the end", head + ".entry k() {\nbra L;\nret;\nL:\n}", "line 5: there is no instruction behind label 'L'"},
		{"a scope that is left open", head + ".entry k() { {\nret;\n", "line 6: the text ends too early"},
		{"a brace too many", head + ".entry k() { ret; }\n}", "line 5: the emulator does not know '}'"},
		{"a register out of its scope", head + ".entry k() {\n{ .reg .b32 a; mov.u32 a, 1; }\nmov.u32 a, 1; ret; }", "line 6: no register 'a' is declared"},
		{"a variable of another kernel", head + ".entry k() { .shared .b32 s; ret; }\n.entry l() { .reg .b32 a;\nmov.u32 a, s; ret; }", "line 6: no register and no variable 's' is declared"},
		{"a text that ends within", head + ".entry k() { add.s32", "line 4: want a name, got the end of the text"},
		{"much shared memory", head + ".shared .b8 a[49152];\n.shared .b8 b[1];\n.entry k() { .reg .b32 r;\nmov.u32 r, a; mov.u32 r, b; ret;\n}",
			"line 8: a kernel's variables in shared memory have 49153 bytes, want at most 49152"},
	} {
		if _, got := r.kernels(c.text); got != c.want {
			t.Errorf("%s: got %q, want %q", c.name, got, c.want)
		}
	}
}

// TestRareFormsAreRead reads lines that the kernels may get, and looks at the last instruction but one.
func TestRareFormsAreRead(t *testing.T) {
	r := newCodeReader(t)
	reg := func(n int32) operand { return operand{kind: register, reg: n} }
	num := func(v int64) operand { return operand{kind: number, reg: -1, value: uint64(v)} }
	at := func(n int32, bytes int64) operand { return operand{kind: address, reg: n, value: uint64(bytes)} }
	// where registers of kernelText begin
	const p, rs, r32, f, fd, rd, behind = 0, 4, 8, 17, 22, 25, 30
	for _, c := range []struct {
		line   string
		vector uint8
		want   []operand
	}{
		{"mov.b32 %r1, {%rs1, %rs2};", 254, []operand{reg(r32 + 1), reg(rs + 1), reg(rs + 2)}},
		{"mov.b64 {%r1, %r2}, %rd3;", 2, []operand{reg(r32 + 1), reg(r32 + 2), reg(rd + 3)}},
		{"add.s32\n%r1,\n%r2, 0xFFFFffff;", 0, []operand{reg(r32 + 1), reg(r32 + 2), num(-1)}},
		{"and.b32 %r1, %r2, 4294967295;", 0, []operand{reg(r32 + 1), reg(r32 + 2), num(-1)}},
		{"and.b64 %rd1, %rd2, 4294967295;", 0, []operand{reg(rd + 1), reg(rd + 2), num(4294967295)}},
		{"min.s16 %rs1, %rs2, -32768;", 0, []operand{reg(rs + 1), reg(rs + 2), num(-32768)}},
		{"xor.pred %p1, %p2, 1;", 0, []operand{reg(p + 1), reg(p + 2), num(-1)}},
		{"and.pred %p1, %p2, 0;", 0, []operand{reg(p + 1), reg(p + 2), num(0)}},
		{"max.f64 %fd1, %fd2, 0D3ff0000000000000;", 0, []operand{reg(fd + 1), reg(fd + 2), num(0x3ff << 52)}},
		{"{ .reg .f32 %r<2>, a; mov.f32 %r1, a; }", 0, []operand{reg(behind + 1), reg(behind + 2)}}, // hides what is outside
		{"{ .reg .f32 a, b; } { .reg .b32 a; mov.b32 a, %r1; }", 0, []operand{reg(behind), reg(r32 + 1)}},
		{"mov.u32 %r1, tile; st.shared.v2.f32 [memory+-8], {%f1, 0f3F800000};", 2, []operand{at(-1, 120), reg(f + 1), num(0x3f800000)}},
		{"ld.shared.u8 %r1, [sum+2];", 1, []operand{reg(r32 + 1), at(-1, 2)}},
		{"ld.shared.u8 %r1, [%rd2-2];", 1, []operand{reg(r32 + 1), at(rd+2, -2)}},
		{".shared .f64 q[2]; mov.u32 %r1, sum; mov.u32 %r1, q;", 0, []operand{reg(r32 + 1), num(8)}},
		{"/* tile is not named */ mov.u32 %r1, sum;", 0, []operand{reg(r32 + 1), num(0)}},
		{"mov.u32 %r1, tile; mov.u32 %r1, sum;", 0, []operand{reg(r32 + 1), num(100)}},
		{"mov.u32 %r1, tile; mov.u32 %r1, memory;", 0, []operand{reg(r32 + 1), num(128)}},
		{"mov.u32 %r1, memory;", 0, []operand{reg(r32 + 1), num(0)}},
		{"mov.b64 %rd1, k_param_0;", 0, []operand{reg(rd + 1), num(0)}},
	} {
		all, wrong := r.kernels(kernelText(c.line, "ret;"))
		if wrong != "" {
			t.Errorf("%q: %s", c.line, wrong)
			continue
		}
		of := all[0].instructions
		i := of[len(of)-2]
		if i.line != firstLine || i.vector != c.vector || !slices.Equal(i.operand[:i.operands], c.want) {
			t.Errorf("%q: got %+v", c.line, i)
		}
	}
}

// TestWrongTextsSayTheirLine looks at the line of what is broken in the middle of a kernel.
func TestWrongTextsSayTheirLine(t *testing.T) {
	_, got := newCodeReader(t).kernels(kernelText("ret; // one", "/* two", "lines */ add.s32 %r1,", "%r2;", "ret;"))
	if want := "line 21: want ',', got ';'"; firstLine != 18 || got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}
