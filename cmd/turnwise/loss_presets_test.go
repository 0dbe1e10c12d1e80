//go:build slim

package main

import (
	"io"
	"math"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/turnwise-rl/turnwise/configs"
	"github.com/turnwise-rl/turnwise/kernels"
	"github.com/turnwise-rl/turnwise/kernels/batchfile"
	"github.com/turnwise-rl/turnwise/kernels/ref"
)

// everyStream is a batch with all that any method's loss reads.
const everyStream = `{"schema":"turnwise.batch/v1","version":7,"sequences":[
  {"logprobs":[null,-1.0,-1.1,null,-0.5],"proximal":[null,-1.15,-1.0,null,-0.8],"behavior":[null,-1.2,-1.05,null,-0.6],"reference":[null,-0.9,-1.3,null,-0.7],
   "entropy":[null,0.5,0.25,null,1],"values":[null,1,2,null,3],"old_values":[null,1.5,1.75,null,2.5],"returns":[null,1.25,1,null,1.5],
   "advantages":[null,0.5,0.25,null,-1],"loss_weights":[null,1,2,null,0.5],"ce_weights":[null,0,1,null,0.5],"reference_kl_weights":[null,1,0,null,0.25],
   "sampled":[0,1,1,0,1],"turn":[-1,0,0,-1,1],"versions":[0,6,6,0,7],"rank_score":1,"outcome":1,"group":"a","pair":{"id":"x","role":"chosen"}},
  {"logprobs":[-2,-0.25],"proximal":[-1.9,-0.75],"behavior":[-2.1,-0.555],"reference":[-1.8,-0.2],"entropy":[1,0.75],"values":[0,1],"old_values":[0.5,0.75],
   "returns":[0.25,-1],"advantages":[-0.5,1.5],"loss_weights":[1,1],"ce_weights":[1,0],"reference_kl_weights":[1,1],"sampled":[1,1],"turn":[0,0],
   "versions":[5,5],"rank_score":-0.5,"outcome":-1,"group":"a","pair":{"id":"x","role":"rejected"}}]}`

// Every method's loss has the value and the gradient of the oracle, which derives them by hand.
func TestLossesOfAllMethodsAgreeWithTheOracle(t *testing.T) {
	batch, err := batchfile.NewReader(strings.NewReader(everyStream), "batch").Next()
	if err != nil {
		t.Fatal(err)
	}
	near := cmpopts.EquateApprox(1e-9, 1e-9)
	for _, name := range configs.MethodNames() {
		method, err := (&methodChoice{name: name}).load("loss", nil)
		if err != nil {
			t.Fatal(err)
		}
		program := method.Method.Loss
		bound, _ := program.OwnBound()
		batch.FillClipHigh(bound)
		want, err := ref.Evaluate(program, batch.Batch, kernels.Count(batch.Batch))
		if err != nil {
			t.Errorf("%s: oracle: %v", name, err)
			continue
		}
		var out buffer
		a := &app{out: &out, err: io.Discard}
		if err := a.evaluateLosses(program, strings.NewReader(everyStream), "batch"); err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		got := parse[lossResult](t, out.String())
		expected := newLossResult(program, batch, want)
		if diff := cmp.Diff(expected, got, near); diff != "" {
			t.Errorf("%s: %s (-oracle +command):\n%s", name, program, diff)
		}
		if zero := math.Abs(got.Loss) + norm(got.DLogProbs); zero == 0 {
			t.Errorf("%s: the loss and its gradient are 0: the batch shows nothing", name)
		}
	}
}

// norm is the sum of absolute values.
func norm(values [][]float64) float64 {
	total := 0.0
	for _, sequence := range values {
		for _, v := range sequence {
			total += math.Abs(v)
		}
	}
	return total
}
