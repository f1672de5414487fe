/* Included once for each dtype (REAL, SQRT, NAME); plain loops, which the compiler turns into vectors. */

static void NAME(adam)(const Part *part, const void *chosen) {
    const AdamOptions *options = (const AdamOptions *)chosen;
    REAL *restrict p = (REAL *)part->data, *restrict m = (REAL *)part->first, *restrict v = (REAL *)part->second;
    REAL *restrict top = (REAL *)part->third;
    const REAL *restrict grad = (const REAL *)part->grad;
    const ptrdiff_t n = part->n;
    const REAL sign = (REAL)options->sign; /* a product with 1 or -1 is exact */
    const REAL rate1 = (REAL)options->rate1, beta2 = (REAL)options->beta2, rate2 = (REAL)options->rate2;
    const REAL eps = (REAL)options->eps, decay = (REAL)options->decay;
    const REAL size = (REAL)part->size, scale = (REAL)part->scale;
    /* largest: what the root is drawn of */
#define ADAM(gradient, shrunk, largest)                                                                                         \
    for (ptrdiff_t i = 0; i < n; i++) {                                                                                \
        const REAL g = (gradient);                                                                                     \
        const REAL first = m[i] + (g - m[i]) * rate1;                                                                  \
        const REAL second = v[i] * beta2 + g * g * rate2;                                                              \
        m[i] = first;                                                                                                  \
        v[i] = second;                                                                                                 \
        p[i] = (shrunk)-first / (SQRT(largest) * scale + eps) * size;                                                   \
    }
#define ADAM_DECAY(largest)                                                                                            \
    if (!options->decays) {                                                                                            \
        ADAM(grad[i] * sign, p[i], largest)                                                                            \
    } else if (options->decoupled) {                                                                                   \
        ADAM(grad[i] * sign, p[i] * decay, largest)                                                                    \
    } else {                                                                                                           \
        ADAM(p[i] * decay + grad[i] * sign, p[i], largest)                                                             \
    }
    if (!top) {
        ADAM_DECAY(second)
    } else { /* as NumPy's maximum: a NaN on either side stays */
        ADAM_DECAY((top[i] = (top[i] > second) | (top[i] != top[i]) ? top[i] : second))
    }
#undef ADAM_DECAY
#undef ADAM
}

static void NAME(sgd)(const Part *part, const void *chosen) {
    const SgdOptions *options = (const SgdOptions *)chosen;
    REAL *restrict p = (REAL *)part->data, *restrict buf = (REAL *)part->first;
    const REAL *restrict grad = (const REAL *)part->grad;
    const ptrdiff_t n = part->n;
    const REAL lr = (REAL)options->lr, momentum = (REAL)options->momentum, rate = (REAL)options->rate;
    const REAL decay = (REAL)options->decay, sign = (REAL)options->sign;
    /* kept: what the momentum buffer becomes; way: the direction of the step */
#define SGD(gradient, kept, way)                                                                                       \
    for (ptrdiff_t i = 0; i < n; i++) {                                                                                \
        const REAL g = (gradient);                                                                                     \
        const REAL b = (kept);                                                                                         \
        buf[i] = b;                                                                                                    \
        p[i] = p[i] - (way)*lr;                                                                                        \
    }
#define SGD_DECAY(kept, way)                                                                                           \
    if (options->decays) {                                                                                             \
        SGD(p[i] * decay + grad[i] * sign, kept, way)                                                                         \
    } else {                                                                                                           \
        SGD(grad[i] * sign, kept, way)                                                                                        \
    }
    if (!buf) {
        if (options->decays)
            for (ptrdiff_t i = 0; i < n; i++) p[i] = p[i] - (p[i] * decay + grad[i] * sign) * lr;
        else
            for (ptrdiff_t i = 0; i < n; i++) p[i] = p[i] - grad[i] * sign * lr;
    } else if (part->fresh && options->nesterov) {
        SGD_DECAY(g, b * momentum + g)
    } else if (part->fresh) {
        SGD_DECAY(g, b)
    } else if (options->nesterov) {
        SGD_DECAY(buf[i] * momentum + g * rate, b * momentum + g)
    } else {
        SGD_DECAY(buf[i] * momentum + g * rate, b)
    }
#undef SGD_DECAY
#undef SGD
}

static double NAME(squares)(const void *values, ptrdiff_t n) {
    const REAL *x = (const REAL *)values;
    double sums[SQUARES] = {0}; /* in a fixed order, whatever the vectors */
    ptrdiff_t i = 0;
    for (; i + SQUARES <= n; i += SQUARES)
        for (int j = 0; j < SQUARES; j++) sums[j] += (double)x[i + j] * (double)x[i + j];
    for (int j = 0; i + j < n; j++) sums[j] += (double)x[i + j] * (double)x[i + j];
    for (int half = SQUARES / 2; half; half /= 2)
        for (int j = 0; j < half; j++) sums[j] += sums[j + half];
    return sums[0];
}
