package agent

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// mostAgents bounds the processes of one machine on one data folder.
const mostAgents = 1000

// The processes of a machine have numbered places in a data folder: those whose names count up from the host's,
// and those that were given names of their own. No host's file name has a plus in it.
const counted, named = "-", "+"

func placeFile(dataDir, host, kind string, n int) string {
	return filepath.Join(dataDir, "agents", fmt.Sprintf("%s%s%d.lock", fileName(host), kind, n))
}

// claim takes the first place that no living process has, and writes there which process has it.
func claim(dataDir, host, kind string) (place int, release func() error, err error) {
	if err := os.MkdirAll(filepath.Join(dataDir, "agents"), 0o700); err != nil {
		return 0, nil, err
	}
	for n := 1; n <= mostAgents; n++ {
		lock, err := tryLock(placeFile(dataDir, host, kind, n))
		if err != nil {
			return 0, nil, err
		}
		if lock == nil {
			continue
		}
		if err := sign(lock); err != nil {
			return 0, nil, errors.Join(err, lock.Close())
		}
		return n, func() error { return errors.Join(lock.Truncate(0), lock.Close()) }, nil
	}
	return 0, nil, fmt.Errorf("%s has %d agents on %s already", host, mostAgents, dataDir)
}

// Join lets the other agents of this machine and data folder know of a process whose name was not claimed.
func Join(dataDir, host string) (release func() error, err error) {
	if _, release, err = claim(dataDir, host, named); err != nil {
		return nil, fmt.Errorf("place of the device agent: %w", err)
	}
	return release, nil
}

// Processes are the ids of the living processes of this machine that have device agents in a data folder, and
// of this one, sorted.
func Processes(dataDir, host string) []int {
	ids := []int{os.Getpid()}
	for _, kind := range []string{counted, named} {
		for n := 1; n <= mostAgents; n++ {
			data, err := os.ReadFile(placeFile(dataDir, host, kind, n))
			if err != nil { // places are taken in order, and their files stay
				break
			}
			if id, ok := signer(string(data)); ok {
				ids = append(ids, id)
			}
		}
	}
	slices.Sort(ids)
	return slices.Compact(ids)
}

// sign writes which process has a place. The system gives the id of a process that has ended to another one
// later, so that the moment of its start belongs to it.
func sign(place *os.File) error {
	if err := place.Truncate(0); err != nil {
		return err
	}
	_, err := place.WriteAt(fmt.Appendf(nil, "%d %s\n", os.Getpid(), started(os.Getpid())), 0)
	return err
}

// signer is the process that has written a signature, when it is alive.
func signer(text string) (id int, alive bool) {
	first, start, _ := strings.Cut(strings.TrimSpace(text), " ")
	id, err := strconv.Atoi(first)
	return id, err == nil && id > 0 && start != "" && start == started(id)
}

// started says when a process of this machine was started, in the kernel's ticks since the boot; "" when there
// is none or the system does not tell.
func started(id int) string {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", id))
	if err != nil {
		return ""
	}
	// The program's name is in brackets and may have anything in it.
	fields := strings.Fields(string(data[strings.LastIndexByte(string(data), ')')+1:]))
	const afterName = 19 // of the 22nd field of proc_pid_stat(5)
	if len(fields) <= afterName {
		return ""
	}
	return fields[afterName]
}
