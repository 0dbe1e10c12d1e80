package gpufake

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/turnwise-rl/turnwise/internal/gpu"
)

// act is something that happens to devices of a host.
type act struct {
	after time.Duration
	// timed says that the line began with a time.
	timed bool
	// on says whom it happens to: "gpu", "cpu", "driver" or "host"; a GPU by its slot and part, −1 is all parts.
	on         string
	slot, part int
	verb       string
	// lasts is for how long; 0 is until something else ends it. undo is set for the end of such an act.
	lasts time.Duration
	undo  bool

	xid      int
	count    int
	throttle []gpu.Throttle
	recovery gpu.Recovery
	memory   int64
	owner    string
	failed   bool // of remap: failed, and not pending
	// pid of a process that the act started.
	pid int
}

// lasting are the verbs that may end with "for DURATION".
var lasting = []string{"throttle", "gone", "links-down", "process"}

// words is a line that is taken apart word by word.
type words []string

func (w *words) next() string {
	if len(*w) == 0 {
		return ""
	}
	first := (*w)[0]
	*w = (*w)[1:]
	return first
}

const howToAct = "write a line as `30s gpu 1 xid 79`, `gpu 0 throttle thermal for 20s`, `driver reload` or `host reboot`"

// parseAct reads one line; see [Source.Inject].
func parseAct(line string) (act, error) {
	rest := words(strings.Fields(line))
	a := act{slot: -1, part: -1}
	if len(rest) > 0 {
		if after, err := time.ParseDuration(rest[0]); err == nil {
			if after < 0 {
				return a, fmt.Errorf("%s is in the past: a time is 0s or later", rest[0])
			}
			a.after, a.timed = after, true
			rest.next()
		}
	}
	if n := len(rest); n >= 2 && rest[n-2] == "for" {
		lasts, err := time.ParseDuration(rest[n-1])
		if err != nil || lasts <= 0 {
			return a, fmt.Errorf("%q is no time for which something lasts: write it as 20s or 1m30s", rest[n-1])
		}
		a.lasts, rest = lasts, rest[:n-2]
	}
	if err := a.parseSubject(&rest); err != nil {
		return a, err
	}
	if err := a.parseVerb(&rest); err != nil {
		return a, err
	}
	if len(rest) > 0 {
		return a, fmt.Errorf("%q is one word too many after %q: %s", rest[0], a.verb, howToAct)
	}
	if a.lasts > 0 && !slices.Contains(lasting, a.verb) {
		return a, fmt.Errorf("%q happens once and does not last: leave out `for`, or use %s", a.verb, strings.Join(lasting, ", "))
	}
	return a, nil
}

func (a *act) parseSubject(rest *words) error {
	a.on = rest.next()
	switch a.on {
	case "cpu", "driver", "host":
		return nil
	case "gpu":
		number := rest.next()
		slot, part, split := strings.Cut(number, ".")
		var err, partErr error
		a.slot, err = strconv.Atoi(slot)
		if split {
			a.part, partErr = strconv.Atoi(part)
		}
		if err != nil || partErr != nil || a.slot < 0 || split && a.part < 0 {
			return fmt.Errorf("%q is no GPU: write its number, as in `gpu 1`, or `gpu 1.0` for a MIG instance", number)
		}
		return nil
	case "":
		return fmt.Errorf("nothing is to happen: %s", howToAct)
	}
	return fmt.Errorf("something happens to gpu N, cpu, driver or host, not to %q: %s", a.on, howToAct)
}

// verbs are what may happen to whom.
var verbs = map[string][]string{
	"gpu":    {"xid", "throttle", "ecc", "remap", "recovery", "links-down", "gone", "process", "reset", "clear"},
	"cpu":    {"throttle", "gone", "clear"},
	"driver": {"reload"},
	"host":   {"reboot"},
}

func (a *act) parseVerb(rest *words) error {
	a.verb = rest.next()
	if !slices.Contains(verbs[a.on], a.verb) {
		return fmt.Errorf("%q does not happen to a %s: know %s", a.verb, a.on, strings.Join(verbs[a.on], ", "))
	}
	switch a.verb {
	case "xid":
		return a.parseXid(rest)
	case "throttle":
		return a.parseThrottle(rest)
	case "recovery":
		return a.parseRecovery(rest.next())
	case "process":
		return a.parseProcess(rest)
	case "remap":
		word := rest.next()
		if a.failed = word == "failed"; !a.failed && word != "pending" {
			return fmt.Errorf("a remap is pending or failed, not %q", word)
		}
	case "ecc":
		a.count = 1
		if len(*rest) > 0 {
			return a.parseCount(rest.next(), 1_000_000)
		}
	case "links-down":
		return a.parseCount(rest.next(), 18)
	}
	return nil
}

func (a *act) parseCount(word string, most int) error {
	n, err := strconv.Atoi(word)
	if err != nil || n < 1 || n > most {
		return fmt.Errorf("%q is no count for %q: write a number from 1 to %d", word, a.verb, most)
	}
	a.count = n
	return nil
}

func (a *act) parseXid(rest *words) error {
	word := rest.next()
	n, err := strconv.Atoi(word)
	if err != nil || n < 1 || n > 1000 {
		return fmt.Errorf("%q is no XID: write its number, as in `gpu 1 xid 79`", word)
	}
	a.xid = n
	if n == 154 {
		return a.parseRecovery(rest.next())
	}
	return nil
}

func (a *act) parseRecovery(word string) error {
	recovery, ok := recoveries[word]
	if !ok {
		return fmt.Errorf("%q is nothing that a driver wants done: write none, reset, reboot, drain or drain_and_reset", word)
	}
	a.recovery = recovery
	return nil
}

func (a *act) parseThrottle(rest *words) error {
	word := rest.next()
	if word == "none" {
		return nil
	}
	for reason := range strings.SplitSeq(word, ",") {
		if !slices.Contains(throttleReasons, gpu.Throttle(reason)) {
			return fmt.Errorf("%q is no reason to throttle: write none, or some of power_cap, thermal, hardware, hardware_heat, power_brake with commas between", reason)
		}
		a.throttle = append(a.throttle, gpu.Throttle(reason))
	}
	return nil
}

func (a *act) parseProcess(rest *words) error {
	memory, err := parseMemory(rest.next())
	if err != nil {
		return err
	}
	a.memory, a.owner = memory, "somebody"
	if len(*rest) > 0 {
		if word := rest.next(); word != "by" || len(*rest) == 0 {
			return fmt.Errorf("%q does not say whose process it is: write `process 10GiB by alice`", word)
		}
		a.owner = rest.next()
	}
	return nil
}

// check refuses an act on what the host does not have.
func (a act) check(h Host) error {
	if a.on == "driver" && h.Driver == "" {
		return fmt.Errorf("host %s has no driver to reload", h.Name)
	}
	if a.on == "driver" || a.on == "host" || slices.ContainsFunc(h.devices, a.concerns) {
		return nil
	}
	if a.on == "cpu" {
		return fmt.Errorf("host %s has no processor: give it one with `processor: 64GiB`", h.Name)
	}
	what := fmt.Sprintf("gpu %d", a.slot)
	if a.part >= 0 {
		what = fmt.Sprintf("gpu %d.%d", a.slot, a.part)
	}
	if h.slots() == 0 {
		return fmt.Errorf("host %s has no %s: it has no GPU", h.Name, what)
	}
	return fmt.Errorf("host %s has no %s: its GPUs are 0 to %d, and N.M is instance M of a split one", h.Name, what, h.slots()-1)
}

// concerns reports whether the act happens to a device. What happens to a split device happens to all its instances.
func (a act) concerns(d deviceModel) bool {
	switch a.on {
	case "gpu":
		return d.Kind == gpu.GPU && d.slot == a.slot && (a.part < 0 || a.part == d.part)
	case "cpu":
		return d.Kind == gpu.CPU
	case "driver":
		return d.Kind == gpu.GPU
	}
	return true
}
