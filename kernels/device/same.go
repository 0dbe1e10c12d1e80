package device

// Same reports whether two devices are one piece of hardware as its users have it: what one allocates the other may
// read, and what both ask for is computed in the order in which it is asked.
func Same(a, b Device) bool {
	if a == b {
		return true
	}
	several, ok := a.(interface{ Same(other Device) bool })
	return ok && several.Same(b)
}

// Shared is a device for one more user. Where several compute at once on what is one device, each has to hear what was lacking for its own
// work, and what one does while another one records is no part of the recording.
func Shared(d Device) Device {
	if several, ok := d.(interface{ Share() Device }); ok {
		return several.Share()
	}
	return d
}

// Table is a form of weights as a matrix that Gather can read, row-major in the compute type; absent where the device keeps it
// otherwise. The view belongs to the weights: it changes when they are refreshed and goes when they are freed.
func Table(w Weights) Buffer {
	if rows, ok := w.(interface{ Table() Buffer }); ok {
		return rows.Table()
	}
	return Buffer{}
}
