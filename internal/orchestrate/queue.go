package orchestrate

import "container/heap"

// queue yields what was put into it by ascending key, equal keys in the order they were put in.
type queue[T any] struct {
	items entries[T]
	put   int // how many were ever put in
}

type entry[T any] struct {
	key   float64
	order int
	value T
}

func (q *queue[T]) add(key float64, value T) {
	heap.Push(&q.items, entry[T]{key, q.put, value})
	q.put++
}

// first is the entry that take would return; the queue must not be empty.
func (q *queue[T]) first() entry[T] { return q.items[0] }

func (q *queue[T]) take() entry[T] { return heap.Pop(&q.items).(entry[T]) }

func (q *queue[T]) empty() bool { return len(q.items) == 0 }

// entries implement heap.Interface.
type entries[T any] []entry[T]

func (e entries[T]) Len() int { return len(e) }

func (e entries[T]) Less(i, j int) bool {
	if e[i].key != e[j].key {
		return e[i].key < e[j].key
	}
	return e[i].order < e[j].order
}

func (e entries[T]) Swap(i, j int) { e[i], e[j] = e[j], e[i] }

// Push implements heap.Interface.
func (e *entries[T]) Push(x any) { *e = append(*e, x.(entry[T])) }

// Pop implements heap.Interface.
func (e *entries[T]) Pop() any {
	last := len(*e) - 1
	x := (*e)[last]
	(*e)[last] = entry[T]{}
	*e = (*e)[:last]
	return x
}
