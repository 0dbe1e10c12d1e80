//go:build linux && cgo

package nvml

import (
	"context"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/NVIDIA/go-nvml/pkg/nvml"
	"github.com/NVIDIA/go-nvml/pkg/nvml/mock"
	"github.com/NVIDIA/go-nvml/pkg/nvml/mock/dgxa100"

	"github.com/turnwise-rl/turnwise/internal/gpu"
)

// ears gives the server event sets, of which the newest is script.
type ears struct {
	mu     sync.Mutex
	made   int
	freed  int
	script chan nvml.EventData
	broken nvml.Return // what waiting answers unless it is SUCCESS
}

func listenTo(server *dgxa100.Server) *ears {
	e := &ears{script: make(chan nvml.EventData)}
	server.EventSetCreateFunc = func() (nvml.EventSet, nvml.Return) {
		e.mu.Lock()
		defer e.mu.Unlock()
		e.made++
		return &mock.EventSet{WaitFunc: e.wait, FreeFunc: e.free}, nvml.SUCCESS
	}
	return e
}

func (e *ears) free() nvml.Return {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.freed++
	return nvml.SUCCESS
}

func (e *ears) wait(most uint32) (nvml.EventData, nvml.Return) {
	e.mu.Lock()
	broken := e.broken
	e.mu.Unlock()
	if broken != nvml.SUCCESS {
		return nvml.EventData{}, broken
	}
	timer := time.NewTimer(time.Duration(most) * time.Millisecond)
	defer timer.Stop()
	select {
	case data := <-e.script:
		return data, nvml.SUCCESS
	case <-timer.C:
		return nvml.EventData{}, nvml.ERROR_TIMEOUT
	}
}

func (e *ears) set(code nvml.Return) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.broken = code
}

func TestListenRegistersWhatTells(t *testing.T) {
	l, server := opened(t)
	e := listenTo(server)
	got := map[string]uint64{}
	for i := range server.Devices {
		d := a100(server, i)
		d.RegisterEventsFunc = func(mask uint64, _ nvml.EventSet) nvml.Return {
			got[d.UUID] = mask
			return nvml.SUCCESS
		}
	}
	a100(server, 0).GetUUIDFunc = never[string](nvml.ERROR_GPU_IS_LOST)
	a100(server, 1).GetSupportedEventTypesFunc = never[uint64](nvml.ERROR_NOT_SUPPORTED)
	a100(server, 2).GetSupportedEventTypesFunc = always[uint64](nvml.EventTypeSingleBitEccError)
	a100(server, 3).GetSupportedEventTypesFunc = always[uint64](nvml.EventTypeGpuRecoveryAction | nvml.EventTypeXidCriticalError)
	a100(server, 4).RegisterEventsFunc = func(uint64, nvml.EventSet) nvml.Return { return nvml.ERROR_GPU_IS_LOST }
	heard, err := l.listen()
	if err != nil {
		t.Fatal(err)
	}
	if len(got) != 4 || got["GPU-3"] != nvml.EventTypeGpuRecoveryAction|nvml.EventTypeXidCriticalError ||
		got["GPU-5"] != nvml.EventTypeXidCriticalError|nvml.EventTypeDoubleBitEccError {
		t.Errorf("registered %v", got)
	}
	heard.free()
	if e.made != 1 || e.freed != 1 {
		t.Errorf("made %d event sets and freed %d", e.made, e.freed)
	}
}

func TestListenFails(t *testing.T) {
	for name, spoil := range map[string]func(*dgxa100.Server){
		"no event set": func(s *dgxa100.Server) { s.EventSetCreateFunc = never[nvml.EventSet](nvml.ERROR_UNINITIALIZED) },
		"no count":     func(s *dgxa100.Server) { s.DeviceGetCountFunc = never[int](nvml.ERROR_UNINITIALIZED) },
		"no events": func(s *dgxa100.Server) {
			for i := range s.Devices {
				a100(s, i).GetSupportedEventTypesFunc = always[uint64](0)
			}
		},
	} {
		l, server := opened(t)
		e := listenTo(server)
		spoil(server)
		if _, err := l.listen(); err == nil {
			t.Errorf("%s: no error", name)
		}
		if e.made != e.freed {
			t.Errorf("%s: made %d event sets and freed %d", name, e.made, e.freed)
		}
	}
}

func TestEventsAreTranslated(t *testing.T) {
	const nobody = 0xFFFFFFFF
	l, server := opened(t)
	split(a100(server, 1), "MIG-a", "MIG-b")
	listenTo(server)
	heardBy, err := l.listen()
	if err != nil {
		t.Fatal(err)
	}
	everyone := []string{"GPU-0", "GPU-2", "GPU-3", "GPU-4", "GPU-5", "GPU-6", "GPU-7", "MIG-a", "MIG-b"}
	for _, c := range []struct {
		name string
		data nvml.EventData
		kind gpu.EventKind
		xid  int
		who  []string
		look bool
	}{
		{"xid", nvml.EventData{Device: a100(server, 0), EventType: nvml.EventTypeXidCriticalError, EventData: 79, GpuInstanceId: nobody},
			gpu.XidEvent, 79, []string{"GPU-0"}, false},
		{"recovery by xid", nvml.EventData{Device: a100(server, 0), EventType: nvml.EventTypeXidCriticalError, EventData: 154, GpuInstanceId: nobody},
			gpu.XidEvent, 154, []string{"GPU-0"}, true},
		{"ecc", nvml.EventData{Device: a100(server, 2), EventType: nvml.EventTypeDoubleBitEccError, GpuInstanceId: nobody}, gpu.DoubleBitECC, 0, []string{"GPU-2"}, false},
		{"an instance", nvml.EventData{Device: a100(server, 1), EventType: nvml.EventTypeXidCriticalError, EventData: 94, GpuInstanceId: 8},
			gpu.XidEvent, 94, []string{"MIG-b"}, false},
		{"a split board", nvml.EventData{Device: a100(server, 1), EventType: nvml.EventTypeXidCriticalError, EventData: 48, GpuInstanceId: nobody},
			gpu.XidEvent, 48, []string{"MIG-a", "MIG-b"}, false},
		{"nobody knows whom", nvml.EventData{EventType: nvml.EventTypeXidCriticalError, EventData: 79}, gpu.XidEvent, 79, everyone, false},
		{"recovery", nvml.EventData{Device: a100(server, 0), EventType: nvml.EventTypeGpuRecoveryAction}, "", 0, nil, true},
		{"unavailable", nvml.EventData{Device: a100(server, 0), EventType: nvml.EventTypeGpuUnavailableError}, "", 0, nil, true},
	} {
		got := heardBy.(*eventSet).translate(c.data, time.Now())
		var who []string
		for _, e := range got.events {
			who = append(who, e.UUID)
			if e.Kind != c.kind || e.Xid != c.xid || e.At.IsZero() {
				t.Errorf("%s: got %+v", c.name, e)
			}
		}
		slices.Sort(who)
		if !slices.Equal(who, c.who) || got.look != c.look || !got.something {
			t.Errorf("%s: got %+v", c.name, got)
		}
	}
}

// TestReloadInMidWatch takes the driver away from a watch of the mock and brings it back.
func TestReloadInMidWatch(t *testing.T) {
	l, server := dgx(t)
	var told []gpu.Event
	synctest.Test(t, func(t *testing.T) {
		e := listenTo(server)
		var mu sync.Mutex
		state := nvml.SUCCESS
		server.InitFunc = func() nvml.Return {
			mu.Lock()
			defer mu.Unlock()
			return state
		}
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- newSource(l).Watch(ctx, func(e gpu.Event) { told = append(told, e) }) }()
		time.Sleep(time.Second)
		mu.Lock()
		state = nvml.ERROR_DRIVER_NOT_LOADED
		mu.Unlock()
		e.set(nvml.ERROR_UNINITIALIZED)
		time.Sleep(2 * retryLast)
		mu.Lock()
		state = nvml.SUCCESS
		mu.Unlock()
		e.set(nvml.SUCCESS)
		time.Sleep(2 * retryLast)
		e.script <- nvml.EventData{Device: a100(server, 0), EventType: nvml.EventTypeXidCriticalError, EventData: 31, GpuInstanceId: 0xFFFFFFFF}
		time.Sleep(time.Second)
		cancel()
		<-ended
		synctest.Wait()
		if e.made != 2 || e.freed != 2 || len(server.InitCalls()) < 3 {
			t.Errorf("%d event sets made, %d freed; the library was opened %d times", e.made, e.freed, len(server.InitCalls()))
		}
	})
	checkTold(t, told, gpu.Event{Kind: gpu.Reloaded}, gpu.Event{UUID: "GPU-0", Kind: gpu.XidEvent, Xid: 31})
}
