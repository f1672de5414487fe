/* The loops for all kinds of storage, and the table of them. Included once for each kind of vectors, with REGISTER,
   WIDTH and TABLE set. */
#include "vectors.h"
#include "activation.h"

#define STORAGE 32
#define NAME(x) x##_float32
#include "body.h"
#undef STORAGE
#undef NAME
#define STORAGE 64
#define NAME(x) x##_float64
#include "body.h"
#undef STORAGE
#undef NAME
#define STORAGE 16
#define NAME(x) x##_float16
#include "body.h"
#undef STORAGE
#undef NAME
#define STORAGE 17
#define NAME(x) x##_bfloat16
#include "body.h"
#undef STORAGE
#undef NAME

#define LOOPS_OF(type, size)                                                                                           \
    {                                                                                                                  \
        size, value_##type, moments_##type, normalize_##type, add_lanes, gradients_##type,                                     \
            input_gradient_##type, weighted_gradients_##type, scale_##type, activation_gradient_##type, column_moments_##type,                    \
            column_normalize_##type, column_gradients_##type, column_input_gradient_##type, column_scale_##type,       \
            column_activation_gradient_##type, parameter_gradients_##type, stream_end                                        \
    }

const Loops TABLE[STORAGES] = {LOOPS_OF(float32, 4), LOOPS_OF(float64, 8), LOOPS_OF(float16, 2), LOOPS_OF(bfloat16, 2)};
