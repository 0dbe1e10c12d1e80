package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/turnwise-rl/turnwise/internal/chaos"
	"github.com/turnwise-rl/turnwise/internal/runfolder"
)

// errNothing says that there is nothing for a fault to strike at the moment.
var errNothing = errors.New("nothing to strike")

// struck is a fault under way.
type struck struct {
	chaos.Strike
	// lift ends a fault that lasts; nil once it is over.
	lift func() error
	// station is the process that was struck; nil for the server and the store.
	station *station
	lives   int // of the station before it was struck
	// fence is that of the lease whose device was struck, and lost are the devices that are lost with it; asked
	// is when the run was last asked for the next lease.
	fence int
	lost  []string
	asked time.Time
}

// strike carries a fault out. A choosy strike at a rollout process waits for one that has episodes in
// flight: in a run of short episodes most moments have none, and a fault then costs nothing.
func (s *site) strike(ctx context.Context, fault chaos.Fault, run *played, choosy bool) (*struck, error) {
	folder, watch := run.folder, run.watch
	hit := &struck{Strike: chaos.Strike{Fault: fault, Committed: watch.Committed()}}
	var err error
	switch {
	case fault.Kind == chaos.Device:
		err = hit.device(ctx, s, run.id, choosy)
	case fault.Role == chaos.Store:
		err = hit.damage(ctx, folder, watch)
	case fault.Role == chaos.Server:
		err = hit.server(s.server)
	default:
		err = hit.process(s, folder, watch, choosy)
	}
	if err != nil {
		return nil, err
	}
	hit.Lifted = hit.At
	return hit, nil
}

// damage flips a bit of an object that the run may still need: a group that no step has settled, or the
// newest weights or optimizer state.
func (h *struck) damage(ctx context.Context, folder *runfolder.Folder, watch *chaos.Watch) error {
	var candidates []string
	groups, err := folder.Groups(ctx)
	if err != nil {
		return err
	}
	for _, group := range groups {
		if !watch.Settled(group) {
			candidates = append(candidates, runfolder.SegmentKey(group))
		}
	}
	for _, kind := range []string{"weights/", "optimizer/"} {
		keys, err := folder.List(ctx, kind)
		if err != nil {
			return err
		}
		if len(keys) > 1 { // those of step 0 are what everything can be made again from
			candidates = append(candidates, keys[len(keys)-1])
		}
	}
	if len(candidates) == 0 {
		return errNothing
	}
	h.Target = candidates[h.Pick%uint64(len(candidates))]
	h.At = time.Now()
	err = chaos.Damage(filepath.Join(folder.Path, filepath.FromSlash(h.Target)), h.Pick/uint64(len(candidates)))
	if errors.Is(err, os.ErrNotExist) {
		return errNothing // removed meanwhile
	}
	return err
}

func (h *struck) server(server *keptServer) (err error) {
	pid := server.child.Endpoint().PID
	h.Target, h.At = fmt.Sprintf("server (process %d)", pid), time.Now()
	switch h.Kind {
	case chaos.SIGKILL:
		err = syscall.Kill(pid, syscall.SIGKILL)
	case chaos.Freeze:
		err = syscall.Kill(pid, syscall.SIGSTOP)
		h.lift = func() error { return syscall.Kill(pid, syscall.SIGCONT) }
	case chaos.DiskFull:
		h.lift, err = chaos.FillDisk(pid)
	default:
		err = fmt.Errorf("fault %s does not strike the server", h.Kind)
	}
	if errors.Is(err, syscall.ESRCH) {
		return errNothing // dead already, and on its way back
	}
	return err
}

// process strikes one of the processes of a role. A rollout process that holds no loop would not notice
// most faults, so those that hold one come first.
func (h *struck) process(s *site, folder *runfolder.Folder, watch *chaos.Watch, choosy bool) error {
	var candidates, idle []*station
	for _, one := range s.stations {
		if _, serving := one.Serving(); one.Role() != h.Role || !serving || one.busy && h.Kind != chaos.SIGKILL {
			continue
		}
		tenures := tenuresOf(one.PID(), folder)
		switch {
		case h.Role != chaos.Rollout || watch.InFlight(tenures) > 0 || len(tenures) > 0 && !choosy:
			candidates = append(candidates, one)
		default:
			idle = append(idle, one)
		}
	}
	if len(candidates) == 0 && !choosy && h.Kind == chaos.SIGKILL && watch.Committed() >= 0 {
		candidates = idle
	}
	if len(candidates) == 0 {
		return errNothing
	}
	h.station = candidates[h.Pick%uint64(len(candidates))]
	pid := h.station.PID()
	h.Target = fmt.Sprintf("%s (process %d)", h.station.Name(), pid)
	h.lives = len(h.station.Lives())
	h.Tenures = tenuresOf(pid, folder)
	err := h.disturb(pid)
	h.station.busy = h.station.busy || h.lift != nil
	h.Groups = watch.Begun(h.Tenures)
	if errors.Is(err, chaos.ErrNotRunning) || errors.Is(err, syscall.ESRCH) {
		return errNothing
	}
	return err
}

func (h *struck) disturb(pid int) (err error) {
	one := h.station
	h.At = time.Now()
	restore := func() error { one.proxy.Restore(); return nil }
	switch h.Kind {
	case chaos.SIGKILL:
		err = one.Kill()
	case chaos.Freeze:
		err = one.Freeze()
		h.lift = one.Thaw
	case chaos.Partition:
		if h.Silent {
			one.proxy.Swallow()
		} else {
			one.proxy.Cut()
		}
		h.lift = restore
	case chaos.Delay:
		one.proxy.Delay(h.Wait)
		h.lift = restore
	case chaos.DiskFull:
		h.lift, err = chaos.FillDisk(pid)
	case chaos.HungTool:
		err = chaos.HangTools(one.faults)
		h.lift = func() error { return chaos.ReleaseTools(one.faults) }
	default:
		err = fmt.Errorf("fault %s strikes no process", h.Kind)
	}
	return err
}

// tenuresOf are the rollout loops of a run that a process holds open. They are looked up in the kernel's
// own list, so that nobody has to be believed.
func tenuresOf(pid int, folder *runfolder.Folder) []int {
	files, err := chaos.OpenFiles(pid, folder.TurnsPath())
	if err != nil {
		return nil // gone, or the folder has no turns yet
	}
	var tenures []int
	for _, file := range files {
		name, _, _ := strings.Cut(filepath.Base(file), ".")
		if tenure, err := strconv.Atoi(name); err == nil && !slices.Contains(tenures, tenure) {
			tenures = append(tenures, tenure)
		}
	}
	slices.Sort(tenures)
	return tenures
}

// end lifts a fault that is under way. A process that is gone has nothing to be lifted from.
func (h *struck) end(now time.Time) error {
	if h.lift == nil {
		return nil
	}
	err := h.lift()
	h.lift, h.Lifted = nil, now
	if h.station != nil {
		h.station.busy = false
	}
	if errors.Is(err, chaos.ErrNotRunning) || errors.Is(err, syscall.ESRCH) {
		return nil
	}
	return err
}

// look notes since when the struck process serves again.
func (h *struck) look(s *site) {
	if h.Kind != chaos.SIGKILL || !h.Serving.IsZero() {
		return
	}
	if h.station == nil {
		if since, _ := s.server.since(); since.After(h.At) {
			h.Serving = since
		}
		return
	}
	if lives := h.station.Lives(); len(lives) > h.lives {
		h.Serving = lives[len(lives)-1].Serving
	}
}
