package main

import (
	"fmt"
	"math"
	"slices"
	"strings"

	"github.com/turnwise-rl/turnwise/configs"
	"github.com/turnwise-rl/turnwise/internal/gpu"
	"github.com/turnwise-rl/turnwise/internal/lease"
	"github.com/turnwise-rl/turnwise/kernels/device"
	"github.com/turnwise-rl/turnwise/trainer/policy"
	"github.com/turnwise-rl/turnwise/workflows/activity"
)

// judge says whether the run can never be placed: a role of it that no known device could ever take, or two roles that
// are needed at once where the only device of their kind holds one of them.
func (p *runPlan) judge(fleet lease.Snapshot) {
	devices := devicesOf(fleet, p.resolved.Run.Device.Leased())
	r := room{alone: largestOf(devices)}
	if len(devices) == 1 {
		r.together = r.alone
	}
	for _, role := range p.Roles {
		if len(role.Places) == 0 || !role.Places[0].Never {
			continue
		}
		advice := "start a worker on a machine that has what it asks for"
		switch {
		case role.MemoryBytes > r.alone && r.alone > 0:
			advice = p.advice(r)
		case p.placedExactly(fleet, role.Role):
			advice = "set device.exact=true, or start a worker that has cuBLASLt"
		case role.Kind == gpu.GPU:
			advice = "set device=cpu, or start a worker that computes on a gpu"
		}
		p.Refused = fmt.Sprintf("the %s can never be placed: %s: %s", roleNames[role.Role], role.Places[0].Waits, advice)
		return
	}
	if first, second, short := r.pair(p.demand(p.resolved.Run)); short {
		p.Refused = fmt.Sprintf("the %s and the %s need the only %s at once, which has %s; they need %s and %s: %s", first.name, second.name,
			p.resolved.Run.Device.Leased(), memoryText(r.together), memoryText(first.bytes), memoryText(second.bytes), p.advice(r))
	}
}

// placedExactly says whether a role could be placed if nothing had to compute fast.
func (p *runPlan) placedExactly(fleet lease.Snapshot, role lease.Role) bool {
	config := p.resolved.Run
	if config.Device.Exact {
		return false
	}
	config.Device.Exact = true
	_, _, _, never := lease.Place(fleet, activity.Needs(config, p.shape).Request(p.Name, p.Name, role))
	return !never
}

// weighQuota adds a note when the queue's quota keeps the run waiting even with no other run in the fleet: it starts,
// and goes on only when an operator raises the quota.
func (p *runPlan) weighQuota(fleet lease.Snapshot) {
	kind := p.resolved.Run.Device.Leased()
	at := queueAt(fleet, p.Queue)
	if at < 0 {
		return
	}
	quota, bounded := fleet.Queues[at].Quota[kind]
	if !bounded {
		return
	}
	fleet.Leases, fleet.Queue = nil, nil
	unbounded := fleet
	unbounded.Queues = slices.Delete(slices.Clone(fleet.Queues), at, at+1) // a queue that nobody has set up has no quota
	within, without := *p, *p
	within.Roles, without.Roles = nil, nil
	within.place(fleet)
	without.place(unbounded)
	devices := map[string]bool{}
	var short lease.Role
	for i, role := range within.Roles {
		for j, place := range role.Places {
			free := without.Roles[i].Places[j]
			for _, device := range free.Devices {
				devices[device.UUID] = true
			}
			if short == "" && place.Waits != "" && free.Waits == "" {
				short = role.Role
			}
		}
	}
	if short == "" {
		return
	}
	note := fmt.Sprintf("the %s waits for as long as the quota of queue %s is %d %s: `turnwise gpu queue %s --quota %s=%d` lets all of the run be placed",
		roleNames[short], p.Queue, quota, kind, p.Queue, kind, len(devices))
	p.Note = strings.TrimPrefix(p.Note+"; "+note, "; ")
}

// roleNames are what roles are called in sentences.
var roleNames = map[lease.Role]string{lease.Learner: "learner", lease.Rollout: "rollout pool", lease.Evaluate: "evaluation"}

// demand is what the learner, all pools and an evaluation ask for, and the most that one lease does.
type demand struct {
	claims [3]claim
	most   int64
}

type claim struct {
	name  string
	bytes int64
}

func (p *runPlan) demand(config configs.Run) demand {
	n := activity.Needs(config, p.shape)
	pools := n.Rollout.MemoryBytes
	if most := math.MaxInt64 / 4 / max(1, pools); int64(config.Sampling.Pools) <= most {
		pools *= int64(config.Sampling.Pools)
	} else {
		pools = math.MaxInt64 / 4
	}
	return demand{
		claims: [3]claim{{"learner", n.Learner.MemoryBytes}, {"rollout pools", pools}, {"evaluation", n.Evaluate.MemoryBytes}},
		most:   max(n.Learner.MemoryBytes, n.Rollout.MemoryBytes, n.Evaluate.MemoryBytes),
	}
}

// room is the memory of the largest device, and that of the only one; 0 is no bound.
type room struct{ alone, together int64 }

// pair finds two claims that do not fit the only device beside each other. The learner and the pools work together, the
// first evaluation comes while the learner waits for it, and the last one while the pools do; each keeps its device
// meanwhile.
func (r room) pair(d demand) (first, second claim, short bool) {
	for _, pair := range [][2]int{{0, 1}, {0, 2}, {1, 2}} {
		first, second = d.claims[pair[0]], d.claims[pair[1]]
		if r.together > 0 && first.bytes+second.bytes > r.together {
			return first, second, true
		}
	}
	return claim{}, claim{}, false
}

func (r room) holds(d demand) bool {
	_, _, short := r.pair(d)
	return !short && d.most <= r.alone
}

// devicesOf are the known devices of a kind on hosts where something computes on it.
func devicesOf(fleet lease.Snapshot, kind gpu.Kind) []lease.DeviceStatus {
	var out []lease.DeviceStatus
	for _, device := range fleet.Devices {
		if device.Kind == kind && slices.ContainsFunc(fleet.Agents, func(a lease.AgentStatus) bool {
			return a.Host == device.Host && slices.Contains(a.Computes, kind)
		}) {
			out = append(out, device)
		}
	}
	return out
}

// largestOf is the most memory that one of them has; 0 when there is none.
func largestOf(devices []lease.DeviceStatus) int64 {
	largest := int64(0)
	for _, device := range devices {
		largest = max(largest, device.MemoryTotalBytes)
	}
	return largest
}

// lever takes a setting that decides about memory one notch further and says what it is then; "" means that it goes
// no further.
type lever func(run *configs.Run, shape policy.Config) string

// levers are the settings to change, those that cost the least first. Each is pulled until the run fits.
var levers = []lever{
	func(run *configs.Run, _ policy.Config) string {
		if run.Device.LearnerMemory == 0 {
			return ""
		}
		run.Device.LearnerMemory = 0
		return "device.learner_memory=0, the estimate"
	},
	func(run *configs.Run, _ policy.Config) string {
		if run.Device.RolloutMemory == 0 {
			return ""
		}
		run.Device.RolloutMemory = 0
		return "device.rollout_memory=0, the estimate"
	},
	func(run *configs.Run, _ policy.Config) string {
		return halve(&run.Training.MicroBatchTokens, run.Sampling.MaxTokens, "training.micro_batch_tokens")
	},
	func(run *configs.Run, shape policy.Config) string {
		page := device.PageShape{DType: device.F32, Layers: shape.Layers, KVHeads: shape.KVHeads, Dim: shape.HeadDim, Pages: 1}.Bytes()
		pages := func(tokens int) int64 { return int64((tokens + device.PageTokens - 1) / device.PageTokens) }
		if run.Sampling.CacheBytes == 0 {
			run.Sampling.CacheBytes = int64(run.Sampling.Slots) * pages(run.Sampling.MaxTokens) * page
		}
		// The cache has to hold one episode.
		return halve(&run.Sampling.CacheBytes, pages(run.Sampling.MaxTokens)*page, "sampling.cache_bytes")
	},
	func(run *configs.Run, _ policy.Config) string {
		if run.Policy.Recompute {
			return ""
		}
		run.Policy.Recompute = true
		return "policy.recompute=true"
	},
	func(run *configs.Run, _ policy.Config) string { return halve(&run.Sampling.Slots, 1, "sampling.slots") },
	func(run *configs.Run, _ policy.Config) string { return halve(&run.Sampling.Pools, 1, "sampling.pools") },
	func(run *configs.Run, _ policy.Config) string {
		// Each minibatch has a trajectory at least.
		t := &run.Training
		return halve(&t.GroupsPerStep, (t.Minibatches+t.GroupSize-1)/t.GroupSize, "training.groups_per_step")
	},
	func(run *configs.Run, _ policy.Config) string {
		if run.Policy.LoRA.Rank > 0 {
			return ""
		}
		run.Policy.LoRA = policy.LoRA{Rank: 8, Alpha: 16, Targets: []string{"q_proj", "v_proj"}}
		return "policy.lora={rank: 8, alpha: 16, targets: [q_proj, v_proj]}"
	},
	func(run *configs.Run, _ policy.Config) string {
		return halve(&run.Sampling.MaxTokens, max(1, run.Sampling.MaxTurnTokens), "sampling.max_tokens")
	},
}

// halve takes half of a number, but no less than the least, and says what to set.
func halve[N int | int64](n *N, least N, setting string) string {
	if *n <= least {
		return ""
	}
	*n = max(*n/2, least)
	return fmt.Sprintf("%s=%d", setting, *n)
}

// alternatives is how many ways out are told.
const alternatives = 2

// advice names the settings that make the run fit. Each is tried alone, as far as it takes and no further; when none is
// enough, they are taken together, and those without which it fits as well are left out again.
func (p *runPlan) advice(r room) string {
	fits := func(run configs.Run) bool { return r.holds(p.demand(run)) }
	var alone []string
	for _, l := range levers {
		run := p.resolved.Run
		set := ""
		for next := l(&run, p.shape); next != ""; next = l(&run, p.shape) {
			set = next
			if fits(run) {
				alone = append(alone, set)
				break
			}
		}
	}
	if len(alone) > 0 {
		return "set " + strings.Join(alone[:min(len(alone), alternatives)], " or ")
	}
	if together := p.takeTogether(fits); len(together) > 0 {
		return "set " + strings.Join(together, " and ")
	}
	return "no setting beside the policy itself makes it fit: choose a smaller policy, see policy.layers and policy.hidden, or another policy.from"
}

// takeTogether takes all levers a notch at a time until the run fits, and lets go of those that are not needed, the
// costliest first; nil when they are not enough.
func (p *runPlan) takeTogether(fits func(configs.Run) bool) []string {
	notches := make([]int, len(levers))
	for run, moved := p.resolved.Run, true; !fits(run); {
		if !moved {
			return nil
		}
		moved = false
		for i, l := range levers {
			if l(&run, p.shape) != "" {
				notches[i], moved = notches[i]+1, true
			}
			if fits(run) {
				break
			}
		}
	}
	for i := len(levers) - 1; i >= 0; i-- {
		taken := notches[i]
		notches[i] = 0
		if run, _ := p.take(notches); !fits(run) {
			notches[i] = taken
		}
	}
	_, set := p.take(notches)
	return set
}

// take is the run with so many notches of each lever, and what to set.
func (p *runPlan) take(notches []int) (run configs.Run, set []string) {
	run = p.resolved.Run
	for i, l := range levers {
		last := ""
		for range notches[i] {
			last = l(&run, p.shape)
		}
		if last != "" {
			set = append(set, last)
		}
	}
	return run, set
}
