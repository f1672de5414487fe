/* What every CPU of the architecture has: SSE2 on x86-64, NEON on arm64. */
#define REGISTER 16
#define WIDTH 2
#define TABLE normcore_loops_baseline
#include "tables.h"
