/* What every CPU of the architecture has: SSE2 on x86-64, NEON on arm64. */
#define TABLE normcore_steps_baseline
#include "tables.h"
