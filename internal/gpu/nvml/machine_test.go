package nvml

import (
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/turnwise-rl/turnwise/internal/gpu"
)

// machine is a driver with scripted answers.
type machine struct {
	mu      sync.Mutex
	reason  string
	openErr error
	boards  []*slot
	opened  int // opens without their close
	opens   int // how often nobody had it open before
	asked   int // calls of read
	ears    int // ears that are not free
	heard   chan heard
	deaf    error // what waiting gives; nil is to wait
	wild    bool  // waits end at once without anything
	pairs   map[[2]int]bool
}

// slot is where a board is.
type slot struct {
	board  board
	wires  wires
	energy float64
	wants  gpu.Recovery
	sick   error
	hang   chan struct{} // closed when calls return
}

func newMachine(n int) *machine {
	m := &machine{heard: make(chan heard)}
	for i := range n {
		m.boards = append(m.boards, &slot{energy: 100, board: board{device: gpu.Device{
			UUID: fmt.Sprintf("GPU-%d", i), Kind: gpu.GPU, Name: "H200", MemoryTotalBytes: 141e9, PCI: fmt.Sprintf("00000000:%02X:00.0", 0x10+i),
		}}})
	}
	return m
}

// change changes the machine while others ask it.
func (m *machine) change(how func()) {
	m.mu.Lock()
	defer m.mu.Unlock()
	how()
}

func (m *machine) open() (string, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.reason != "" || m.openErr != nil {
		return m.reason, m.openErr
	}
	if m.opened++; m.opened == 1 {
		m.opens++
	}
	return "", nil
}

func (m *machine) close()                   { m.change(func() { m.opened-- }) }
func (m *machine) version() (string, error) { return "570.1", nil }

func (m *machine) count() (int, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return len(m.boards), nil
}

// at is a slot, when it answers.
func (m *machine) at(i int) (slot, error) {
	m.mu.Lock()
	if i >= len(m.boards) {
		m.mu.Unlock()
		return slot{}, errors.New("no such device")
	}
	s := *m.boards[i]
	m.mu.Unlock()
	if s.hang != nil {
		<-s.hang
	}
	return s, s.sick
}

func (m *machine) board(i int) (board, error) {
	s, err := m.at(i)
	return s.board, err
}

func (m *machine) wires(i int) wires {
	s, _ := m.at(i)
	return s.wires
}

func (m *machine) linked(a, b int) bool { return m.pairs[[2]int{a, b}] || m.pairs[[2]int{b, a}] }

func (m *machine) read(i int) (report, error) {
	m.change(func() { m.asked++ })
	s, err := m.at(i)
	if err != nil {
		return report{}, err
	}
	r := report{uuid: s.board.device.UUID}
	for _, device := range s.board.listed() {
		r.readings = append(r.readings, gpu.Reading{UUID: device.UUID, EnergyJoules: &s.energy, Recovery: s.wants})
	}
	return r, nil
}

func (m *machine) listen() (ear, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if len(m.boards) == 0 {
		return nil, errors.New("no device tells events")
	}
	m.ears++
	return (*machineEar)(m), nil
}

// machineEar is the machine's event set.
type machineEar machine

func (e *machineEar) free() { (*machine)(e).change(func() { e.ears-- }) }

func (e *machineEar) wait(most time.Duration) (heard, error) {
	e.mu.Lock()
	deaf, wild := e.deaf, e.wild
	e.mu.Unlock()
	if deaf != nil {
		return heard{}, deaf
	}
	if wild {
		return heard{}, nil
	}
	timer := time.NewTimer(most)
	defer timer.Stop()
	select {
	case h := <-e.heard:
		return h, nil
	case <-timer.C:
		return heard{}, nil
	}
}
