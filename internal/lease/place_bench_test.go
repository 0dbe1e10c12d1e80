package lease

import (
	"fmt"
	"testing"
	"time"

	"github.com/turnwise-rl/turnwise/internal/gpu"
)

// cluster is a hundred hosts of eight devices in one NVLink domain each, in which so many in a hundred
// devices have a lease of their own of priority 4.
func cluster(leased int) Snapshot {
	fleet := Snapshot{Now: morning}
	for h := range 100 {
		host := fmt.Sprintf("host-%03d", h)
		fleet.Agents = append(fleet.Agents, AgentStatus{Agent: host, Host: host, Serves: Capacity{Learner: 8, Rollout: 8, Evaluate: 8},
			Computes: []gpu.Kind{gpu.CPU, gpu.GPU}})
		for i := range 8 {
			uuid := fmt.Sprintf("GPU-%04x-%04x", h*2654435761%65536, i)
			fleet.Devices = append(fleet.Devices, DeviceStatus{Device: gpu.Device{UUID: uuid, Kind: gpu.GPU, Index: i,
				MemoryTotalBytes: 80 * gib, Domain: "nvlink-0"}, Host: host, Agents: []string{host}, Health: Healthy})
			if n := h*8 + i; n*leased/100 != (n+1)*leased/100 {
				fleet.Leases = append(fleet.Leases, Lease{Request: Request{Holder: fmt.Sprintf("run-%d/rollout", n), Run: fmt.Sprintf("run-%d", n),
					Role: Rollout, Kind: gpu.GPU, Count: 1, MemoryBytes: 40 * gib, Priority: 4, Queue: "filled"},
					Fence: n + 1, Agent: host, Host: host, Devices: []string{uuid}, Granted: morning})
			}
		}
	}
	return fleet
}

// BenchmarkDecide is one walk over 200 waiting requests, on fleets in which nothing, half and everything is
// leased; priority 5 may take nothing away, priority 1 everything.
func BenchmarkDecide(b *testing.B) {
	for _, leased := range []int{0, 50, 100} {
		for _, priority := range []int{1, 5} {
			fleet := cluster(leased)
			for i := range 200 {
				fleet.Queue = append(fleet.Queue, Waiter{Since: morning.Add(time.Duration(i) * time.Second), Request: Request{
					Holder: fmt.Sprintf("wait-%d/learner", i), Run: fmt.Sprintf("wait-%d", i), Role: Learner, Kind: gpu.GPU, Count: 1 << (i % 4),
					OneDomain: true, MemoryBytes: 60 * gib, Priority: priority, Queue: fmt.Sprintf("queue-%d", i%5)}})
			}
			b.Run(fmt.Sprintf("leased=%d%%/priority=%d", leased, priority), func(b *testing.B) {
				for b.Loop() {
					Decide(fleet)
				}
			})
		}
	}
}
