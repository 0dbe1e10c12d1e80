package graph

import (
	"sync"
	"sync/atomic"
)

const (
	// tileSize is how many tokens one goroutine takes at a time. It is fixed, and so is the order in which sums of
	// tiles are added, so that results do not depend on the number of threads.
	tileSize = 8 << 10
	// blockSize is how many tokens go through a region's operations together: few enough that all registers stay
	// in the nearest caches, and many enough to pay for a call and to read memory in order. It divides tileSize.
	blockSize = 1024
)

func tilesOf(tokens int) int { return (tokens + tileSize - 1) / tileSize }

// inTiles calls body for every tile, on up to so many goroutines, the caller's included, and returns when all are done.
// A body must write only what belongs to its tile or its worker.
func inTiles(threads, tiles int, body func(worker, tile int)) {
	workers := min(threads, tiles)
	if workers <= 1 {
		for tile := range tiles {
			body(0, tile)
		}
		return
	}
	var next atomic.Int64
	work := func(worker int) {
		for tile := int(next.Add(1)) - 1; tile < tiles; tile = int(next.Add(1)) - 1 {
			body(worker, tile)
		}
	}
	var others sync.WaitGroup
	for worker := 1; worker < workers; worker++ {
		others.Go(func() { work(worker) })
	}
	work(0)
	others.Wait()
}
