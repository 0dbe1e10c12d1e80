package gpufake

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"time"
)

// followEvery is how often a followed file is looked at: often enough to strike a small policy's step in its middle.
const followEvery = 100 * time.Millisecond

// followLine is the longest line of a followed file.
const followLine = 4096

// follower reads the lines that are appended to a file.
type follower struct {
	mu     sync.Mutex
	path   string
	note   func(string)
	offset int64
	// broken holds an error that was told once, until it changes.
	broken string
}

// Follow injects the lines that are appended to a file from here on, while [Source.Watch] is at work: so a person
// rehearses a fault with `echo 'gpu 1 xid 79' >> FILE`. A line may begin with `on HOST` when several hosts follow the
// file. Empty lines and those that begin with # are left out. note is told of lines that say nothing, and of those
// that were taken. The file need not be there yet. Call it before Watch.
func (s *Source) Follow(path string, note func(string)) {
	s.follow.path, s.follow.note = path, note
	if info, err := os.Stat(path); err == nil {
		s.follow.offset = info.Size()
	}
}

// followed injects what was appended since the last time.
func (s *Source) followed() {
	f := &s.follow
	if f.path == "" {
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	lines, err := f.lines()
	if err != nil && err.Error() != f.broken {
		f.note(fmt.Sprintf("%s: %v", f.path, err))
		f.broken = err.Error()
	}
	for _, line := range lines {
		line = strings.TrimSpace(line)
		if line == "" || line[0] == '#' {
			continue
		}
		switch err := s.injectFollowed(line); {
		case errors.Is(err, errNoHost):
		case err != nil:
			f.note(fmt.Sprintf("%s: %q: %v", f.path, line, err))
		default:
			f.note(fmt.Sprintf("%s: %s", f.path, line))
		}
	}
}

// lines takes whole lines; half of one waits for its end. A file that became shorter is read from its beginning.
func (f *follower) lines() ([]string, error) {
	file, err := os.Open(f.path)
	if errors.Is(err, os.ErrNotExist) {
		f.offset = 0
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer file.Close()
	info, err := file.Stat()
	if err != nil {
		return nil, err
	}
	if info.Size() < f.offset {
		f.offset = 0
	}
	text, err := io.ReadAll(io.NewSectionReader(file, f.offset, followLine))
	if err != nil {
		return nil, err
	}
	end := bytes.LastIndexByte(text, '\n') + 1
	if end == 0 && len(text) == followLine {
		end = len(text) // no line is so long: it is told to be wrong
	}
	f.offset += int64(end)
	if end == 0 {
		return nil, nil
	}
	return strings.Split(strings.TrimSuffix(string(text[:end]), "\n"), "\n"), nil
}
