package driver

import (
	"bytes"
	"unsafe"
)

// Alloc takes memory from the device.
func (d *Driver) Alloc(n int64) (Address, error) {
	var a Address
	err := d.call("cuMemAlloc", d.calls.alloc, uintptr(unsafe.Pointer(&a)), uintptr(n))
	return a, err
}

// Free gives it back, after everything queued.
func (d *Driver) Free(a Address) error { return d.call("cuMemFree", d.calls.free, uintptr(a)) }

// AllocHost takes page-locked host memory, which copies to and from the device read and write in their own time.
func (d *Driver) AllocHost(n int) ([]byte, error) {
	var p unsafe.Pointer
	if err := d.call("cuMemAllocHost", d.calls.allocHost, uintptr(unsafe.Pointer(&p)), uintptr(n)); err != nil {
		return nil, err
	}
	return unsafe.Slice((*byte)(p), n), nil
}

// FreeHost gives it back.
func (d *Driver) FreeHost(b []byte) error {
	return d.call("cuMemFreeHost", d.calls.freeHost, uintptr(unsafe.Pointer(unsafe.SliceData(b))))
}

// ToDevice queues a copy from host memory. Page-locked memory must stay as it is until the copy is done; other memory
// has been read when the call returns.
func (d *Driver) ToDevice(dst Address, src []byte, s Stream) error {
	return d.call("cuMemcpyHtoDAsync", d.calls.toDevice, uintptr(dst), uintptr(unsafe.Pointer(unsafe.SliceData(src))), uintptr(len(src)), uintptr(s))
}

// ToHost queues a copy to page-locked memory; it is there when the stream has been waited for.
func (d *Driver) ToHost(dst []byte, src Address, s Stream) error {
	return d.call("cuMemcpyDtoHAsync", d.calls.toHost, uintptr(unsafe.Pointer(unsafe.SliceData(dst))), uintptr(src), uintptr(len(dst)), uintptr(s))
}

// Within queues a copy inside the device.
func (d *Driver) Within(dst, src Address, n int64, s Stream) error {
	return d.call("cuMemcpyDtoDAsync", d.calls.within, uintptr(dst), uintptr(src), uintptr(n), uintptr(s))
}

// Fill queues setting bytes.
func (d *Driver) Fill(dst Address, value byte, n int64, s Stream) error {
	return d.call("cuMemsetD8Async", d.calls.fill, uintptr(dst), uintptr(value), uintptr(n), uintptr(s))
}

// nonBlocking is CU_STREAM_NON_BLOCKING: the stream does not wait for the default stream's work.
const nonBlocking = 1

// NewStream makes a stream.
func (d *Driver) NewStream() (Stream, error) {
	var s Stream
	err := d.call("cuStreamCreate", d.calls.streamCreate, uintptr(unsafe.Pointer(&s)), nonBlocking)
	return s, err
}

// FreeStream gives a stream back.
func (d *Driver) FreeStream(s Stream) error {
	return d.call("cuStreamDestroy", d.calls.streamDestroy, uintptr(s))
}

// Wait waits for everything queued in a stream, and returns what went wrong in it.
func (d *Driver) Wait(s Stream) error {
	return d.call("cuStreamSynchronize", d.calls.streamWait, uintptr(s))
}

// NewEvent makes an event.
func (d *Driver) NewEvent() (Event, error) {
	var e Event
	err := d.call("cuEventCreate", d.calls.eventCreate, uintptr(unsafe.Pointer(&e)), 0)
	return e, err
}

// FreeEvent gives an event back.
func (d *Driver) FreeEvent(e Event) error {
	return d.call("cuEventDestroy", d.calls.eventDestroy, uintptr(e))
}

// Record has an event happen when everything queued so far is done.
func (d *Driver) Record(e Event, s Stream) error {
	return d.call("cuEventRecord", d.calls.eventRecord, uintptr(e), uintptr(s))
}

// WaitEvent waits for an event; one that was never recorded has happened.
func (d *Driver) WaitEvent(e Event) error {
	return d.call("cuEventSynchronize", d.calls.eventWait, uintptr(e))
}

// Elapsed is the time between two events that have happened, in milliseconds.
func (d *Driver) Elapsed(from, to Event) (float32, error) {
	var ms float32
	err := d.call("cuEventElapsedTime", d.calls.eventElapsed, uintptr(unsafe.Pointer(&ms)), uintptr(from), uintptr(to))
	return ms, err
}

// Options of cuModuleLoadDataEx.
const (
	jitErrorLog     = 5
	jitErrorLogSize = 6
)

// Load compiles PTX for the device. The error has the compiler's words.
func (d *Driver) Load(ptx []byte) (Module, error) {
	image := append(bytes.Clone(ptx), 0)
	log := make([]byte, 8<<10)
	options := [2]int32{jitErrorLog, jitErrorLogSize}
	// An option's value is a void *, which for the size is the number itself. The log's address is a pointer here, so
	// that the log stays where it is.
	values := struct {
		log  unsafe.Pointer
		size uintptr
	}{unsafe.Pointer(&log[0]), uintptr(len(log))}
	var m Module
	err := d.call("cuModuleLoadDataEx", d.calls.moduleLoad, uintptr(unsafe.Pointer(&m)), uintptr(unsafe.Pointer(&image[0])),
		uintptr(len(options)), uintptr(unsafe.Pointer(&options)), uintptr(unsafe.Pointer(&values)))
	if e, ok := err.(*Error); ok {
		words, _, _ := bytes.Cut(log, []byte{0})
		e.Log = string(bytes.TrimSpace(words))
	}
	return m, err
}

// Unload gives a module back.
func (d *Driver) Unload(m Module) error {
	return d.call("cuModuleUnload", d.calls.moduleUnload, uintptr(m))
}

// Function is a module's kernel.
func (d *Driver) Function(m Module, name string) (Function, error) {
	var f Function
	cName := append([]byte(name), 0)
	err := d.call("cuModuleGetFunction", d.calls.moduleFunction, uintptr(unsafe.Pointer(&f)), uintptr(m), uintptr(unsafe.Pointer(&cName[0])))
	return f, err
}

// mostDynamicShared is CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES.
const mostDynamicShared = 8

// AllowShared lets launches of a kernel ask for up to so many bytes of dynamic shared memory, beyond the 48 KiB that need no
// leave.
func (d *Driver) AllowShared(f Function, bytes int) error {
	return d.call("cuFuncSetAttribute", d.calls.functionSet, uintptr(f), mostDynamicShared, uintptr(bytes))
}

// Launch queues a kernel over a grid of blocks, with so many threads and so many bytes of dynamic shared memory each. argument is the address of its struct, which
// has been read when the call returns.
func (d *Driver) Launch(f Function, grid [3]uint32, threads, shared uint32, argument unsafe.Pointer, s Stream) error {
	parameters := [1]unsafe.Pointer{argument}
	return d.call("cuLaunchKernel", d.calls.launch, uintptr(f), uintptr(grid[0]), uintptr(grid[1]), uintptr(grid[2]),
		uintptr(threads), 1, 1, uintptr(shared), uintptr(s), uintptr(unsafe.Pointer(&parameters)), 0)
}

// captureRelaxed is CU_STREAM_CAPTURE_MODE_RELAXED: memory may be taken meanwhile, and another thread may end the capture.
const captureRelaxed = 2

// BeginCapture has a stream write down what is queued in it, in place of doing it.
func (d *Driver) BeginCapture(s Stream) error {
	return d.call("cuStreamBeginCapture", d.calls.captureBegin, uintptr(s), captureRelaxed)
}

// EndCapture returns what was written down. Its error is that of a call in between which cannot be.
func (d *Driver) EndCapture(s Stream) (Graph, error) {
	var g Graph
	err := d.call("cuStreamEndCapture", d.calls.captureEnd, uintptr(s), uintptr(unsafe.Pointer(&g)))
	return g, err
}

// Instantiate makes a graph ready to run.
func (d *Driver) Instantiate(g Graph) (Executable, error) {
	var x Executable
	err := d.call("cuGraphInstantiateWithFlags", d.calls.graphInstantiate, uintptr(unsafe.Pointer(&x)), uintptr(g), 0)
	return x, err
}

// LaunchGraph queues all of a graph.
func (d *Driver) LaunchGraph(x Executable, s Stream) error {
	return d.call("cuGraphLaunch", d.calls.graphLaunch, uintptr(x), uintptr(s))
}

// FreeGraph gives a graph back.
func (d *Driver) FreeGraph(g Graph) error {
	return d.call("cuGraphDestroy", d.calls.graphFree, uintptr(g))
}

// FreeExecutable gives a graph that was made ready back.
func (d *Driver) FreeExecutable(x Executable) error {
	return d.call("cuGraphExecDestroy", d.calls.graphUnload, uintptr(x))
}
