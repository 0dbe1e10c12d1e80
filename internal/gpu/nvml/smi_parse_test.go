package nvml

import (
	"encoding/csv"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// smiRow is what nvidia-smi says about one device, by property. What it does not tell is not in it.
type smiRow map[string]string

// lostRow is the property under which a row says why its device is lost.
const lostRow = "lost"

// smiQuoted finds the names of properties in nvidia-smi's own list.
var smiQuoted = regexp.MustCompile(`(?m)^"([a-z0-9_.]+)"(?: or "([a-z0-9_.]+)")?`)

// smiProperties are the properties that this version of nvidia-smi has.
func smiProperties(help string) []string {
	var names []string
	for _, match := range smiQuoted.FindAllStringSubmatch(help, -1) {
		names = append(names, match[1])
		if match[2] != "" {
			names = append(names, match[2])
		}
	}
	return names
}

// parseSMI reads the output of `nvidia-smi --query-gpu=... --format=csv,nounits`, whose first line names the
// properties with their units. A value in brackets says why there is none.
func parseSMI(text io.Reader) ([]smiRow, error) {
	r := csv.NewReader(text)
	r.TrimLeadingSpace = true
	lines, err := r.ReadAll()
	if err != nil {
		return nil, fmt.Errorf("nvidia-smi's table: %w", err)
	}
	if len(lines) == 0 || !slices.ContainsFunc(lines[0], func(name string) bool { return name == "uuid" || name == "gpu_uuid" }) {
		return nil, fmt.Errorf("nvidia-smi's table has no line that names its properties: %q", lines)
	}
	var rows []smiRow
	for _, line := range lines[1:] {
		row := smiRow{}
		for i, value := range line {
			name, _, _ := strings.Cut(lines[0][i], " [")
			value = strings.TrimSpace(value)
			switch lower := strings.ToLower(value); {
			case strings.Contains(lower, "gpu is lost") || strings.Contains(lower, "requires reset"):
				row[lostRow] = value
			case value == "" || value == "N/A" || strings.HasPrefix(value, "["):
			default:
				row[name] = value
			}
		}
		rows = append(rows, row)
	}
	return rows, nil
}

// TestParseSMI reads a table in the form that nvidia-smi's manual describes, with each way to tell nothing.
func TestParseSMI(t *testing.T) {
	file, err := os.Open(filepath.Join("testdata", "nvidia-smi.csv"))
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	got, err := parseSMI(file)
	if err != nil {
		t.Fatal(err)
	}
	want := []smiRow{
		{"index": "0", "uuid": "GPU-11111111-2222-3333-4444-555555555555", "name": "NVIDIA H200", "pci.bus_id": "00000000:1B:00.0", "driver_version": "580.159.03",
			"memory.total": "143771", "memory.used": "512", "utilization.gpu": "87", "power.draw": "312.50", "temperature.gpu": "61",
			"ecc.mode.current": "Enabled", "mig.mode.current": "Disabled", "clocks_event_reasons.sw_power_cap": "Not Active"},
		{"index": "1", "uuid": "GPU-66666666-2222-3333-4444-555555555555", "name": "NVIDIA H200", "pci.bus_id": "00000000:43:00.0", "driver_version": "580.159.03",
			"memory.total": "143771", "memory.used": "0", "utilization.gpu": "0", "power.draw": "76.63", "temperature.gpu": "29", "temperature.memory": "32",
			"ecc.mode.current": "Enabled", "mig.mode.current": "Disabled", "clocks_event_reasons.sw_power_cap": "Active"},
		{"index": "2", "uuid": "GPU-99999999-2222-3333-4444-555555555555", "name": "NVIDIA H200", "pci.bus_id": "00000000:52:00.0", "driver_version": "580.159.03",
			lostRow: "[GPU is lost]"},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestParseSMIRefusesOtherText(t *testing.T) {
	for _, text := range []string{"", "No devices were found\n", "0, GPU-1\n", "uuid, index\nGPU-1\n", "uuid\n\"GPU"} {
		if rows, err := parseSMI(strings.NewReader(text)); err == nil {
			t.Errorf("%q gives %v", text, rows)
		}
	}
}

func FuzzParseSMI(f *testing.F) {
	table, err := os.ReadFile(filepath.Join("testdata", "nvidia-smi.csv"))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(string(table))
	f.Fuzz(func(t *testing.T, text string) {
		rows, err := parseSMI(strings.NewReader(text))
		if err != nil && rows != nil {
			t.Errorf("%d rows beside the error %v", len(rows), err)
		}
	})
}

func TestSMIProperties(t *testing.T) {
	help, err := os.ReadFile(filepath.Join("testdata", "nvidia-smi-help.txt"))
	if err != nil {
		t.Fatal(err)
	}
	got := smiProperties(string(help))
	for _, name := range []string{"uuid", "gpu_uuid", "memory.total", "clocks_event_reasons.sw_power_cap", "clocks_throttle_reasons.sw_power_cap"} {
		if !slices.Contains(got, name) {
			t.Errorf("%s is not among %v", name, got)
		}
	}
	if slices.Contains(got, "domain:bus:device.function") {
		t.Errorf("%v has what is no property", got)
	}
}
