package main

import . "github.com/mmcloughlin/avo/build"

// pauseFunction emits a short wait that leaves the core to its sibling thread.
func pauseFunction() {
	TEXT("pause", NOSPLIT, "func()")
	Doc("pause waits a moment, some hundred cycles, without giving up the processor.")
	for range 2 {
		PAUSE()
	}
	RET()
}
