package cuda

import (
	"testing"

	"github.com/turnwise-rl/turnwise/kernels/device"
	"github.com/turnwise-rl/turnwise/kernels/device/devicetest"
)

// TestHeadConforms is the part of the suite about the head, in all orders of a block's threads.
func TestHeadConforms(t *testing.T) {
	for name, order := range map[string]int64{"ascending": 0, "descending": 1, "shuffled": 7} {
		t.Run(name, func(t *testing.T) {
			set(t, "order", order)
			defer set(t, "order", 0)
			options := devicetest.Options{Exact: true, Quick: order != 0 || testing.Short()}
			for _, f := range devicetest.Check(open(t, Options{Exact: true}), options, "Score", "ScoreBack", "Sample", "SampleCuts") {
				t.Error(f)
			}
		})
	}
}

// cramped is a device that scores few rows at a time.
type cramped struct {
	*Device
	limit int64
}

func (d cramped) Score(s device.Scored) { d.score(s, d.limit) }

func (d cramped) ScoreBack(dx device.Rows, dHead, dLogProbs, dEntropies device.Buffer, s device.Scored) {
	d.scoreBack(dx, dHead, dLogProbs, dEntropies, s, d.limit)
}

// TestHeadConformsInBlocks scores rows in blocks of one and of a few.
func TestHeadConformsInBlocks(t *testing.T) {
	for _, limit := range []int64{0, 8 << 10} {
		d := cramped{open(t, Options{Exact: true}), limit}
		for _, f := range devicetest.Check(d, devicetest.Options{Exact: true, Quick: true}, "Score", "ScoreBack", "Sample") {
			t.Errorf("in blocks of %d bytes: %s", limit, f)
		}
	}
}
