// Package arch holds the repository's own rules as tests: which package may import which, and how
// code and prose are kept.
//
// The tests read source files and build nothing, so they need neither a compiler run nor a network.
// Each failure says what is wrong, why there is a rule, and what to do instead. An exception is a line
// in a table with its reason, never a comment at the place that breaks the rule.
package arch
