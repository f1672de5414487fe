#if defined(__x86_64__)
#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,f16c,fma"))), apply_to = function)
#else
#pragma GCC target("avx512f,avx512bw,avx512dq,avx512vl,f16c,fma,prefer-vector-width=512")
#endif
#define REGISTER 64
#define WIDTH 4
#define TABLE normcore_loops_avx512
#include "tables.h"
#if defined(__clang__)
#pragma clang attribute pop
#endif
#endif
