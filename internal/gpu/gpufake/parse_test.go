package gpufake

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/turnwise-rl/turnwise/internal/gpu"
)

// read parses a file of testdata.
func read(t *testing.T, name string) Fleet {
	t.Helper()
	data, err := os.ReadFile(filepath.Join("testdata", name))
	if err != nil {
		t.Fatal(err)
	}
	fleet, err := Parse(name, data)
	if err != nil {
		t.Fatal(err)
	}
	return fleet
}

func TestFleet(t *testing.T) {
	fleet := read(t, "fleet.yaml")
	alpha, err := fleet.Host("alpha")
	if err != nil {
		t.Fatal(err)
	}
	inventory, err := Open(alpha).Inventory(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if inventory.Driver != "570.86.15" || inventory.Reason != "" || len(inventory.Devices) != 1+8+2+1 {
		t.Fatalf("inventory %+v", inventory)
	}
	seen := map[string]bool{}
	for _, d := range inventory.Devices {
		if seen[d.UUID] {
			t.Errorf("UUID %s twice", d.UUID)
		}
		seen[d.UUID] = true
	}
	for i, want := range []gpu.Device{
		{Kind: gpu.CPU, Name: "fake processor", MemoryTotalBytes: 64 * gib},
		{Kind: gpu.GPU, Name: "NVIDIA H200", Index: 0, MemoryTotalBytes: 143771 * mib, PCI: "00000000:10:00.0", Domain: "alpha/left"},
		8:  {Kind: gpu.GPU, Name: "NVIDIA H200", Index: 7, MemoryTotalBytes: 143771 * mib, PCI: "00000000:17:00.0", Domain: "alpha/right"},
		10: {Kind: gpu.GPU, Name: "NVIDIA A100-SXM4-80GB MIG 3g.40gb", Index: 8, MemoryTotalBytes: 40e9, PCI: "00000000:18:00.0", Profile: "3g.40gb"},
		11: {Kind: gpu.GPU, Name: "Prototype", Index: 9, MemoryTotalBytes: 3 << 39, PCI: "00000000:19:00.0", UUID: "GPU-prototype-1"},
	} {
		if want.Kind == "" {
			continue
		}
		got := inventory.Devices[i]
		if want.Profile != "" && (got.Parent != inventory.Devices[i-1].Parent || seen[got.Parent] || got.Parent == "") {
			t.Errorf("instance %+v is part of no device that is split", got)
		}
		if want.UUID == "" {
			want.UUID = got.UUID
		}
		want.Parent = got.Parent
		if got != want {
			t.Errorf("device %d: %+v, want %+v", i, got, want)
		}
	}
	again, _ := Open(read(t, "fleet.yaml").Hosts[0]).Inventory(t.Context())
	if again.Devices[3].UUID != inventory.Devices[3].UUID {
		t.Error("UUIDs change with a restart")
	}

	beta, err := fleet.Host("beta")
	if err != nil {
		t.Fatal(err)
	}
	if inventory, _ := Open(beta).Inventory(t.Context()); inventory.Driver != "" || inventory.Reason != gpu.NoDriver || len(inventory.Devices) != 1 {
		t.Errorf("beta has %+v", inventory)
	}
}

func TestHostIsFoundByName(t *testing.T) {
	fleet := read(t, "fleet.yaml")
	if _, err := fleet.Host("gamma"); err == nil || err.Error() != `the fleet has no host "gamma": it has alpha, beta` {
		t.Errorf("gamma: %v", err)
	}
	if _, err := fleet.Host(""); err == nil || !strings.Contains(err.Error(), "2 hosts") {
		t.Errorf("no name: %v", err)
	}
	for name, want := range map[string]string{"alpha-2": "alpha", "beta-17": "beta"} {
		if host, err := fleet.Host(name); err != nil || host.Name != want {
			t.Errorf("%s is host %q, %v", name, host.Name, err)
		}
	}
	for _, name := range []string{"alpha-", "alpha-x", "alpha-02", "alpha2"} {
		if host, err := fleet.Host(name); err == nil {
			t.Errorf("%s is host %s", name, host.Name)
		}
	}
	one := Fleet{Hosts: fleet.Hosts[1:]}
	if host, err := one.Host(""); err != nil || host.Name != "beta" {
		t.Errorf("the only host: %v %v", host.Name, err)
	}
}

// TestBadFleets holds each way to be wrong to its message.
func TestBadFleets(t *testing.T) {
	names, _ := filepath.Glob("testdata/bad/*.yaml")
	if len(names) < 40 {
		t.Fatalf("%d bad fleets", len(names))
	}
	for _, name := range names {
		data, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		want, err := os.ReadFile(strings.TrimSuffix(name, ".yaml") + ".want")
		if err != nil {
			t.Fatal(err)
		}
		_, err = Parse("fleet.yaml", data)
		if text := "fleet.yaml:" + strings.TrimRight(string(want), "\n"); err == nil || !strings.HasPrefix(err.Error(), text) {
			t.Errorf("%s:\ngot  %v\nwant %s…", name, err, text)
		}
	}
}

func FuzzParse(f *testing.F) {
	names, _ := filepath.Glob("testdata/*.yaml")
	bad, _ := filepath.Glob("testdata/bad/*.yaml")
	for _, name := range append(names, bad...) {
		data, err := os.ReadFile(name)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		fleet, err := Parse("f", data)
		if err != nil {
			if !strings.HasPrefix(err.Error(), "f:") || strings.TrimSpace(err.Error()) == "f:" {
				t.Errorf("error %q names no line", err)
			}
			return
		}
		seen := map[string]bool{}
		for _, host := range fleet.Hosts {
			s := Open(host)
			inventory, err := s.Inventory(t.Context())
			readings, _ := s.Read(t.Context())
			if err != nil || len(readings) > len(inventory.Devices) {
				t.Fatalf("%s: %v, %d readings of %d devices", host.Name, err, len(readings), len(inventory.Devices))
			}
			for _, d := range inventory.Devices {
				if seen[d.UUID] || d.UUID == "" || d.MemoryTotalBytes <= 0 {
					t.Fatalf("device %+v", d)
				}
				seen[d.UUID] = true
			}
		}
	})
}

func FuzzInject(f *testing.F) {
	for _, line := range []string{"gpu 0 xid 79", "3s gpu 8.1 throttle thermal for 2s", "driver reload", "host reboot", "gpu 1 process 3GiB by alice for 1h", "cpu gone",
		"gpu 2 remap failed", "gpu 3 ecc 7", "gpu 3 reset", "gpu 1 recovery drain", "gpu 1 clear", "gpu 1 links-down 3 for 1ms"} {
		f.Add(line)
	}
	fleet, err := Parse("f", []byte("hosts: [{name: a, processor: 1GiB, devices: [{model: H200, count: 8, domain: d}, {model: A100, mig: [1g.10gb, 1g.10gb]}]}]"))
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, line string) {
		s := Open(fleet.Hosts[0])
		if err := s.Inject(line); err != nil && strings.TrimSpace(err.Error()) == "" {
			t.Errorf("%q: an error without a word", line)
		}
		if _, err := s.Read(t.Context()); err != nil {
			t.Error(err)
		}
	})
}

// TestDocumentedFleet reads the fleet of the operators' document, and what it says may happen.
func TestDocumentedFleet(t *testing.T) {
	text, err := os.ReadFile("../../../docs/devices.md")
	if err != nil {
		t.Fatal(err)
	}
	_, block, _ := strings.Cut(string(text), "```yaml\n")
	block, rest, _ := strings.Cut(block, "```")
	fleet, err := Parse("docs/devices.md", []byte(block))
	if err != nil {
		t.Fatal(err)
	}
	for name := range models {
		if !strings.Contains(rest, "`"+name+"`") {
			t.Errorf("the document lacks model %s", name)
		}
	}
	for _, verb := range verbs["gpu"] {
		if !strings.Contains(rest, "`gpu N "+verb) {
			t.Errorf("the document lacks %s", verb)
		}
	}
	s := Open(fleet.Hosts[0])
	for line := range strings.Lines(rest) {
		first, _, row := strings.Cut(strings.TrimPrefix(line, "| `"), "` ")
		if !row || !strings.HasPrefix(line, "| `") || strings.Contains(first, "WHAT") {
			continue
		}
		line := strings.NewReplacer("gpu N", "gpu 0", "xid K", "xid 13", "REASONS", "thermal,power_cap", "COUNT", "2", "NAME", "ann", "[", "", "]", "").Replace(first)
		line, _, _ = strings.Cut(line, "`")
		if err := s.Inject(line); err != nil {
			t.Errorf("%s: %v", line, err)
		}
	}
}
