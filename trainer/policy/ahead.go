package policy

import (
	"cmp"
	"errors"
	"fmt"

	"github.com/turnwise-rl/turnwise/kernels/device"
)

// Ahead is the most sequences of a pass that the network's device can be given by [Network.Queue], before the choices of the pass
// before are known. 0 says that it computes nothing while its host does something else.
func (n *Network) Ahead() int {
	dev := n.net.dev
	if _, ok := dev.(device.Ahead); !ok || dev.PassRows() < manyRows {
		return 0
	}
	return LogitRows(dev.PassRows(), n.net.form.config.VocabSize)
}

// Queue begins a pass as [Network.Extend] does, of no more than Ahead sequences and of one at least, and returns while the device
// computes it: see Finish. It may read choices of the pass queued before: see Pass.Drawn. Two passes at most are under way; the
// slices of a pass may change when Queue returns. On an error the pass is not under way, and others that are stay so.
func (n *Network) Queue(pages device.Pages, pass *Pass) error {
	switch sequences := pass.At.Sequences(); {
	case sequences < 1 || sequences > n.Ahead():
		return fmt.Errorf("queue: %d sequences, the device takes 1 to %d ahead", sequences, n.Ahead())
	case len(n.under) == device.MostFetched:
		return fmt.Errorf("queue: %d passes are under way already", len(n.under))
	}
	n.queueing = true
	defer func() { n.queueing = false }()
	if err := n.extend(pages, pass); err != nil {
		return fmt.Errorf("queue: %w", err)
	}
	return nil
}

// Finish waits for the choices of the pass that was queued first of those under way, and writes them to Chosen, whose length is the
// number of its sequences. The pass is under way no longer, also on an error.
func (n *Network) Finish(pass *Pass) error {
	if len(n.under) == 0 {
		return errors.New("finish: no pass is under way")
	}
	first := n.under[0]
	n.under = n.under[:copy(n.under, n.under[1:])]
	chosen := pass.Chosen
	var wrong error
	if len(chosen) != first.sequences { // they arrive all the same, or the next pass would be told them
		wrong = fmt.Errorf("%d places for the choices of %d sequences", len(chosen), first.sequences)
		chosen = make([]device.Sampled, first.sequences)
	}
	if err := cmp.Or(wrong, n.net.dev.Drawn(chosen, &first.scratch.draws)); err != nil {
		return fmt.Errorf("finish: %w", err)
	}
	return nil
}

// underWay is a pass whose choices nobody has waited for.
type underWay struct {
	scratch   *scratch
	sequences int
}

// tell waits for choices, or has them brought behind the pass where it is queued.
func (n *Network) tell(chosen []device.Sampled, s *scratch) error {
	if !n.queueing {
		return n.net.dev.Drawn(chosen, &s.draws)
	}
	if err := n.net.dev.(device.Ahead).Fetch(&s.draws); err != nil {
		return err
	}
	n.under = append(n.under, underWay{s, len(chosen)})
	return nil
}

// checkDrawn refuses choices that no pass under way makes.
func (n *Network) checkDrawn(p *Pass) error {
	if len(p.Drawn) == 0 {
		return nil
	}
	if len(p.Drawn) != len(p.Tokens) {
		return fmt.Errorf("%d tokens, of which %d are said to be drawn or not", len(p.Tokens), len(p.Drawn))
	}
	before := 0
	if last := len(n.under) - 1; last >= 0 && n.queueing {
		before = n.under[last].sequences
	}
	for i, from := range p.Drawn {
		if from < -1 || int(from) >= before {
			return fmt.Errorf("token %d is the choice for sequence %d of the pass before, which has %d under way", i, from, before)
		}
	}
	return nil
}

// feed has the device put choices of the pass before where tokens of this one stand.
func (n *Network) feed(tokens device.Buffer) {
	drawn := n.pass.Drawn
	for i := 0; i < len(drawn); {
		run := i + 1
		if drawn[i] >= 0 {
			for run < len(drawn) && drawn[run] == drawn[run-1]+1 {
				run++
			}
			from := n.under[len(n.under)-1].scratch.draws.Tokens
			n.net.dev.Copy(tokens.Slice(i, run), from.Slice(int(drawn[i]), int(drawn[i])+run-i))
		}
		i = run
	}
}
