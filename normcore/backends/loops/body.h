/* The loops for one kind of storage; included once for each, with STORAGE and NAME set. See loops.h for what each does. */

#include "storage.h"

#define PER_RUN (LANES / WIDTH) /* registers of partial sums */
#define STAGED ((ptrdiff_t)(STAGE / sizeof(T)))

#define LOAD_SUMS(sums, from) UNROLL for (int j = 0; j < PER_RUN; j++) memcpy(&sums[j], (from) + j * WIDTH, sizeof sums[j]);

static double NAME(value)(const void *x) { return (double)NAME(get)((const T *)x); }

INLINE void NAME(activate)(int activation, ptrdiff_t n, S *z) {
#if STORAGE == 64
    activate_double(activation, n, z);
#else
    activate_float(activation, n, z);
#endif
}

INLINE void NAME(times_derivative)(int activation, ptrdiff_t n, const S *z, S *dz) {
#if STORAGE == 64
    times_derivative_double(activation, n, z, dz);
#else
    times_derivative_float(activation, n, z, dz);
#endif
}

/* A run is written in place, or through a stage whose lines are then stored past the cache. The stage goes on from run to
   run, so that short ones are streamed in long pieces, each but the first beginning on a line. */
#define WRITE_RUNS(OUT, STREAM, CHUNK)                                                                                  \
    T stage[STAGED];                                                                                                    \
    const int stream = (STREAM);                                                                                        \
    ptrdiff_t filled = 0, flushed = 0, room = STAGED - (ptrdiff_t)((uintptr_t)(OUT) % 64 / sizeof(T));                  \
    for (ptrdiff_t k = 0; k < runs; k++)                                                                                \
        for (ptrdiff_t i = 0, m; i < n; i += m) {                                                                       \
            const ptrdiff_t at = k * n + i;                                                                             \
            T *target = stream ? stage + filled : (OUT) + at;                                                           \
            m = AT_MOST(n - i, stream ? room - filled : STAGED);                                                        \
            CHUNK;                                                                                                      \
            if (stream && (filled += m) == room) {                                                                      \
                stream_copy((OUT) + flushed, stage, (size_t)filled * sizeof(T));                                        \
                flushed += filled;                                                                                      \
                filled = 0;                                                                                             \
                room = STAGED;                                                                                          \
            }                                                                                                           \
        }                                                                                                               \
    if (stream) stream_copy((OUT) + flushed, stage, (size_t)filled * sizeof(T));

#include "runs.h"
#include "columns.h"

#undef PER_RUN
#undef STAGED
#undef LOAD_SUMS
#undef WRITE_RUNS
