package env

import (
	"encoding/json"
	"fmt"

	"github.com/turnwise-rl/turnwise/rollout"
)

// hash mixes words into 64 bits (FNV-1a over their bytes, then the splitmix64 finaliser). It is part
// of what a seed means, so it must never change.
func hash(words ...string) uint64 {
	h := uint64(14695981039346656037)
	for _, word := range words {
		for i := 0; i < len(word); i++ {
			h = (h ^ uint64(word[i])) * 1099511628211
		}
		h = (h ^ 0xff) * 1099511628211 // no word holds this byte, so words cannot run together
	}
	return mix(h)
}

func mix(z uint64) uint64 {
	z = (z ^ z>>30) * 0xbf58476d1ce4e5b9
	z = (z ^ z>>27) * 0x94d049bb133111eb
	return z ^ z>>31
}

// draws is a stream of pseudo-random choices (splitmix64). Two streams of different words are
// independent for every practical purpose.
type draws struct{ state uint64 }

func newDraws(seed uint64, words ...string) *draws {
	return &draws{mix(hash(words...) + mix(seed+0x9e3779b97f4a7c15))}
}

func (d *draws) next() uint64 {
	d.state += 0x9e3779b97f4a7c15
	return mix(d.state)
}

// below returns a number in [0, n); n is positive and small, so the modulo's bias is nil.
func (d *draws) below(n int) int { return int(d.next() % uint64(n)) }

// chance is true with the given probability.
func (d *draws) chance(probability float64) bool {
	return float64(d.next()>>11)/(1<<53) < probability
}

// shuffle permutes items in place and returns them.
func shuffle[T any](d *draws, items []T) []T {
	for i := len(items) - 1; i > 0; i-- {
		j := d.below(i + 1)
		items[i], items[j] = items[j], items[i]
	}
	return items
}

// weighted returns an index with probability proportional to its weight; the weights are not
// negative and have a positive sum.
func (d *draws) weighted(weights []float64) int {
	sum := 0.0
	for _, w := range weights {
		sum += w
	}
	at := float64(d.next()>>11) / (1 << 53) * sum
	last := 0
	for i, w := range weights {
		if w <= 0 {
			continue
		}
		if last = i; at < w {
			return i
		}
		at -= w
	}
	return last
}

// origin is the World of a generated task: everything else follows from it.
type origin struct {
	Split rollout.Split `json:"split"`
	Seed  uint64        `json:"seed"`
	Index int           `json:"index"`
}

func (o origin) draws(purpose string) *draws {
	return newDraws(o.Seed, purpose, string(o.Split), fmt.Sprint(o.Index))
}

func (o origin) task(env, prompt string, gold rollout.Gold) rollout.Task {
	world, _ := json.Marshal(o) // a struct of plain fields always marshals
	return rollout.Task{
		ID:     fmt.Sprintf("%s/%s/%d", env, o.Split, o.Index),
		Env:    env,
		Prompt: prompt,
		Gold:   gold,
		World:  world,
	}
}

// mustBeLegal panics for a split or index that no task can have; both are constants or counters of
// the program, never input.
func (o origin) mustBeLegal() {
	if o.Split != rollout.Train && o.Split != rollout.HeldOut || o.Index < 0 {
		panic(fmt.Sprintf("env: no task has split %q and index %d", o.Split, o.Index))
	}
}

// originOf reads the World of a task of the named environment.
func originOf(env string, task rollout.Task) (origin, error) {
	var o origin
	if task.Env != env {
		return o, fmt.Errorf("task %s belongs to environment %q, not %q", task.ID, task.Env, env)
	}
	if err := json.Unmarshal(task.World, &o); err != nil {
		return o, fmt.Errorf("task %s: its world is not one of %s: %w", task.ID, env, err)
	}
	if o.Split != rollout.Train && o.Split != rollout.HeldOut || o.Index < 0 {
		return o, fmt.Errorf("task %s: no world of %s has split %q and index %d", task.ID, env, o.Split, o.Index)
	}
	return o, nil
}

// inSplit says whether something with the given hash occurs in a split: one in five is held out.
func inSplit(split rollout.Split, h uint64) bool {
	return (h%5 == 0) == (split == rollout.HeldOut)
}

// demonstrable reads the World of a training task; demonstrations of held-out tasks would teach what
// evaluation asks.
func demonstrable(env string, task rollout.Task) (origin, error) {
	o, err := originOf(env, task)
	if err == nil && o.Split != rollout.Train {
		err = fmt.Errorf("task %s: only training tasks are demonstrated, not those of split %q", task.ID, o.Split)
	}
	return o, err
}
