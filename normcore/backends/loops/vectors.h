/* Vectors in the language of GCC and Clang, and what that language lacks: masks, loads and stores of 16-bit floats, stores
   past the cache. The file that includes this one sets REGISTER, the bytes of a vector that is written, and WIDTH, how many
   doubles sums take at a time. With AVX-512 that is half a register: on Zen 4, which has 256-bit units, the sums of a run
   took 0.067 ns a value so, and 0.13 ns in whole registers. */
#ifndef NORMCORE_VECTORS_H
#define NORMCORE_VECTORS_H

#include <math.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#if defined(__x86_64__) || defined(__i386__)
#include <immintrin.h>
#endif

#include "loops.h"

typedef double doubles __attribute__((vector_size(8 * WIDTH)));    /* of sums */
typedef float few_floats __attribute__((vector_size(4 * WIDTH))); /* as many */
typedef double wide_doubles __attribute__((vector_size(REGISTER)));
typedef float wide_floats __attribute__((vector_size(REGISTER)));
typedef uint32_t wide_words __attribute__((vector_size(REGISTER)));
typedef uint16_t wide_halves __attribute__((vector_size(REGISTER / 2)));
typedef uint32_t few_words __attribute__((vector_size(4 * WIDTH)));
typedef uint16_t few_halves __attribute__((vector_size(2 * WIDTH)));

#define INLINE static inline __attribute__((always_inline))
#define AT_MOST(a, b) ((a) < (b) ? (a) : (b))
#define UNROLL _Pragma("GCC unroll 8")

/* a + b to the bit, computed as a * 1 + b: where additions and conversions share two of four pipes (Zen), this moves an
   addition to the other two. Half off the time of the sums. */
INLINE doubles add_elsewhere(doubles a, doubles b, doubles one) {
#if WIDTH == 4
    return (doubles)_mm256_fmadd_pd((__m256d)a, (__m256d)one, (__m256d)b);
#else
    (void)one;
    return a + b;
#endif
}

/* The same for vectors of floats; one is 1.0f in every lane. */
INLINE wide_floats add_floats_elsewhere(wide_floats a, wide_floats b, wide_floats one) {
#if REGISTER == 64
    return (wide_floats)_mm512_fmadd_ps((__m512)a, (__m512)one, (__m512)b);
#elif REGISTER == 32
    return (wide_floats)_mm256_fmadd_ps((__m256)a, (__m256)one, (__m256)b);
#else
    (void)one;
    return a + b;
#endif
}

/* a - b to the bit; every other one goes elsewhere. */
INLINE doubles subtract_evenly(doubles a, double b, doubles one, int j) {
    const doubles minus = -b * one;
    return j % 2 ? add_elsewhere(a, minus, one) : a - b;
}

/* sum + v * v, where the square is exact: fused or not makes no difference then. */
INLINE doubles plus_exact_square(doubles sum, doubles v) {
#if WIDTH == 4
    return (doubles)_mm256_fmadd_pd((__m256d)v, (__m256d)v, (__m256d)sum);
#else
    return sum + v * v;
#endif
}

INLINE doubles doubles_of_floats(const float *p) {
    few_floats v;
    memcpy(&v, p, sizeof v);
    return __builtin_convertvector(v, doubles);
}

INLINE int all_zero(const double *values, ptrdiff_t n) {
    int nonzero = 0;
    for (ptrdiff_t i = 0; i < n; i++) nonzero |= values[i] != 0.0;
    return !nonzero;
}

/* 1 in every lane, in a way that the compiler does not see through. */
INLINE doubles opaque_one(void) {
    doubles one;
    for (int i = 0; i < WIDTH; i++) one[i] = 1.0;
#if WIDTH > 2
    __asm__("" : "+v"(one));
#endif
    return one;
}

INLINE wide_floats opaque_float_one(void) {
    wide_floats one = {0};
    one += 1.0f;
    __asm__("" : "+x"(one));
    return one;
}

/* totals += sums, LANES of each. */
INLINE void add_float_lanes(double *totals, const wide_floats *sums) {
#if REGISTER == 64
    const __m512d low = _mm512_cvtps_pd(_mm512_castps512_ps256((__m512)*sums));
    const __m512d high = _mm512_cvtps_pd(_mm512_extractf32x8_ps((__m512)*sums, 1));
    _mm512_storeu_pd(totals, _mm512_add_pd(_mm512_loadu_pd(totals), low));
    _mm512_storeu_pd(totals + 8, _mm512_add_pd(_mm512_loadu_pd(totals + 8), high));
#else
    float values[LANES];
    memcpy(values, sums, sizeof values);
    for (int i = 0; i < LANES; i += WIDTH) {
        doubles total;
        memcpy(&total, totals + i, sizeof total);
        total += doubles_of_floats(values + i);
        memcpy(totals + i, &total, sizeof total);
    }
#endif
}

/* *s1, *s2 += the LANES of two sums, added by halves: short chains, and the same order for every kind of vectors. */
INLINE void add_lanes(const doubles *sum1, const doubles *sum2, double *s1, double *s2) {
#if WIDTH == 4
    const __m256d a = (__m256d)((sum1[0] + sum1[2]) + (sum1[1] + sum1[3]));
    const __m256d b = (__m256d)((sum2[0] + sum2[2]) + (sum2[1] + sum2[3]));
    const __m128d two_a = _mm_add_pd(_mm256_castpd256_pd128(a), _mm256_extractf128_pd(a, 1));
    const __m128d two_b = _mm_add_pd(_mm256_castpd256_pd128(b), _mm256_extractf128_pd(b, 1));
    const __m128d both = _mm_add_pd(_mm_unpacklo_pd(two_a, two_b), _mm_unpackhi_pd(two_a, two_b));
    *s1 += _mm_cvtsd_f64(both);
    *s2 += _mm_cvtsd_f64(_mm_unpackhi_pd(both, both));
#else
    for (int which = 0; which < 2; which++) {
        double lanes[LANES], eight[8], four[4];
        memcpy(lanes, which ? sum2 : sum1, sizeof lanes);
        UNROLL for (int i = 0; i < 8; i++) eight[i] = lanes[i] + lanes[i + 8];
        UNROLL for (int i = 0; i < 4; i++) four[i] = eight[i] + eight[i + 4];
        *(which ? s2 : s1) += (four[0] + four[2]) + (four[1] + four[3]);
    }
#endif
}

/* sums += LANES floats */
INLINE void widen_lanes(doubles *sums, const wide_floats *floats) {
#if REGISTER == 64
    const __m512 v = (__m512)floats[0];
    sums[0] += (doubles)_mm256_cvtps_pd(_mm512_castps512_ps128(v));
    sums[1] += (doubles)_mm256_cvtps_pd(_mm512_extractf32x4_ps(v, 1));
    sums[2] += (doubles)_mm256_cvtps_pd(_mm512_extractf32x4_ps(v, 2));
    sums[3] += (doubles)_mm256_cvtps_pd(_mm512_extractf32x4_ps(v, 3));
#else
    float values[LANES];
    memcpy(values, floats, sizeof values);
    UNROLL for (int j = 0; j < LANES / WIDTH; j++) sums[j] += doubles_of_floats(values + j * WIDTH);
#endif
}

/* --- 16-bit floats: storage only, converted on load and store, to nearest even --- */

INLINE float float_of_bits(uint32_t bits) {
    float value;
    memcpy(&value, &bits, 4);
    return value;
}

INLINE uint32_t bits_of_float(float value) {
    uint32_t bits;
    memcpy(&bits, &value, 4);
    return bits;
}

INLINE float float_of_bfloat16(uint16_t half) { return float_of_bits((uint32_t)half << 16); }

INLINE uint16_t bfloat16_of_float(float value) {
    uint32_t bits = bits_of_float(value);
    uint32_t rounded = (bits + 0x7FFF + ((bits >> 16) & 1)) >> 16;
    return (uint16_t)(value != value ? (bits >> 16) | 0x40 : rounded);
}

INLINE float float_of_float16(uint16_t half) {
    /* exponent and mantissa moved into place, then scaled by the difference of the biases: right for subnormals too */
    uint32_t sign = (uint32_t)(half & 0x8000) << 16, rest = (uint32_t)(half & 0x7FFF) << 13;
    float magnitude = float_of_bits(rest) * 0x1p112f;
    uint32_t bits = (half & 0x7C00) == 0x7C00 ? rest | 0x7F800000 : bits_of_float(magnitude);
    return float_of_bits(bits | sign);
}

INLINE uint16_t float16_of_float(float value) {
    uint32_t bits = bits_of_float(value), sign = (bits >> 16) & 0x8000;
    uint32_t magnitude = bits & 0x7FFFFFFF, half;
    if (magnitude >= 0x7F800000) /* Inf, NaN */
        half = 0x7C00 | (magnitude > 0x7F800000 ? 0x200 | ((magnitude >> 13) & 0x3FF) : 0);
    else if (magnitude >= 0x477FF000) /* rounds past 65504 */
        half = 0x7C00;
    else if (magnitude < 0x38800000) { /* subnormal: let the adder round */
        float shifted = float_of_bits(magnitude) + 0.5f;
        half = bits_of_float(shifted) - 0x3F000000;
    } else
        half = (magnitude - 0x38000000 + 0xFFF + ((magnitude >> 13) & 1)) >> 13;
    return (uint16_t)(sign | half);
}

/* --- stores past the cache --- */

/* Copy n bytes from a warm buffer to memory that nobody will read soon. A plain store first reads the line that it is about
   to overwrite: a third of the traffic of a copy. Lines that are covered in part are stored as usual. */
INLINE void stream_copy(void *to, const void *from, size_t n) {
    char *d = (char *)to;
    const char *s = (const char *)from;
#if defined(__SSE2__)
    size_t head = (size_t)(-(intptr_t)d & 63);
    if (n < head + 64) {
        memcpy(d, s, n);
        return;
    }
    memcpy(d, s, head);
    d += head, s += head, n -= head;
    for (; n >= 64; d += 64, s += 64, n -= 64) {
#if REGISTER == 64
        _mm512_stream_si512((__m512i *)d, _mm512_loadu_si512((const void *)s));
#elif REGISTER == 32
        _mm256_stream_si256((__m256i *)d, _mm256_loadu_si256((const __m256i *)s));
        _mm256_stream_si256((__m256i *)(d + 32), _mm256_loadu_si256((const __m256i *)(s + 32)));
#else
        for (int part = 0; part < 64; part += 16)
            _mm_stream_si128((__m128i *)(d + part), _mm_loadu_si128((const __m128i *)(s + part)));
#endif
    }
#endif
    memcpy(d, s, n);
}

/* Streamed stores are weakly ordered: settle them before another thread is told that they are there. Once a task: it waits
   for memory, which after every short run took more time than the run. */
static void stream_end(void) {
#if defined(__SSE2__)
    _mm_sfence();
#endif
}

#endif
