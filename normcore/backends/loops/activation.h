/* Activations on a few values in cache: polynomials that the compiler turns into vectors, a few units in the last place; in
   float64 the normal distribution is libm's. Cephes' coefficients (Moshier, 1987). NaN stays NaN. */
#ifndef NORMCORE_ACTIVATION_H
#define NORMCORE_ACTIVATION_H

INLINE float exp_float(float v) {
    float clamped = v > 88.37f ? 88.37f : v;
    clamped = clamped < -87.3f ? -87.3f : clamped;
    const float magic = 12582912.0f; /* 1.5 * 2^23: adding it rounds to a whole number */
    float shifted = clamped * 1.44269504088896341f + magic, k = shifted - magic;
    float r = (clamped - k * 0.693359375f) + k * 2.12194440e-4f;
    float p = 1.9875691500e-4f;
    p = p * r + 1.3981999507e-3f;
    p = p * r + 8.3334519073e-3f;
    p = p * r + 4.1665795894e-2f;
    p = p * r + 1.6666665459e-1f;
    p = p * r + 5.0000001201e-1f;
    p = p * (r * r) + r + 1.0f;
    /* k is in the low bits of what has been shifted: no cast, which for NaN is undefined */
    float power = float_of_bits((bits_of_float(shifted) + 127) << 23);
    return v < -87.3f ? 0.0f : p * power;
}

INLINE float sigmoid_float(float z) {
    float e = exp_float(z < 0.0f ? z : -z);
    return (z < 0.0f ? e : 1.0f) / (1.0f + e);
}

INLINE float tanh_float(float z) {
    float a = fabsf(z), s = z * z;
    float p = -5.70498872745e-3f;
    p = p * s + 2.06390887954e-2f;
    p = p * s - 5.37397155531e-2f;
    p = p * s + 1.33314422036e-1f;
    p = p * s - 3.33332819422e-1f;
    float near = a + a * (p * s);
    float far = 1.0f - 2.0f / (exp_float(a > 44.0f ? 88.0f : 2.0f * a) + 1.0f);
    return z != z ? z : copysignf(a < 0.625f ? near : far, z);
}

/* the normal distribution: cumulative, by erfc of the side where nothing cancels */
INLINE float normal_cdf_float(float z) {
    float a = fabsf(z) * 0.70710678118654752f, s = a * a;
    float t = 7.853861353153693e-5f; /* erf(a) / a */
    t = t * s - 8.010193625184903e-4f;
    t = t * s + 5.188327685732524e-3f;
    t = t * s - 2.685381193529856e-2f;
    t = t * s + 1.128358514861418e-1f;
    t = t * s - 3.761262582423300e-1f;
    t = t * s + 1.128379165726710e+0f;
    float far = a < 1.0f ? 1.0f : a, q = 1.0f / far, u = q * q;
    float p = 2.326819970068386e-2f; /* erfc(a) * a * exp(a^2), from 1 to 2 */
    p = p * u - 1.387039388740657e-1f;
    p = p * u + 3.687424674597105e-1f;
    p = p * u - 5.824733027278666e-1f;
    p = p * u + 6.210004621745983e-1f;
    p = p * u - 4.944515323274145e-1f;
    p = p * u + 3.404879937665872e-1f;
    p = p * u - 2.741127028184656e-1f;
    p = p * u + 5.638259427386472e-1f;
    float r = -1.047766399936249e+1f; /* past 2 */
    r = r * u + 1.297719955372516e+1f;
    r = r * u - 7.495518717768503e+0f;
    r = r * u + 2.921019019210786e+0f;
    r = r * u - 1.015265279202700e+0f;
    r = r * u + 4.218463358204948e-1f;
    r = r * u - 2.820767439740514e-1f;
    r = r * u + 5.641895067754075e-1f;
    float erfc = exp_float(-far * far) * q * (far < 2.0f ? p : r);
    float upper = a < 1.0f ? 0.5f - 0.5f * a * t : 0.5f * erfc; /* 1 - cdf(|z|) */
    return z != z ? z : (z < 0.0f ? upper : 1.0f - upper);
}

INLINE float normal_pdf_float(float z) { return 0.398942280401432678f * exp_float(-0.5f * z * z); }
/* 2^k for k of a normal number; k comes in the low bits of k + 1.5 * 2^52, where adding has rounded it */
INLINE double power_of_two(uint64_t k) {
    uint64_t bits = (k + 1023) << 52;
    double power;
    memcpy(&power, &bits, 8);
    return power;
}

INLINE double exp_double(double v) {
    double clamped = v > 709.79 ? 709.79 : v;
    clamped = clamped < -745.2 ? -745.2 : clamped;
    const double magic = 6755399441055744.0; /* 1.5 * 2^52 */
    double shifted = clamped * 1.44269504088896340736 + magic, k = shifted - magic;
    double half_shifted = k * 0.5 + magic, half = half_shifted - magic; /* 2^k in two steps: it may be subnormal, or 2^1024 */
    double rest_shifted = (k - half) + magic;
    double r = (clamped - k * 6.93145751953125e-1) - k * 1.42860682030941723212e-6, s = r * r;
    double p = 1.26177193074810590878e-4;
    p = p * s + 3.02994407707441961300e-2;
    p = (p * s + 9.99999999999999999910e-1) * r;
    double q = 3.00198505138664455042e-6;
    q = q * s + 2.52448340349684104192e-3;
    q = q * s + 2.27265548208155028766e-1;
    q = q * s + 2.0;
    uint64_t first, second;
    memcpy(&first, &half_shifted, 8);
    memcpy(&second, &rest_shifted, 8);
    double e = (1.0 + 2.0 * (p / (q - p))) * power_of_two(first) * power_of_two(second);
    return v > 709.79 ? (double)INFINITY : (v != v ? v : e);
}

INLINE double sigmoid_double(double z) {
    double e = exp_double(z < 0.0 ? z : -z);
    return (z < 0.0 ? e : 1.0) / (1.0 + e);
}

INLINE double tanh_double(double z) {
    double a = fabs(z), s = z * z;
    double p = -9.64399179425052238628e-1;
    p = p * s - 9.92877231001918586564e1;
    p = p * s - 1.61468768441708447952e3;
    double q = s + 1.12811678491632931402e2;
    q = q * s + 2.23548839060100448583e3;
    q = q * s + 4.84406305325125486048e3;
    double near = a + a * s * (p / q);
    double far = 1.0 - 2.0 / (exp_double(a > 350.0 ? 700.0 : 2.0 * a) + 1.0);
    return z != z ? z : copysign(a < 0.625 ? near : far, z);
}

INLINE double normal_cdf_double(double z) { return 0.5 * erfc(-z * 0.70710678118654752440); }
INLINE double normal_pdf_double(double z) { return 0.39894228040143267794 * exp_double(-0.5 * z * z); }

#define GELU_TANH_INNER(S, z) ((S)0.79788456080286535588 * ((z) + (S)0.044715 * (z) * (z) * (z)))
#define GELU_TANH_SLOPE(S, z) ((S)0.79788456080286535588 * ((S)1 + (S)(3 * 0.044715) * (z) * (z)))
#define EACH(...)                         \
    for (ptrdiff_t i = 0; i < n; i++) {   \
        __VA_ARGS__;                      \
    }                                     \
    break;

#define DEFINE_ACTIVATIONS(S)                                                                                          \
    INLINE void activate_##S(int activation, ptrdiff_t n, S *z) {                                                      \
        switch (activation) {                                                                                          \
        case RELU: EACH(z[i] = z[i] < 0 ? 0 : z[i])                                                                    \
        case LEAKY_RELU: EACH(z[i] = z[i] < 0 ? (S)0.01 * z[i] : z[i])                                                 \
        case SIGMOID: EACH(z[i] = sigmoid_##S(z[i]))                                                                   \
        case TANH: EACH(z[i] = tanh_##S(z[i]))                                                                         \
        case GELU: EACH(z[i] = z[i] * normal_cdf_##S(z[i]))                                                            \
        case GELU_TANH: EACH(z[i] = z[i] * sigmoid_##S(2 * GELU_TANH_INNER(S, z[i])))                                  \
        case SILU: EACH(z[i] = z[i] * sigmoid_##S(z[i]))                                                               \
        default: break;                                                                                                \
        }                                                                                                              \
    }                                                                                                                  \
    INLINE void times_derivative_##S(int activation, ptrdiff_t n, const S *z, S *dz) {                                 \
        switch (activation) {                                                                                          \
        case RELU: EACH(dz[i] = z[i] <= 0 ? 0 : dz[i])                                                                 \
        case LEAKY_RELU: EACH(dz[i] = z[i] <= 0 ? (S)0.01 * dz[i] : dz[i])                                             \
        case SIGMOID: EACH(S s = sigmoid_##S(z[i]); dz[i] *= s * sigmoid_##S(-z[i]))                                   \
        case TANH: EACH(S s = sigmoid_##S(2 * z[i]); dz[i] *= 4 * s * sigmoid_##S(-2 * z[i]))                          \
        case GELU: EACH(dz[i] *= normal_cdf_##S(z[i]) + z[i] * normal_pdf_##S(z[i]))                                   \
        case GELU_TANH:                                                                                                \
            EACH(S u = 2 * GELU_TANH_INNER(S, z[i]); S s = sigmoid_##S(u);                                             \
                 dz[i] *= s + z[i] * s * sigmoid_##S(-u) * 2 * GELU_TANH_SLOPE(S, z[i]))                               \
        case SILU: EACH(S s = sigmoid_##S(z[i]); dz[i] *= s * (1 + z[i] * sigmoid_##S(-z[i])))                         \
        default: break;                                                                                                \
        }                                                                                                              \
    }

DEFINE_ACTIVATIONS(float)
DEFINE_ACTIVATIONS(double)

#endif
