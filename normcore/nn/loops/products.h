/* The products of a fully connected layer: what the loops are, and the numbers they take.

   weight is (N, K) in Fortran's order: in memory w[k][n]. x is (M, K) and dy (M, N), both in C order.
   forward:  y[m][n] = bias[n] + sum over k of x[m][k] w[k][n]
   gradient: g[k][n] = sum over m of x[m][k] dy[m][n], and of the input dx[m][k] = sum over n of dy[m][n] w[k][n]

   Sums are made of parts of DEPTH or BATCH terms, each summed from 0 and then added in their order, whoever computes them:
   the bits are the same for every number of threads, and a row's y and dx whatever rows come with it. */
#ifndef NORMCORE_PRODUCTS_H
#define NORMCORE_PRODUCTS_H

#include <stddef.h>

enum {
    DEPTH = 256,   /* terms of a part of a sum: (10 rows + 32 columns) of it in an L1 cache */
    WIDE = 128,    /* columns of a task */
    TALL = 20,     /* rows of a task, or more: a few tiles */
    TASKS = 8,     /* as many or more, where there are so many rows and columns */
    SHORT = 16,    /* rows of a task that adds parts */
    FEW = 8192,    /* values of y up to which each task has a part of the sums over k, and the parts are added at the end */
    STRIP = 64,    /* k of a task of the gradients */
    BATCH = 128,   /* terms of a part of the gradients' sums */
    COLUMNS = 256, /* whose sums of dy are made together */
    PAD = 16,      /* values between packed rows: rows at multiples of 4096 bytes would share the lines of an L1 cache */
};

typedef struct {
    const void *x, *w, *bias, *dy;
    void *y, *g, *dbias, *dx;
    void *parts; /* (depths, M, N), or NULL where y is large */
    ptrdiff_t M, N, K;
    ptrdiff_t tall; /* rows of a task */
    ptrdiff_t depths, talls, shorts, wides, strips; /* numbers of parts */
} Product;

typedef struct {
    void (*forward)(void *product, ptrdiff_t task);  /* depths tasks with parts, talls * wides without */
    void (*add_parts)(void *product, ptrdiff_t task); /* shorts tasks */
    void (*gradient)(void *product, ptrdiff_t task); /* strips tasks */
    void (*input_gradient)(void *product, ptrdiff_t task); /* strips tasks */
    void (*bias_gradient)(void *product);
} Products;

enum { PRODUCTS_FLOAT32, PRODUCTS_FLOAT64, PRODUCTS_DTYPES };

#if defined(__x86_64__) && (defined(__GNUC__) || defined(__clang__))
#define NORMCORE_PRODUCTS_X86 1
extern const Products normcore_products_avx2[PRODUCTS_DTYPES];
extern const Products normcore_products_avx512[PRODUCTS_DTYPES];
#else
#define NORMCORE_PRODUCTS_X86 0
#endif

#endif
