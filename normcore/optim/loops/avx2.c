#if defined(__x86_64__) && (defined(__GNUC__) || defined(__clang__))
#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx2"))), apply_to = function)
#else
#pragma GCC target("avx2")
#endif
#define TABLE normcore_steps_avx2
#include "tables.h"
#if defined(__clang__)
#pragma clang attribute pop
#endif
#endif
