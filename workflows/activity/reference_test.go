package activity

import (
	"os"
	"testing"
)

// TestReferenceStays turns a run, late, to a method that compares with the policy after the warm start, by a change
// and by a fork whose source is gone. Its weights are there although no method has asked for them, and the steps
// train with them.
func TestReferenceStays(t *testing.T) {
	learnerAlone(t)
	const compares = "method.loss.regularizers=[{type: kl, coef: 0.1}]"
	plain := []string{"method=grpo", answered, matched, "method.advantage.terms=[{credit: {type: broadcast, of: turns}}]",
		"training.steps=7", "checkpoint={every: 1, keep: 1}", "evaluation.every=0"}
	p := newApprentice(t, plain...)
	p.trainTo(8)
	if needsOf(resolve(t, plain...).Run.Method).reference || !needsOf(resolve(t, append(plain, compares)...).Run.Method).reference {
		t.Fatal("the one method does not need the reference, and the other does")
	}
	if keys, err := p.folder().List(t.Context(), "weights/"); err != nil || len(keys) != 6 {
		t.Fatalf("%v, %v; want the weights of steps 0, 2 and 5 to 8", keys, err)
	}
	fork := p.forked("fork-1", 8, append(plain, compares)...)
	if _, err := p.change(0, 1, compares); err != nil {
		t.Fatal(err)
	}
	input := p.input(9)
	input.Config = 1
	p.train(input)
	if err := os.RemoveAll(p.folder().Path); err != nil {
		t.Fatal(err)
	}
	fork.restart()
	fork.trainTo(9)
	if fork.manifest(9).Report.ReferenceKL == 0 {
		t.Error("the fork compares with nothing")
	}
}
