package hostcpu

import "syscall"

// systemMemory is what the kernel says, in bytes. The library gives the eight bytes of the number as a text, from which it
// takes a zero at the end.
func systemMemory() int64 {
	text, err := syscall.Sysctl("hw.memsize")
	if err != nil || len(text) > 8 {
		return 0
	}
	var total int64
	for i := range len(text) {
		total |= int64(text[i]) << (8 * i)
	}
	return max(0, total)
}
