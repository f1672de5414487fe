/* The loops for one kind of storage; included once for each, with STORAGE and NAME set. See loops.h for what each does. */

#include "storage.h"

#define PER_RUN (LANES / WIDTH) /* registers of partial sums */
#define STAGED ((ptrdiff_t)(STAGE / sizeof(T)))

#define LOAD_SUMS(sums, from) UNROLL for (int j = 0; j < PER_RUN; j++) memcpy(&sums[j], (from) + j * WIDTH, sizeof sums[j]);
#define STORE_SUMS(to, sums) UNROLL for (int j = 0; j < PER_RUN; j++) memcpy((to) + j * WIDTH, &sums[j], sizeof sums[j]);

/* --- sums over runs --- */

static double NAME(value)(const void *x) { return (double)NAME(get)((const T *)x); }

INLINE void NAME(moments_of_run)(const T *x, ptrdiff_t n, double shift, doubles one, double *acc) {
    doubles sum[PER_RUN], squares[PER_RUN];
    ptrdiff_t i = 0;
    LOAD_SUMS(sum, acc)
    LOAD_SUMS(squares, acc + LANES)
    for (; i + LANES <= n; i += LANES)
        UNROLL for (int j = 0; j < PER_RUN; j++) {
            doubles xshift = subtract_evenly(NAME(load_doubles)(x + i + j * WIDTH), shift, one, j);
            sum[j] = add_elsewhere(xshift, sum[j], one);
            squares[j] += xshift * xshift;
        }
#if MASKED
    for (int j = 0; j < PER_RUN && i < n; j++, i += WIDTH) {
        doubles xshift = NAME(centred_part)(x + i, AT_MOST(n - i, WIDTH), shift);
        sum[j] += xshift;
        squares[j] += xshift * xshift;
    }
#endif
    STORE_SUMS(acc, sum)
    STORE_SUMS(acc + LANES, squares)
    for (int lane = 0; i < n; i++, lane++) {
        double xshift = (double)NAME(get)(x + i) - shift;
        acc[lane] += xshift;
        acc[LANES + lane] += xshift * xshift;
    }
}

static void NAME(moments)(const void *x, ptrdiff_t runs, ptrdiff_t n, const double *shift, double *acc) {
    const doubles one = opaque_one();
    for (ptrdiff_t k = 0; k < runs; k++) NAME(moments_of_run)((const T *)x + k * n, n, shift[k], one, acc + k * 2 * LANES);
}

INLINE void NAME(gradients_of_run)(const T *dy, const T *x, ptrdiff_t n, double mean, doubles one, double *acc) {
    doubles sum_dy[PER_RUN], sum_dy_xshift[PER_RUN];
    ptrdiff_t i = 0;
    LOAD_SUMS(sum_dy, acc)
    LOAD_SUMS(sum_dy_xshift, acc + LANES)
    for (; i + LANES <= n; i += LANES)
        UNROLL for (int j = 0; j < PER_RUN; j++) {
            doubles d = NAME(load_doubles)(dy + i + j * WIDTH);
            sum_dy[j] = add_elsewhere(d, sum_dy[j], one);
            sum_dy_xshift[j] += d * subtract_evenly(NAME(load_doubles)(x + i + j * WIDTH), mean, one, j);
        }
#if MASKED
    for (int j = 0; j < PER_RUN && i < n; j++, i += WIDTH) {
        doubles d = NAME(centred_part)(dy + i, AT_MOST(n - i, WIDTH), 0.0);
        sum_dy[j] += d;
        sum_dy_xshift[j] += d * NAME(centred_part)(x + i, AT_MOST(n - i, WIDTH), mean);
    }
#endif
    STORE_SUMS(acc, sum_dy)
    STORE_SUMS(acc + LANES, sum_dy_xshift)
    for (int lane = 0; i < n; i++, lane++) {
        double d = (double)NAME(get)(dy + i);
        acc[lane] += d;
        acc[LANES + lane] += d * ((double)NAME(get)(x + i) - mean);
    }
}

static void NAME(gradients)(
    const void *dy, const void *x, ptrdiff_t runs, ptrdiff_t n, const double *mean, double *acc) {
    const doubles one = opaque_one();
    for (ptrdiff_t k = 0; k < runs; k++)
        NAME(gradients_of_run)((const T *)dy + k * n, (const T *)x + k * n, n, mean[k], one, acc + k * 2 * LANES);
}

static void NAME(weighted_gradients)(
    const void *dy_, const void *x_, const double *weights, ptrdiff_t n, double mean, double *acc) {
    const T *dy = (const T *)dy_, *x = (const T *)x_;
    doubles sum_dy[PER_RUN], sum_dy_xshift[PER_RUN], weight;
    ptrdiff_t i = 0;
    LOAD_SUMS(sum_dy, acc)
    LOAD_SUMS(sum_dy_xshift, acc + LANES)
    for (; i + LANES <= n; i += LANES)
        UNROLL for (int j = 0; j < PER_RUN; j++) {
            memcpy(&weight, weights + i + j * WIDTH, sizeof weight);
            doubles d = NAME(load_doubles)(dy + i + j * WIDTH) * weight;
            sum_dy[j] += d;
            sum_dy_xshift[j] += d * (NAME(load_doubles)(x + i + j * WIDTH) - mean);
        }
#if MASKED
    for (int j = 0; j < PER_RUN && i < n; j++, i += WIDTH) {
        const __mmask8 mask = (__mmask8)((1u << AT_MOST(n - i, WIDTH)) - 1);
        doubles d = NAME(centred_part)(dy + i, AT_MOST(n - i, WIDTH), 0.0);
        d *= (doubles)_mm256_maskz_loadu_pd(mask, weights + i);
        sum_dy[j] += d;
        sum_dy_xshift[j] += d * NAME(centred_part)(x + i, AT_MOST(n - i, WIDTH), mean);
    }
#endif
    STORE_SUMS(acc, sum_dy)
    STORE_SUMS(acc + LANES, sum_dy_xshift)
    for (int lane = 0; i < n; i++, lane++) {
        double d = (double)NAME(get)(dy + i) * weights[i];
        acc[lane] += d;
        acc[LANES + lane] += d * ((double)NAME(get)(x + i) - mean);
    }
}

/* --- writing runs --- */

/* (x - mean) * scale + bias, not rounded to T yet. In float32 the mean is split in two, so that centring is exact to a
   rounding of the difference; folding it into the bias would lose the digits that the offset has. */
INLINE void NAME(affine_chunk)(const T *x, ptrdiff_t n, const Affine *to, ptrdiff_t at, T *y) {
    ptrdiff_t i = 0;
    if (STORAGE != 64 && !to->narrow) {
        for (; i < n; i++) {
            double weight = to->weights ? to->weights[at + i] : 1.0, bias = to->biases ? to->biases[at + i] : to->bias;
            NAME(put)(y + i, ((double)NAME(get)(x + i) - to->mean) * to->scale * weight + bias);
        }
        return;
    }
    const S mean = (S)to->mean, rest = (S)(to->mean - (double)mean), scale = (S)to->scale, bias = (S)to->bias;
#if STORAGE == 64
    const S *weights = to->weights, *biases = to->biases;
#else
    const S *weights = to->weights32, *biases = to->biases32;
#endif
    WIDE weight, shift;
    if (weights) {
        for (; i + COUNT <= n; i += COUNT) {
            memcpy(&weight, weights + at + i, sizeof weight);
            memcpy(&shift, biases + at + i, sizeof shift);
            NAME(store)(y + i, ((NAME(load)(x + i) - mean) - rest) * scale * weight + shift);
        }
        if (i < n) {
            WIDE xshift = (NAME(load_part)(x + i, n - i) - mean) - rest;
            weight = NAME(part)(weights + at + i, n - i);
            shift = NAME(part)(biases + at + i, n - i);
            NAME(store_part)(y + i, xshift * scale * weight + shift, n - i);
        }
        return;
    }
    for (; i + COUNT <= n; i += COUNT) NAME(store)(y + i, ((NAME(load)(x + i) - mean) - rest) * scale + bias);
    if (i < n) NAME(store_part)(y + i, ((NAME(load_part)(x + i, n - i) - mean) - rest) * scale + bias, n - i);
}

/* The values an activation is applied to, unrounded. */
INLINE void NAME(affine_values)(const T *x, ptrdiff_t n, const Affine *to, ptrdiff_t at, S *z) {
#if STORAGE == 32 || STORAGE == 64 /* to the bit what is written without an activation */
    NAME(affine_chunk)(x, n, to, at, z);
    return;
#endif
    for (ptrdiff_t i = 0; i < n; i++) {
        double weight = to->weights ? to->weights[at + i] : 1.0, bias = to->biases ? to->biases[at + i] : to->bias;
        z[i] = (S)(((double)NAME(get)(x + i) - to->mean) * to->scale * weight + bias);
    }
}

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

INLINE void NAME(activated_chunk)(const T *x, ptrdiff_t n, const Affine *to, ptrdiff_t at, T *y) {
    S z[STAGED];
    NAME(affine_values)(x, n, to, at, z);
    NAME(activate)(to->activation, n, z);
    for (ptrdiff_t k = 0; k < n; k++) NAME(put)(y + k, z[k]);
}

static void NAME(normalize)(const void *x_, ptrdiff_t runs, ptrdiff_t n, const Affine *to, void *y_) {
    const T *x = (const T *)x_;
    T *y = (T *)y_;
    if (to->activation != NONE) {
        WRITE_RUNS(y, to->stream, NAME(activated_chunk)(x + at, m, &to[k], i, target))
    } else if (to->stream) {
        WRITE_RUNS(y, 1, NAME(affine_chunk)(x + at, m, &to[k], i, target))
    } else
        for (ptrdiff_t k = 0; k < runs; k++) NAME(affine_chunk)(x + k * n, n, &to[k], 0, y + k * n);
}

static void NAME(activation_gradient)(const void *dy_, const void *x_, ptrdiff_t n, const Affine *to, void *dz_) {
    const T *dy = (const T *)dy_, *x = (const T *)x_;
    T *dz = (T *)dz_;
    S z[STAGED], d[STAGED];
    for (ptrdiff_t i = 0, m; i < n; i += m) {
        m = AT_MOST(n - i, STAGED);
        NAME(affine_values)(x + i, m, to, i, z);
        for (ptrdiff_t k = 0; k < m; k++) d[k] = NAME(get)(dy + i + k);
        NAME(times_derivative)(to->activation, m, z, d);
        for (ptrdiff_t k = 0; k < m; k++) NAME(put)(dz + i + k, d[k]);
    }
}

INLINE void NAME(slope_chunk)(const T *dy, const T *x, ptrdiff_t n, const Slope *by, ptrdiff_t at, T *dx) {
    ptrdiff_t i = 0;
    if (STORAGE != 64 && !by->narrow) {
        for (; i < n; i++) {
            double d = (double)NAME(get)(dy + i) * (by->weights ? by->weights[at + i] : 1.0);
            NAME(put)(dx + i, d * by->a - (((double)NAME(get)(x + i) - by->mean) * by->b + by->c));
        }
        return;
    }
    const S mean = (S)by->mean, rest = (S)(by->mean - (double)mean), a = (S)by->a, b = (S)by->b, c = (S)by->c;
#if STORAGE == 64
    const S *weights = by->weights;
#else
    const S *weights = by->weights32;
#endif
    WIDE weight;
    if (weights) {
        for (; i + COUNT <= n; i += COUNT) {
            memcpy(&weight, weights + at + i, sizeof weight);
            NAME(store)(dx + i, NAME(load)(dy + i) * weight * a - (((NAME(load)(x + i) - mean) - rest) * b + c));
        }
        if (i < n) {
            WIDE d = NAME(load_part)(dy + i, n - i), xshift = (NAME(load_part)(x + i, n - i) - mean) - rest;
            NAME(store_part)(dx + i, d * NAME(part)(weights + at + i, n - i) * a - (xshift * b + c), n - i);
        }
        return;
    }
    for (; i + COUNT <= n; i += COUNT)
        NAME(store)(dx + i, NAME(load)(dy + i) * a - (((NAME(load)(x + i) - mean) - rest) * b + c));
    if (i < n) {
        WIDE d = NAME(load_part)(dy + i, n - i), xshift = (NAME(load_part)(x + i, n - i) - mean) - rest;
        NAME(store_part)(dx + i, d * a - (xshift * b + c), n - i);
    }
}

static void NAME(input_gradient)(
    const void *dy_, const void *x_, ptrdiff_t runs, ptrdiff_t n, const Slope *by, void *dx_) {
    const T *dy = (const T *)dy_, *x = (const T *)x_;
    T *dx = (T *)dx_;
    if (by->stream) {
        WRITE_RUNS(dx, 1, NAME(slope_chunk)(dy + at, x + at, m, &by[k], i, target))
    } else
        for (ptrdiff_t k = 0; k < runs; k++) NAME(slope_chunk)(dy + k * n, x + k * n, n, &by[k], 0, dx + k * n);
}

static void NAME(scale)(const void *dy_, ptrdiff_t n, double a, void *dx_) {
    const T *dy = (const T *)dy_;
    T *dx = (T *)dx_;
    for (ptrdiff_t i = 0; i < n; i++) NAME(put)(dx + i, (double)NAME(get)(dy + i) * a);
}

/* --- columns --- */

/* Partial sums of a few rows are kept in registers, LANES columns at a time, and then added to the totals: short chains of
   additions, and no traffic for the sums inside. */
#define COLUMN_SUMS(CENTRED, FIRST, SECOND, FIRST_SCALAR, SECOND_SCALAR)                          \
    const doubles one = opaque_one();                                                             \
    ptrdiff_t c = 0;                                                                              \
    for (; c + LANES <= n; c += LANES) {                                                          \
        doubles sum1[PER_RUN] = {{0}}, sum2[PER_RUN] = {{0}}, centre[PER_RUN], total;             \
        LOAD_SUMS(centre, (CENTRED) + c)                                                          \
        for (ptrdiff_t r = 0; r < rows; r++)                                                      \
            UNROLL for (int j = 0; j < PER_RUN; j++) {                                             \
                const ptrdiff_t at = r * stride + c + j * WIDTH;                                  \
                const doubles v = NAME(load_doubles)(x + at);                                       \
                doubles xshift = j % 2 ? add_elsewhere(v, -centre[j], one) : v - centre[j];                          \
                sum1[j] = add_elsewhere(FIRST, sum1[j], one);                                     \
                sum2[j] += SECOND;                                                                \
            }                                                                                     \
        UNROLL for (int j = 0; j < PER_RUN; j++) {                                                 \
            memcpy(&total, s1 + c + j * WIDTH, sizeof total);                                     \
            total += sum1[j];                                                                     \
            memcpy(s1 + c + j * WIDTH, &total, sizeof total);                                     \
            memcpy(&total, s2 + c + j * WIDTH, sizeof total);                                     \
            total += sum2[j];                                                                     \
            memcpy(s2 + c + j * WIDTH, &total, sizeof total);                                     \
        }                                                                                         \
    }                                                                                             \
    for (; c < n; c++) {                                                                          \
        double sum1 = 0.0, sum2 = 0.0;                                                            \
        for (ptrdiff_t r = 0; r < rows; r++) {                                                    \
            const ptrdiff_t at = r * stride + c;                                                  \
            double xshift = (double)NAME(get)(x + at) - (CENTRED)[c];                             \
            sum1 += FIRST_SCALAR;                                                                 \
            sum2 += SECOND_SCALAR;                                                                \
        }                                                                                         \
        s1[c] += sum1;                                                                            \
        s2[c] += sum2;                                                                            \
    }

static void NAME(column_moments)(
    const void *x_, ptrdiff_t rows, ptrdiff_t n, ptrdiff_t stride, const double *shift, double *s1, double *s2) {
    const T *x = (const T *)x_;
    COLUMN_SUMS(shift, xshift, xshift * xshift, xshift, xshift * xshift)
}

static void NAME(column_gradients)(
    const void *dy_, const void *x_, ptrdiff_t rows, ptrdiff_t n, ptrdiff_t stride, const double *mean, double *s1,
    double *s2) {
    const T *dy = (const T *)dy_, *x = (const T *)x_;
    COLUMN_SUMS(mean, NAME(load_doubles)(dy + at), NAME(load_doubles)(dy + at) * xshift, (double)NAME(get)(dy + at),
                (double)NAME(get)(dy + at) * xshift)
}

static void NAME(parameter_gradients)(
    const void *dy_, const void *x_, ptrdiff_t rows, ptrdiff_t n, ptrdiff_t stride, const double *mean, const double *rstd,
    double *dweight, double *dbias) {
    const T *dy = (const T *)dy_, *x = (const T *)x_;
    ptrdiff_t c = 0;
    for (; c + LANES <= n; c += LANES) {
        doubles db[PER_RUN] = {{0}}, dw[PER_RUN] = {{0}}, total;
        for (ptrdiff_t r = 0; r < rows; r++)
            UNROLL for (int j = 0; j < PER_RUN; j++) {
                doubles d = NAME(load_doubles)(dy + r * stride + c + j * WIDTH);
                db[j] += d;
                dw[j] += d * ((NAME(load_doubles)(x + r * stride + c + j * WIDTH) - mean[r]) * rstd[r]);
            }
        UNROLL for (int j = 0; j < PER_RUN; j++) {
            memcpy(&total, dbias + c + j * WIDTH, sizeof total);
            total += db[j];
            memcpy(dbias + c + j * WIDTH, &total, sizeof total);
            memcpy(&total, dweight + c + j * WIDTH, sizeof total);
            total += dw[j];
            memcpy(dweight + c + j * WIDTH, &total, sizeof total);
        }
    }
    for (; c < n; c++) {
        double db = 0.0, dw = 0.0;
        for (ptrdiff_t r = 0; r < rows; r++) {
            double d = (double)NAME(get)(dy + r * stride + c);
            db += d;
            dw += d * (((double)NAME(get)(x + r * stride + c) - mean[r]) * rstd[r]);
        }
        dbias[c] += db;
        dweight[c] += dw;
    }
}

INLINE void NAME(column_affine_chunk)(const T *x, ptrdiff_t n, const ColumnAffine *to, ptrdiff_t c, T *y) {
    ptrdiff_t i = 0;
#if STORAGE == 64
    const S *mean = to->mean + c, *scale = to->scale + c, *bias = to->bias + c;
#else
    const S *mean = to->mean32 + c, *rest = to->rest32 + c, *scale = to->scale32 + c, *bias = to->bias32 + c;
#endif
    if (STORAGE == 64 || to->narrow) {
        for (; i + COUNT <= n; i += COUNT) {
            WIDE m, s, b;
            memcpy(&m, mean + i, sizeof m);
            memcpy(&s, scale + i, sizeof s);
            memcpy(&b, bias + i, sizeof b);
            WIDE xshift = NAME(load)(x + i) - m;
#if STORAGE != 64
            memcpy(&m, rest + i, sizeof m);
            xshift -= m;
#endif
            NAME(store)(y + i, xshift * s + b);
        }
        for (; i < n; i++) {
            S xshift = NAME(get)(x + i) - mean[i];
#if STORAGE != 64
            xshift -= rest[i];
#endif
            NAME(put)(y + i, (S)(xshift * scale[i]) + bias[i]);
        }
        return;
    }
    for (; i < n; i++)
        NAME(put)(y + i, ((double)NAME(get)(x + i) - to->mean[c + i]) * to->scale[c + i] + to->bias[c + i]);
}

INLINE void NAME(column_values)(const T *x, ptrdiff_t n, const ColumnAffine *to, ptrdiff_t c, S *z) {
#if STORAGE == 32 || STORAGE == 64
    NAME(column_affine_chunk)(x, n, to, c, z);
    return;
#endif
    for (ptrdiff_t i = 0; i < n; i++)
        z[i] = (S)(((double)NAME(get)(x + i) - to->mean[c + i]) * to->scale[c + i] + to->bias[c + i]);
}

INLINE void NAME(activated_columns)(const T *x, ptrdiff_t n, const ColumnAffine *to, ptrdiff_t c, T *y) {
    S z[STAGED];
    NAME(column_values)(x, n, to, c, z);
    NAME(activate)(to->activation, n, z);
    for (ptrdiff_t k = 0; k < n; k++) NAME(put)(y + k, z[k]);
}

static void NAME(column_normalize)(const void *x_, ptrdiff_t runs, ptrdiff_t n, const ColumnAffine *to, void *y_) {
    const T *x = (const T *)x_;
    T *y = (T *)y_;
    if (to->activation != NONE) {
        WRITE_RUNS(y, to->stream, NAME(activated_columns)(x + at, m, to, i, target))
    } else if (to->stream) {
        WRITE_RUNS(y, 1, NAME(column_affine_chunk)(x + at, m, to, i, target))
    } else
        for (ptrdiff_t k = 0; k < runs; k++) NAME(column_affine_chunk)(x + k * n, n, to, 0, y + k * n);
}

static void NAME(column_activation_gradient)(
    const void *dy_, const void *x_, ptrdiff_t rows, ptrdiff_t n, const ColumnAffine *to, void *dz_) {
    const T *dy = (const T *)dy_, *x = (const T *)x_;
    T *dz = (T *)dz_;
    S z[STAGED], d[STAGED];
    for (ptrdiff_t r = 0; r < rows; r++)
        for (ptrdiff_t c = 0, m; c < n; c += m) {
            const ptrdiff_t at = r * n + c;
            m = AT_MOST(n - c, STAGED);
            NAME(column_values)(x + at, m, to, c, z);
            for (ptrdiff_t k = 0; k < m; k++) d[k] = NAME(get)(dy + at + k);
            NAME(times_derivative)(to->activation, m, z, d);
            for (ptrdiff_t k = 0; k < m; k++) NAME(put)(dz + at + k, d[k]);
        }
}

INLINE void NAME(column_slope_chunk)(const T *dy, const T *x, ptrdiff_t n, const ColumnSlope *by, ptrdiff_t c, T *dx) {
    ptrdiff_t i = 0;
#if STORAGE == 64
    const S *mean = by->mean + c, *a = by->a + c, *b = by->b + c, *s = by->c + c;
#else
    const S *mean = by->mean32 + c, *rest = by->rest32 + c, *a = by->a32 + c, *b = by->b32 + c, *s = by->c32 + c;
#endif
    if (STORAGE == 64 || by->narrow) {
        for (; i + COUNT <= n; i += COUNT) {
            WIDE v, w;
            memcpy(&v, mean + i, sizeof v);
            WIDE xshift = NAME(load)(x + i) - v;
#if STORAGE != 64
            memcpy(&v, rest + i, sizeof v);
            xshift -= v;
#endif
            memcpy(&v, b + i, sizeof v);
            memcpy(&w, s + i, sizeof w);
            WIDE moved = xshift * v + w;
            memcpy(&v, a + i, sizeof v);
            NAME(store)(dx + i, NAME(load)(dy + i) * v - moved);
        }
        for (; i < n; i++) {
            S xshift = NAME(get)(x + i) - mean[i];
#if STORAGE != 64
            xshift -= rest[i];
#endif
            NAME(put)(dx + i, (S)(NAME(get)(dy + i) * a[i]) - (S)((S)(xshift * b[i]) + s[i]));
        }
        return;
    }
    for (; i < n; i++) {
        double moved = ((double)NAME(get)(x + i) - by->mean[c + i]) * by->b[c + i] + by->c[c + i];
        NAME(put)(dx + i, (double)NAME(get)(dy + i) * by->a[c + i] - moved);
    }
}

static void NAME(column_input_gradient)(
    const void *dy_, const void *x_, ptrdiff_t runs, ptrdiff_t n, const ColumnSlope *by, void *dx_) {
    const T *dy = (const T *)dy_, *x = (const T *)x_;
    T *dx = (T *)dx_;
    if (by->stream) {
        WRITE_RUNS(dx, 1, NAME(column_slope_chunk)(dy + at, x + at, m, by, i, target))
    } else
        for (ptrdiff_t k = 0; k < runs; k++) NAME(column_slope_chunk)(dy + k * n, x + k * n, n, by, 0, dx + k * n);
}

static void NAME(column_scale)(const void *dy_, ptrdiff_t rows, ptrdiff_t n, const double *a, void *dx_) {
    const T *dy = (const T *)dy_;
    T *dx = (T *)dx_;
    for (ptrdiff_t r = 0; r < rows; r++)
        for (ptrdiff_t c = 0; c < n; c++) NAME(put)(dx + r * n + c, (double)NAME(get)(dy + r * n + c) * a[c]);
}

#undef PER_RUN
#undef STAGED
#undef LOAD_SUMS
#undef STORE_SUMS
#undef COLUMN_SUMS
#undef WRITE_RUNS
