//go:build server

package workflows

import (
	"flag"
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/turnwise-rl/turnwise/internal/gpu"
	"github.com/turnwise-rl/turnwise/internal/lease"
)

var rewriteMatrix = flag.Bool("rewrite-matrix", false, "write testdata/device_matrix.txt anew")

// topology is a fleet and what each role of a run needs of it.
type topology struct {
	name  string
	fleet string
	kind  gpu.Kind
	bytes int64 // of each role
}

const gib = 1 << 30

// topologies are those of the matrix. Where the roles of a run do not fit on one device they are on several. Roles
// that lose their devices at the same moment never compete for one, so that the table is the same every time.
var topologies = []topology{
	{"one GPU", `hosts: [{name: alpha, devices: [{model: H200, uuid: GPU-alpha-0}]}]`, gpu.GPU, 30 * gib},
	{"two GPUs on a host", `hosts: [{name: alpha, devices: [{model: H200, uuid: GPU-alpha-0}, {model: H200, uuid: GPU-alpha-1}]}]`, gpu.GPU, 40 * gib},
	{"two hosts", `hosts:
  - {name: alpha, devices: [{model: H200, uuid: GPU-alpha-0}]}
  - {name: beta, devices: [{model: H200, uuid: GPU-beta-0}]}`, gpu.GPU, 40 * gib},
	{"an NVLink domain of 4", `hosts:
  - name: alpha
    devices: [{model: H200, uuid: GPU-alpha-0, domain: nvlink}, {model: H200, uuid: GPU-alpha-1, domain: nvlink}, {model: H200, uuid: GPU-alpha-2, domain: nvlink}, {model: H200, uuid: GPU-alpha-3, domain: nvlink}]`, gpu.GPU, 100 * gib},
	{"MIG", `hosts: [{name: alpha, devices: [{model: A100, uuid: GPU-alpha-0, mig: [2g.20gb, 2g.20gb, 2g.20gb]}, {model: A100, uuid: GPU-alpha-1, mig: [2g.20gb, 2g.20gb, 2g.20gb]}]}]`, gpu.GPU, 15 * gib},
	{"a processor only", `hosts: [{name: alpha, processor: 256GiB}]`, gpu.CPU, 30 * gib},
}

// matrixRoles are the roles in the order of the table.
var matrixRoles = []lease.Role{lease.Learner, lease.Rollout, lease.Evaluate}

// few says that some rows of the table are enough.
func few() bool { return testing.Short() && !*rewriteMatrix }

// strikes are what happens to a device, as package gpufake puts it: every XID of the table, the driver's recovery
// actions, and what is read in a condition. Short runs take the first of each action and scope.
func strikes(kind gpu.Kind) []string {
	if kind == gpu.CPU {
		return []string{"throttle thermal", "gone"}
	}
	var out []string
	seen := map[string]bool{}
	for _, fault := range gpu.Faults {
		key := fmt.Sprint(fault.Action, fault.Scope)
		if fault.Xid == 0 || fault.Xid == 154 || few() && seen[key] {
			continue
		}
		seen[key] = true
		out = append(out, fmt.Sprintf("xid %d", fault.Xid))
	}
	if few() {
		return append(out, "gone")
	}
	return append(out, "xid 154 reset", "xid 154 reboot", "xid 154 drain", "xid 154 drain_and_reset", "xid 999", "ecc", "remap pending", "remap failed", "throttle thermal", "gone")
}

// TestServerDeviceMatrix strikes the device of every role with every fault on every topology, through a real server
// and real workflows, and compares what becomes of the roles, and what people read, with testdata/device_matrix.txt.
func TestServerDeviceMatrix(t *testing.T) {
	m := newMatrix(t)
	var table strings.Builder
	for number, topology := range topologies {
		m.begin(number, topology)
		for _, strike := range strikes(topology.kind) {
			struck := map[string]bool{}
			for _, role := range matrixRoles {
				table.WriteString(m.strike(role, strike, struck))
			}
		}
		m.end()
	}
	compareMatrix(t, table.String())
}

// strike lets something happen to the device of a role, unless it has happened to it, and says what came of it.
func (m *matrix) strike(role lease.Role, line string, done map[string]bool) string {
	t := m.t
	t.Helper()
	m.muster()
	before, err := Devices(t.Context(), m.client)
	if err != nil {
		t.Fatal(err)
	}
	struck := leaseOf(before, role)
	if done[struck.Devices[0]] {
		return ""
	}
	done[struck.Devices[0]], m.well = true, false
	at := slices.IndexFunc(m.hosts, func(h *matrixHost) bool { return h.name == struck.Agent })
	host, device := m.hosts[at], nameOf(t, m.hosts[at], struck.Devices[0])
	m.folder.mu.Lock()
	recorded := len(m.folder.events)
	m.folder.mu.Unlock()
	letGo := m.hold()
	if err := host.source.Inject(device + " " + line); err != nil {
		t.Fatal(err)
	}
	host.hear(t, strings.HasPrefix(line, "xid"))
	m.report(host)
	struckAt, err := Devices(t.Context(), m.client)
	letGo()
	if err != nil {
		t.Fatal(err)
	}
	after := m.settled(device+" "+line, func(lease.Snapshot) bool { return true })
	var out strings.Builder
	fmt.Fprintf(&out, "%s: %s on %s, %s\n", m.topology.name, line, struck.Devices[0], users(before, struck.Devices[0]))
	for _, d := range after.Devices {
		if d.Health != lease.Healthy || d.NoTrainers {
			fmt.Fprintf(&out, "  %s is %s: %s\n", d.UUID, d.Health, d.Why)
		}
	}
	for _, role := range matrixRoles {
		fmt.Fprintf(&out, "  %-8s %s\n", role, became(before, struckAt, after, role))
	}
	words := "has lost"
	if now := leaseOf(after, lease.Learner).Fence; now != 0 {
		words = fmt.Sprintf("(lease %d)", now)
	} else if leaseOf(struckAt, lease.Learner).Yield != "" {
		words = "back after"
	}
	if leaseOf(after, lease.Learner).Fence != leaseOf(before, lease.Learner).Fence {
		for _, line := range m.recorded(recorded, words) {
			fmt.Fprintf(&out, "  > %s\n", anywhereOn(after, line))
		}
	}
	return tidy(out.String())
}

// users names the roles on a device.
func users(snapshot lease.Snapshot, uuid string) string {
	var roles []string
	for _, role := range matrixRoles {
		if slices.Contains(leaseOf(snapshot, role).Devices, uuid) {
			roles = append(roles, string(role))
		}
	}
	return strings.Join(roles, "+")
}

func leaseOf(snapshot lease.Snapshot, role lease.Role) lease.Lease {
	for _, l := range snapshot.Leases {
		if l.Role == role {
			return l
		}
	}
	return lease.Lease{}
}

// became says what became of a role.
func became(before, at, after lease.Snapshot, role lease.Role) string {
	was, then, is := leaseOf(before, role), leaseOf(at, role), leaseOf(after, role)
	how := ""
	switch {
	case is.Fence == was.Fence:
		return "keeps " + is.Devices[0]
	case then.Yield != "":
		how = "gives " + was.Devices[0] + " back in order"
	default:
		how = "loses " + was.Devices[0]
	}
	if is.Fence == 0 {
		for _, w := range after.Queue {
			if w.Role == role {
				return how + " and waits: " + w.Reason
			}
		}
	}
	if is.Devices[0] == was.Devices[0] {
		return "begins again on " + is.Devices[0]
	}
	return anywhereOn(after, fmt.Sprintf("%s and goes to %s on %s", how, is.Devices[0], is.Host))
}

var newPlace = regexp.MustCompile(`(goes to|the learner has) (MIG-\S+)`)

// anywhereOn names the device that a new MIG instance is part of in its stead: roles that lose their instances
// together ask for new ones in any order.
func anywhereOn(snapshot lease.Snapshot, line string) string {
	found := newPlace.FindStringSubmatch(line)
	if found == nil {
		return line
	}
	at := slices.IndexFunc(snapshot.Devices, func(d lease.DeviceStatus) bool { return d.UUID == found[2] })
	return strings.Replace(line, found[0], found[1]+" an instance of "+snapshot.Devices[at].Parent, 1)
}

var (
	clockTime = regexp.MustCompile(`\d\d:\d\d(:\d\d)?( UTC)?`)
	fenceText = regexp.MustCompile(`\(lease \d+\)|in step \d+|lease \d+`)
)

// tidy takes out what differs from one day to the next.
func tidy(text string) string {
	text = clockTime.ReplaceAllString(text, "TIME")
	return fenceText.ReplaceAllStringFunc(text, func(s string) string { return regexp.MustCompile(`\d+`).ReplaceAllString(s, "N") })
}

// compareMatrix compares a table with the one that is kept. A short run has some of its rows.
func compareMatrix(t *testing.T, got string) {
	t.Helper()
	const path = "testdata/device_matrix.txt"
	if *rewriteMatrix {
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	kept, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	want := rows(string(kept))
	for head, row := range rows(got) {
		if want[head] != row {
			t.Errorf("got:\n%s%s\nwant:\n%s", head, row, want[head])
		}
		delete(want, head)
	}
	for head := range want {
		if !few() {
			t.Errorf("there is no row any more of %s", head)
		}
	}
}

// rows takes a table apart, by the first lines of its rows.
func rows(table string) map[string]string {
	out, head := map[string]string{}, ""
	for line := range strings.Lines(table) {
		if !strings.HasPrefix(line, " ") {
			head = line
		} else {
			out[head] += line
		}
	}
	return out
}
