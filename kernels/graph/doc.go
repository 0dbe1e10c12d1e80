// Package graph compiles a loss [kernels.Program] into a gorgonia expression graph over flat token
// vectors and evaluates it: scalar loss in, loss and its gradient out.
//
// Only sampled tokens enter the graph. An evaluation packs them, runs the graph and scatters the
// gradient back, so observation tokens cannot matter whatever they hold. An objective is an
// expression of the differentiable operations in rules.go and segment.go; the gradient comes from
// gorgonia's differentiation and is never written by hand.
//
// Use [New] and [Evaluator.Evaluate]. A graph is built once per program, stream set and power-of-two
// token count, and reused. The package refuses to know what an advantage is for.
package graph
