package hostcpu

import (
	"fmt"
	"path"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"time"
)

func (s *Source) path(name string) string { return filepath.Join(s.root, filepath.FromSlash(name)) }

// glob lists files below the root in order.
func (s *Source) glob(pattern string) []string {
	found, _ := filepath.Glob(s.path(pattern)) // the patterns are well formed
	for i, name := range found {
		found[i], _ = filepath.Rel(s.root, name)
	}
	slices.Sort(found)
	return found
}

// number is the count that a text is; ok is false when it is none.
func number(text string) (n int64, ok bool) {
	n, err := strconv.ParseInt(strings.TrimSpace(text), 10, 64)
	return n, err == nil && n >= 0
}

// field is the number behind a name in lines such as "MemTotal:  16384 kB" and "inactive_file 4096".
func field(text, name string) (n int64, ok bool) {
	for line := range strings.Lines(text) {
		words := strings.Fields(line)
		if len(words) >= 2 && strings.TrimSuffix(words[0], ":") == name {
			return number(words[1])
		}
	}
	return 0, false
}

// name is the model's, with the number of cores.
func (s *Source) name() string {
	model := ""
	for line := range strings.Lines(s.text("proc/cpuinfo")) {
		key, value, _ := strings.Cut(line, ":")
		if slices.Contains([]string{"model name", "Model", "cpu model", "cpu"}, strings.TrimSpace(key)) {
			model = strings.Join(strings.Fields(value), " ")
			break
		}
	}
	if model == "" {
		model = runtime.GOARCH + " processor"
	}
	return fmt.Sprintf("%s, %s", model, cores(runtime.NumCPU()))
}

func cores(n int) string {
	if n == 1 {
		return "1 core"
	}
	return fmt.Sprintf("%d cores", n)
}

// clock is the mean of the cores; nil when the kernel does not tell.
func (s *Source) clock() *float64 {
	sum, n := 0., 0
	for line := range strings.Lines(s.text("proc/cpuinfo")) {
		key, value, _ := strings.Cut(line, ":")
		if strings.TrimSpace(key) != "cpu MHz" {
			continue
		}
		if megahertz, err := strconv.ParseFloat(strings.TrimSpace(value), 64); err == nil && megahertz > 0 {
			sum, n = sum+megahertz, n+1
		}
	}
	if n == 0 {
		return nil
	}
	hertz := sum / float64(n) * 1e6
	return &hertz
}

// processorSensors are the names of sensors that stand for a processor, in thermal zones and hardware monitors.
var processorSensors = []string{"x86_pkg_temp", "coretemp", "k10temp", "zenpower", "cpu_thermal", "cpu-thermal", "cpu"}

// temperature is the hottest of the processor's sensors; nil when there is none.
func (s *Source) temperature() *float64 {
	var hottest *float64
	look := func(name, value string) {
		milli, err := strconv.ParseInt(s.line(value), 10, 64)
		if !slices.Contains(processorSensors, s.line(name)) || err != nil {
			return
		}
		if celsius := float64(milli) / 1000; hottest == nil || celsius > *hottest {
			hottest = &celsius
		}
	}
	for _, zone := range s.glob("sys/class/thermal/thermal_zone*") {
		look(path.Join(zone, "type"), path.Join(zone, "temp"))
	}
	for _, value := range s.glob("sys/class/hwmon/hwmon*/temp*_input") {
		look(path.Join(path.Dir(value), "name"), value)
	}
	return hottest
}

// sample reads the counters that only grow.
func (s *Source) sample() sample {
	out := sample{at: time.Now(), microjoule: map[string]uint64{}}
	out.busy, out.all = ticks(s.text("proc/stat"))
	for _, zone := range s.glob("sys/class/powercap/intel-rapl:*") {
		if !strings.HasPrefix(s.line(path.Join(zone, "name")), "package") {
			continue // a part of a package, which its package counts already
		}
		if count, ok := number(s.text(path.Join(zone, "energy_uj"))); ok {
			out.microjoule[zone] = uint64(count)
		}
	}
	return out
}

// ticks reads the first line of /proc/stat: user nice system idle iowait irq softirq steal, and then guests,
// which the first two hold already. Time that a hypervisor took is neither work nor rest of this machine, and is
// left out.
func ticks(stat string) (busy, all uint64) {
	line, _, _ := strings.Cut(stat, "\n")
	words := strings.Fields(line)
	if len(words) < 5 || words[0] != "cpu" {
		return 0, 0
	}
	for i, word := range words[1:min(len(words), 8)] {
		n, err := strconv.ParseUint(word, 10, 64)
		if err != nil {
			return 0, 0
		}
		all += n
		if i != 3 && i != 4 {
			busy += n
		}
	}
	return busy, all
}
