/* The inner loops: what they are. How they are written: body.h.

   A loop works on values that lie next to each other and knows nothing of threads, walks or Python. There is one table
   of them for each kind of storage (Storage) and each kind of vectors (Vectors); the drivers in cython_kernels.pyx see
   storage as void pointers and pick a table once a call.

   run      contiguous values that share one mean: a channel's row of pixels, a row of layer norm
   columns  rows of contiguous values with one mean for each column: (N, C), channels-last
   Sums are kept in LANES partial sums a run, in the order of the values, so that every kind of vectors adds in the same
   order and gives the same bits. */
#ifndef NORMCORE_LOOPS_H
#define NORMCORE_LOOPS_H

#include <math.h>
#include <stddef.h>

enum {
    LANES = 16,
    FLOAT_SUMS = 16, /* float32 terms that are added before the sum goes on in float64 */
    STAGE = 4096 /* bytes */
};

typedef enum { FLOAT32, FLOAT64, FLOAT16, BFLOAT16, STORAGES } Storage;
typedef enum { BASELINE, AVX2, AVX512, VECTORS } Vectors;
typedef enum { NONE, RELU, LEAKY_RELU, SIGMOID, TANH, GELU, GELU_TANH, SILU } Activation;

/* Where float32 arithmetic neither overflows nor loses digits. */
static inline int fits_float(double value) { return fabs(value) < 1e30; }
/* A factor, or a mean whose remainder beside its float32 part must not be subnormal. */
static inline int comfortable(double value) { return value == 0.0 || (fabs(value) > 1e-30 && fabs(value) < 1e30); }

/* y = activation((x - mean) * scale + bias), with a mean, scale and bias for each run; where every value of a run has a
   weight of its own (layer norm), scale is rstd, and weights and biases are for all runs. */
typedef struct {
    const double *mean, *scale, *bias;
    const double *weights, *biases; /* or NULL; then there is no bias above */
    const float *weights32, *biases32; /* the same rounded, for storage up to 32 bits; weights32 divided by lift */
    double lift; /* a power of 2 above all weights32, or 1: so that no xhat that counts is subnormal in float32 */
    int activation;
    int narrow; /* weights32 and biases32 are exact enough, if there are any */
    int stream; /* y will not be read soon: store past the cache */
} Affine;

/* dx = dy * a - ((x - mean) * b + c); with weights (layer norm) dy is dy * weight. Of float64, where that would multiply
   numbers to beyond it: dx = (dy * a - ((x - mean) * rstd * b + c)) * rstd, for runs (columns) whose rstd is not 0. */
typedef struct {
    const double *mean, *a, *b, *c;
    const double *rstd; /* or NULL */
    const double *weights;
    const float *weights32;
    int narrow, stream;
} Slope;

/* The same for columns: vectors, one value a column. */
typedef struct {
    const double *mean, *scale, *bias;
    const float *mean32, *rest32, *scale32, *bias32; /* mean = mean32 + rest32 */
    int activation, narrow, stream;
    int near; /* all arrays stay in cache */
} ColumnAffine;

typedef struct {
    const double *mean, *a, *b, *c;
    const double *rstd; /* or NULL */
    const float *mean32, *rest32, *a32, *b32, *c32;
    int narrow, stream, near;
} ColumnSlope;

typedef struct {
    size_t itemsize;
    double (*value)(const void *x); /* one value, as float64 */

    /* `runs` runs of n values, one after another, each with its shift, mean, ...; to s1 and s2 of each
       is added. What is called exact sums in float64; its namesake in float32 arithmetic (NULL for float64). */
    void (*moments)(const void *x, ptrdiff_t runs, ptrdiff_t n, const double *shift, double *s1, double *s2); /* x - shift, its square */
    void (*normalize)(const void *x, ptrdiff_t runs, ptrdiff_t n, const Affine *to, void *y);
    /* dy, dy * (x - mean); weights: NULL, or dy is dy * weight */
    void (*gradients)(const void *dy, const void *x, const float *weights, ptrdiff_t runs, ptrdiff_t n, const double *mean, double *s1, double *s2);
    void (*exact_gradients)(const void *dy, const void *x, const double *weights, ptrdiff_t runs, ptrdiff_t n, const double *mean, double *s1, double *s2);
    void (*input_gradient)(const void *dy, const void *x, ptrdiff_t runs, ptrdiff_t n, const Slope *by, void *dx);
    void (*scale)(const void *dy, ptrdiff_t runs, ptrdiff_t n, const double *a, void *dx); /* inference: dx = dy * a */
    void (*activation_gradient)(const void *dy, const void *x, ptrdiff_t runs, ptrdiff_t n, const Affine *to, void *dz);

    /* columns: `rows` rows of n values, `stride` values apart; sums are double[n] */
    void (*column_moments)(const void *x, ptrdiff_t rows, ptrdiff_t n, ptrdiff_t stride, const double *shift, double *s1, double *s2);
    void (*column_normalize)(const void *x, ptrdiff_t rows, ptrdiff_t n, const ColumnAffine *to, void *y);
    void (*column_gradients)(const void *dy, const void *x, ptrdiff_t rows, ptrdiff_t n, ptrdiff_t stride, const float *centre, double *s1, double *s2);
    void (*exact_column_gradients)(const void *dy, const void *x, ptrdiff_t rows, ptrdiff_t n, ptrdiff_t stride, const double *mean, double *s1, double *s2);
    void (*column_input_gradient)(const void *dy, const void *x, ptrdiff_t rows, ptrdiff_t n, const ColumnSlope *by, void *dx);
    void (*column_scale)(const void *dy, ptrdiff_t rows, ptrdiff_t n, const double *a, void *dx);
    void (*column_activation_gradient)(const void *dy, const void *x, ptrdiff_t rows, ptrdiff_t n, const ColumnAffine *to, void *dz);
    /* dweight += dy * (x - mean[row]) * rstd[row], dbias += dy: the parameters' gradients of layer norm */
    void (*parameter_gradients)(const void *dy, const void *x, ptrdiff_t rows, ptrdiff_t n, ptrdiff_t stride, const double *mean, const double *rstd, double *dweight, double *dbias);
    void (*exact_parameter_gradients)(const void *dy, const void *x, ptrdiff_t rows, ptrdiff_t n, ptrdiff_t stride, const double *mean, const double *rstd, double *dweight, double *dbias);
    void (*stream_end)(void); /* at the end of a task that streamed */
} Loops;

extern const Loops normcore_loops_baseline[STORAGES];
#if defined(__x86_64__)
extern const Loops normcore_loops_avx2[STORAGES];
extern const Loops normcore_loops_avx512[STORAGES];
#endif

#endif
