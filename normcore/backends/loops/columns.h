/* Columns: sums down them, and writing rows of them. Included by body.h, once for each kind of storage. */

/* Sums of a few rows are kept in registers, `registers` of them side by side, and then added to the totals: no traffic for
   the sums inside, and enough of them that no addition waits for the one before it. */
INLINE void NAME(add_to_totals)(double *totals, const doubles *sums, int registers) {
    UNROLL for (int j = 0; j < registers; j++) {
        doubles total;
        memcpy(&total, totals + j * WIDTH, sizeof total);
        total += sums[j];
        memcpy(totals + j * WIDTH, &total, sizeof total);
    }
}

#define MOST (2 * PER_RUN)

#if STORAGE != 64
INLINE void NAME(raw_moments_of_columns)(
    const T *x, ptrdiff_t rows, ptrdiff_t stride, double *s1, double *s2, doubles one, int registers) {
    doubles sum[MOST] = {{0}}, squares[MOST] = {{0}};
    for (ptrdiff_t r = 0; r < rows; r++, x += stride)
        UNROLL for (int j = 0; j < registers; j++) {
            const doubles v = NAME(load_doubles)(x + j * WIDTH);
            sum[j] = j % 2 ? add_elsewhere(v, sum[j], one) : sum[j] + v;
            squares[j] = plus_exact_square(squares[j], v);
        }
    NAME(add_to_totals)(s1, sum, registers);
    NAME(add_to_totals)(s2, squares, registers);
}
#endif

INLINE void NAME(moments_of_columns)(
    const T *x, ptrdiff_t rows, ptrdiff_t stride, const double *shift, double *s1, double *s2, doubles one) {
    doubles sum[PER_RUN] = {{0}}, squares[PER_RUN] = {{0}}, centre[PER_RUN];
    LOAD_SUMS(centre, shift)
    for (ptrdiff_t r = 0; r < rows; r++, x += stride)
        UNROLL for (int j = 0; j < PER_RUN; j++) {
            const doubles v = NAME(load_doubles)(x + j * WIDTH);
            const doubles xshift = j % 2 ? add_elsewhere(v, -centre[j], one) : v - centre[j];
            sum[j] = add_elsewhere(xshift, sum[j], one);
            squares[j] += xshift * xshift;
        }
    NAME(add_to_totals)(s1, sum, PER_RUN);
    NAME(add_to_totals)(s2, squares, PER_RUN);
}

static void NAME(column_moments)(
    const void *x_, ptrdiff_t rows, ptrdiff_t n, ptrdiff_t stride, const double *shift, double *s1, double *s2) {
    const T *x = (const T *)x_;
    const doubles one = opaque_one();
    ptrdiff_t c = 0;
#if STORAGE != 64
    for (; c + 2 * LANES <= n && all_zero(shift + c, 2 * LANES); c += 2 * LANES)
        NAME(raw_moments_of_columns)(x + c, rows, stride, s1 + c, s2 + c, one, MOST);
    for (; c + LANES <= n && all_zero(shift + c, LANES); c += LANES)
        NAME(raw_moments_of_columns)(x + c, rows, stride, s1 + c, s2 + c, one, PER_RUN);
#endif
    for (; c + LANES <= n; c += LANES)
        NAME(moments_of_columns)(x + c, rows, stride, shift + c, s1 + c, s2 + c, one);
    for (; c < n; c++) {
        double sum = 0.0, squares = 0.0;
        for (ptrdiff_t r = 0; r < rows; r++) {
            const double xshift = (double)NAME(get)(x + r * stride + c) - shift[c];
            sum += xshift;
            squares += xshift * xshift;
        }
        s1[c] += sum;
        s2[c] += squares;
    }
}

static void NAME(exact_column_gradients)(
    const void *dy_, const void *x_, ptrdiff_t rows, ptrdiff_t n, ptrdiff_t stride, const double *mean, double *s1,
    double *s2) {
    const T *dy = (const T *)dy_, *x = (const T *)x_;
    const doubles one = opaque_one();
    ptrdiff_t c = 0;
    for (; c + LANES <= n; c += LANES) {
        doubles sum_dy[PER_RUN] = {{0}}, sum_dy_xshift[PER_RUN] = {{0}}, centre[PER_RUN];
        LOAD_SUMS(centre, mean + c)
        for (ptrdiff_t r = 0; r < rows; r++)
            UNROLL for (int j = 0; j < PER_RUN; j++) {
                const ptrdiff_t at = r * stride + c + j * WIDTH;
                const doubles d = NAME(load_doubles)(dy + at), v = NAME(load_doubles)(x + at);
                const doubles xshift = j % 2 ? add_elsewhere(v, -centre[j], one) : v - centre[j];
                sum_dy[j] = add_elsewhere(d, sum_dy[j], one);
                sum_dy_xshift[j] += d * xshift;
            }
        NAME(add_to_totals)(s1 + c, sum_dy, PER_RUN);
        NAME(add_to_totals)(s2 + c, sum_dy_xshift, PER_RUN);
    }
    for (; c < n; c++) {
        double sum_dy = 0.0, sum_dy_xshift = 0.0;
        for (ptrdiff_t r = 0; r < rows; r++) {
            const double d = (double)NAME(get)(dy + r * stride + c);
            sum_dy += d;
            sum_dy_xshift += d * ((double)NAME(get)(x + r * stride + c) - mean[c]);
        }
        s1[c] += sum_dy;
        s2[c] += sum_dy_xshift;
    }
}

static void NAME(exact_parameter_gradients)(
    const void *dy_, const void *x_, ptrdiff_t rows, ptrdiff_t n, ptrdiff_t stride, const double *mean, const double *rstd,
    double *dweight, double *dbias) {
    const T *dy = (const T *)dy_, *x = (const T *)x_;
    ptrdiff_t c = 0;
    for (; c + LANES <= n; c += LANES) {
        doubles db[PER_RUN] = {{0}}, dw[PER_RUN] = {{0}};
        for (ptrdiff_t r = 0; r < rows; r++)
            UNROLL for (int j = 0; j < PER_RUN; j++) {
                const ptrdiff_t at = r * stride + c + j * WIDTH;
                const doubles d = NAME(load_doubles)(dy + at);
                db[j] += d;
                dw[j] += d * ((NAME(load_doubles)(x + at) - mean[r]) * rstd[r]);
            }
        NAME(add_to_totals)(dbias + c, db, PER_RUN);
        NAME(add_to_totals)(dweight + c, dw, PER_RUN);
    }
    for (; c < n; c++) {
        double db = 0.0, dw = 0.0;
        for (ptrdiff_t r = 0; r < rows; r++) {
            const double d = (double)NAME(get)(dy + r * stride + c);
            db += d;
            dw += d * (((double)NAME(get)(x + r * stride + c) - mean[r]) * rstd[r]);
        }
        dbias[c] += db;
        dweight[c] += dw;
    }
}

#undef MOST

#if STORAGE != 64
#define PER_LANES (LANES / COUNT)
#define MOST (4 * PER_LANES)

/* The same in float32 arithmetic: FLOAT_SUMS rows are added before the sums go on in float64. */
INLINE void NAME(add_floats)(double *totals, const WIDE *sums, int registers) {
    for (int j = 0; j < registers; j += PER_LANES) add_float_lanes(totals + j * COUNT, sums + j);
}

INLINE void NAME(gradients_of_columns)(
    const T *dy, const T *x, ptrdiff_t rows, ptrdiff_t stride, const float *centres, double *s1, double *s2,
    int registers) {
    const WIDE one = opaque_float_one();
    WIDE centre[MOST];
    memcpy(centre, centres, (size_t)registers * sizeof *centre);
    for (ptrdiff_t r = 0; r < rows;) {
        WIDE sum[MOST] = {{0}}, product[MOST] = {{0}};
        const ptrdiff_t stop = AT_MOST(rows, r + FLOAT_SUMS);
        for (; r < stop; r++, dy += stride, x += stride)
            UNROLL for (int j = 0; j < registers; j++) {
                const WIDE d = NAME(load)(dy + j * COUNT);
                sum[j] = add_floats_elsewhere(d, sum[j], one);
                product[j] += d * (NAME(load)(x + j * COUNT) - centre[j]);
            }
        NAME(add_floats)(s1, sum, registers);
        NAME(add_floats)(s2, product, registers);
    }
}

static void NAME(column_gradients)(
    const void *dy_, const void *x_, ptrdiff_t rows, ptrdiff_t n, ptrdiff_t stride, const float *centre, double *s1,
    double *s2) {
    const T *dy = (const T *)dy_, *x = (const T *)x_;
    ptrdiff_t c = 0;
    for (; c + 4 * LANES <= n; c += 4 * LANES)
        NAME(gradients_of_columns)(dy + c, x + c, rows, stride, centre + c, s1 + c, s2 + c, MOST);
    for (; c + LANES <= n; c += LANES)
        NAME(gradients_of_columns)(dy + c, x + c, rows, stride, centre + c, s1 + c, s2 + c, PER_LANES);
    for (; c < n; c++)
        for (ptrdiff_t r = 0; r < rows;) {
            float sum = 0.0f, product = 0.0f;
            for (const ptrdiff_t stop = AT_MOST(rows, r + FLOAT_SUMS); r < stop; r++) {
                const float d = NAME(get)(dy + r * stride + c);
                sum += d;
                product += d * (NAME(get)(x + r * stride + c) - centre[c]);
            }
            s1[c] += (double)sum;
            s2[c] += (double)product;
        }
}

INLINE void NAME(gradients_of_parameters)(
    const T *dy, const T *x, ptrdiff_t rows, ptrdiff_t stride, const double *mean, const double *rstd, double *dweight,
    double *dbias, int registers) {
    const WIDE one = opaque_float_one();
    for (ptrdiff_t r = 0; r < rows;) {
        WIDE db[MOST] = {{0}}, dw[MOST] = {{0}};
        const ptrdiff_t stop = AT_MOST(rows, r + FLOAT_SUMS);
        for (; r < stop; r++, dy += stride, x += stride) {
            const float centre = (float)mean[r], rest = (float)(mean[r] - (double)centre), scale = (float)rstd[r];
            UNROLL for (int j = 0; j < registers; j++) {
                const WIDE d = NAME(load)(dy + j * COUNT);
                db[j] = add_floats_elsewhere(d, db[j], one);
                dw[j] += d * (((NAME(load)(x + j * COUNT) - centre) - rest) * scale);
            }
        }
        NAME(add_floats)(dbias, db, registers);
        NAME(add_floats)(dweight, dw, registers);
    }
}

static void NAME(parameter_gradients)(
    const void *dy_, const void *x_, ptrdiff_t rows, ptrdiff_t n, ptrdiff_t stride, const double *mean, const double *rstd,
    double *dweight, double *dbias) {
    const T *dy = (const T *)dy_, *x = (const T *)x_;
    ptrdiff_t c = 0;
    for (; c + 4 * LANES <= n; c += 4 * LANES)
        NAME(gradients_of_parameters)(dy + c, x + c, rows, stride, mean, rstd, dweight + c, dbias + c, MOST);
    for (; c + LANES <= n; c += LANES)
        NAME(gradients_of_parameters)(dy + c, x + c, rows, stride, mean, rstd, dweight + c, dbias + c, PER_LANES);
    for (; c < n; c++)
        for (ptrdiff_t r = 0; r < rows;) {
            float db = 0.0f, dw = 0.0f;
            for (const ptrdiff_t stop = AT_MOST(rows, r + FLOAT_SUMS); r < stop; r++) {
                const float centre = (float)mean[r], rest = (float)(mean[r] - (double)centre);
                const float d = NAME(get)(dy + r * stride + c);
                db += d;
                dw += d * (((NAME(get)(x + r * stride + c) - centre) - rest) * (float)rstd[r]);
            }
            dbias[c] += (double)db;
            dweight[c] += (double)dw;
        }
}

#undef PER_LANES
#undef MOST
#endif

/* Rows are written in place, or through a stage as in WRITE_RUNS. Near, in cache, four at a time for one load of the columns'
   numbers: 0.07 ns a value for 0.11. Far, one after another: four streams of stores at once took 0.5 for 0.25. */
#define WRITE_ROWS(OUT, NEAR, STREAM, SOME)                                                                                   \
    T stage[4 * STAGED];                                                                                                \
    const int near = (NEAR), stream = (STREAM);                                                                         \
    for (ptrdiff_t r = 0, some; r < rows; r += some) {                                                                  \
        some = near && rows - r >= 4 ? 4 : 1;                                                                                             \
        T *out = (OUT) + r * n;                                                                                         \
        for (ptrdiff_t c = 0, m; c < n; c += m) {                                                                       \
            const ptrdiff_t at = r * n + c, room = STAGED - (ptrdiff_t)((uintptr_t)(out + c) % 64 / sizeof(T));         \
            m = stream ? AT_MOST(n - c, room) : n;                                                                      \
            T *target = stream ? stage : out;                                                                           \
            const ptrdiff_t apart = stream ? STAGED : n;                                                                \
            if (some == 4) {                                                                                            \
                SOME(4);                                                                                                \
            } else {                                                                                                    \
                SOME(1);                                                                                                \
            }                                                                                                           \
            for (ptrdiff_t k = 0; stream && k < some; k++)                                                              \
                stream_copy(out + k * n + c, stage + k * STAGED, (size_t)m * sizeof(T));                                \
        }                                                                                                               \
    }

/* (x - mean) * scale + bias of `some` rows, their columns from number c on; rows of y are `apart` */
INLINE void NAME(column_affine_rows)(
    const T *x, ptrdiff_t stride, ptrdiff_t n, const ColumnAffine *to, ptrdiff_t c, T *y, ptrdiff_t apart, int some) {
    if (STORAGE != 64 && !to->narrow) { /* some column needs float64; the others get their usual bits */
        for (ptrdiff_t i = 0; i < n; i++) {
            const double mean = to->mean[c + i], scale = to->scale[c + i], bias = to->bias[c + i];
            const S mean32 = (S)mean, rest = (S)(mean - (double)mean32);
            const int comfortable_here = comfortable(mean) && comfortable(scale) && fits_float(bias);
            for (int k = 0; k < some; k++) {
                const S v = NAME(get)(x + k * stride + i);
                NAME(put)(
                    y + k * apart + i,
                    comfortable_here ? (S)(((v - mean32) - rest) * (S)scale) + (S)bias
                                     : ((double)v - mean) * scale + bias);
            }
        }
        return;
    }
#if STORAGE == 64
    const S *means = to->mean + c, *scales = to->scale + c, *biases = to->bias + c;
#else
    const S *means = to->mean32 + c, *rests = to->rest32 + c, *scales = to->scale32 + c, *biases = to->bias32 + c;
#endif
    ptrdiff_t i = 0;
    WIDE mean, rest = {0}, scale, bias;
    for (; i + COUNT <= n; i += COUNT) {
        memcpy(&mean, means + i, sizeof mean);
        memcpy(&scale, scales + i, sizeof scale);
        memcpy(&bias, biases + i, sizeof bias);
#if STORAGE != 64
        memcpy(&rest, rests + i, sizeof rest);
#endif
        UNROLL for (int k = 0; k < some; k++)
            NAME(store)(y + k * apart + i, ((NAME(load)(x + k * stride + i) - mean) - rest) * scale + bias);
    }
    if (i == n) return;
    mean = NAME(part)(means + i, n - i);
    scale = NAME(part)(scales + i, n - i);
    bias = NAME(part)(biases + i, n - i);
#if STORAGE != 64
    rest = NAME(part)(rests + i, n - i);
#endif
    for (int k = 0; k < some; k++)
        NAME(store_part)(
            y + k * apart + i, ((NAME(load_part)(x + k * stride + i, n - i) - mean) - rest) * scale + bias, n - i);
}

INLINE void NAME(column_values)(const T *x, ptrdiff_t n, const ColumnAffine *to, ptrdiff_t c, S *z) {
#if STORAGE == 32 || STORAGE == 64
    NAME(column_affine_rows)(x, n, n, to, c, z, n, 1);
#else
    for (ptrdiff_t i = 0; i < n; i++)
        z[i] = (S)(((double)NAME(get)(x + i) - to->mean[c + i]) * to->scale[c + i] + to->bias[c + i]);
#endif
}

INLINE void NAME(activated_columns)(const T *x, ptrdiff_t n, const ColumnAffine *to, ptrdiff_t c, T *y) {
    S z[STAGED];
    NAME(column_values)(x, n, to, c, z);
    NAME(activate)(to->activation, n, z);
    for (ptrdiff_t k = 0; k < n; k++) NAME(put)(y + k, z[k]);
}

static void NAME(column_normalize)(const void *x_, ptrdiff_t rows, ptrdiff_t n, const ColumnAffine *to, void *y_) {
    const T *x = (const T *)x_;
    T *y = (T *)y_;
    if (to->activation != NONE) {
        const ptrdiff_t runs = rows;
        WRITE_RUNS(y, to->stream, NAME(activated_columns)(x + at, m, to, i, target))
    } else {
#define SOME(some) NAME(column_affine_rows)(x + at, n, m, to, c, target, apart, some)
        WRITE_ROWS(y, to->near, to->stream, SOME)
#undef SOME
    }
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

/* dy * a - ((x - mean) * b + c), likewise */
INLINE void NAME(column_slope_rows)(
    const T *dy, const T *x, ptrdiff_t stride, ptrdiff_t n, const ColumnSlope *by, ptrdiff_t c, T *dx, ptrdiff_t apart,
    int some) {
    if (STORAGE == 64 && by->rstd) { /* some column's numbers are not multiplied; the others get their usual bits */
        for (ptrdiff_t i = 0; i < n; i++) {
            const double mean = by->mean[c + i], va = by->a[c + i], vb = by->b[c + i], vc = by->c[c + i];
            const double rstd = by->rstd[c + i];
            for (int k = 0; k < some; k++) {
                const double d = (double)NAME(get)(dy + k * stride + i), v = (double)NAME(get)(x + k * stride + i);
                NAME(put)(
                    dx + k * apart + i,
                    rstd == 0.0 ? d * va - ((v - mean) * vb + vc) : (d * va - ((v - mean) * rstd * vb + vc)) * rstd);
            }
        }
        return;
    }
    if (STORAGE != 64 && !by->narrow) {
        for (ptrdiff_t i = 0; i < n; i++) {
            const double mean = by->mean[c + i], va = by->a[c + i], vb = by->b[c + i], vc = by->c[c + i];
            const S mean32 = (S)mean, rest = (S)(mean - (double)mean32);
            const int comfortable_here = comfortable(mean) && comfortable(va) && comfortable(vb) && fits_float(vc);
            for (int k = 0; k < some; k++) {
                const S d = NAME(get)(dy + k * stride + i), v = NAME(get)(x + k * stride + i);
                NAME(put)(
                    dx + k * apart + i,
                    comfortable_here ? (S)(d * (S)va) - (S)((S)(((v - mean32) - rest) * (S)vb) + (S)vc)
                                     : (double)d * va - (((double)v - mean) * vb + vc));
            }
        }
        return;
    }
#if STORAGE == 64
    const S *means = by->mean + c, *as = by->a + c, *bs = by->b + c, *cs = by->c + c;
#else
    const S *means = by->mean32 + c, *rests = by->rest32 + c, *as = by->a32 + c, *bs = by->b32 + c, *cs = by->c32 + c;
#endif
    ptrdiff_t i = 0;
    WIDE mean, rest = {0}, va, vb, vc;
    for (; i + COUNT <= n; i += COUNT) {
        memcpy(&mean, means + i, sizeof mean);
        memcpy(&va, as + i, sizeof va);
        memcpy(&vb, bs + i, sizeof vb);
        memcpy(&vc, cs + i, sizeof vc);
#if STORAGE != 64
        memcpy(&rest, rests + i, sizeof rest);
#endif
        UNROLL for (int k = 0; k < some; k++) {
            const WIDE d = NAME(load)(dy + k * stride + i), v = NAME(load)(x + k * stride + i);
            NAME(store)(dx + k * apart + i, d * va - (((v - mean) - rest) * vb + vc));
        }
    }
    if (i == n) return;
    mean = NAME(part)(means + i, n - i);
    va = NAME(part)(as + i, n - i);
    vb = NAME(part)(bs + i, n - i);
    vc = NAME(part)(cs + i, n - i);
#if STORAGE != 64
    rest = NAME(part)(rests + i, n - i);
#endif
    for (int k = 0; k < some; k++) {
        const WIDE d = NAME(load_part)(dy + k * stride + i, n - i), v = NAME(load_part)(x + k * stride + i, n - i);
        NAME(store_part)(dx + k * apart + i, d * va - (((v - mean) - rest) * vb + vc), n - i);
    }
}

static void NAME(column_input_gradient)(
    const void *dy_, const void *x_, ptrdiff_t rows, ptrdiff_t n, const ColumnSlope *by, void *dx_) {
    const T *dy = (const T *)dy_, *x = (const T *)x_;
    T *dx = (T *)dx_;
#define SOME(some) NAME(column_slope_rows)(dy + at, x + at, n, m, by, c, target, apart, some)
    WRITE_ROWS(dx, by->near, by->stream, SOME)
#undef SOME
}

static void NAME(column_scale)(const void *dy_, ptrdiff_t rows, ptrdiff_t n, const double *a, void *dx_) {
    const T *dy = (const T *)dy_;
    T *dx = (T *)dx_;
    for (ptrdiff_t r = 0; r < rows; r++)
        for (ptrdiff_t c = 0; c < n; c++) NAME(put)(dx + r * n + c, (double)NAME(get)(dy + r * n + c) * a[c]);
}

#undef WRITE_ROWS
