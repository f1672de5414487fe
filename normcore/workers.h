/* Threads that wait for work, for loops of tens of microseconds. OpenMP's spin for milliseconds after a loop, on the core
   that the next program or library wants, and a caller waits at their barrier for a thread that the system has not woken.
   Here the caller takes every task that nobody has begun, and idle threads sleep soon. */
#ifndef NORMCORE_WORKERS_H
#define NORMCORE_WORKERS_H

#include <stddef.h>

typedef void (*Task)(void *what, ptrdiff_t i);

/* Call task(what, i) for every i below `tasks`, on up to `threads` threads, and return when all are done. Thread number k
   begins with the k-th part of the tasks: in loops over the same memory, one after the other, a part stays in the cache of
   one core. What a task computes may depend on i alone. Runs on the caller's thread where there is no other: in a second
   call at the same time, after a failure to start threads, on a system without POSIX threads. */
void normcore_run(Task task, void *what, ptrdiff_t tasks, int threads);

/* How many threads were started in this process, the caller's not counted. */
int normcore_workers(void);

#endif
