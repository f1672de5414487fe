/* The loops of the optimisers: what they are. One pass over memory, value by value, so that it does not matter where an array
   is cut or how wide the vectors are: the bits are those of the formula in NumPy, which rounds after every operation too. */
#ifndef NORMCORE_STEPS_H
#define NORMCORE_STEPS_H

#include <stddef.h>

/* Part of a parameter, and of what is kept for it. */
typedef struct {
    void *data;
    const void *grad;
    void *first;  /* Adam's exp_avg, SGD's momentum buffer or NULL */
    void *second; /* Adam's exp_avg_sq */
    void *third;  /* Adam's max_exp_avg_sq, or NULL */
    ptrdiff_t n;
    double size;   /* Adam: lr / (1 - beta1**t) */
    double scale;  /* Adam: 1 / sqrt(1 - beta2**t) */
    int fresh;     /* SGD: the momentum buffer has yet to be written */
} Part;

typedef struct {
    double rate1, beta2, rate2, eps; /* rate = 1 - beta */
    double sign;                     /* of the gradient: -1 to maximise */
    double decay;                    /* weight_decay, or for `decoupled` 1 - lr * weight_decay */
    int decays, decoupled;
} AdamOptions;

typedef struct {
    double lr, momentum, rate, decay; /* rate = 1 - dampening */
    double sign;                      /* as Adam's */
    int decays, nesterov;
} SgdOptions;

typedef void (*Step)(const Part *part, const void *options);

enum { SQUARES = 16 }; /* partial sums */

typedef struct {
    Step adam; /* with AdamOptions */
    Step sgd;  /* with SgdOptions */
    double (*squares)(const void *values, ptrdiff_t n); /* the sum of squares in float64 */
} Steps;

enum { STEPS_FLOAT32, STEPS_FLOAT64, STEPS_DTYPES };

extern const Steps normcore_steps_baseline[STEPS_DTYPES];
#if defined(__x86_64__) && (defined(__GNUC__) || defined(__clang__))
#define NORMCORE_STEPS_X86 1
extern const Steps normcore_steps_avx2[STEPS_DTYPES];
extern const Steps normcore_steps_avx512[STEPS_DTYPES];
#else
#define NORMCORE_STEPS_X86 0
#endif

#endif
