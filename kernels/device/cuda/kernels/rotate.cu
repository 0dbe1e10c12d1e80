// Heads on their way to attention: normalised, where the family does that, and rotated by position. A block has a row,
// a warp one of its heads, a lane the pairs (x[p], x[p+dim/2]) of every 32nd p; only what it has itself does a lane
// write over, so that results may take the place of operands.
#include "variant.h"

#define TYPE f32
#include "rotate_body.h"
#undef TYPE
#define TYPE bf16
#include "rotate_body.h"
#undef TYPE

// rotate_weight_grad adds the rows of rotate_terms to the gradient of the norm's weight.
#define NAME rotate_weight_grad
#define OPERANDS const float *terms;
#define TERM(row, column) a.terms[(long long)(row) * a.columns + (column)]
#include "column_sums.h"
