#if defined(__x86_64__) && (defined(__GNUC__) || defined(__clang__))
#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx512f,avx512dq,avx512vl,fma"))), apply_to = function)
#else
#pragma GCC target("avx512f,avx512dq,avx512vl,fma")
#endif
#define TABLE normcore_products_avx512
#define WIDTH 64
#include "products_table.h"
#if defined(__clang__)
#pragma clang attribute pop
#endif
#endif
