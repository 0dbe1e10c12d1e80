package device

// Recorder is a device that can write down what is queued and do it again by one call. A device without it has everything
// queued anew each time, which takes its host longer and has the same results.
type Recorder interface {
	// Record writes down what work queues, in place of doing it. The caller uses the device for nothing else meanwhile; its
	// other users wait. What moves numbers between host and device, and what waits, cannot be recorded: that is an error, and so is
	// memory that is not there, an *[OutOfMemory], and whatever the device's driver refuses to record. Work of a kind that has not been
	// queued before may need what cannot be had in a recording, and is to be queued by calls once. On an error there is no
	// recording; unless it is a *[Failure], the device computes on.
	Record(work func()) (Recording, error)
}

// Recording is work that was written down.
type Recording interface {
	// Replay queues the work, on the buffers, sizes and factors of then: it reads what is in the buffers now, none of
	// which may have been freed.
	Replay()
	// Free gives the recording back, after its replays. It must not be used again.
	Free()
}
