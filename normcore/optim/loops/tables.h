/* The loops for both dtypes, and the table of them. Included once for each kind of vectors, with TABLE set. */
#include <math.h>

#include "steps.h"

#define REAL float
#define SQRT sqrtf
#define NAME(x) x##_float32
#include "body.h"
#undef REAL
#undef SQRT
#undef NAME
#define REAL double
#define SQRT sqrt
#define NAME(x) x##_float64
#include "body.h"
#undef REAL
#undef SQRT
#undef NAME

const Steps TABLE[STEPS_DTYPES] = {{adam_float32, sgd_float32, squares_float32}, {adam_float64, sgd_float64, squares_float64}};
