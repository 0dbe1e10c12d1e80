package journal

import (
	"sync/atomic"
	"testing"
)

// BenchmarkFinish records turns of 64 episodes at once, which share syncs.
func BenchmarkFinish(b *testing.B) {
	w := openWriter(b, b.TempDir())
	var member atomic.Int64
	b.SetParallelism(64)
	b.RunParallel(func(pb *testing.PB) {
		turn := newScript(1, int(member.Add(1)), 1).turn(1, "")
		for pb.Next() {
			if err := w.Finish(b.Context(), turn); err != nil {
				b.Error(err)
				return
			}
		}
	})
}

// BenchmarkBegin records begun turns one after the other.
func BenchmarkBegin(b *testing.B) {
	w := openWriter(b, b.TempDir())
	for b.Loop() {
		if err := w.Begin(b.Context(), Begin{}); err != nil {
			b.Fatal(err)
		}
	}
}
