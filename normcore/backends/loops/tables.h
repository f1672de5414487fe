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

#define LOOPS_OF(type, size, FLOATS)                                                                                    \
    {                                                                                                                   \
        size, value_##type, moments_##type, normalize_##type, FLOATS(gradients, type),                       \
            exact_gradients_##type, input_gradient_##type, scale_##type, activation_gradient_##type,                    \
            column_moments_##type, column_normalize_##type, FLOATS(column_gradients, type),                             \
            exact_column_gradients_##type, column_input_gradient_##type, column_scale_##type,                           \
            column_activation_gradient_##type, FLOATS(parameter_gradients, type), exact_parameter_gradients_##type,     \
            stream_end                                                                                                  \
    }
#define IN_FLOATS(name, type) name##_##type
#define IN_DOUBLES(name, type) NULL

const Loops TABLE[STORAGES] = {
    LOOPS_OF(float32, 4, IN_FLOATS), LOOPS_OF(float64, 8, IN_DOUBLES), LOOPS_OF(float16, 2, IN_FLOATS),
    LOOPS_OF(bfloat16, 2, IN_FLOATS)};
