package algos

import "slices"

// Pinned says how well a method's definition is known.
type Pinned string

const (
	Code          Pinned = "CODE"          // read in the released source
	CodeThird     Pinned = "CODE-3P"       // read in an independent re-implementation
	Notes         Pinned = "NOTES"         // read in a close reading of the paper
	Memory        Pinned = "MEM"           // standard definition
	Reconstructed Pinned = "RECONSTRUCTED" // the most faithful reading of an abstract; never a reproduction
)

// Preset is a method that comes with the program.
type Preset struct {
	// Name is what --method takes.
	Name string
	// Doc is one line on what the method does.
	Doc string
	// Cite is its source.
	Cite string
	// Pinned says how well the definition is known.
	Pinned Pinned
	// Missing says what the method needs beside credit and loss that the program does not have yet (a
	// sampler, a judge, a simulator); "" when it is whole.
	Missing string
	// New returns the method.
	New func() Method
}

// Presets lists the methods that come with the program, kind by kind.
func Presets() []Preset {
	return slices.Concat(turnPresets(), rewardPresets(), preferencePresets(), basePresets(), lossPresets(), likePresets())
}
