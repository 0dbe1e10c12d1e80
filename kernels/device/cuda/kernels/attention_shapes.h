// The kernels of the file BODY for each element type and each width of heads that they are laid out for. It is included
// once by each source that has such a body.
#define TYPE f32
#define WIDE 64
#include BODY
#undef WIDE
#define WIDE 128
#include BODY
#undef WIDE
#define WIDE 256
#include BODY
#undef WIDE
#undef TYPE
#define TYPE bf16
#define WIDE 64
#include BODY
#undef WIDE
#define WIDE 128
#include BODY
#undef WIDE
#define WIDE 256
#include BODY
