// Package rollout holds the nouns of experience: tasks, turns, trajectories, groups and the
// token-aligned streams that credit assigns to them.
//
// The types are plain data. They flow one way: a [Task] is played into [Trajectory] values made of
// [Turn] values; trajectories of one task form a [Group]; a method turns groups into [Streams].
// Every slice says its length and what nil means.
//
// The package imports nothing but the standard library and refuses to hold behaviour that belongs
// to an environment, a method or a learner.
package rollout
