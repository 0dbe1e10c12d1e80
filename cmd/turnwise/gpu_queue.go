package main

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/turnwise-rl/turnwise/internal/gpu"
	"github.com/turnwise-rl/turnwise/internal/lease"
)

func gpuQueueVerb(a *app) *cobra.Command {
	var quotas []string
	var weight float64
	cmd := &cobra.Command{
		Use:   "queue [NAME]",
		Short: "Show whose share the devices are, or change a queue's quota and weight",
		Long: "Show what each queue holds of which quota, and who waits for what. With a name and --quota or --weight the\n" +
			"queue is made or changed; what is not named stays as it is. A quota is the most devices of a kind that the\n" +
			"queue holds at once, `none` for no bound; leases that are given already stay. A weight is the queue's share\n" +
			"relative to the others when requests compete.",
		Example: "  turnwise gpu queue\n  turnwise gpu queue night --quota gpu=4 --weight 2\n  turnwise gpu queue night --quota gpu=none",
		Args:    cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			change, err := parseQueueChange(quotas, weight, cmd.Flags().Changed("weight"))
			if err != nil {
				return err
			}
			d := a.newDesk()
			defer d.hangUp()
			switch {
			case len(args) == 0 && !change.empty():
				return usagef("which queue? name it: `turnwise gpu queue NAME --quota gpu=4`")
			case len(args) == 0:
				return d.showQueues(cmd.Context(), "")
			case change.empty():
				return d.showQueues(cmd.Context(), args[0])
			}
			return d.changeQueue(cmd.Context(), args[0], change)
		},
	}
	cmd.Flags().StringArrayVar(&quotas, "quota", nil, "most devices of a kind, as gpu=4, cpu=2 or gpu=none; may be given for each kind")
	cmd.Flags().Float64Var(&weight, "weight", 1, "share relative to other queues, above 0")
	return cmd
}

// queueChange is what is to change of a queue.
type queueChange struct {
	// quota has the new bounds; nil stands for none.
	quota  map[gpu.Kind]*int
	weight *float64
}

func (c queueChange) empty() bool { return len(c.quota) == 0 && c.weight == nil }

func parseQueueChange(quotas []string, weight float64, weighted bool) (queueChange, error) {
	change := queueChange{quota: map[gpu.Kind]*int{}}
	if weighted {
		if !(weight > 0) {
			return change, usagef("--weight %g: must be above 0", weight)
		}
		change.weight = &weight
	}
	for _, text := range quotas {
		word, count, ok := strings.Cut(text, "=")
		kind := gpu.Kind(word)
		n, err := strconv.Atoi(count)
		switch {
		case !ok || kind != gpu.CPU && kind != gpu.GPU:
			return change, usagef("--quota %s: write gpu=N or cpu=N", text)
		case count == "none":
			change.quota[kind] = nil
		case err != nil || n < 0:
			return change, usagef("--quota %s: %q is no number of devices: write 0 or more, or none for no bound", text, count)
		default:
			change.quota[kind] = &n
		}
	}
	return change, nil
}

// of is a queue with the change.
func (c queueChange) of(queue lease.Queue) lease.Queue {
	queue.Quota = maps.Clone(queue.Quota)
	for kind, most := range c.quota {
		if most == nil {
			delete(queue.Quota, kind)
			continue
		}
		if queue.Quota == nil {
			queue.Quota = map[gpu.Kind]int{}
		}
		queue.Quota[kind] = *most
	}
	if c.weight != nil {
		queue.Weight = *c.weight
	}
	return queue
}

func (d *desk) changeQueue(ctx context.Context, name string, change queueChange) error {
	snapshot, err := d.snapshot(ctx)
	if err != nil {
		return err
	}
	queue := lease.Queue{Name: name, Weight: 1}
	if at := queueAt(snapshot, name); at >= 0 {
		queue = snapshot.Queues[at].Queue
	}
	waiting, cancel := context.WithTimeout(ctx, answerTimeout)
	defer cancel()
	status, err := d.pool.setQueue(waiting, change.of(queue))
	if err := explainPool(ctx, waiting, err); err != nil {
		return err
	}
	if d.app.json() {
		return d.app.printJSON(status)
	}
	queueTable([]lease.QueueStatus{status}).write(d.app.out)
	return nil
}

func queueAt(snapshot lease.Snapshot, name string) int {
	return slices.IndexFunc(snapshot.Queues, func(q lease.QueueStatus) bool { return q.Name == name })
}

// queueList is what `gpu queue -o json` prints.
type queueList struct {
	Queues  []lease.QueueStatus `json:"queues"`
	Waiting []lease.Waiter      `json:"waiting"`
}

// showQueues prints one queue, or all of them.
func (d *desk) showQueues(ctx context.Context, name string) error {
	snapshot, err := d.snapshot(ctx)
	if err != nil {
		return err
	}
	list := queueList{Queues: snapshot.Queues, Waiting: snapshot.Queue}
	if name != "" {
		if queueAt(snapshot, name) < 0 {
			return usagef("there is no queue %q, and nothing waits in it; `turnwise gpu queue %s --quota gpu=4` makes it", name, name)
		}
		list.Queues = slices.DeleteFunc(list.Queues, func(q lease.QueueStatus) bool { return q.Name != name })
		list.Waiting = slices.DeleteFunc(list.Waiting, func(w lease.Waiter) bool { return w.Queue != name })
	}
	if d.app.json() {
		return d.app.printJSON(list)
	}
	if len(list.Queues) == 0 {
		d.app.note("no queue holds anything; a run names its own with device.queue, `turnwise gpu queue NAME --quota gpu=4` bounds it")
		return nil
	}
	queueTable(list.Queues).write(d.app.out)
	f := deviceList{now: d.now()}
	for i := 0; i < len(list.Waiting); {
		if i == 0 {
			d.app.print("\n")
		}
		w, turns := inTurn(list.Waiting[i:]), fmt.Sprint(i+1)
		if w.count > 1 {
			turns += fmt.Sprintf("-%d", i+w.count)
		}
		d.app.print("%s  %s, priority %d in %s, %s%s for %s: %s\n", turns, w.name(), w.Priority, w.Queue, w.verb(), w.waited(f), needText(w.Request), w.Reason)
		i += w.count
	}
	return nil
}

// inTurn are the first requests that come one after the other and read the same.
func inTurn(all []lease.Waiter) waiters {
	n := 1
	for n < len(all) && wordsOf(all[n]) == wordsOf(all[0]) {
		n++
	}
	return alike(all[:n])[0]
}

// needText is what a request asks for.
func needText(r lease.Request) string {
	text := fmt.Sprintf("%d %s", r.Count, r.Kind)
	if r.OneDomain && r.Count > 1 {
		text += " in one NVLink domain"
	}
	if r.MemoryBytes > 0 {
		text += fmt.Sprintf(" with %.1f GiB", gibibytes(r.MemoryBytes))
		if r.Count > 1 {
			text += " each"
		}
	}
	return text
}

func queueTable(queues []lease.QueueStatus) *table {
	t := newTable("QUEUE", ">GPU", ">CPU", ">WEIGHT")
	for _, q := range queues {
		t.add(q.Name, shareText(q, gpu.GPU), shareText(q, gpu.CPU), number(q.Weight))
	}
	return t
}

// shareText is what a queue holds, and of how many when there is a bound.
func shareText(q lease.QueueStatus, kind gpu.Kind) string {
	if most, bounded := q.Quota[kind]; bounded {
		return fmt.Sprintf("%d of %d", q.Holds[kind], most)
	}
	return fmt.Sprint(q.Holds[kind])
}
