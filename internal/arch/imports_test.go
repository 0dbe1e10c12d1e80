package arch

import (
	"path"
	"strings"
	"testing"
)

// arrow says what the packages in and below a folder may import of ours. A folder's own packages are
// always allowed unless Alone is set. The longest folder that matches a package rules it.
type arrow struct {
	folder string
	// alone forbids even the packages below the folder: the package stands on what it lists.
	alone bool
	// may are folders whose packages may be imported; "x/." means x itself and nothing below it.
	may []string
	// tests are folders that test files may import besides.
	tests  []string
	reason string
}

var arrows = []arrow{
	{folder: "kernels", reason: "kernels is arithmetic on flat arrays and knows nothing of reinforcement learning"},
	{folder: "rollout", reason: "rollout is experience itself; everything else depends on it, so it depends on nothing of ours"},
	{folder: "algos", may: []string{"rollout/.", "kernels/."}, tests: []string{"kernels/ref", "kernels/graph"},
		reason: "credit is a pure function from groups to streams: it sees trajectories and loss programs, not how they are sampled or trained"},
	{folder: "trainer", may: []string{"rollout", "kernels"},
		reason: "the learner sees streams and a loss program, never a method: a new method must not touch the training step"},
	{folder: "configs", may: []string{"algos", "internal/gpu/.", "kernels/.", "rollout/env", "rollout/tool", "trainer/optim", "trainer/policy"},
		reason: "configs assembles settings that their parts own; it must be usable without Temporal and without a run"},
	{folder: "workflows", alone: true, may: []string{"internal/gpu/.", "internal/lease", "rollout/.", "workflows/runstate"},
		tests:  []string{"internal/connect", "internal/gpu/gpufake", "internal/temporalserver/temporaltest"},
		reason: "workflow code is deterministic and thin; what computes or does I/O belongs into an activity"},
	{folder: "workflows/runstate", alone: true,
		reason: "what decides is a pure state machine without Temporal, clock, network or device"},
	{folder: "workflows/activity", alone: true, may: []string{"algos", "configs", "internal/blob", "internal/footprint", "internal/gpu/.", "internal/runfolder", "kernels/.", "kernels/device",
		"rollout", "trainer", "workflows/.", "workflows/runstate"},
		tests:  []string{"kernels/graph"},
		reason: "activities drive everything but get the loss evaluator injected, so that gorgonia stays behind one door"},
	{folder: "internal/bench", alone: true, may: []string{"internal/orchestrate", "kernels/.", "kernels/device", "rollout", "trainer"},
		tests:  []string{"kernels/graph"},
		reason: "measuring computes as training and sampling do; it knows no run and no command line"},
	{folder: "internal/bench/overhead", alone: true, may: []string{"configs", "internal/blob", "internal/lease", "internal/orchestrate", "internal/runfolder", "rollout/.",
		"rollout/render", "rollout/sampler", "workflows/.", "workflows/activity", "workflows/runstate"},
		tests:  []string{"kernels/device", "kernels/graph", "rollout/journal", "rollout/record", "trainer"},
		reason: "measuring orchestration has the real workflows, activities and files, and gets what computes injected"},
	{folder: "internal/agent", alone: true, may: []string{"internal/gpu/.", "internal/lease", "kernels/device"},
		reason: "an agent guards devices for whoever works in its process; how its reports travel, and what is computed, is injected"},
	{folder: "internal/blob", alone: true, reason: "the store knows bytes and digests, not what they mean"},
	{folder: "internal/chaos", alone: true, may: []string{"internal/blob", "internal/runfolder", "rollout/.", "rollout/journal", "rollout/record", "workflows/runstate"},
		reason: "faults and the audit after them judge by what is on disk; they start no run and know no engine"},
	{folder: "internal/connect", alone: true, reason: "finding a Temporal server needs nothing of a run"},
	{folder: "internal/footprint", alone: true, may: []string{"configs", "internal/gpu/.", "kernels/.", "kernels/device/.", "trainer/decode", "trainer/policy"},
		tests:  []string{"kernels/device", "rollout/sampler", "trainer/.", "trainer/digests", "trainer/optim"},
		reason: "an estimate of memory is a pure function of settings and shapes, made before anything is started; its tests compare it with what is allocated"},
	{folder: "internal/gpucheck", alone: true, tests: []string{"internal/gpu/nvml", "kernels/device", "rollout/sampler", "trainer"},
		reason: "the check of a GPU is tests of what computes on it, in one binary that knows no run"},
	{folder: "internal/gpubench", alone: true, may: []string{"trainer/policy"}, tests: []string{"algos", "kernels/.", "kernels/device", "kernels/graph", "rollout/.", "rollout/sampler", "trainer"},
		reason: "measuring a GPU is tests of what computes on it, in one binary that knows no run; what work takes at least is a pure function of shapes"},
	{folder: "internal/gpu", reason: "the vendor stays behind a narrow door that speaks our words and needs none of our packages"},
	{folder: "internal/lease", alone: true, may: []string{"internal/gpu/."},
		reason: "who may use a device is decided by a pure state machine without Temporal, clock, network or vendor"},
	{folder: "internal/ledger", alone: true, reason: "comparing store, ledger and history is a pure function of facts; whoever reads them ties it to files and Temporal"},
	{folder: "internal/orchestrate", alone: true, may: []string{"workflows/runstate"},
		reason: "a simulation is pure: it has the machine that decides, and no clock, network or device"},
	{folder: "internal/runfolder", alone: true, may: []string{"internal/blob", "rollout/.", "trainer/.", "workflows/runstate"},
		reason: "a run folder is read by every view; it must not pull in what makes it"},
	{folder: "internal/telemetry", alone: true, may: []string{"internal/gpu/.", "internal/lease", "internal/runfolder", "rollout/.", "trainer/.",
		"workflows/activity", "workflows/runstate"},
		tests:  []string{"configs", "kernels/device", "kernels/graph", "workflows/."},
		reason: "metrics hear what activities and device agents tell; nothing that computes or decides knows of them"},
	{folder: "internal/temporalserver", may: []string{"internal/connect"},
		reason: "the embedded server serves anybody and knows nothing of runs"},
	{folder: "internal/arch", alone: true, tests: []string{"configs"}, reason: "rules need nothing of what they rule; the tests of the docs load the configs shown there"},
	{folder: "cmd", may: []string{"algos", "configs", "internal", "kernels", "rollout", "trainer", "workflows"},
		reason: "the command ties everything together"},
}

func ruling(dir string) (arrow, bool) {
	var best arrow
	found := false
	for _, a := range arrows {
		if within(dir, a.folder) && (!found || len(a.folder) > len(best.folder)) {
			best, found = a, true
		}
	}
	return best, found
}

func (a arrow) allows(imported string, test bool) bool {
	if !a.alone && within(imported, a.folder) || imported == a.folder && test {
		return true
	}
	may := a.may
	if test {
		may = append(append([]string{}, may...), a.tests...)
	}
	for _, folder := range may {
		if exact, ok := strings.CutSuffix(folder, "/."); ok && imported == exact || !ok && within(imported, folder) {
			return true
		}
	}
	return false
}

func TestImportsFollowTheArrows(t *testing.T) {
	r := open(t)
	for _, s := range r.sources {
		rule, ok := ruling(s.dir)
		if !ok {
			t.Errorf("%s: no arrow in internal/arch rules package %s: add one with its reason", s.path, s.dir)
			continue
		}
		for _, imported := range s.imports {
			ours, ok := strings.CutPrefix(imported, module+"/")
			if ok && !rule.allows(ours, s.test) {
				t.Errorf("%s imports %s, which %s may not: %s", s.path, ours, rule.folder, rule.reason)
			}
		}
	}
}

// TestArrowsNameWhatExists keeps a rule from standing guard at an empty house.
func TestArrowsNameWhatExists(t *testing.T) {
	packages := open(t).packages()
	exists := func(folder string) bool {
		folder = strings.TrimSuffix(folder, "/.")
		for dir := range packages {
			if within(dir, folder) {
				return true
			}
		}
		return false
	}
	for _, a := range arrows {
		for _, folder := range append(append([]string{a.folder}, a.may...), a.tests...) {
			if !exists(folder) {
				t.Errorf("arrow of %s names %s, where no package is: follow the package to its new place", a.folder, folder)
			}
		}
	}
}

// door lets a package in only at some files. Path is an import path; whatever lies below it is meant too.
type door struct {
	path string
	// open are patterns of files that may import it, in the form of path.Match; a folder ends in "/".
	open []string
	// tests says that any test file may.
	tests  bool
	reason string
}

var doors = []door{
	{path: module + "/kernels/graph", open: []string{"cmd/turnwise/wire*.go"}, tests: true,
		reason: "implementations meet interfaces in wire.go alone, so that the loss engine can be replaced at one place"},
	{path: module + "/kernels/device/cpu", open: []string{"cmd/turnwise/", "internal/bench/", "workflows/activity/", "kernels/device/cpu/", "kernels/graph/"}, tests: true,
		reason: "networks and optimizers compute on whatever device they are given; activities only name the instruction set; losses use its row kernels"},
	{path: module + "/kernels/device/cuda", open: []string{"cmd/turnwise/wire*.go", "kernels/device/cuda/"}, tests: true,
		reason: "the vendor is wired in one place; whoever computes is given a device and asks for no other"},
	{path: module + "/internal/gpu/nvml", open: []string{"cmd/turnwise/wire*.go", "internal/gpu/nvml/"}, tests: true,
		reason: "the vendor is wired in one place; everything else is told what there is"},
	{path: module + "/internal/temporalserver", open: []string{"cmd/turnwise/", "internal/temporalserver/"}, tests: true,
		reason: "whoever imports it links the Temporal server, which takes minutes to build"},
	{path: "go.temporal.io/server", open: []string{"internal/temporalserver/"},
		reason: "the server takes minutes to build and comes in by one door, which the build tag slim closes"},
	{path: "github.com/temporalio/ui-server", open: []string{"internal/temporalserver/"},
		reason: "the web interface belongs to the embedded server"},
	{path: "github.com/ebitengine/purego", open: []string{"kernels/device/cuda/"},
		reason: "no caller ever sees a CUDA handle or a pointer of the driver's"},
	{path: "github.com/NVIDIA/go-nvml", open: []string{"internal/gpu/nvml/"},
		reason: "no caller ever sees an NVML return code"},
	{path: "gorgonia.org", open: []string{"kernels/graph/"},
		reason: "gorgonia is an implementation of the loss evaluator"},
	{path: "github.com/mmcloughlin/avo", open: []string{"kernels/device/cpu/internal/asm/"},
		reason: "the assembler generator runs at development time and is never linked"},
	{path: "go.temporal.io/sdk", open: []string{"workflows/*.go", "workflows/activity/", "internal/bench/overhead/", "internal/connect/", "internal/telemetry/", "internal/temporalserver/", "cmd/turnwise/"},
		reason: "Temporal orchestrates; what is computed does not know about it"},
	{path: "github.com/prometheus", open: []string{"internal/telemetry/"},
		reason: "what is measured is told in our words; how metrics are counted and scraped is one package's affair"},
	{path: "github.com/prometheus/prometheus", open: []string{"internal/telemetry/*_test.go"},
		reason: "the query engine runs the dashboard's queries in tests; no binary links a whole Prometheus"},
	{path: "go.opentelemetry.io/otel", open: []string{"internal/telemetry/"},
		reason: "OpenTelemetry is the way that the Temporal SDK's metrics take, and no other"},
	{path: "github.com/spf13/cobra", open: []string{"cmd/turnwise/"}, reason: "only the command line parses command lines"},
	{path: "github.com/goccy/go-yaml", open: []string{"configs/", "cmd/turnwise/config.go", "internal/gpu/gpufake/"}, tests: true,
		reason: "YAML is decoded in one place, strictly; `config show -o json` turns what came out into JSON; a fleet of fake devices is no run and may not need one"},
}

func (d door) opensFor(s source) bool {
	if d.tests && s.test {
		return true
	}
	for _, pattern := range d.open {
		if strings.HasSuffix(pattern, "/") && strings.HasPrefix(s.path, pattern) {
			return true
		}
		if ok, _ := path.Match(pattern, s.path); ok {
			return true
		}
	}
	return false
}

func TestPackagesComeInByTheirDoor(t *testing.T) {
	r := open(t)
	for _, d := range doors {
		used := false
		for _, s := range r.sources {
			for _, imported := range s.imports {
				if !within(imported, d.path) {
					continue
				}
				used = true
				if !d.opensFor(s) {
					t.Errorf("%s imports %s, which only %s may: %s", s.path, imported, strings.Join(d.open, ", "), d.reason)
				}
			}
		}
		if !used {
			t.Errorf("nothing imports %s any more: take its door out of internal/arch", d.path)
		}
	}
}

// TestPureRootsUseTheStandardLibraryOnly holds the packages that everything rests on to the standard library.
func TestPureRootsUseTheStandardLibraryOnly(t *testing.T) {
	for dir, reason := range map[string]string{
		"rollout":            "the nouns of experience must be readable by any program at no cost",
		"kernels":            "programs and batches are plain data",
		"internal/gpu":       "the words for devices are plain data",
		"internal/lease":     "what decides is replayed for ever and must not change under an update of a dependency",
		"workflows/runstate": "what decides is replayed for ever and must not change under an update of a dependency",
	} {
		seen := 0
		for _, s := range open(t).sources {
			if s.dir != dir || s.test {
				continue
			}
			seen++
			for _, imported := range s.imports {
				if first, _, _ := strings.Cut(imported, "/"); strings.Contains(first, ".") && !within(imported, module) {
					t.Errorf("%s imports %s: %s", s.path, imported, reason)
				}
			}
		}
		if seen == 0 {
			t.Errorf("no package at %s: follow it to its new place", dir)
		}
	}
}

// TestOneTestPackageLinksTheServer keeps ordinary tests quick to build: files without the tag slim or
// server in front of them that reach the server belong to one package.
func TestOneTestPackageLinksTheServer(t *testing.T) {
	linking := map[string]string{}
	for _, s := range open(t).sources {
		if !s.test || constrained(s, "slim") || constrained(s, "server") || constrained(s, "record") {
			continue
		}
		reaches := within(s.dir, "cmd")
		for _, imported := range s.imports {
			reaches = reaches || within(imported, module+"/internal/temporalserver")
		}
		if within(s.dir, "internal/temporalserver") {
			reaches = true
		}
		if reaches {
			linking[s.dir] = s.path
		}
	}
	if _, ok := linking["internal/temporalserver"]; !ok {
		t.Error("no test of internal/temporalserver: this rule guards nothing")
	}
	delete(linking, "internal/temporalserver")
	for dir, file := range linking {
		t.Errorf("%s makes the tests of %s link the Temporal server, as internal/temporalserver's already do: begin the file with `//go:build slim`, or with `//go:build server` if it needs one; "+
			"`go test -tags slim ./%s` runs it", file, dir, dir)
	}
}

// constrained reports whether a file is built only with a tag.
func constrained(s source, tag string) bool {
	for _, group := range s.syntax.Comments {
		for _, comment := range group.List {
			if comment.Text == "//go:build "+tag {
				return true
			}
		}
	}
	return false
}
