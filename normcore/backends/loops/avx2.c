#if defined(__x86_64__)
#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx2,f16c,fma"))), apply_to = function)
#else
#pragma GCC target("avx2,f16c,fma")
#endif
#define REGISTER 32
#define WIDTH 4
#define TABLE normcore_loops_avx2
#include "tables.h"
#if defined(__clang__)
#pragma clang attribute pop
#endif
#endif
