package nvml

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/turnwise-rl/turnwise/internal/gpu"
)

// h200 is what we say of the first device of the committed table.
func h200() shown {
	used, busy, watts, celsius := int64(512<<20), 0.87, 312.5, 61.0
	return shown{
		driver: "580.159.03",
		device: gpu.Device{UUID: "GPU-11111111-2222-3333-4444-555555555555", Kind: gpu.GPU, Name: "NVIDIA H200", MemoryTotalBytes: 143771 << 20, PCI: "00000000:1B:00.0"},
		reading: gpu.Reading{UUID: "GPU-11111111-2222-3333-4444-555555555555", MemoryUsedBytes: &used, Utilization: &busy, PowerWatts: &watts,
			TemperatureCelsius: &celsius, ECC: &gpu.ECC{}},
	}
}

func committedRows(t *testing.T) []smiRow {
	t.Helper()
	file, err := os.Open(filepath.Join("testdata", "nvidia-smi.csv"))
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	rows, err := parseSMI(file)
	if err != nil {
		t.Fatal(err)
	}
	return rows
}

// TestDifferencesAreSeen spoils one field after the other: a comparison that cannot fail shows nothing.
func TestDifferencesAreSeen(t *testing.T) {
	rows := committedRows(t)
	if differ, tells := differences(h200(), rows[0], rows[0]); len(differ) != 0 || len(tells) != 11 {
		t.Errorf("%d properties compared (%v), which differ: %v", len(tells), tells, differ)
	}
	celsius, watts := 64.0, 250.0
	for name, spoil := range map[string]func(*shown){
		"index":                             func(s *shown) { s.device.Index = 1 },
		"name":                              func(s *shown) { s.device.Name = "NVIDIA H100" },
		"pci.bus_id":                        func(s *shown) { s.device.PCI = "00000000:1C:00.0" },
		"driver_version":                    func(s *shown) { s.driver = "570" },
		"memory.total":                      func(s *shown) { s.device.MemoryTotalBytes = 143771e6 },
		"memory.used":                       func(s *shown) { s.reading.MemoryUsedBytes = nil },
		"utilization.gpu":                   func(s *shown) { *s.reading.Utilization = 87 },
		"power.draw":                        func(s *shown) { s.reading.PowerWatts = &watts },
		"temperature.gpu":                   func(s *shown) { s.reading.TemperatureCelsius = &celsius },
		"clocks_event_reasons.sw_power_cap": func(s *shown) { s.reading.Throttle = []gpu.Throttle{gpu.ThrottlePowerCap} },
		"lost":                              func(s *shown) { s.reading.Gone = "lost" },
	} {
		s := h200()
		spoil(&s)
		if differ, _ := differences(s, rows[0], rows[0]); len(differ) != 1 || !strings.HasPrefix(differ[0], name+": ") {
			t.Errorf("%s: got %q", name, differ)
		}
	}
	if differ, _ := differences(h200(), rows[2], rows[2]); len(differ) != 1 {
		t.Errorf("nvidia-smi says that it is lost: got %q", differ)
	}
	// What moves may lie between two answers.
	hotter := smiRow{}
	for name, value := range rows[0] {
		hotter[name] = value
	}
	hotter["temperature.gpu"], hotter["power.draw"] = "75", "650.00"
	s := h200()
	celsius = 70
	s.reading.TemperatureCelsius = &celsius
	if differ, _ := differences(s, rows[0], hotter); len(differ) != 0 {
		t.Errorf("got %q", differ)
	}
}

func TestWordsForRecovery(t *testing.T) {
	for text, want := range map[string]gpu.Recovery{"None": gpu.RecoverNone, "Reset": gpu.RecoverReset, "GPU Reset": gpu.RecoverReset, "Node Reboot": gpu.RecoverReboot,
		"Reboot": gpu.RecoverReboot, "Drain P2P": gpu.RecoverDrain, "Drain and Reset": gpu.RecoverDrainAndReset} {
		if got := plain(text); got != string(want) {
			t.Errorf("%q is %q, want %q", text, got, want)
		}
	}
}

// TestDecodeShown reads the form of contract 5 with the fields beside it, and leaves the processor out.
func TestDecodeShown(t *testing.T) {
	s := h200()
	device, _ := json.Marshal(struct {
		gpu.Device
		Used   *int64   `json:"memory_used_bytes"`
		Load   *float64 `json:"utilization_ratio"`
		Watts  *float64 `json:"power_watts"`
		Heat   *float64 `json:"temperature_celsius"`
		Health string   `json:"health"`
		Lease  *int     `json:"lease"`
	}{s.device, s.reading.MemoryUsedBytes, s.reading.Utilization, s.reading.PowerWatts, s.reading.TemperatureCelsius, "healthy", nil})
	text := `{"driver":"580.159.03","reason":null,"devices":[{"uuid":"CPU-1","kind":"cpu"},` + string(device) + `]}`
	got, err := decodeShown([]byte(text))
	if err != nil || len(got) != 1 {
		t.Fatalf("got %+v, %v", got, err)
	}
	rows := committedRows(t)
	if differ, tells := differences(got[0], rows[0], rows[0]); len(differ) != 0 || len(tells) != 10 {
		t.Errorf("%d properties compared (%v), which differ: %v", len(tells), tells, differ)
	}
	if _, err := decodeShown([]byte("no driver")); err == nil {
		t.Error("no error")
	}
}

// TestAskSMI asks a program that answers as nvidia-smi does, and has rows of remapping for one device.
func TestAskSMI(t *testing.T) {
	data, err := filepath.Abs("testdata")
	if err != nil {
		t.Fatal(err)
	}
	script := `#!/bin/sh
case "$1" in
--help-query-gpu) cat ` + data + `/nvidia-smi-help.txt ;;
--help-query-remapped-rows) printf '"gpu_uuid"\n"remapped_rows.pending"\n' ;;
--query-gpu=*memory.total*uuid*) cat ` + data + `/nvidia-smi.csv ;;
--query-remapped-rows=gpu_uuid,remapped_rows.pending) printf 'gpu_uuid, remapped_rows.pending\nGPU-11111111-2222-3333-4444-555555555555, 1\n' ;;
*) echo "what is $1?" >&2; exit 1 ;;
esac
`
	path := filepath.Join(t.TempDir(), "nvidia-smi")
	if err := os.WriteFile(path, []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	rows := askSMI(t, path)
	if len(rows) != 3 || rows[0]["memory.total"] != "143771" || rows[0]["remapped_rows.pending"] != "1" {
		t.Fatalf("got %v", rows)
	}
	s := h200()
	if differ, _ := differences(s, rows[0], rows[0]); len(differ) != 1 || !strings.HasPrefix(differ[0], "remapped_rows.pending: ") {
		t.Errorf("got %q", differ)
	}
	s.reading.Remap = &gpu.Remap{Pending: true}
	if differ, _ := differences(s, rows[0], rows[0]); len(differ) != 0 {
		t.Errorf("got %q", differ)
	}
}
