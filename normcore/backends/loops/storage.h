/* For one kind of storage: T as stored, S as computed with (float up to 32 bits, else double), vectors of both.
   Included by body.h with STORAGE set. */
#undef T
#undef S
#undef COUNT
#undef WIDE
#undef MASKED

#if STORAGE == 64
#define T double
#define S double
#define COUNT (REGISTER / 8)
typedef wide_doubles NAME(wide);
#else
#define S float
#define COUNT (REGISTER / 4)
typedef wide_floats NAME(wide);
#if STORAGE == 32
#define T float
#else
#define T uint16_t
#endif
#endif
#define WIDE NAME(wide)

INLINE S NAME(get)(const T *p) {
#if STORAGE == 16
    return float_of_float16(*p);
#elif STORAGE == 17
    return float_of_bfloat16(*p);
#else
    return *p;
#endif
}

INLINE void NAME(put)(T *p, double value) {
#if STORAGE == 16
    *p = float16_of_float((float)value);
#elif STORAGE == 17
    *p = bfloat16_of_float((float)value);
#else
    *p = (T)value;
#endif
}

/* COUNT values as computed with */
INLINE WIDE NAME(load)(const T *p) {
    WIDE v;
#if STORAGE == 16 && REGISTER == 64
    v = (WIDE)_mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *)p));
#elif STORAGE == 16 && REGISTER == 32
    v = (WIDE)_mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)p));
#elif STORAGE == 16
    float values[COUNT];
    for (int i = 0; i < COUNT; i++) values[i] = NAME(get)(p + i);
    memcpy(&v, values, sizeof v);
#elif STORAGE == 17
    wide_halves halves;
    memcpy(&halves, p, sizeof halves);
    v = (WIDE)(__builtin_convertvector(halves, wide_words) << 16);
#else
    memcpy(&v, p, sizeof v);
#endif
    return v;
}

INLINE void NAME(store)(T *p, WIDE v) {
#if STORAGE == 16 && REGISTER == 64
    _mm256_storeu_si256((__m256i *)p, _mm512_cvtps_ph((__m512)v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC));
#elif STORAGE == 16 && REGISTER == 32
    _mm_storeu_si128((__m128i *)p, _mm256_cvtps_ph((__m256)v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC));
#elif STORAGE == 16
    float values[COUNT];
    memcpy(values, &v, sizeof v);
    for (int i = 0; i < COUNT; i++) NAME(put)(p + i, values[i]);
#elif STORAGE == 17
    const wide_words bits = (wide_words)v, nan = (wide_words)(v != v);
    const wide_words rounded = (bits + 0x7FFF + ((bits >> 16) & 1)) >> 16;
    const wide_halves halves = __builtin_convertvector((nan & ((bits >> 16) | 0x40)) | (~nan & rounded), wide_halves);
    memcpy(p, &halves, sizeof halves);
#else
    memcpy(p, &v, sizeof v);
#endif
}

/* The last n < COUNT values; what is missing is 0. */
INLINE WIDE NAME(load_part)(const T *p, ptrdiff_t n) {
#if REGISTER == 64 && STORAGE == 32
    return (WIDE)_mm512_maskz_loadu_ps((__mmask16)((1u << n) - 1), p);
#elif REGISTER == 64 && STORAGE == 64
    return (WIDE)_mm512_maskz_loadu_pd((__mmask8)((1u << n) - 1), p);
#elif REGISTER == 64 && STORAGE == 16
    return (WIDE)_mm512_cvtph_ps(_mm256_maskz_loadu_epi16((__mmask16)((1u << n) - 1), p));
#elif REGISTER == 64 && STORAGE == 17
    const __m512i words = _mm512_cvtepu16_epi32(_mm256_maskz_loadu_epi16((__mmask16)((1u << n) - 1), p));
    return (WIDE)_mm512_slli_epi32(words, 16);
#else
    T values[COUNT] = {0};
    for (ptrdiff_t i = 0; i < n; i++) values[i] = p[i];
    return NAME(load)(values);
#endif
}

INLINE void NAME(store_part)(T *p, WIDE v, ptrdiff_t n) {
#if REGISTER == 64 && STORAGE == 32
    _mm512_mask_storeu_ps(p, (__mmask16)((1u << n) - 1), (__m512)v);
#elif REGISTER == 64 && STORAGE == 64
    _mm512_mask_storeu_pd(p, (__mmask8)((1u << n) - 1), (__m512d)v);
#elif REGISTER == 64
    T values[COUNT];
    NAME(store)(values, v);
    _mm256_mask_storeu_epi16(p, (__mmask16)((1u << n) - 1), _mm256_loadu_si256((const __m256i *)values));
#else
    T values[COUNT];
    NAME(store)(values, v);
    for (ptrdiff_t i = 0; i < n; i++) p[i] = values[i];
#endif
}

#if REGISTER == 64
#define MASKED 1
/* Those of WIDTH values that have a bit in `mask`, as float64 and minus `centre`; the others are 0. */
INLINE doubles NAME(centred_part)(const T *p, unsigned mask, double centre) {
    const __mmask8 m = (__mmask8)(mask & ((1u << WIDTH) - 1));
#if STORAGE == 64
    const __m256d v = _mm256_maskz_loadu_pd(m, p);
#elif STORAGE == 32
    const __m256d v = _mm256_cvtps_pd(_mm_maskz_loadu_ps(m, p));
#elif STORAGE == 16
    const __m256d v = _mm256_cvtps_pd(_mm_cvtph_ps(_mm_maskz_loadu_epi16(m, p)));
#else
    const __m128i words = _mm_cvtepu16_epi32(_mm_maskz_loadu_epi16(m, p));
    const __m256d v = _mm256_cvtps_pd(_mm_castsi128_ps(_mm_slli_epi32(words, 16)));
#endif
    return (doubles)_mm256_maskz_sub_pd(m, v, _mm256_set1_pd(centre));
}
#else
#define MASKED 0
#endif

/* n < COUNT values as computed with, from an array of them; what is missing is 0. */
INLINE WIDE NAME(part)(const S *p, ptrdiff_t n) {
#if REGISTER == 64 && STORAGE != 64
    return (WIDE)_mm512_maskz_loadu_ps((__mmask16)((1u << n) - 1), p);
#elif REGISTER == 64
    return (WIDE)_mm512_maskz_loadu_pd((__mmask8)((1u << n) - 1), p);
#else
    S values[COUNT] = {0};
    WIDE v;
    for (ptrdiff_t i = 0; i < n; i++) values[i] = p[i];
    memcpy(&v, values, sizeof v);
    return v;
#endif
}

/* WIDTH values as float64 */
INLINE doubles NAME(load_doubles)(const T *p) {
#if STORAGE == 64
    doubles v;
    memcpy(&v, p, sizeof v);
    return v;
#elif STORAGE == 16 && WIDTH == 4
    return (doubles)_mm256_cvtps_pd(_mm_cvtph_ps(_mm_loadl_epi64((const __m128i *)p)));
#elif STORAGE == 32 && WIDTH == 4
    return (doubles)_mm256_cvtps_pd(_mm_loadu_ps(p));
#else
    few_floats v;
#if STORAGE == 32
    memcpy(&v, p, sizeof v);
#elif STORAGE == 17
    few_halves halves;
    memcpy(&halves, p, sizeof halves);
    v = (few_floats)(__builtin_convertvector(halves, few_words) << 16);
#else
    float values[WIDTH];
    for (int i = 0; i < WIDTH; i++) values[i] = NAME(get)(p + i);
    memcpy(&v, values, sizeof v);
#endif
    return __builtin_convertvector(v, doubles);
#endif
}
