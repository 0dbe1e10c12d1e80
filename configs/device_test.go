package configs

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// TestShortDevice writes a device by its kind, in files and overrides, before and after its other keys: the kind
// changes and the rest stays as it was said.
func TestShortDevice(t *testing.T) {
	want := Default().Device
	want.Kind, want.Precision = CUDA, BF16
	exact, queued, f32 := want, want, want
	exact.Exact, queued.Queue, f32.Precision = true, "night", F32
	cpu := Default().Device
	cpu.Exact, cpu.Queue = true, "night"
	for _, tt := range []struct {
		name      string
		files     []string
		overrides []string
		want      Device
	}{
		{"file", []string{"device: cuda\n"}, nil, want},
		{"quoted", []string{"device: \"cuda\"\n"}, nil, want},
		{"override", nil, []string{"device=cuda"}, want},
		{"and exact", nil, []string{"device=cuda", "device.exact=true"}, exact},
		{"exact before", nil, []string{"device.exact=true", "device=cuda"}, exact},
		{"mapping", nil, []string{"device={kind: cuda, exact: true}"}, exact},
		{"keeps a file's queue", []string{"device: {queue: night}\n"}, []string{"device=cuda"}, queued},
		{"file over file", []string{"device: {queue: night}\n", "device: cuda\n"}, nil, queued},
		{"said", []string{"device: {precision: f32}\n"}, []string{"device=cuda"}, f32},
		{"back", []string{"device: {kind: cuda, exact: true, queue: night}\n"}, []string{"device=cpu"}, cpu},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got := load(t, tt.overrides, append([]string{small}, tt.files...)...)
			if diff := cmp.Diff(tt.want, got.Run.Device); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
			again, err := Reload("run.yaml", got.YAML())
			if err != nil || again.Digest() != got.Digest() {
				t.Errorf("reloaded it is another run: %v", err)
			}
		})
	}
}

// TestDerivedPrecision follows the kind as long as nobody says a precision, and says why.
func TestDerivedPrecision(t *testing.T) {
	const path = "device.precision"
	run := load(t, []string{"device=cuda"}, small)
	if origin := run.Provenance[path].String(); run.Run.Device.Precision != BF16 || origin != "because device.kind is cuda" {
		t.Errorf("%s %s", run.Run.Device.Precision, origin)
	}
	record, err := Reload("run.yaml", run.YAML())
	if err != nil {
		t.Fatal(err)
	}
	back, err := Fork(record, 5, []string{"device=cpu"})
	if err != nil || back.Run.Device.Precision != F32 {
		t.Errorf("a fork to the processor has precision %s: %v", back.Run.Device.Precision, err)
	}
	record, err = Reload("run.yaml", load(t, []string{"device=cuda", "device.precision=f32"}, small).YAML())
	if err != nil || record.Run.Device.Precision != F32 {
		t.Errorf("what was said is forgotten: %v", err)
	}
}

// TestReloadOldDevices reads what runs were resolved to when the section was called devices.
func TestReloadOldDevices(t *testing.T) {
	text := string(load(t, []string{"device.queue=night"}, small).YAML())
	before, _, _ := strings.Cut(text, "device:\n")
	section := func(kind string) []byte {
		return []byte(before + "devices:\n  kind: " + kind + " # default\n  queue: night # override 1\n  priority: 3 # default\n  learner_memory: 0 # default\n  rollout_memory: 0 # default\n")
	}
	for kind, now := range map[string]string{"cpu": "cpu", "gpu": "cuda"} {
		old, err := Reload("run.yaml", section(kind))
		if err != nil {
			t.Fatalf("%s: %v", kind, err)
		}
		if same := load(t, []string{"device.queue=night", "device=" + now, "device.precision=f32"}, small); old.Digest() != same.Digest() {
			t.Errorf("%s is read as another run: %v", kind, old.Differences(same))
		}
		if origin := old.Provenance["device.queue"].String(); origin != "override 1" {
			t.Errorf("the queue comes from %s", origin)
		}
	}
	if _, err := Load([]Source{{Name: "mine.yaml", Data: section("gpu")}}, nil); err == nil || !strings.Contains(err.Error(), `unknown key "devices"`) {
		t.Errorf("a config that somebody writes: %v", err)
	}
}
