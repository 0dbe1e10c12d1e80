package hostcpu

import (
	"fmt"
	"math"
	"path"
	"runtime/debug"
	"strings"
)

// memory is what programs of this process's control group may use together, and what of it is free or can be freed
// at once; available is −1 when nobody can tell.
type memory struct{ total, available int64 }

// memory reads the machine's memory, and then each control group from this process's up to the root: the
// tightest bound holds.
func (s *Source) memory() (memory, error) {
	info := s.text("proc/meminfo")
	kilobytes, ok := field(info, "MemTotal")
	if !ok || kilobytes == 0 {
		return s.elsewhere()
	}
	out := memory{total: kilobytes << 10, available: -1}
	if free, ok := field(info, "MemAvailable"); ok {
		out.available = free << 10
	}
	for line := range strings.Lines(s.text("proc/self/cgroup")) {
		parts := strings.SplitN(strings.TrimSpace(line), ":", 3)
		if len(parts) != 3 {
			continue
		}
		switch {
		case parts[1] == "":
			for _, mount := range []string{"sys/fs/cgroup", "sys/fs/cgroup/unified"} {
				s.bound(&out, mount, parts[2], unified)
			}
		case strings.Contains(","+parts[1]+",", ",memory,"):
			s.bound(&out, "sys/fs/cgroup/memory", parts[2], legacy)
		}
	}
	return out, nil
}

// hierarchy names the files of a version of control groups.
type hierarchy struct{ limit, used, inactive string }

var (
	unified = hierarchy{limit: "memory.max", used: "memory.current", inactive: "inactive_file"}
	legacy  = hierarchy{limit: "memory.limit_in_bytes", used: "memory.usage_in_bytes", inactive: "total_inactive_file"}
)

// bound tightens m by a group and those above it. In a container whose groups lie at the mount's root the group's own path
// is not there, and the root is found in its place.
func (s *Source) bound(m *memory, mount, group string, h hierarchy) {
	for at := path.Clean("/" + group); ; at = path.Dir(at) {
		folder := path.Join(mount, at)
		if limit, ok := number(s.text(path.Join(folder, h.limit))); ok && limit < m.total {
			m.total = limit
		}
		s.boundAvailable(m, folder, h)
		if at == "/" {
			return
		}
	}
}

// boundAvailable tightens what is available by what a group with a limit has left. Cached files that nobody uses can
// be freed.
func (s *Source) boundAvailable(m *memory, folder string, h hierarchy) {
	limit, limited := number(s.text(path.Join(folder, h.limit)))
	used, told := number(s.text(path.Join(folder, h.used)))
	if !limited || !told || m.available < 0 {
		return
	}
	cached, _ := field(s.text(path.Join(folder, "memory.stat")), h.inactive)
	m.available = min(m.available, max(0, limit-max(0, used-cached)))
}

// elsewhere is the memory of a system that is not Linux: the system's own count, or the bound that the user set for
// Go programs.
func (s *Source) elsewhere() (memory, error) {
	if total := systemMemory(); total > 0 {
		return memory{total: total, available: -1}, nil
	}
	if limit := debug.SetMemoryLimit(-1); limit < math.MaxInt64 {
		return memory{total: limit, available: -1}, nil
	}
	return memory{}, fmt.Errorf("this system does not tell how much memory it has: set GOMEMLIMIT, for example GOMEMLIMIT=16GiB")
}
