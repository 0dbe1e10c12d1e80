package emulator

import (
	"encoding/json"
	"fmt"
	"strings"

	"github.com/ebitengine/purego"
)

// What a driver can watch for while it runs PTX, by bits, as its setting "watch" takes them.
const (
	// WatchRaces is for threads of a block that use the same bytes of shared memory in no order, one of them writing, and for reads
	// of shared memory that nobody wrote. What compute-sanitizer's racecheck and initcheck look for.
	WatchRaces = 1 << iota
	// WatchCounts is for [Counts].
	WatchCounts
	// WatchGlobal is for threads of a launch that use the same bytes of global memory in no order, one of them writing.
	WatchGlobal
	// WatchOn has launches go on in which something was found.
	WatchOn
)

// Counts are what a GPU does in all launches of a kernel since the setting "watch" was set. They follow from the
// instructions and their addresses alone, so they are exact, and the same on every machine. An instruction is one of PTX, executed by
// a warp: an assembler may make several of one, or none.
type Counts struct {
	Kernel                  string
	Launches, Blocks, Warps int64
	Executed                int64 // instructions
	Lanes                   int64 // lanes that took part in them
	Classes                 Classes
	// Of global memory, reads and then writes. A sector is 32 bytes at a multiple of 32; the least number of a request is what its
	// bytes would fill, each counted once, as they are in Asked. Bytes and Met are bytes and sectors of a launch, each counted once
	// however many requests it is in.
	Requests     [2]int64
	Sectors      [2]int64
	LeastSectors [2]int64 `json:"least_sectors"`
	Asked        [2]int64
	Bytes        [2]int64
	Met          [2]int64
	// Turns are those of the banks of shared memory, for reads, writes, tiles by ldmatrix, and copies from global memory; the least
	// number is what the words would fill, with 32 a turn.
	Turns      [4]int64
	LeastTurns [4]int64 `json:"least_turns"`
	Lines      []Line   // that were executed
}

// Classes are instructions by what they do.
type Classes struct {
	Tensor    int64 // mma.sync of 2048 multiply-adds
	Floats    int64
	Integers  int64 // of 32 bits or fewer
	Wide      int64 // of 64 bits
	Functions int64 // divisions, remainders, roots, reciprocals, powers of two and logarithms
	Select    int64 // comparisons and what chooses by them
	Move      int64
	Parameter int64 // loads of the kernel's struct
	Global    int64
	Shared    int64
	Copies    int64 // cp.async, and what waits for it
	Shuffles  int64
	Barriers  int64
	Control   int64
}

// Line is what is counted of a line of the PTX.
type Line struct {
	Line            int
	Executed, Lanes int64
	Sectors         int64
	LeastSectors    int64 `json:"least_sectors"`
	Turns           int64
	LeastTurns      int64 `json:"least_turns"`
}

// Watched are the counts of kernels since the setting "watch" was set, in the order in which they first ran, of a driver that Build
// made. What is queued and was not waited for is not in them.
func Watched(driver string) ([]Counts, error) {
	text, err := told(driver, "emulator_watched")
	if err != nil {
		return nil, err
	}
	var all []Counts
	if err := json.Unmarshal([]byte(text), &all); err != nil {
		return nil, fmt.Errorf("emulator: what was counted: %w", err)
	}
	return all, nil
}

// Found are the mistakes that were found since the setting "watch" was set, one for each launch that made some: the kernel, and what
// its threads did at which lines of the PTX.
func Found(driver string) ([]string, error) {
	text, err := told(driver, "emulator_found")
	if err != nil || text == "" {
		return nil, err
	}
	return strings.Split(strings.TrimSuffix(text, "\n"), "\n"), nil
}

// told is what a function of a driver writes.
func told(driver, function string) (string, error) {
	library, err := purego.Dlopen(driver, purego.RTLD_NOW)
	if err != nil {
		return "", fmt.Errorf("emulator: %w", err)
	}
	symbol, err := purego.Dlsym(library, function)
	if err != nil {
		return "", fmt.Errorf("emulator: %w", err)
	}
	var write func(text []byte, room int64) int64
	purego.RegisterFunc(&write, symbol)
	for text := make([]byte, 1<<16); ; text = make([]byte, 2*len(text)) {
		if n := write(text, int64(len(text))); n < int64(len(text)) {
			return string(text[:n]), nil
		}
	}
}
