// Package driver is a narrow door to NVIDIA's CUDA driver: the calls that package cuda makes, opened at run time,
// so that one build runs with and without a GPU. It decides nothing; every call is one call of the driver.
//
// Signatures and constants are those of cuda.h of the CUDA toolkit 12; all of them are in drivers since 11.4.
package driver

import (
	"errors"
	"fmt"
	"runtime"
	"unsafe"

	"github.com/ebitengine/purego"
)

// Address is one in a device's memory.
type Address uint64

// Handles of what the driver makes. 0 is none.
type (
	// Context is a process's state on a device.
	Context uintptr
	// Stream is a queue of work.
	Stream uintptr
	// Event is a mark between pieces of work.
	Event uintptr
	// Module is compiled code.
	Module uintptr
	// Function is a kernel of a module.
	Function uintptr
	// Graph is work that was written down.
	Graph uintptr
	// Executable is a graph that is ready to run.
	Executable uintptr
)

// Device is a device's handle.
type Device int32

// calls are the addresses of the driver's functions.
type calls struct {
	init, version, count, get, uuid, name, memory, attribute                        uintptr
	retain, release, setCurrent, waitAll, memoryInfo                                uintptr
	alloc, free, allocHost, freeHost, toDevice, toHost, within, fill                uintptr
	streamCreate, streamDestroy, streamWait                                         uintptr
	eventCreate, eventDestroy, eventRecord, eventWait, eventElapsed                 uintptr
	moduleLoad, moduleUnload, moduleFunction, functionSet, launch                   uintptr
	captureBegin, captureEnd, graphInstantiate, graphLaunch, graphFree, graphUnload uintptr
	errorName, errorText                                                            uintptr
}

func (c *calls) table() []symbol {
	return []symbol{
		{"cuInit", &c.init}, {"cuDriverGetVersion", &c.version}, {"cuDeviceGetCount", &c.count}, {"cuDeviceGet", &c.get},
		{"cuDeviceGetUuid_v2", &c.uuid}, {"cuDeviceGetName", &c.name}, {"cuDeviceTotalMem_v2", &c.memory}, {"cuDeviceGetAttribute", &c.attribute},
		{"cuDevicePrimaryCtxRetain", &c.retain}, {"cuDevicePrimaryCtxRelease_v2", &c.release}, {"cuCtxSetCurrent", &c.setCurrent}, {"cuCtxSynchronize", &c.waitAll}, {"cuMemGetInfo_v2", &c.memoryInfo},
		{"cuMemAlloc_v2", &c.alloc}, {"cuMemFree_v2", &c.free}, {"cuMemAllocHost_v2", &c.allocHost}, {"cuMemFreeHost", &c.freeHost},
		{"cuMemcpyHtoDAsync_v2", &c.toDevice}, {"cuMemcpyDtoHAsync_v2", &c.toHost}, {"cuMemcpyDtoDAsync_v2", &c.within}, {"cuMemsetD8Async", &c.fill},
		{"cuStreamCreate", &c.streamCreate}, {"cuStreamDestroy_v2", &c.streamDestroy}, {"cuStreamSynchronize", &c.streamWait},
		{"cuEventCreate", &c.eventCreate}, {"cuEventDestroy_v2", &c.eventDestroy}, {"cuEventRecord", &c.eventRecord}, {"cuEventSynchronize", &c.eventWait},
		{"cuEventElapsedTime", &c.eventElapsed},
		{"cuModuleLoadDataEx", &c.moduleLoad}, {"cuModuleUnload", &c.moduleUnload}, {"cuModuleGetFunction", &c.moduleFunction}, {"cuFuncSetAttribute", &c.functionSet}, {"cuLaunchKernel", &c.launch},
		{"cuStreamBeginCapture_v2", &c.captureBegin}, {"cuStreamEndCapture", &c.captureEnd}, {"cuGraphInstantiateWithFlags", &c.graphInstantiate},
		{"cuGraphLaunch", &c.graphLaunch}, {"cuGraphDestroy", &c.graphFree}, {"cuGraphExecDestroy", &c.graphUnload},
		{"cuGetErrorName", &c.errorName}, {"cuGetErrorString", &c.errorText},
	}
}

type symbol struct {
	name string
	to   *uintptr
}

// Driver is the driver's library, loaded and initialised. It stays loaded while the process lives.
type Driver struct{ calls calls }

// systemName is the driver's library as its installation names it for the loader.
const systemName = "libcuda.so.1"

var (
	// ErrNoLibrary says that the driver's library could not be loaded: there is no driver on the machine, most often.
	ErrNoLibrary = errors.New("no CUDA driver library")
	// ErrNotDriver says that a library is no CUDA driver.
	ErrNotDriver = errors.New("not a CUDA driver")
	// ErrOld says that a driver lacks a call.
	ErrOld = errors.New("too old a CUDA driver")
)

// Open loads the library at a path, or where the system's loader finds it when the path is "", and initialises it.
func Open(path string) (*Driver, error) {
	if path == "" {
		path = systemName
	}
	library, err := load(path)
	if err != nil {
		return nil, fmt.Errorf("%w: %v", ErrNoLibrary, err)
	}
	d := new(Driver)
	for _, s := range d.calls.table() {
		if *s.to, err = purego.Dlsym(library, s.name); err != nil {
			if s.to == &d.calls.init {
				return nil, fmt.Errorf("%w: %s has no %s", ErrNotDriver, path, s.name)
			}
			return nil, fmt.Errorf("%w: %s has no %s", ErrOld, path, s.name)
		}
	}
	if err := d.call("cuInit", d.calls.init, 0); err != nil {
		return nil, err
	}
	return d, nil
}

// load loads a library. The loader tells why it failed to the thread alone that asked.
func load(path string) (uintptr, error) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	return purego.Dlopen(path, purego.RTLD_NOW|purego.RTLD_GLOBAL)
}

// call makes a call that returns a CUresult. Go memory whose address is among the arguments stays where it is.
//
//go:uintptrescapes
func (d *Driver) call(name string, function uintptr, arguments ...uintptr) error {
	code, _, _ := purego.SyscallN(function, arguments...)
	if code == 0 {
		return nil
	}
	return d.failed(name, Code(int32(code)))
}

func (d *Driver) failed(name string, code Code) error {
	e := &Error{Call: name, Code: code, Name: d.text(d.calls.errorName, code), Text: d.text(d.calls.errorText, code)}
	if e.Name == "" {
		e.Name = fmt.Sprintf("CUDA error %d", code)
	}
	return e
}

// text asks the driver for the name or the description of an error.
func (d *Driver) text(function uintptr, code Code) string {
	var s *byte
	if r, _, _ := purego.SyscallN(function, uintptr(code), uintptr(unsafe.Pointer(&s))); r != 0 || s == nil {
		return ""
	}
	n := 0
	for *(*byte)(unsafe.Add(unsafe.Pointer(s), n)) != 0 {
		n++
	}
	return string(unsafe.Slice(s, n))
}

// Version is the newest CUDA version that the driver supports: 12080 is 12.8.
func (d *Driver) Version() (int, error) {
	var v int32
	err := d.call("cuDriverGetVersion", d.calls.version, uintptr(unsafe.Pointer(&v)))
	return int(v), err
}

// Count is the number of devices.
func (d *Driver) Count() (int, error) {
	var n int32
	err := d.call("cuDeviceGetCount", d.calls.count, uintptr(unsafe.Pointer(&n)))
	return int(n), err
}

// Device is the device with an ordinal.
func (d *Driver) Device(ordinal int) (Device, error) {
	var device Device
	err := d.call("cuDeviceGet", d.calls.get, uintptr(unsafe.Pointer(&device)), uintptr(ordinal))
	return device, err
}

// UUID is a device's: NVML's without the prefix "GPU-" or "MIG-", as 16 bytes.
func (d *Driver) UUID(device Device) (uuid [16]byte, err error) {
	err = d.call("cuDeviceGetUuid_v2", d.calls.uuid, uintptr(unsafe.Pointer(&uuid)), uintptr(device))
	return uuid, err
}

// Name is a device's product name.
func (d *Driver) Name(device Device) (string, error) {
	var name [256]byte
	err := d.call("cuDeviceGetName", d.calls.name, uintptr(unsafe.Pointer(&name)), uintptr(len(name)), uintptr(device))
	n := 0
	for n < len(name) && name[n] != 0 {
		n++
	}
	return string(name[:n]), err
}

// Memory is a device's memory in bytes.
func (d *Driver) Memory(device Device) (int64, error) {
	var n uint64
	err := d.call("cuDeviceTotalMem", d.calls.memory, uintptr(unsafe.Pointer(&n)), uintptr(device))
	return int64(n), err
}

// Attribute is a property of a device.
type Attribute int32

// The attributes that package cuda asks for.
const (
	Multiprocessors Attribute = 16
	CapabilityMajor Attribute = 75
	CapabilityMinor Attribute = 76
)

// Attribute reads a property of a device.
func (d *Driver) Attribute(device Device, a Attribute) (int, error) {
	var v int32
	err := d.call("cuDeviceGetAttribute", d.calls.attribute, uintptr(unsafe.Pointer(&v)), uintptr(a), uintptr(device))
	return int(v), err
}

// Retain returns a device's primary context, which all users in the process share, and counts one more of them.
func (d *Driver) Retain(device Device) (Context, error) {
	var c Context
	err := d.call("cuDevicePrimaryCtxRetain", d.calls.retain, uintptr(unsafe.Pointer(&c)), uintptr(device))
	return c, err
}

// Release counts one user of the primary context less; it ends with the last.
func (d *Driver) Release(device Device) error {
	return d.call("cuDevicePrimaryCtxRelease", d.calls.release, uintptr(device))
}

// SetCurrent makes a context that of the calling thread. The calls below are for the current context.
func (d *Driver) SetCurrent(c Context) error {
	return d.call("cuCtxSetCurrent", d.calls.setCurrent, uintptr(c))
}

// WaitAll waits for everything queued in the context, and returns what went wrong in it.
func (d *Driver) WaitAll() error { return d.call("cuCtxSynchronize", d.calls.waitAll) }

// MemoryInfo is the device's memory that nobody has, and all of it, in bytes.
func (d *Driver) MemoryInfo() (free, total int64, err error) {
	var f, t uint64
	err = d.call("cuMemGetInfo", d.calls.memoryInfo, uintptr(unsafe.Pointer(&f)), uintptr(unsafe.Pointer(&t)))
	return int64(f), int64(t), err
}
