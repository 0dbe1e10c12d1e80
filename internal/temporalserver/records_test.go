package temporalserver

import (
	"strings"
	"testing"
	"time"
)

func TestBadRecordsAreRefused(t *testing.T) {
	for raw, want := range map[string]string{
		`{"frontend":70000}`: "70000",
		`{"ui":-1}`:          "-1",
		`[]`:                 "array",
	} {
		if _, err := decodePorts([]byte(raw)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("ports %s: got %v, expected an error with %q", raw, err, want)
		}
	}
	for _, raw := range []string{`{}`, `{"server":"../x"}`, `{"server":"1.32-rc"}`, `x`} {
		if v, err := decodeVersion([]byte(raw)); err == nil {
			t.Errorf("version record %s is read as %q, expected an error", raw, v)
		}
	}
}

func TestMinor(t *testing.T) {
	for version, want := range map[string]string{"1.32.1": "1.32", "1.32": "1.32", "1": "1", "unknown": "unknown"} {
		if got := minor(version); got != want {
			t.Errorf("minor(%q) is %q, expected %q", version, got, want)
		}
	}
}

func TestBadSettingsAreRefused(t *testing.T) {
	for want, c := range map[string]Config{
		"--data":    {},
		"--port":    {DataDir: "d", FrontendPort: -1},
		"70000":     {DataDir: "d", UIPort: 70000},
		"both 7000": {DataDir: "d", UI: true, FrontendPort: 7000, UIPort: 7000},
		"retention": {DataDir: "d", Retention: time.Second},
	} {
		if _, err := c.resolve(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%+v: got %v, expected an error with %q", c, err, want)
		}
	}
}

func FuzzDecodePorts(f *testing.F) {
	f.Add([]byte(`{"frontend":7233,"ui":8233}`))
	f.Add([]byte(`{}`))
	f.Fuzz(func(t *testing.T, raw []byte) {
		p, err := decodePorts(raw)
		if err == nil && (p.Frontend < 0 || p.Frontend > 65535 || p.UI < 0 || p.UI > 65535) {
			t.Fatalf("accepted %+v", p)
		}
	})
}

// Whatever is accepted can be part of a file name.
func FuzzDecodeVersion(f *testing.F) {
	f.Add([]byte(`{"server":"1.32.1"}`))
	f.Add([]byte(`{"server":"/"}`))
	f.Fuzz(func(t *testing.T, raw []byte) {
		v, err := decodeVersion(raw)
		if err == nil && (v == "" || strings.ContainsAny(v, "/\\\x00")) {
			t.Fatalf("accepted %q", v)
		}
	})
}
