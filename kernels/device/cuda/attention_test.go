package cuda

import (
	"testing"

	"github.com/turnwise-rl/turnwise/kernels/device/devicetest"
)

func TestAttentionConforms(t *testing.T) {
	for name, order := range map[string]int64{"ascending": 0, "descending": 1, "shuffled": 20261121} {
		t.Run(name, func(t *testing.T) {
			set(t, "order", order)
			defer set(t, "order", 0)
			d := open(t, Options{Exact: true})
			for _, f := range devicetest.Check(d, devicetest.Options{Exact: true, Quick: true}, "Attend", "AttendBack", "AttendPages", "CopyPage") {
				t.Error(f)
			}
		})
	}
}
