//go:build !slim

package temporalserver

import (
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/url"
	"os"
	"path/filepath"

	enumspb "go.temporal.io/api/enums/v1"
	"go.temporal.io/server/common/config"
	"go.temporal.io/server/common/headers"
	sqliteplugin "go.temporal.io/server/common/persistence/sql/sqlplugin/sqlite"
	"go.temporal.io/server/common/primitives/timestamp"
	"go.temporal.io/server/schema/sqlite"

	"github.com/turnwise-rl/turnwise/internal/connect"
)

// store is the database a server runs on, ready for it: schema and namespace are there.
type store struct{ sql *config.SQL }

func openStore(c Config) (store, error) {
	if c.InMemory {
		s := store{memorySQL()}
		return s, s.createNamespace(c)
	}
	folder := connect.Folder(c.DataDir)
	file, record := filepath.Join(folder, "temporal.db"), filepath.Join(folder, "temporal.db.version.json")
	fresh, err := setAsideForeign(file, record, c.Notice)
	if err != nil {
		return store{}, err
	}
	s := store{fileSQL(file)}
	if fresh {
		if err := sqlite.SetupSchema(s.sql); err != nil {
			return store{}, fmt.Errorf("create database %s: %w", file, err)
		}
	}
	if err := s.createNamespace(c); err != nil {
		return store{}, fmt.Errorf("database %s: %w", file, err)
	}
	// Last, so that a database whose creation was interrupted has no record and is not used.
	raw, err := json.Marshal(storeVersion{headers.ServerVersion})
	if err == nil {
		err = os.WriteFile(record, append(raw, '\n'), 0o600)
	}
	if err != nil {
		return store{}, fmt.Errorf("data folder: %w", err)
	}
	return s, nil
}

// setAsideForeign renames a database that this server did not make, and reports whether a new one is needed. Nothing that a run
// needs is lost: its state is in its run folder.
func setAsideForeign(file, record string, notice func(string)) (fresh bool, err error) {
	if _, err := os.Stat(file); errors.Is(err, os.ErrNotExist) {
		return true, nil
	} else if err != nil {
		return false, fmt.Errorf("data folder: %w", err)
	}
	made, err := madeBy(record)
	if err != nil {
		return false, err
	}
	if minor(made) == minor(headers.ServerVersion) {
		return false, nil
	}
	aside := freeName(file + "." + made)
	// The log files must move along, or SQLite would apply them to the new database; the record goes first, so that an interruption
	// leaves a database without a record, which is set aside again.
	if err := os.Remove(record); err != nil && !errors.Is(err, os.ErrNotExist) {
		return false, fmt.Errorf("data folder: %w", err)
	}
	for _, suffix := range []string{"-wal", "-shm", ""} {
		if err := os.Rename(file+suffix, aside+suffix); err != nil && !(suffix != "" && errors.Is(err, os.ErrNotExist)) {
			return false, fmt.Errorf("set the old database aside: %w", err)
		}
	}
	notice(fmt.Sprintf("the Temporal database was made by server %s and this is %s: it is kept as %s and a new one is started; runs continue from their run folders", made, headers.ServerVersion, aside))
	return true, nil
}

// madeBy returns the server version that made the database, or "unknown" when its creation never finished.
func madeBy(record string) (string, error) {
	raw, err := os.ReadFile(record)
	if errors.Is(err, os.ErrNotExist) {
		return "unknown", nil
	}
	if err != nil {
		return "", fmt.Errorf("data folder: %w", err)
	}
	v, err := decodeVersion(raw)
	if err != nil {
		return "", fmt.Errorf("%s: %w: delete it to set the database aside and start a new one", record, err)
	}
	return v, nil
}

func freeName(path string) string {
	name := path
	for i := 2; ; i++ {
		if _, err := os.Lstat(name); errors.Is(err, os.ErrNotExist) {
			return name
		}
		name = fmt.Sprintf("%s.%d", path, i)
	}
}

func fileSQL(file string) *config.SQL {
	return &config.SQL{
		PluginName: sqliteplugin.PluginName,
		// The name becomes part of a URI.
		DatabaseName: (&url.URL{Path: file}).EscapedPath(),
		// One connection: with more, writers meet "database is locked". Normal synchronisation loses no committed transaction when
		// a process dies, only, at worst, the last ones in a power failure, and never consistency.
		MaxConns: 1, MaxIdleConns: 1,
		ConnectAttributes: map[string]string{"mode": "rwc", "journal_mode": "wal", "synchronous": "normal"},
	}
}

func memorySQL() *config.SQL {
	return &config.SQL{
		PluginName: sqliteplugin.PluginName, DatabaseName: fmt.Sprintf("turnwise-%d", rand.Uint64()),
		MaxConns: 1, MaxIdleConns: 1,
		ConnectAttributes: map[string]string{"mode": "memory", "cache": "shared"},
	}
}

// createNamespace registers the namespace before the server runs; an existing one is left as it is.
func (s store) createNamespace(c Config) error {
	attributes := map[string]enumspb.IndexedValueType{}
	for _, name := range connect.SearchAttributes() {
		attributes[name] = enumspb.INDEXED_VALUE_TYPE_KEYWORD
	}
	ns, err := sqlite.NewNamespaceConfig(clusterName, c.Namespace, false, attributes)
	if err != nil {
		return fmt.Errorf("namespace %q: %w", c.Namespace, err)
	}
	// The default of one day makes finished runs vanish from lists overnight.
	ns.Detail.Config.Retention = timestamp.DurationPtr(c.Retention)
	return sqlite.CreateNamespaces(s.sql, ns)
}
