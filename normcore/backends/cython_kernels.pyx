"""The default backend, compiled ahead of time: who does what, in which order, on how many threads.

The inner loops are in ``loops/``, once for each kind of storage and of vectors; this file and the walks it includes
cut an array into tasks and know nothing of dtypes.

Design
------
*Statistics.* One pass in float64: the sums of ``x - shift`` and of its square; then var = (s2 - s1^2 / n) / n. Where
the mean is within four deviations of 0 the shift is 0: at most 17 times what is left cancels, which costs float64
four of its 53 bits, and the square of a value of up to 24 bits is exact, so that it is added by one fused instruction
on every CPU that has one, to the same bits as without. Elsewhere the first sums are thrown away (after a look at four
values, in an array where that would cost) and taken again from the mean they gave: a constant group then has sums of
exactly 0. float64, whose squares are not exact, begins with the first value, and sums again where that was an outlier.
So never E[x^2] - E[x]^2 of raw values that are far from 0 (garbage from mean/std = 1e4 in float32). Tried and lost:
Welford (a division per element), two passes (a third more time where the array does not fit in cache), for values of up
to 32 bits a shift by the first value always (20 operations for 16 values, now 12: 0.090 ns a value, now 0.053).

*Sums of a backward pass* are of dy and dy * (x - mean). 16 terms are added in float32, the parts in float64: an error
of a few eps of what was added, 0.12 ns a value in float64, 0.06 so. Where float32 might overflow or lose products (a
deviation beyond 1e10 or below 1e-10, sums beyond 1e30 or below 1e-25) they are taken again in float64. What a group
gets never depends on its neighbours' choice.

*The same bits for any number of threads.* Work is cut into pieces whose size depends on the shape alone; a piece is
summed in LANES partial sums in a fixed order, and the sums of pieces are added in order, also where one thread does
them all. Threads only decide who does a piece.

*Threads* are our own (workers.h); OpenMP says how many. The caller takes every task that nobody has begun, so that a
call does not wait for a thread that the system has not woken: on a busy machine of two cores (float32, 1 to 26 MB)
calls took 23 to 78 ms with OpenMP's barriers, and now 0.06 to 26. On an idle one 48 cases of 0.4 to 65 MB take 0.97 of
the time in the geometric mean, single ones 0.67 (32 x 64 x 28 x 28, backward) to 1.3 (100000 x 64 and 8 x 32 x 40 x 40,
on a shared machine, in one run of two). A pass over what was just read goes back over each thread's own part
(`mirrored`), whose end is in the cache of its core. Tried on two cores, no difference seen: parts that are interleaved
instead of halves, idle threads that keep the core while they spin, a caller that keeps it for 0.1 ms while it waits.

*One task, one stretch of cache.* A task takes a block of channels (or rows) that fits the L2 cache through all passes,
so the second pass reads from there. Few and large channels are cut into pieces instead, with a barrier between the
passes, which waits for the tasks that other threads have begun.

*Bytes.* Forward reads x and writes y, as a copy does; backward reads dy and x and writes dx: 1.5 copies. Results
beyond STREAM_BYTES are stored past the cache, which saves reading the lines that are about to be overwritten.

*Short runs.* Rows and segments go through the loops in blocks, several runs to a call, with the numbers of each in
vectors. A run of 49 values takes 9 ns for its sums and 10 to be written; by itself, with its own call, 40 and 25. What
remains is a vector with a mask at the end of each and the sum over lanes (6 ns, now 3).

*Arithmetic of the write pass.* float32 storage is written with float32 arithmetic, centred on the mean split in a
float32 part and its remainder; where a mean or scale is outside float32's comfort, in float64. Weights of their own
(layer norm) are divided by a power of 2 and rstd is multiplied by it: an xhat that is subnormal counts where its weight
is large.
"""

import numpy as np

from libc.math cimport fabs, frexp, isfinite, ldexp, sqrt
from libc.stdio cimport fprintf, stderr
from libc.stdlib cimport abort, free, malloc
from libc.string cimport memcpy, memset

from normcore._workers cimport mirrored, run_tasks

from normcore.backends import Kernels

cdef extern from *:
    """
    #ifdef _OPENMP
    #include <omp.h>
    #define NORMCORE_OPENMP 1
    #else
    #define NORMCORE_OPENMP 0
    static int omp_get_max_threads(void) { return 1; }
    #endif
    #ifdef NORMCORE_DEBUG
    #define NORMCORE_BOUNDS 1
    #else
    #define NORMCORE_BOUNDS 0
    #endif
    #if defined(__x86_64__) && (defined(__GNUC__) || defined(__clang__))
    /* all that avx2.c and avx512.c are compiled for */
    #define HAS_AVX2 (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("f16c") && __builtin_cpu_supports("fma"))
    #define HAS_AVX512 (HAS_AVX2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") \
                        && __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl"))
    #define normcore_loops_of(vectors) \
        ((vectors) == 2 ? normcore_loops_avx512 : (vectors) == 1 ? normcore_loops_avx2 : normcore_loops_baseline)
    #else
    #define HAS_AVX2 0
    #define HAS_AVX512 0
    #define normcore_loops_of(vectors) normcore_loops_baseline
    #endif
    #include <stdint.h>
    #include <string.h>
    /* Whether all sizes are between 2^-465 and 2^465, 1e140. As integers: no branch for each, and in vectors. */
    static inline int all_moderate(const double *values, ptrdiff_t n) {
        const int64_t low = (int64_t)(1023 - 465) << 52, high = (int64_t)(1023 + 465) << 52;
        int64_t outside = 0;
        for (ptrdiff_t i = 0; i < n; i++) {
            int64_t bits;
            memcpy(&bits, values + i, sizeof bits);
            bits &= INT64_MAX;
            outside |= (bits - low) | (high - bits);
        }
        return outside >= 0;
    }
    """
    bint all_moderate(const double* values, Py_ssize_t n) noexcept nogil
    int NORMCORE_OPENMP
    int NORMCORE_BOUNDS
    int HAS_AVX2
    int HAS_AVX512
    int omp_get_max_threads() noexcept nogil
    const Loops* normcore_loops_of(int vectors) noexcept nogil

OPENMP = bool(NORMCORE_OPENMP)
BOUNDS_CHECKS = bool(NORMCORE_BOUNDS)

cdef enum:
    PIECE = 16384  # values that are summed by themselves
    MAX_PIECES = 64  # bounds the memory for partial sums
    MAX_BLOCK = 64  # channels of a task
    BLOCK_BYTES = 262144  # of x in a task: with y or dy, half an L2 cache
    WAVE_BYTES = 8388608  # of x between two barriers, where channels are cut into pieces
    SHORT_RUN = 2048  # bytes: shorter runs are taken together
    STREAM_BYTES = 8388608  # of a result
    NEAR_BYTES = 4194304  # of x: with the result it stays in cache
    ROWS_BYTES = 16384  # of short rows that go through the loops together: with the result, an L1 cache
    LIFT = 1048576  # what float32 weights are divided by, so that no xhat that counts in y is subnormal
    SCRATCH = 2048  # float64 values that a call keeps on the stack


cpdef int openmp_max_threads() noexcept:
    """What OpenMP would use now: its setting, the affinity, a limit set by threadpoolctl. It runs no loop of ours."""
    return omp_get_max_threads()


# --- an array, and a run in it ----------------------------------------------------------------------------------------


cdef inline char* at(Array a, Py_ssize_t first, Py_ssize_t n) noexcept nogil:
    # Where n values begin. A build with bounds checks stops here rather than past the end.
    if NORMCORE_BOUNDS and (first < 0 or n < 0 or first + n > a.size):
        fprintf(stderr, "normcore: a kernel left its array\n")
        abort()
    return a.data + first * a.itemsize


cdef void* scratch_memory(Py_ssize_t size) except NULL nogil:
    # Of a walk, which asks for all of it before it writes anything.
    cdef void* memory = malloc(size)
    if memory == NULL:
        with gil:
            raise MemoryError(f"no memory for the {size} bytes in which a kernel keeps its partial sums")
    return memory


# --- the numbers of one group -----------------------------------------------------------------------------------------


cdef inline double finite_or_zero(double value) noexcept nogil:
    return value if isfinite(value) else 0.0


cdef inline void finish_moments(
    const double* shift, const double* s1, const double* s2, Py_ssize_t n, double count, double* mean, double* var
) noexcept nogil:
    # For n groups, in plain loops: divisions in vectors, and none waits for another.
    cdef Py_ssize_t i
    cdef double centred
    for i in range(n):
        mean[i] = shift[i] + s1[i] / count
    for i in range(n):
        centred = s2[i] - s1[i] * (s1[i] / count)
        var[i] = (0.0 if centred < 0.0 else centred) / count


cdef inline void finish_rstd(const double* var, Py_ssize_t n, double eps, double* rstd) noexcept nogil:
    cdef Py_ssize_t i
    for i in range(n):
        rstd[i] = 1.0 / sqrt(var[i] + eps)


# Which arithmetic sums are taken in. Statistics may be summed with any shift that is within four deviations of the
# mean (nothing to speak of cancels then): storage of up to 32 bits begins without one, float64 with the first value.
# The sums of a backward pass may be float32's, where nothing overflows or vanishes. What turns out otherwise is
# summed again.

cdef enum:
    SAMPLED = 65536  # bytes: where summing again would cost more than a look at some values
    FAR = 4  # deviations between a shift and the mean: with more, sums are taken again


cdef inline double first_shift(
    const Loops* f, Array x, Py_ssize_t first, Py_ssize_t n, Py_ssize_t stride, Py_ssize_t size
) noexcept nogil:
    # The shift to begin with, in an array of `size` values: after a look at four of the group, `stride` apart.
    cdef double v, low, high
    cdef Py_ssize_t i
    if f.itemsize < 8 and size * <Py_ssize_t>f.itemsize < SAMPLED:
        return 0.0
    low = high = f.value(at(x, first, 1))
    for i in range(1, 4 if f.itemsize < 8 else 1):
        v = f.value(at(x, first + i * (n - 1) // 3 * stride, 1))
        low, high = min(low, v), max(high, v)
    return 0.0 if high - low > 0.4 * max(fabs(low), fabs(high)) else finite_or_zero(f.value(at(x, first, 1)))


cdef inline double second_shift(const Loops* f, double shift, double mean, double var) noexcept nogil:
    # The shift to sum again with; the same one where the sums are good.
    cdef double mean_xshift = mean - shift
    if not mean_xshift * mean_xshift > FAR * FAR * var:
        return shift
    return finite_or_zero(mean if f.itemsize == 8 else <double><float>mean)


cdef inline bint is_tame(double mean, double rstd) noexcept nogil:
    # Whether the sums of a backward pass may be tried in float32.
    return comfortable(mean) and 1e-10 < rstd < 1e10


cdef inline bint is_sound_sum(double s) noexcept nogil:
    return s == 0.0 or 1e-25 < fabs(s) < 1e30


cdef inline bint is_sound(double s1, double s2) noexcept nogil:
    # Whether they came out: far from overflow, and not so small that products may have vanished.
    return is_sound_sum(s1) and is_sound_sum(s2)


# What a backward pass multiplies beforehand of dx = (dy * weight - mean(dxhat) - xhat * mean(dxhat * xhat)) * rstd, b =
# mean(dxhat * xhat) * rstd * rstd, may be beyond float64 where dx is not. Float32 storage never comes near that.


cdef inline bint far_from_the_ends(double value) noexcept nogil:
    # Whether four such factors stay within float64. What is not finite is so in any order.
    return value == 0.0 or 1e-70 < fabs(value) < 1e70 or not isfinite(value)


cdef bint streams(Array to, Array source, Array other) noexcept nogil:
    # A result that is written over what is still to be read must stay in cache.
    return to.size * to.itemsize >= STREAM_BYTES and to.data != source.data and to.data != other.data


include "loops/channels.pxi"
include "loops/columns.pxi"
include "loops/rows.pxi"
include "loops/rows_backward.pxi"
include "loops/interface.pxi"
