package policy

import (
	"context"
	"errors"
	"math"
	"math/rand/v2"
	"runtime"
	"slices"
	"testing"

	"github.com/turnwise-rl/turnwise/kernels/device"
)

// decoding is sequences being extended by hand.
type decoding struct {
	network *Network
	pages   device.Pages
	tokens  [][]int32
	cached  []int32
	tables  [][]int32
	chosen  [][]device.Sampled
	pass    *Pass // the last one of step
}

// newDecoding gives each prompt a table of pages in a random order.
func newDecoding(t testing.TB, m *Model, prompts [][]int32, seed uint64) *decoding {
	t.Helper()
	network, err := m.Share()
	if err != nil {
		t.Fatal(err)
	}
	d := &decoding{network: network, cached: make([]int32, len(prompts)), chosen: make([][]device.Sampled, len(prompts))}
	per := (m.Config().MaxPositions + device.PageTokens - 1) / device.PageTokens
	order := rand.New(rand.NewPCG(seed, 0)).Perm(per * len(prompts))
	for i, p := range prompts {
		d.tokens = append(d.tokens, slices.Clone(p))
		var table []int32
		for _, page := range order[i*per : (i+1)*per] {
			table = append(table, int32(page))
		}
		d.tables = append(d.tables, table)
	}
	if d.pages, err = m.dev.NewPages(network.PageShape(per * len(prompts))); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		network.Free()
		m.dev.FreePages(d.pages)
	})
	return d
}

// extend computes the next rows of some sequences: rows[i] of sequence which[i]. A sequence that is
// complete then gets the token that was chosen behind it.
func (d *decoding) extend(t testing.TB, which []int, rows []int, how func(sequence int) device.Sampling) {
	t.Helper()
	pass := &Pass{At: device.Placement{Offsets: []int32{0}}}
	for i, s := range which {
		from := int(d.cached[s])
		pass.Tokens = append(pass.Tokens, d.tokens[s][from:from+rows[i]]...)
		pass.At.Offsets = append(pass.At.Offsets, int32(len(pass.Tokens)))
		pass.At.Cached = append(pass.At.Cached, d.cached[s])
		pass.At.Tables = append(pass.At.Tables, d.tables[s])
		pass.How = append(pass.How, how(s))
	}
	pass.Chosen = make([]device.Sampled, len(which))
	if err := d.network.Extend(d.pages, pass); err != nil {
		t.Fatal(err)
	}
	for i, s := range which {
		d.cached[s] += int32(rows[i])
		if int(d.cached[s]) == len(d.tokens[s]) {
			d.tokens[s] = append(d.tokens[s], pass.Chosen[i].Token)
			d.chosen[s] = append(d.chosen[s], pass.Chosen[i])
		}
	}
}

func temperatureOf(sequence int) float32 { return []float32{1, 0.6, 0, 1.4}[sequence%4] }

// TestExtendHasTheBitsOfScore decodes sequences in random company, with prompts cut into random parts
// and on several numbers of threads, and compares every number with a full pass over the whole sequence.
func TestExtendHasTheBitsOfScore(t *testing.T) {
	all := variants()
	all["wide"] = variant{shapes()["wide"], Options{}}
	for name, v := range all {
		t.Run(name, func(t *testing.T) {
			v.options.Seed = 71
			m := newModelWith(t, v.config, v.options)
			for _, threads := range []int{1, 2, 4} {
				before := runtime.GOMAXPROCS(threads)
				checkDecoding(t, m, uint64(threads))
				runtime.GOMAXPROCS(before)
			}
		})
	}
}

func checkDecoding(t *testing.T, m *Model, seed uint64) {
	random := rand.New(rand.NewPCG(seed, 5))
	var prompts [][]int32
	for i := range 9 {
		prompts = append(prompts, randomPacked(m.Config(), uint64(i), 1+random.IntN(m.Config().MaxPositions/2)).Tokens)
	}
	d := newDecoding(t, m, prompts, seed)
	how := func(s int) device.Sampling {
		return device.Sampling{Temperature: temperatureOf(s), TopP: 1, Uniform: random.Float64()}
	}
	for range 30 {
		var which, rows []int
		for s := range d.tokens {
			left := len(d.tokens[s]) - int(d.cached[s])
			if random.IntN(3) > 0 && len(d.tokens[s]) < m.Config().MaxPositions {
				which, rows = append(which, s), append(rows, 1+random.IntN(left))
			}
		}
		random.Shuffle(len(which), func(i, j int) { which[i], which[j], rows[i], rows[j] = which[j], which[i], rows[j], rows[i] })
		d.extend(t, which, rows, how)
	}
	for s, chosen := range d.chosen {
		compareChoices(t, m, d.tokens[s][:len(prompts[s])+len(chosen)], len(prompts[s]), temperatureOf(s), chosen)
	}
}

// compareChoices compares what was reported when tokens from start on were chosen with Score.
func compareChoices(t *testing.T, m *Model, tokens []int32, start int, temperature float32, chosen []device.Sampled) {
	t.Helper()
	if temperature == 0 {
		temperature = 1
	}
	p := Packed{tokens, []int32{0, int32(len(tokens))}}
	l, h := score(t, m, p, temperature)
	plain, _ := score(t, m, p, 1)
	for i, c := range chosen {
		at := start + i
		if c.LogProb != l[at] || c.Entropy != h[at] || c.UntemperedLogProb != plain[at] {
			t.Fatalf("token %d: chosen with log-probability %v (untempered %v) and entropy %v, Score has %v (%v) and %v",
				at, c.LogProb, c.UntemperedLogProb, c.Entropy, l[at], plain[at], h[at])
		}
	}
}

// TestNetworkKeepsItsWeights changes the model under a network that reads its forms.
func TestNetworkKeepsItsWeights(t *testing.T) {
	for name, v := range variants() {
		v.options.Seed = 72
		m := newModelWith(t, v.config, v.options)
		prompt := randomPacked(v.config, 3, 7).Tokens
		d := newDecoding(t, m, [][]int32{prompt}, 1)
		for _, p := range m.Parameters() {
			dev.Scale(p.Data, 3)
		}
		m.Refresh()
		how := func(int) device.Sampling { return device.Sampling{Temperature: 1, TopP: 1, Uniform: 0.3} }
		d.extend(t, []int{0}, []int{7}, how)
		d.extend(t, []int{0}, []int{1}, how)
		same := newModelWith(t, v.config, v.options)
		t.Log(name)
		compareChoices(t, same, d.tokens[0], 7, 1, d.chosen[0])
	}
}

func TestExtendRefusesWhatDoesNotFit(t *testing.T) {
	c := tinyConfig()
	m := newModel(t, c, 1)
	d := newDecoding(t, m, [][]int32{{1, 2}}, 1)
	good := func() *Pass {
		return &Pass{Tokens: []int32{1, 2}, At: device.Placement{Offsets: []int32{0, 2}, Cached: []int32{0}, Tables: d.tables},
			How: make([]device.Sampling, 1), Chosen: make([]device.Sampled, 1)}
	}
	for want, spoil := range map[string]func(*Pass){
		"0 places for results":            func(p *Pass) { p.Chosen = nil },
		"token 1 is 37":                   func(p *Pass) { p.Tokens[1] = 37 },
		"offsets run from 0 to 1":         func(p *Pass) { p.At.Offsets[1] = 1 },
		"sequence 0 has 0 new tokens":     func(p *Pass) { p.At.Offsets[1], p.Tokens = 0, nil },
		"sequence 0 would have 41 tokens": func(p *Pass) { p.At.Cached[0] = 39 },
		"sequence 0 has 0 pages":          func(p *Pass) { p.At.Tables = [][]int32{nil} },
	} {
		pass := good()
		spoil(pass)
		if err := d.network.Extend(d.pages, pass); err == nil || !contains(err, want) {
			t.Errorf("error %v, want one with %q", err, want)
		}
	}
	pages, err := dev.NewPages(device.PageShape{DType: device.F32, Layers: 1, KVHeads: 1, Dim: 2, Pages: 1})
	if err != nil {
		t.Fatal(err)
	}
	if err := d.network.Extend(pages, good()); err == nil || !contains(err, "pages of shape") {
		t.Errorf("pages of another network: error %v", err)
	}
	if err := d.network.Extend(d.pages, good()); err != nil {
		t.Errorf("a good pass: %v", err)
	}
}

func TestDivergedNetworkSaysSo(t *testing.T) {
	m := newModel(t, tinyConfig(), 1)
	dev.Upload(m.Parameters()[0].Data.Slice(0, 1), []float32{float32(math.NaN())})
	m.Refresh()
	d := newDecoding(t, m, [][]int32{{0, 1}}, 1)
	pass := &Pass{Tokens: []int32{0, 1}, At: device.Placement{Offsets: []int32{0, 2}, Cached: []int32{0}, Tables: d.tables},
		How: []device.Sampling{{Temperature: 1, TopP: 1}}, Chosen: make([]device.Sampled, 1)}
	if err := d.network.Extend(d.pages, pass); err != nil {
		t.Fatal(err)
	}
	if v := pass.Chosen[0].LogProb; v == v {
		t.Errorf("log-probability %v of a network whose weights are no numbers", v)
	}
}

// TestMemoryIsGivenBack frees everything a model made.
func TestMemoryIsGivenBack(t *testing.T) {
	for name, v := range variants() {
		before := dev.Usage().Bytes
		v.options.Seed = 5
		m, err := New(dev, v.config, v.options)
		if err != nil {
			t.Fatal(err)
		}
		if err := m.Accumulate(context.Background(), randomPacked(v.config, 1, 9, 14), 1, ones); err != nil {
			t.Fatal(err)
		}
		network, err := m.Share()
		if err != nil {
			t.Fatal(err)
		}
		if dev.Usage().Bytes <= before {
			t.Errorf("%s: a model holds no memory", name)
		}
		memory := m.Memory()
		if memory.Parameters <= 0 || memory.Gradients <= 0 || memory.Activations <= 0 || memory.Workspace <= 0 {
			t.Errorf("%s: accounts for %+v", name, memory)
		}
		network.Free()
		m.Free()
		if after := dev.Usage().Bytes; after != before {
			t.Errorf("%s: %d bytes are held after Free, %d before", name, after, before)
		}
	}
}

// TestNoMemoryIsAnError lets each allocation fail in turn.
func TestNoMemoryIsAnError(t *testing.T) {
	v := variants()["adapters and tied head"]
	need := func(d device.Device) error {
		m, err := New(d, v.config, v.options)
		if err != nil {
			return err
		}
		defer m.Free()
		if err := m.Accumulate(context.Background(), randomPacked(v.config, 1, 9, 14), 1, ones); err != nil {
			return err
		}
		network, err := m.Share()
		if err != nil {
			return err
		}
		network.Free()
		return nil
	}
	for limit, failures := int64(1000), 0; ; limit += 7919 {
		d := limited(limit)
		err := need(d)
		if held := d.Usage().Bytes; held != 0 {
			t.Fatalf("limit %d: %d bytes are held after %v", limit, held, err)
		}
		if err == nil {
			if failures < 5 {
				t.Errorf("only %d limits were too small", failures)
			}
			return
		}
		failures++
		if out := new(device.OutOfMemory); !errors.As(err, &out) || out.Total != limit {
			t.Fatalf("limit %d: error %v", limit, err)
		}
	}
}
