package graph

import (
	"fmt"
	"slices"
)

// stage is what runs between two barriers: single values first, then the region, block by block on several goroutines,
// then what needs whole vectors.
type stage[T element] struct {
	// singles are element-wise operations on values that are the same at every token.
	singles []int
	// steps are the region's operations, on slots.
	steps []step[T]
	slots []slot
	// totals are the values that the region sums, wholes the operations on whole vectors behind it.
	totals, wholes []int
}

// step is one operation of a region.
type step[T element] struct {
	code code
	// total is the index of the stage's total that a is added to; −1 for element-wise operations.
	total     int
	out, a, b int // slots; b is −1 for operations of one operand
	c0, c1    T
	// single is the value that c0 is in this run, with its sign changed where negated; −1 where c0 is a constant.
	single  int
	negated bool
}

// slot is where a step finds or leaves a block.
type slot struct {
	kind slotKind
	// of is the index of an input, a gradient, or a value.
	of int
}

type slotKind uint8

const (
	slotRegister slotKind = iota // scratch
	slotSingle                   // scratch that holds a single value throughout
	slotInput
	slotBuffer // the memory of a value that outlives its stage
	slotResult // a gradient
)

// schedule assigns values to stages.
type schedule[T element] struct {
	values []value[T]
	// earliest is the first stage in which a value can be computed; for totals and whole vectors, the stage
	// they are computed behind.
	earliest []int
	// at is the stage in which it is.
	at []int
	// kept is true where an element-wise value needs memory beyond its stage.
	kept   []bool
	stages int
}

// newSchedule computes every value as late as its uses allow, so that few vectors outlive a stage, and operations on
// whole vectors as early as their operands allow, so that there are few stages. gradients are the
// values of the results.
func newSchedule[T element](values []value[T], gradients []int) schedule[T] {
	n := len(values)
	s := schedule[T]{values: values, earliest: make([]int, n), at: make([]int, n), kept: make([]bool, n), stages: 1}
	for i, v := range values {
		for _, operand := range v.of {
			s.earliest[i] = max(s.earliest[i], s.available(operand))
		}
		s.stages = max(s.stages, s.earliest[i]+1)
	}
	for _, g := range gradients {
		s.stages = max(s.stages, s.available(g)+1)
	}
	for i := range s.at {
		s.at[i] = s.stages - 1
	}
	for i := n - 1; i >= 0; i-- {
		v := values[i]
		if v.source == fromWhole {
			s.at[i] = s.earliest[i]
		}
		for _, operand := range v.of {
			latest := s.at[i]
			if values[operand].barrier() {
				latest--
			}
			s.at[operand] = min(s.at[operand], latest)
		}
	}
	for i, v := range values {
		for k, operand := range v.of {
			outlives := s.at[i] > s.at[operand] || v.source == fromWhole && v.vector[k]
			if outlives && values[operand].source == fromElements && !values[operand].one {
				s.kept[operand] = true
			}
		}
	}
	for i, g := range gradients {
		if slices.Contains(gradients[:i], g) && values[g].source == fromElements && !values[g].one {
			s.kept[g] = true
		}
	}
	return s
}

// barrier is true for values that are there only when their stage has ended.
func (v value[T]) barrier() bool { return v.source == fromTotal || v.source == fromWhole }

// available is the first stage that can use a value.
func (s schedule[T]) available(i int) int {
	if s.values[i].barrier() {
		return s.earliest[i] + 1
	}
	return s.earliest[i]
}

// emitter turns the values of one stage into steps.
type emitter[T element] struct {
	schedule[T]
	number int
	stage  stage[T]
	slotOf map[slot]int
	// at is where each value of the stage is.
	place map[int]int
	// uses counts the steps still to come that read a value of the stage.
	uses map[int]int
	// free are registers that nobody reads any more.
	free []int
	// resultOf is the gradient that a value is written to, if any.
	resultOf map[int]int
}

// emit makes the steps of a stage. gradients are the values of the results; the last stage writes those that are not
// element-wise values of an earlier one.
func (s schedule[T]) emit(number int, gradients []int) stage[T] {
	e := emitter[T]{schedule: s, number: number, slotOf: map[slot]int{}, place: map[int]int{}, uses: map[int]int{}, resultOf: map[int]int{}}
	for i, g := range gradients {
		if _, twice := e.resultOf[g]; !twice && e.computes(g) && !s.kept[g] {
			e.resultOf[g] = i
		}
	}
	for i, v := range s.values {
		if e.computes(i) || v.source == fromTotal && s.at[i] == number {
			for _, operand := range v.of {
				e.uses[operand]++
			}
		}
	}
	for i, v := range s.values {
		if s.at[i] != number {
			continue
		}
		switch {
		case v.source == fromWhole:
			e.stage.wholes = append(e.stage.wholes, i)
		case v.source == fromTotal:
			e.step(step[T]{total: len(e.stage.totals), a: e.read(v.of[0]), b: -1, single: -1})
			e.stage.totals = append(e.stage.totals, i)
			e.done(v.of...)
		case v.source == fromElements && v.one:
			e.stage.singles = append(e.stage.singles, i)
		case v.source == fromElements:
			e.element(i)
		}
	}
	if number == s.stages-1 {
		for i, g := range gradients {
			if into, ok := e.resultOf[g]; (ok && into == i) || s.writtenEarlier(g) {
				continue
			}
			e.step(step[T]{code: opStop, total: -1, out: e.slot(slot{slotResult, i}), a: e.read(g), b: -1, single: -1})
		}
	}
	return e.stage
}

// computes is true for the vectors that the region of the stage computes.
func (e *emitter[T]) computes(i int) bool {
	v := e.values[i]
	return v.source == fromElements && !v.one && e.schedule.at[i] == e.number
}

// writtenEarlier is true where the stage that computes a gradient wrote it to the result at once.
func (s schedule[T]) writtenEarlier(g int) bool {
	v := s.values[g]
	return v.source == fromElements && !v.one && !s.kept[g] && s.at[g] < s.stages-1
}

func (e *emitter[T]) step(s step[T]) { e.stage.steps = append(e.stage.steps, s) }

// element emits an element-wise operation, with a single operand as a constant where the operation has a form for it.
func (e *emitter[T]) element(i int) {
	v := e.values[i]
	s := step[T]{code: v.code, total: -1, b: -1, c0: T(v.constants[0]), c1: T(v.constants[1]), single: -1}
	a := v.of[0]
	if len(v.of) > 1 {
		b := v.of[1]
		switch {
		case v.code == opMul && e.values[b].one:
			s.code, s.single = opScale, b
		case v.code == opMul && e.values[a].one:
			s.code, s.single, a = opScale, a, b
		case v.code == opAdd && e.values[b].one:
			s.code, s.single = opShift, b
		case v.code == opAdd && e.values[a].one:
			s.code, s.single, a = opShift, a, b
		case v.code == opSub && e.values[b].one:
			s.code, s.single, s.negated = opShift, b, true
		default:
			s.b = e.read(b)
		}
	}
	s.a = e.read(a)
	e.done(v.of...)
	s.out = e.write(i)
	e.step(s)
}

// slot is the index of a slot in the stage.
func (e *emitter[T]) slot(s slot) int {
	if i, ok := e.slotOf[s]; ok {
		return i
	}
	e.stage.slots = append(e.stage.slots, s)
	e.slotOf[s] = len(e.stage.slots) - 1
	return len(e.stage.slots) - 1
}

// read is where an operand is.
func (e *emitter[T]) read(i int) int {
	if at, ok := e.place[i]; ok {
		return at
	}
	v := e.values[i]
	switch {
	case v.one:
		return e.slot(slot{slotSingle, i})
	case v.source == fromInput:
		return e.slot(slot{slotInput, v.input})
	case v.source == fromWhole || e.kept[i]:
		return e.slot(slot{slotBuffer, i})
	}
	panic(fmt.Sprintf("plan: stage %d reads value %d of stage %d, which is not kept", e.number, i, e.schedule.at[i]))
}

// write is where a value of the stage goes.
func (e *emitter[T]) write(i int) int {
	result, isResult := e.resultOf[i]
	switch {
	case e.kept[i]:
		e.place[i] = e.slot(slot{slotBuffer, i})
	case isResult:
		e.place[i] = e.slot(slot{slotResult, result})
	case len(e.free) > 0: // the one freed last is the one in the nearest cache
		e.place[i] = e.free[len(e.free)-1]
		e.free = e.free[:len(e.free)-1]
	default:
		e.stage.slots = append(e.stage.slots, slot{kind: slotRegister})
		e.place[i] = len(e.stage.slots) - 1
	}
	return e.place[i]
}

// done frees the registers of operands that nothing reads any more.
func (e *emitter[T]) done(operands ...int) {
	for _, i := range operands {
		e.uses[i]--
		if at, ok := e.place[i]; ok && e.uses[i] == 0 && e.stage.slots[at].kind == slotRegister {
			e.free = append(e.free, at)
		}
	}
}
