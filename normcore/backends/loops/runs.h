/* Runs: sums over them, and writing them. Included by body.h, once for each kind of storage. */

/* --- sums of a forward pass --- */

#if STORAGE != 64
/* x and x * x as they are. The square of a value of up to 24 bits is exact in float64, so fused it rounds as unfused. Two
   sets of sums, because an addition waits for the one before it. */
INLINE void NAME(raw_moments_of_run)(const T *x, ptrdiff_t n, doubles one, double *s1, double *s2) {
    doubles sum[PER_RUN] = {{0}}, squares[PER_RUN] = {{0}}, sum2[PER_RUN] = {{0}}, squares2[PER_RUN] = {{0}};
    ptrdiff_t i = 0;
    for (; i + 2 * LANES <= n; i += 2 * LANES)
        UNROLL for (int j = 0; j < PER_RUN; j++) {
            const doubles v = NAME(load_doubles)(x + i + j * WIDTH), w = NAME(load_doubles)(x + i + LANES + j * WIDTH);
            sum[j] += v;
            squares[j] = plus_exact_square(squares[j], v);
            sum2[j] = add_elsewhere(w, sum2[j], one);
            squares2[j] = plus_exact_square(squares2[j], w);
        }
    UNROLL for (int j = 0; j < PER_RUN; j++) sum[j] += sum2[j], squares[j] += squares2[j];
    for (; i + LANES <= n; i += LANES)
        UNROLL for (int j = 0; j < PER_RUN; j++) {
            const doubles v = NAME(load_doubles)(x + i + j * WIDTH);
            sum[j] += v;
            squares[j] = plus_exact_square(squares[j], v);
        }
#if MASKED
    if (i < n) {
        const unsigned mask = (1u << (n - i)) - 1;
        UNROLL for (int j = 0; j < PER_RUN; j++) {
            const doubles v = NAME(centred_part)(x + i + j * WIDTH, mask >> (j * WIDTH), 0.0);
            sum[j] += v;
            squares[j] = plus_exact_square(squares[j], v);
        }
    }
#else
    for (int lane = 0; i < n; i++, lane++) {
        const double v = (double)NAME(get)(x + i);
        sum[lane / WIDTH][lane % WIDTH] += v;
        squares[lane / WIDTH][lane % WIDTH] += v * v;
    }
#endif
    add_lanes(sum, squares, s1, s2);
}
#endif

INLINE void NAME(moments_of_run)(const T *x, ptrdiff_t n, double shift, doubles one, double *s1, double *s2) {
    doubles sum[PER_RUN] = {{0}}, squares[PER_RUN] = {{0}};
    ptrdiff_t i = 0;
    for (; i + LANES <= n; i += LANES)
        UNROLL for (int j = 0; j < PER_RUN; j++) {
            doubles xshift = subtract_evenly(NAME(load_doubles)(x + i + j * WIDTH), shift, one, j);
            sum[j] = add_elsewhere(xshift, sum[j], one);
            squares[j] += xshift * xshift;
        }
#if MASKED
    if (i < n) {
        const unsigned mask = (1u << (n - i)) - 1;
        UNROLL for (int j = 0; j < PER_RUN; j++) {
            const doubles xshift = NAME(centred_part)(x + i + j * WIDTH, mask >> (j * WIDTH), shift);
            sum[j] += xshift;
            squares[j] += xshift * xshift;
        }
    }
#else
    for (int lane = 0; i < n; i++, lane++) {
        const double xshift = (double)NAME(get)(x + i) - shift;
        sum[lane / WIDTH][lane % WIDTH] += xshift;
        squares[lane / WIDTH][lane % WIDTH] += xshift * xshift;
    }
#endif
    add_lanes(sum, squares, s1, s2);
}

static void NAME(moments)(const void *x_, ptrdiff_t runs, ptrdiff_t n, const double *shift, double *s1, double *s2) {
    const T *x = (const T *)x_;
    const doubles one = opaque_one();
    for (ptrdiff_t k = 0; k < runs; k++, x += n) {
#if STORAGE != 64
        if (shift[k] == 0.0) {
            NAME(raw_moments_of_run)(x, n, one, s1 + k, s2 + k);
            continue;
        }
#endif
        NAME(moments_of_run)(x, n, shift[k], one, s1 + k, s2 + k);
    }
}

/* --- sums of a backward pass --- */

INLINE doubles NAME(weighted_doubles)(const T *dy, const double *weights) {
    doubles d = NAME(load_doubles)(dy), weight;
    if (weights) {
        memcpy(&weight, weights, sizeof weight);
        d *= weight;
    }
    return d;
}

INLINE void NAME(exact_gradients_of_run)(
    const T *dy, const T *x, const double *weights, ptrdiff_t n, double mean, doubles one, double *s1, double *s2) {
    doubles sum_dy[PER_RUN] = {{0}}, sum_dy_xshift[PER_RUN] = {{0}};
    ptrdiff_t i = 0;
    for (; i + LANES <= n; i += LANES)
        UNROLL for (int j = 0; j < PER_RUN; j++) {
            const ptrdiff_t at = i + j * WIDTH;
            doubles d = NAME(weighted_doubles)(dy + at, weights ? weights + at : NULL);
            sum_dy[j] = add_elsewhere(d, sum_dy[j], one);
            sum_dy_xshift[j] += d * subtract_evenly(NAME(load_doubles)(x + at), mean, one, j);
        }
    for (int lane = 0; i < n; i++, lane++) {
        const double d = (double)NAME(get)(dy + i) * (weights ? weights[i] : 1.0);
        sum_dy[lane / WIDTH][lane % WIDTH] += d;
        sum_dy_xshift[lane / WIDTH][lane % WIDTH] += d * ((double)NAME(get)(x + i) - mean);
    }
    add_lanes(sum_dy, sum_dy_xshift, s1, s2);
}

static void NAME(exact_gradients)(
    const void *dy_, const void *x_, const double *weights, ptrdiff_t runs, ptrdiff_t n, const double *mean,
    double *s1, double *s2) {
    const T *dy = (const T *)dy_, *x = (const T *)x_;
    const doubles one = opaque_one();
    for (ptrdiff_t k = 0; k < runs; k++, dy += n, x += n)
        if (weights)
            NAME(exact_gradients_of_run)(dy, x, weights, n, mean[k], one, s1 + k, s2 + k);
        else
            NAME(exact_gradients_of_run)(dy, x, NULL, n, mean[k], one, s1 + k, s2 + k);
}

#if STORAGE != 64
#define PER_SET (LANES / COUNT)

INLINE void NAME(add_gradients)(
    const T *dy, const T *x, const float *weights, float centre, WIDE one, WIDE *sum, WIDE *product) {
    WIDE d = NAME(load)(dy), weight;
    if (weights) {
        memcpy(&weight, weights, sizeof weight);
        d *= weight;
    }
    *sum = add_floats_elsewhere(d, *sum, one);
    *product += d * (NAME(load)(x) - centre);
}

INLINE void NAME(gradients_of_run)(
    const T *dy, const T *x, const float *weights, ptrdiff_t n, double mean, double *s1, double *s2) {
    doubles sum_dy[PER_RUN] = {{0}}, sum_dy_xshift[PER_RUN] = {{0}};
    const float centre = (float)mean, rest = (float)(mean - (double)centre);
    const WIDE one = opaque_float_one();
    for (ptrdiff_t i = 0, stop; i < n; i = stop) {
        WIDE sum[2][PER_SET] = {{{0}}}, product[2][PER_SET] = {{{0}}};
        stop = AT_MOST(n, i + FLOAT_SUMS * 2 * LANES);
        for (; i + 2 * LANES <= stop; i += 2 * LANES)
            UNROLL for (int set = 0; set < 2; set++)
                UNROLL for (int j = 0; j < PER_SET; j++) {
                    const ptrdiff_t at = i + set * LANES + j * COUNT;
                    NAME(add_gradients)(
                        dy + at, x + at, weights ? weights + at : NULL, centre, one, &sum[set][j], &product[set][j]);
                }
        if (i + LANES <= stop) {
            UNROLL for (int j = 0; j < PER_SET; j++) {
                const ptrdiff_t at = i + j * COUNT;
                NAME(add_gradients)(dy + at, x + at, weights ? weights + at : NULL, centre, one, &sum[0][j], &product[0][j]);
            }
            i += LANES;
        }
        UNROLL for (int j = 0; j < PER_SET; j++) {
            const ptrdiff_t at = i + j * COUNT, left = AT_MOST(stop - at, COUNT);
            if (left <= 0) break;
            WIDE d = NAME(load_part)(dy + at, left);
            if (weights) d *= NAME(part)(weights + at, left);
            sum[1][j] += d;
            product[1][j] += d * (NAME(load_part)(x + at, left) - centre);
        }
        UNROLL for (int j = 0; j < PER_SET; j++) {
            sum[0][j] += sum[1][j];
            product[0][j] = (product[0][j] + product[1][j]) - sum[0][j] * rest;
        }
        widen_lanes(sum_dy, sum[0]);
        widen_lanes(sum_dy_xshift, product[0]);
    }
    add_lanes(sum_dy, sum_dy_xshift, s1, s2);
}

/* dy, dy * (x - mean) in float32 arithmetic: FLOAT_SUMS terms are added before the sum goes on in float64. What the float32
   centre lacks of the mean is made good after. */
static void NAME(gradients)(
    const void *dy_, const void *x_, const float *weights, ptrdiff_t runs, ptrdiff_t n, const double *mean,
    double *s1, double *s2) {
    const T *dy = (const T *)dy_, *x = (const T *)x_;
    for (ptrdiff_t k = 0; k < runs; k++, dy += n, x += n)
        if (weights)
            NAME(gradients_of_run)(dy, x, weights, n, mean[k], s1 + k, s2 + k);
        else
            NAME(gradients_of_run)(dy, x, NULL, n, mean[k], s1 + k, s2 + k);
}

#undef PER_SET
#endif

/* --- writing --- */

/* y = (x - mean) * scale + bias of run k from its value number `at` on. In float32 the mean is split in two, so that
   centring is exact to a rounding of the difference; folding it into the bias would lose the digits that the offset has. */
INLINE void NAME(affine_chunk)(const T *x, ptrdiff_t n, const Affine *to, ptrdiff_t k, ptrdiff_t at, T *y) {
    const double mean_k = to->mean[k], bias_k = to->weights ? 0.0 : to->bias[k];
    const double scale_k = to->weights ? to->scale[k] * to->lift : to->scale[k];
    ptrdiff_t i = 0;
    if (STORAGE != 64 && !(comfortable(mean_k) && comfortable(scale_k) && fits_float(bias_k) && to->narrow)) {
        for (; i < n; i++) {
            double weight = to->weights ? to->weights[at + i] : 1.0, bias = to->weights ? to->biases[at + i] : bias_k;
            NAME(put)(y + i, ((double)NAME(get)(x + i) - mean_k) * to->scale[k] * weight + bias);
        }
        return;
    }
    const S mean = (S)mean_k, rest = (S)(mean_k - (double)mean), scale = (S)scale_k, bias = (S)bias_k;
    if (to->weights) {
#if STORAGE == 64
        const S *weights = to->weights + at, *biases = to->biases + at;
#else
        const S *weights = to->weights32 + at, *biases = to->biases32 + at;
#endif
        WIDE weight, shift;
        for (; i + COUNT <= n; i += COUNT) {
            memcpy(&weight, weights + i, sizeof weight);
            memcpy(&shift, biases + i, sizeof shift);
            NAME(store)(y + i, ((NAME(load)(x + i) - mean) - rest) * scale * weight + shift);
        }
        if (i < n) {
            WIDE xshift = (NAME(load_part)(x + i, n - i) - mean) - rest;
            weight = NAME(part)(weights + i, n - i);
            shift = NAME(part)(biases + i, n - i);
            NAME(store_part)(y + i, xshift * scale * weight + shift, n - i);
        }
        return;
    }
    for (; i + COUNT <= n; i += COUNT) NAME(store)(y + i, ((NAME(load)(x + i) - mean) - rest) * scale + bias);
    if (i < n) NAME(store_part)(y + i, ((NAME(load_part)(x + i, n - i) - mean) - rest) * scale + bias, n - i);
}

/* The values an activation is applied to, unrounded. */
INLINE void NAME(affine_values)(const T *x, ptrdiff_t n, const Affine *to, ptrdiff_t k, ptrdiff_t at, S *z) {
#if STORAGE == 32 || STORAGE == 64 /* to the bit what is written without an activation */
    NAME(affine_chunk)(x, n, to, k, at, z);
#else
    for (ptrdiff_t i = 0; i < n; i++) {
        double weight = to->weights ? to->weights[at + i] : 1.0, bias = to->weights ? to->biases[at + i] : to->bias[k];
        z[i] = (S)(((double)NAME(get)(x + i) - to->mean[k]) * to->scale[k] * weight + bias);
    }
#endif
}

INLINE void NAME(activated_chunk)(const T *x, ptrdiff_t n, const Affine *to, ptrdiff_t k, ptrdiff_t at, T *y) {
    S z[STAGED];
    NAME(affine_values)(x, n, to, k, at, z);
    NAME(activate)(to->activation, n, z);
    for (ptrdiff_t i = 0; i < n; i++) NAME(put)(y + i, z[i]);
}

static void NAME(normalize)(const void *x_, ptrdiff_t runs, ptrdiff_t n, const Affine *to, void *y_) {
    const T *x = (const T *)x_;
    T *y = (T *)y_;
    if (to->activation != NONE) {
        WRITE_RUNS(y, to->stream, NAME(activated_chunk)(x + at, m, to, k, i, target))
    } else if (to->stream) {
        WRITE_RUNS(y, 1, NAME(affine_chunk)(x + at, m, to, k, i, target))
    } else
        for (ptrdiff_t k = 0; k < runs; k++) NAME(affine_chunk)(x + k * n, n, to, k, 0, y + k * n);
}

static void NAME(activation_gradient)(
    const void *dy_, const void *x_, ptrdiff_t runs, ptrdiff_t n, const Affine *to, void *dz_) {
    const T *dy = (const T *)dy_, *x = (const T *)x_;
    T *dz = (T *)dz_;
    S z[STAGED], d[STAGED];
    for (ptrdiff_t k = 0; k < runs; k++, dy += n, x += n, dz += n)
        for (ptrdiff_t i = 0, m; i < n; i += m) {
            m = AT_MOST(n - i, STAGED);
            NAME(affine_values)(x + i, m, to, k, i, z);
            for (ptrdiff_t v = 0; v < m; v++) d[v] = NAME(get)(dy + i + v);
            NAME(times_derivative)(to->activation, m, z, d);
            for (ptrdiff_t v = 0; v < m; v++) NAME(put)(dz + i + v, d[v]);
        }
}

INLINE void NAME(slope_chunk)(const T *dy, const T *x, ptrdiff_t n, const Slope *by, ptrdiff_t k, ptrdiff_t at, T *dx) {
    const double mean_k = by->mean[k], a_k = by->a[k], b_k = by->b[k], c_k = by->c[k];
    ptrdiff_t i = 0;
    if (STORAGE == 64 && by->rstd && by->rstd[k] != 0.0) {
        const double rstd = by->rstd[k];
        for (; i < n; i++) {
            double d = (double)NAME(get)(dy + i) * (by->weights ? by->weights[at + i] : 1.0);
            NAME(put)(dx + i, (d * a_k - (((double)NAME(get)(x + i) - mean_k) * rstd * b_k + c_k)) * rstd);
        }
        return;
    }
    if (STORAGE != 64
        && !(comfortable(mean_k) && comfortable(a_k) && comfortable(b_k) && fits_float(c_k) && by->narrow)) {
        for (; i < n; i++) {
            double d = (double)NAME(get)(dy + i) * (by->weights ? by->weights[at + i] : 1.0);
            NAME(put)(dx + i, d * a_k - (((double)NAME(get)(x + i) - mean_k) * b_k + c_k));
        }
        return;
    }
    const S mean = (S)mean_k, rest = (S)(mean_k - (double)mean), a = (S)a_k, b = (S)b_k, c = (S)c_k;
    if (by->weights) {
#if STORAGE == 64
        const S *weights = by->weights + at;
#else
        const S *weights = by->weights32 + at;
#endif
        WIDE weight;
        for (; i + COUNT <= n; i += COUNT) {
            memcpy(&weight, weights + i, sizeof weight);
            NAME(store)(dx + i, NAME(load)(dy + i) * weight * a - (((NAME(load)(x + i) - mean) - rest) * b + c));
        }
        if (i < n) {
            WIDE d = NAME(load_part)(dy + i, n - i), xshift = (NAME(load_part)(x + i, n - i) - mean) - rest;
            NAME(store_part)(dx + i, d * NAME(part)(weights + i, n - i) * a - (xshift * b + c), n - i);
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
        WRITE_RUNS(dx, 1, NAME(slope_chunk)(dy + at, x + at, m, by, k, i, target))
    } else
        for (ptrdiff_t k = 0; k < runs; k++) NAME(slope_chunk)(dy + k * n, x + k * n, n, by, k, 0, dx + k * n);
}

static void NAME(scale)(const void *dy_, ptrdiff_t runs, ptrdiff_t n, const double *a, void *dx_) {
    const T *dy = (const T *)dy_;
    T *dx = (T *)dx_;
    for (ptrdiff_t k = 0; k < runs; k++, dy += n, dx += n)
        for (ptrdiff_t i = 0; i < n; i++) NAME(put)(dx + i, (double)NAME(get)(dy + i) * a[k]);
}
