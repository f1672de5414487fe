#if defined(__x86_64__) && (defined(__GNUC__) || defined(__clang__))
#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx2,fma"))), apply_to = function)
#else
#pragma GCC target("avx2,fma")
#endif
#define TABLE normcore_products_avx2
#define WIDTH 32
#include "products_table.h"
#if defined(__clang__)
#pragma clang attribute pop
#endif
#endif
