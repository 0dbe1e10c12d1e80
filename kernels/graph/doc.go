// Package graph compiles a loss [kernels.Program] into a gorgonia expression graph over flat token
// vectors and evaluates it: token streams in, loss and gradient out.
//
// Only sampled tokens enter the graph, so observation tokens cannot matter whatever they hold. Every objective, off-policy
// part, mask and regularizer is an expression in a file of its own. Expressions are made of differentiable operations:
// element-wise ones (formula.go, rules.go), and those on whole vectors such as reductions over segments (whole.go). The
// gradient comes from gorgonia's differentiation and is never written by hand. To add an objective, write its expression
// and a row in objective.go.
//
// What gorgonia's machine would compute one vector after the other, a plan computes fused: expression.go reads the
// differentiated graph, schedule.go divides it into stages between the operations on whole vectors, and region.go takes
// blocks of tokens through the element-wise operations of a stage, on several goroutines. No bit of a result depends on
// their number. The plan knows operations by their kind and nothing of objectives.
//
// Use [New] and [Evaluator.Evaluate] for losses, and [NewArithmetic] for what credit computes over batches. A graph is
// built once per program and set of streams, and serves batches of any size. The package refuses to know what an
// advantage is for.
package graph
