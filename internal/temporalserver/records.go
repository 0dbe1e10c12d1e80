package temporalserver

import (
	"encoding/json"
	"fmt"
	"strings"
)

// The files that one start leaves for the next. They need nothing of the server, so a slim build compiles and tests them too.

// ports are those of one server. The two that people and clients know are remembered in the data folder, so that a restart finds
// them again and clients reconnect.
type ports struct {
	Frontend int `json:"frontend"`
	// UI is 0 when no web interface was ever served.
	UI int `json:"ui"`

	http, internalFrontend, history, matching, worker int
}

func decodePorts(raw []byte) (ports, error) {
	var p ports
	if err := json.Unmarshal(raw, &p); err != nil {
		return ports{}, err
	}
	for _, n := range []int{p.Frontend, p.UI} {
		if n < 0 || n > 65535 {
			return ports{}, fmt.Errorf("port %d, expected 0 to 65535", n)
		}
	}
	return p, nil
}

// storeVersion is the record beside the database file that says which server made it. Temporal has no migrations for SQLite: a
// database of another minor version opens, and lacks tables.
type storeVersion struct {
	Server string `json:"server"`
}

func decodeVersion(raw []byte) (string, error) {
	var v storeVersion
	if err := json.Unmarshal(raw, &v); err != nil {
		return "", err
	}
	// It becomes part of a file name.
	if v.Server == "" || strings.Trim(v.Server, "0123456789.") != "" {
		return "", fmt.Errorf("server version %q, expected digits and dots", v.Server)
	}
	return v.Server, nil
}

// minor cuts a version to "major.minor".
func minor(version string) string {
	parts := strings.SplitN(version, ".", 3)
	return strings.Join(parts[:min(2, len(parts))], ".")
}
