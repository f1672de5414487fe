/* Included once for each dtype: REAL, LANES, VECTOR (of Intel's), NAME, FMA, SPREAD, LOAD, STORE, LOAD_FEW, STORE_FEW and
   FEW_MASK are set; TALLEST is the largest tile's rows. A tile is rows x two vectors of columns, whose sums stay in
   registers. */

/* The sums of one tile: c = start + sums, where start is NULL (0), a row (the bias) or c itself. The last vector has `few`
   columns. */
INLINE void NAME(tile)(
    const int rows, const int vectors, ptrdiff_t depth, const REAL *a, ptrdiff_t a_row, ptrdiff_t a_step, const REAL *b,
    ptrdiff_t b_step, REAL *c, ptrdiff_t c_row, const REAL *start, ptrdiff_t start_row, int few) {
    VECTOR sums[TALLEST][2];
    const FEW_MASK mask = NAME(few_mask)(few);
    UNROLL for (int m = 0; m < rows; m++) UNROLL for (int v = 0; v < vectors; v++) sums[m][v] = SPREAD(0);
    for (ptrdiff_t k = 0; k < depth; k++) {
        VECTOR columns[2];
        UNROLL for (int v = 0; v < vectors; v++)
            columns[v] = v < vectors - 1 ? LOAD(b + k * b_step) : LOAD_FEW(b + k * b_step + v * LANES, mask);
        UNROLL for (int m = 0; m < rows; m++) {
            const VECTOR value = SPREAD(a[m * a_row + k * a_step]);
            UNROLL for (int v = 0; v < vectors; v++) sums[m][v] = FMA(value, columns[v], sums[m][v]);
        }
    }
    UNROLL for (int m = 0; m < rows; m++) UNROLL for (int v = 0; v < vectors; v++) {
        REAL *to = c + m * c_row + v * LANES;
        const REAL *from = start + m * start_row + v * LANES;
        if (v < vectors - 1)
            STORE(to, start ? (VECTOR)(LOAD(from) + sums[m][v]) : sums[m][v]);
        else
            STORE_FEW(to, start ? (VECTOR)(LOAD_FEW(from, mask) + sums[m][v]) : sums[m][v], mask);
    }
}

#define TILE(rows)                                                                                                     \
    static void NAME(tile##rows)(                                                                                      \
        ptrdiff_t depth, const REAL *a, ptrdiff_t a_row, ptrdiff_t a_step, const REAL *b, ptrdiff_t b_step, REAL *c,   \
        ptrdiff_t c_row, const REAL *start, ptrdiff_t start_row, ptrdiff_t columns) {                                  \
        if (columns > LANES)                                                                                           \
            NAME(tile)(rows, 2, depth, a, a_row, a_step, b, b_step, c, c_row, start, start_row, (int)columns - LANES); \
        else                                                                                                           \
            NAME(tile)(rows, 1, depth, a, a_row, a_step, b, b_step, c, c_row, start, start_row, (int)columns);         \
    }
TILE(1) TILE(2) TILE(3) TILE(4) TILE(5) TILE(6)
#if TALLEST == 10
TILE(7) TILE(8) TILE(9) TILE(10)
#endif
#undef TILE

typedef void (*NAME(Tile))(
    ptrdiff_t, const REAL *, ptrdiff_t, ptrdiff_t, const REAL *, ptrdiff_t, REAL *, ptrdiff_t, const REAL *, ptrdiff_t, ptrdiff_t);
static const NAME(Tile) NAME(tiles)[TALLEST + 1] = {
    NULL,        NAME(tile1), NAME(tile2), NAME(tile3), NAME(tile4), NAME(tile5), NAME(tile6),
#if TALLEST == 10
    NAME(tile7), NAME(tile8), NAME(tile9), NAME(tile10),
#endif
};

/* Rows of the tiles that cut `rows` most evenly. */
static ptrdiff_t NAME(even)(ptrdiff_t rows, ptrdiff_t most) {
    const ptrdiff_t tiles = (rows + most - 1) / most;
    return (rows + tiles - 1) / tiles;
}

/* y[m0:m1, n0:n1] = start + x[m0:m1, k0:k1] w[k0:k1, n0:n1], with at most DEPTH of k */
static void NAME(part)(
    const Product *p, ptrdiff_t m0, ptrdiff_t m1, ptrdiff_t n0, ptrdiff_t n1, ptrdiff_t k0, ptrdiff_t k1, REAL *y,
    const REAL *start, ptrdiff_t start_row) {
    REAL packed[TALLEST * (DEPTH + PAD)];
    const ptrdiff_t depth = k1 - k0, most = NAME(even)(m1 - m0, TALLEST);
    const REAL *w = (const REAL *)p->w + k0 * p->N;
    for (ptrdiff_t m = m0; m < m1; m += most) {
        const ptrdiff_t rows = AT_MOST(most, m1 - m);
        for (ptrdiff_t i = 0; i < rows; i++)
            memcpy(packed + i * (DEPTH + PAD), (const REAL *)p->x + (m + i) * p->K + k0, (size_t)depth * sizeof(REAL));
        for (ptrdiff_t n = n0; n < n1; n += 2 * LANES)
            NAME(tiles)[rows](depth, packed, DEPTH + PAD, 1, w + n, p->N, y + m * p->N + n, p->N,
                start ? start + m * start_row + n : NULL, start_row, AT_MOST(2 * LANES, n1 - n));
    }
}

static void NAME(forward)(void *product, ptrdiff_t task) {
    const Product *p = (const Product *)product;
    if (p->parts) {
        const ptrdiff_t k0 = task * DEPTH;
        NAME(part)(p, 0, p->M, 0, p->N, k0, AT_MOST(k0 + DEPTH, p->K), (REAL *)p->parts + task * p->M * p->N, NULL, 0);
        return;
    }
    const ptrdiff_t m0 = task % p->talls * p->tall, m1 = AT_MOST(m0 + p->tall, p->M);
    const ptrdiff_t n0 = task / p->talls * WIDE, n1 = AT_MOST(n0 + WIDE, p->N);
    REAL *y = (REAL *)p->y;
    for (ptrdiff_t k0 = 0; k0 < p->K; k0 += DEPTH)
        NAME(part)(p, m0, m1, n0, n1, k0, AT_MOST(k0 + DEPTH, p->K), y, k0 ? y : (const REAL *)p->bias, k0 ? p->N : 0);
}

static void NAME(add_parts)(void *product, ptrdiff_t task) {
    const Product *p = (const Product *)product;
    const ptrdiff_t m1 = AT_MOST((task + 1) * SHORT, p->M);
    for (ptrdiff_t m = task * SHORT; m < m1; m++) {
        const REAL *part = (const REAL *)p->parts + m * p->N, *bias = (const REAL *)p->bias;
        REAL *restrict y = (REAL *)p->y + m * p->N;
        for (ptrdiff_t n = 0; n < p->N; n++) y[n] = bias ? bias[n] + part[n] : part[n];
        for (ptrdiff_t i = 1; i < p->depths; i++) {
            part += p->M * p->N;
            for (ptrdiff_t n = 0; n < p->N; n++) y[n] += part[n];
        }
    }
}

static void NAME(gradient)(void *product, ptrdiff_t task) {
    const Product *p = (const Product *)product;
    REAL packed[BATCH * (STRIP + PAD)];
    const ptrdiff_t k0 = task * STRIP, strip = AT_MOST(STRIP, p->K - k0), most = NAME(even)(strip, TALLEST);
    for (ptrdiff_t m0 = 0; m0 < p->M; m0 += BATCH) {
        const ptrdiff_t rows = AT_MOST(BATCH, p->M - m0);
        const REAL *dy = (const REAL *)p->dy + m0 * p->N;
        for (ptrdiff_t i = 0; i < rows; i++)
            memcpy(packed + i * (STRIP + PAD), (const REAL *)p->x + (m0 + i) * p->K + k0, (size_t)strip * sizeof(REAL));
        for (ptrdiff_t n = 0; n < p->N; n += 2 * LANES)
            for (ptrdiff_t k = 0; k < strip; k += most) {
                REAL *g = (REAL *)p->g + (k0 + k) * p->N + n;
                NAME(tiles)[AT_MOST(most, strip - k)](rows, packed + k, 1, STRIP + PAD, dy + n, p->N, g, p->N,
                    m0 ? g : NULL, p->N, AT_MOST(2 * LANES, p->N - n));
            }
    }
}

/* to[j][i] = from[i][j] */
static void NAME(transpose)(const REAL *from, ptrdiff_t from_row, REAL *to, ptrdiff_t to_row, ptrdiff_t rows, ptrdiff_t columns) {
    ptrdiff_t i = 0;
    for (; i + 4 <= rows; i += 4) {
        ptrdiff_t j = 0;
        for (; j + 4 <= columns; j += 4) NAME(transpose_four)(from + i * from_row + j, from_row, to + j * to_row + i, to_row);
        for (; j < columns; j++)
            for (int k = 0; k < 4; k++) to[j * to_row + i + k] = from[(i + k) * from_row + j];
    }
    for (; i < rows; i++)
        for (ptrdiff_t j = 0; j < columns; j++) to[j * to_row + i] = from[i * from_row + j];
}

static void NAME(input_gradient)(void *product, ptrdiff_t task) {
    const Product *p = (const Product *)product;
    REAL turned[BATCH * (STRIP + PAD)], packed[TALLEST * (BATCH + PAD)];
    const ptrdiff_t k0 = task * STRIP, strip = AT_MOST(STRIP, p->K - k0), most = NAME(even)(p->M, TALLEST);
    for (ptrdiff_t n0 = 0; n0 < p->N; n0 += BATCH) {
        const ptrdiff_t depth = AT_MOST(BATCH, p->N - n0);
        NAME(transpose)((const REAL *)p->w + k0 * p->N + n0, p->N, turned, STRIP + PAD, strip, depth);
        for (ptrdiff_t m = 0; m < p->M; m += most) {
            const ptrdiff_t rows = AT_MOST(most, p->M - m);
            for (ptrdiff_t i = 0; i < rows; i++)
                memcpy(packed + i * (BATCH + PAD), (const REAL *)p->dy + (m + i) * p->N + n0, (size_t)depth * sizeof(REAL));
            for (ptrdiff_t k = 0; k < strip; k += 2 * LANES) {
                REAL *dx = (REAL *)p->dx + m * p->K + k0 + k;
                NAME(tiles)[rows](depth, packed, BATCH + PAD, 1, turned + k, STRIP + PAD, dx, p->K, n0 ? dx : NULL,
                    p->K, AT_MOST(2 * LANES, strip - k));
            }
        }
    }
}

static void NAME(bias_gradient)(void *product) {
    const Product *p = (const Product *)product;
    for (ptrdiff_t n0 = 0; n0 < p->N; n0 += COLUMNS) {
        double sums[COLUMNS] = {0};
        const ptrdiff_t columns = AT_MOST(COLUMNS, p->N - n0);
        for (ptrdiff_t m = 0; m < p->M; m++)
            for (ptrdiff_t n = 0; n < columns; n++) sums[n] += (double)((const REAL *)p->dy)[m * p->N + n0 + n];
        for (ptrdiff_t n = 0; n < columns; n++) ((REAL *)p->dbias)[n0 + n] = (REAL)sums[n];
    }
}
