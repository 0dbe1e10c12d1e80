package policy

import (
	"context"
	"errors"
	"sync"
	"testing"

	"github.com/turnwise-rl/turnwise/kernels/device"
	"github.com/turnwise-rl/turnwise/kernels/device/cpu"
	"github.com/turnwise-rl/turnwise/kernels/device/devicetest"
)

// greedy decodes n tokens behind a prompt and frees the network.
func greedy(t testing.TB, network *Network, prompt []int32, n int) []device.Sampled {
	t.Helper()
	defer network.Free()
	on := network.Device()
	pages, err := on.NewPages(network.PageShape((len(prompt)+n)/device.PageTokens + 1))
	if err != nil {
		t.Fatal(err)
	}
	defer on.FreePages(pages)
	table := make([]int32, pages.Shape().Pages)
	for i := range table {
		table[i] = int32(i)
	}
	pass := Pass{Tokens: prompt, How: make([]device.Sampling, 1), Chosen: make([]device.Sampled, 1),
		At: device.Placement{Offsets: []int32{0, int32(len(prompt))}, Cached: []int32{0}, Tables: [][]int32{table}}}
	defer func() { on.Free(pass.At.Device) }()
	pass.How[0] = device.Sampling{TopP: 1}
	var all []device.Sampled
	for range n {
		if err := network.Extend(pages, &pass); err != nil {
			t.Fatal(err)
		}
		all = append(all, pass.Chosen[0])
		pass.At.Cached[0] += int32(len(pass.Tokens))
		pass.Tokens, pass.At.Offsets[1] = []int32{pass.Chosen[0].Token}, 1
	}
	return all
}

func sameChoices(t *testing.T, what string, got, want []device.Sampled) {
	t.Helper()
	for i := range want {
		if got[i] != want[i] {
			t.Fatalf("%s: token %d is %+v, want %+v", what, i, got[i], want[i])
		}
	}
}

// trainOnce changes every trained weight, as an optimizer's step does.
func trainOnce(t testing.TB, m *Model) {
	t.Helper()
	if err := m.DetachTrained(); err != nil {
		t.Fatal(err)
	}
	for _, p := range m.Parameters() {
		if !p.Grad.Absent() {
			m.dev.Scale(p.Data, 1.0625)
		}
	}
	if err := m.RefreshTrained(); err != nil {
		t.Fatal(err)
	}
}

// TestSharedNetworksHaveTheBitsOfFiles lets networks of three versions live at once and decodes with each what a network
// read from that version's file does, also after the model is gone.
func TestSharedNetworksHaveTheBitsOfFiles(t *testing.T) {
	for name, v := range variants() {
		for what, on := range map[string]device.Device{"f32": cpu.New(), "bf16": devicetest.NewReference()} {
			t.Run(name+" in "+what, func(t *testing.T) {
				o := v.options
				if o.Seed = 7; what == "bf16" {
					o = inBF16(o)
				}
				m, err := New(on, v.config, o)
				if err != nil {
					t.Fatal(err)
				}
				prompt := randomPacked(v.config, 3, 6).Tokens
				var shared []*Network
				var want [][]device.Sampled
				for range 3 {
					trainOnce(t, m)
					file := encoded(t, m)
					read, err := DecodeNetwork(on, v.config, o, file)
					if err != nil {
						t.Fatal(err)
					}
					want = append(want, greedy(t, read, prompt, 4))
					network, err := m.Share()
					if err != nil {
						t.Fatal(err)
					}
					shared = append(shared, network)
				}
				trainOnce(t, m)
				sameChoices(t, "version 0, beside later ones", greedy(t, shared[0], prompt, 4), want[0])
				trainOnce(t, m) // writes what version 0 had
				sameChoices(t, "version 1, after its neighbor was given back", greedy(t, shared[1], prompt, 4), want[1])
				m.Free()
				sameChoices(t, "version 2, without the model", greedy(t, shared[2], prompt, 4), want[2])
				if held := on.Usage().Bytes; held != 0 {
					t.Errorf("%d bytes are held after everything was freed", held)
				}
			})
		}
	}
}

// TestHandOverCopiesLittle wants a shared network to hold what is small, steps to take turns between two sets of forms, and
// frozen matrices to have one.
func TestHandOverCopiesLittle(t *testing.T) {
	for _, name := range []string{"qwen3", "adapters", "adapters and own head"} {
		t.Run(name, func(t *testing.T) {
			v, on := variants()[name], cpu.New()
			m := newModelOn(t, on, v.config, v.options)
			sizes := SizesOf(v.config, v.options, 0)
			alone, trained := on.Usage().Bytes, int64(0)
			for _, s := range m.forms.trained.slots {
				w, err := on.NewWeights(s.matrix, device.F32, s.out, s.in, device.ForwardBack)
				if err != nil {
					t.Fatal(err)
				}
				trained += on.Usage().Bytes - alone
				on.FreeWeights(w)
			}
			prompt := randomPacked(v.config, 3, 6).Tokens
			for step := range 4 {
				network, err := m.Share()
				if err != nil {
					t.Fatal(err)
				}
				want := alone + sizes.Direct.Bytes(device.F32)
				if step > 0 {
					want += trained
				}
				if got := on.Usage().Bytes; got != want {
					t.Fatalf("step %d: %d bytes are held with a network, want %d", step, got, want)
				}
				trainOnce(t, m)
				if got, want := on.Usage().Bytes, alone+sizes.Direct.Bytes(device.F32)+trained; got != want {
					t.Fatalf("step %d: %d bytes are held beside a network of older weights, want %d", step, got, want)
				}
				greedy(t, network, prompt, 1)
			}
		})
	}
}

// TestDetachWithoutMemory wants the error of a device without room for other forms before anything has changed.
func TestDetachWithoutMemory(t *testing.T) {
	on := &exhausted{Reference: devicetest.NewReference(), left: 1 << 30}
	m, err := New(on, tinyConfig(), Options{Seed: 5})
	if err != nil {
		t.Fatal(err)
	}
	defer m.Free()
	prompt := []int32{1, 2, 3}
	network, err := m.Share()
	if err != nil {
		t.Fatal(err)
	}
	p := randomPacked(tinyConfig(), 2, 9)
	before, _ := score(t, m, p, 1)
	for left := range 3 {
		on.left = left
		var full *device.OutOfMemory
		if err := m.Detach(); !errors.As(err, &full) || full.For != device.ForWeights {
			t.Fatalf("error %v", err)
		}
	}
	on.left = 1 << 30
	after, _ := score(t, m, p, 1)
	equalBits(t, "log-probabilities", after, before)
	other, err := m.Share()
	if err != nil {
		t.Fatal(err)
	}
	sameChoices(t, "the network", greedy(t, network, prompt, 3), greedy(t, other, prompt, 3))
}

// TestLearnerAndSamplerMeet trains on one goroutine while others decode what they are handed, for the race detector.
func TestLearnerAndSamplerMeet(t *testing.T) {
	v, on := variants()["qwen3"], cpu.New()
	m := newModelOn(t, on, v.config, Options{Seed: 3})
	prompt := randomPacked(v.config, 3, 6).Tokens
	type handed struct {
		network *Network
		want    []device.Sampled
	}
	handovers := make(chan handed, 2)
	var samplers sync.WaitGroup
	for range 2 {
		samplers.Go(func() {
			for h := range handovers {
				got := greedy(t, h.network, prompt, 4)
				for i := range got {
					if got[i] != h.want[i] {
						t.Errorf("token %d is %+v, want %+v", i, got[i], h.want[i])
					}
				}
			}
		})
	}
	for range 12 {
		trainOnce(t, m)
		if err := m.Accumulate(context.Background(), randomPacked(v.config, 1, 9, 14), 1, ones); err != nil {
			t.Fatal(err)
		}
		read, err := DecodeNetwork(on, v.config, Options{}, encoded(t, m))
		if err != nil {
			t.Fatal(err)
		}
		want := greedy(t, read, prompt, 4)
		network, err := m.Share()
		if err != nil {
			t.Fatal(err)
		}
		handovers <- handed{network, want}
	}
	close(handovers)
	samplers.Wait()
}

// TestNetworksServeUsersOfTheirDevice alone, as many as there are, and the last one gives the forms back.
func TestNetworksServeUsersOfTheirDevice(t *testing.T) {
	m, prompt := newModel(t, tinyConfig(), 1), []int32{1, 2, 3}
	network, err := m.Share()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := network.Again(cpu.New()); err == nil || !contains(err, "not on") {
		t.Errorf("error %v", err)
	}
	var others []*Network
	for range 2 {
		other, err := network.Again(m.Device())
		if err != nil {
			t.Fatal(err)
		}
		others = append(others, other)
	}
	trainOnce(t, m)
	first := greedy(t, network, prompt, 3)
	trainOnce(t, m)
	sameChoices(t, "another network", greedy(t, others[0], prompt, 3), first)
	trainOnce(t, m)
	sameChoices(t, "the last network", greedy(t, others[1], prompt, 3), first)
	if spare := len(m.forms.trained.spare); spare != 1 {
		t.Errorf("the model has %d spare sets, want the one that networks read", spare)
	}
}

// TestOneSpareSetIsKept holds networks of several versions, and wants the memory of all of them back but that of one, which
// the next step writes.
func TestOneSpareSetIsKept(t *testing.T) {
	on := cpu.New()
	m := newModelOn(t, on, tinyConfig(), Options{Seed: 4})
	alone := on.Usage().Bytes
	var held []*Network
	for range 4 {
		network, err := m.Share()
		if err != nil {
			t.Fatal(err)
		}
		held = append(held, network)
		trainOnce(t, m)
	}
	four := on.Usage().Bytes
	for _, network := range held {
		network.Free()
	}
	small := SizesOf(tinyConfig(), Options{}, 0).Direct.Bytes(device.F32)
	if got, want := on.Usage().Bytes-alone, (four-alone-4*small)/4; got != want {
		t.Errorf("%d bytes are held beside the model, want those of one set, %d", got, want)
	}
	trainOnce(t, m)
	if got, want := on.Usage().Bytes-alone, (four-alone-4*small)/4; got != want {
		t.Errorf("%d bytes are held after a step that no network reads, want %d", got, want)
	}
}
