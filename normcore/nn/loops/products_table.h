/* The loops for both dtypes, and the table of them. Included once for each kind of vectors, with TABLE and WIDTH (bytes of a
   vector) set. */
#include <immintrin.h>
#include <stdint.h>
#include <string.h>

#include "products.h"

#define INLINE static inline __attribute__((always_inline))
#define UNROLL _Pragma("GCC unroll 10")
#define AT_MOST(a, b) ((a) < (b) ? (a) : (b))
#if WIDTH == 64
#define TALLEST 10 /* 20 registers of 32 for sums */
#else
#define TALLEST 6 /* 12 of 16 */
#endif

#define REAL float
#define NAME(x) x##_float32
#define LANES (WIDTH / 4)
#if WIDTH == 64
#define VECTOR __m512
#define FEW_MASK __mmask16
INLINE FEW_MASK few_mask_float32(int few) { return (FEW_MASK)(0xFFFF >> (16 - few)); }
#define SPREAD(value) _mm512_set1_ps(value)
#define FMA(a, b, c) _mm512_fmadd_ps(a, b, c)
#define LOAD(p) _mm512_loadu_ps(p)
#define STORE(p, v) _mm512_storeu_ps(p, v)
#define LOAD_FEW(p, mask) _mm512_maskz_loadu_ps(mask, p)
#define STORE_FEW(p, v, mask) _mm512_mask_storeu_ps(p, mask, v)
#else
#define VECTOR __m256
#define FEW_MASK __m256i
INLINE FEW_MASK few_mask_float32(int few) {
    return _mm256_cmpgt_epi32(_mm256_set1_epi32(few), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
}
#define SPREAD(value) _mm256_set1_ps(value)
#define FMA(a, b, c) _mm256_fmadd_ps(a, b, c)
#define LOAD(p) _mm256_loadu_ps(p)
#define STORE(p, v) _mm256_storeu_ps(p, v)
#define LOAD_FEW(p, mask) _mm256_maskload_ps(p, mask)
#define STORE_FEW(p, v, mask) _mm256_maskstore_ps(p, mask, v)
#endif
INLINE void transpose_four_float32(const float *from, ptrdiff_t from_row, float *to, ptrdiff_t to_row) {
    __m128 a = _mm_loadu_ps(from), b = _mm_loadu_ps(from + from_row);
    __m128 c = _mm_loadu_ps(from + 2 * from_row), d = _mm_loadu_ps(from + 3 * from_row);
    _MM_TRANSPOSE4_PS(a, b, c, d);
    _mm_storeu_ps(to, a), _mm_storeu_ps(to + to_row, b);
    _mm_storeu_ps(to + 2 * to_row, c), _mm_storeu_ps(to + 3 * to_row, d);
}
#include "products_body.h"
#undef REAL
#undef NAME
#undef LANES
#undef VECTOR
#undef FEW_MASK
#undef SPREAD
#undef FMA
#undef LOAD
#undef STORE
#undef LOAD_FEW
#undef STORE_FEW

#define REAL double
#define NAME(x) x##_float64
#define LANES (WIDTH / 8)
#if WIDTH == 64
#define VECTOR __m512d
#define FEW_MASK __mmask8
INLINE FEW_MASK few_mask_float64(int few) { return (FEW_MASK)(0xFF >> (8 - few)); }
#define SPREAD(value) _mm512_set1_pd(value)
#define FMA(a, b, c) _mm512_fmadd_pd(a, b, c)
#define LOAD(p) _mm512_loadu_pd(p)
#define STORE(p, v) _mm512_storeu_pd(p, v)
#define LOAD_FEW(p, mask) _mm512_maskz_loadu_pd(mask, p)
#define STORE_FEW(p, v, mask) _mm512_mask_storeu_pd(p, mask, v)
#else
#define VECTOR __m256d
#define FEW_MASK __m256i
INLINE FEW_MASK few_mask_float64(int few) {
    return _mm256_cmpgt_epi64(_mm256_set1_epi64x(few), _mm256_setr_epi64x(0, 1, 2, 3));
}
#define SPREAD(value) _mm256_set1_pd(value)
#define FMA(a, b, c) _mm256_fmadd_pd(a, b, c)
#define LOAD(p) _mm256_loadu_pd(p)
#define STORE(p, v) _mm256_storeu_pd(p, v)
#define LOAD_FEW(p, mask) _mm256_maskload_pd(p, mask)
#define STORE_FEW(p, v, mask) _mm256_maskstore_pd(p, mask, v)
#endif
INLINE void transpose_four_float64(const double *from, ptrdiff_t from_row, double *to, ptrdiff_t to_row) {
    const __m256d a = _mm256_loadu_pd(from), b = _mm256_loadu_pd(from + from_row);
    const __m256d c = _mm256_loadu_pd(from + 2 * from_row), d = _mm256_loadu_pd(from + 3 * from_row);
    const __m256d ab0 = _mm256_unpacklo_pd(a, b), ab1 = _mm256_unpackhi_pd(a, b);
    const __m256d cd0 = _mm256_unpacklo_pd(c, d), cd1 = _mm256_unpackhi_pd(c, d);
    _mm256_storeu_pd(to, _mm256_permute2f128_pd(ab0, cd0, 0x20));
    _mm256_storeu_pd(to + to_row, _mm256_permute2f128_pd(ab1, cd1, 0x20));
    _mm256_storeu_pd(to + 2 * to_row, _mm256_permute2f128_pd(ab0, cd0, 0x31));
    _mm256_storeu_pd(to + 3 * to_row, _mm256_permute2f128_pd(ab1, cd1, 0x31));
}
#include "products_body.h"

const Products TABLE[PRODUCTS_DTYPES] = {
    {forward_float32, add_parts_float32, gradient_float32, input_gradient_float32, bias_gradient_float32},
    {forward_float64, add_parts_float64, gradient_float64, input_gradient_float64, bias_gradient_float64},
};
