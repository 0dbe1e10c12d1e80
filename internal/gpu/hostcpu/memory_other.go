//go:build !darwin

package hostcpu

// systemMemory is unknown: Linux tells it in a file that is read before this is asked.
func systemMemory() int64 { return 0 }
