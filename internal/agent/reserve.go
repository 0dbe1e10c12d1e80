package agent

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
)

// ErrNameTaken says that a living process has the name already. A second one would take over its leases.
var ErrNameTaken = errors.New("another process has this name")

// Reserve takes a name in a data folder for as long as this process lives; ErrNameTaken when another process has it.
// release gives it back; so does the end of the process, however it ends.
func Reserve(dataDir, name string) (release func() error, err error) {
	folder := filepath.Join(dataDir, "agents")
	if err := os.MkdirAll(folder, 0o700); err != nil {
		return nil, fmt.Errorf("name of the device agent: %w", err)
	}
	// No place's file name has an equals sign in it.
	lock, err := tryLock(filepath.Join(folder, "name="+fileName(name)+".lock"))
	switch {
	case err != nil:
		return nil, fmt.Errorf("name of the device agent: %w", err)
	case lock == nil:
		return nil, fmt.Errorf("%w: %s in %s", ErrNameTaken, name, dataDir)
	}
	return lock.Close, nil
}
