/* Memory for results: what a large result leaves behind when it is freed serves the next one.

   A fresh array of some megabytes costs a page fault for every 4 KB (or a cleared huge page), which is more than the
   normalisation that fills it. So a few freed blocks are kept, up to a limit in bytes. A block is aligned to a cache line
   and has its size before it. The lists are guarded by a lock, which a fork waits for: without the GIL another thread may
   hold it then, and would hold it in the child for ever. */
#ifndef NORMCORE_POOL_H
#define NORMCORE_POOL_H

#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#ifdef __linux__
#include <sys/mman.h>
#endif
#ifndef _WIN32
#include <pthread.h>
#endif
#ifdef __SANITIZE_ADDRESS__
#include <sanitizer/asan_interface.h>
#endif

enum { POOL_BLOCKS = 8, POOL_LINE = 64, POOL_HUGE = 4194304 };

typedef struct {
    void *raw;
    size_t capacity;
} PoolHeader;

typedef struct {
    PyThread_type_lock lock;
    size_t limit, held;
    int count;
    char *blocks[POOL_BLOCKS]; /* the oldest first */
} Pool;

static PoolHeader *pool_header(char *block) { return (PoolHeader *)(block - POOL_LINE); }

/* For AddressSanitizer, which sees a block as in use until it is freed: only the first `size` bytes of it may be touched. */
static void pool_allow(char *block, size_t size) {
#ifdef __SANITIZE_ADDRESS__
    char *end = (char *)pool_header(block)->raw + pool_header(block)->capacity + 2 * POOL_LINE;
    __asan_unpoison_memory_region(block, (size_t)(end - block));
    __asan_poison_memory_region(block + size, (size_t)(end - block) - size);
#else
    (void)block, (void)size;
#endif
}

static char *pool_new_block(size_t size) {
    char *raw = (char *)malloc(size + 2 * POOL_LINE), *block;
    if (!raw) return NULL;
    block = (char *)(((uintptr_t)raw + 2 * POOL_LINE - 1) & ~(uintptr_t)(POOL_LINE - 1));
#if defined(__linux__) && defined(MADV_HUGEPAGE)
    if (size >= POOL_HUGE) { /* as NumPy does for its own */
        const uintptr_t page = 4096, first = ((uintptr_t)block + page - 1) & ~(page - 1);
        madvise((void *)first, (size - (first - (uintptr_t)block)) & ~(page - 1), MADV_HUGEPAGE);
    }
#endif
    pool_header(block)->raw = raw;
    pool_header(block)->capacity = size;
    return block;
}

static char *pool_take(Pool *pool, int i) {
    char *block = pool->blocks[i];
    pool->held -= pool_header(block)->capacity;
    pool->count--;
    memmove(&pool->blocks[i], &pool->blocks[i + 1], (size_t)(pool->count - i) * sizeof *pool->blocks);
    return block;
}

/* Under the lock. */
static void pool_shrink(Pool *pool) {
    while (pool->count && pool->held > pool->limit) free(pool_header(pool_take(pool, 0))->raw);
}

static void *pool_malloc(void *context, size_t size) {
    Pool *pool = (Pool *)context;
    char *block = NULL;
    PyThread_acquire_lock(pool->lock, WAIT_LOCK);
    for (int i = pool->count - 1, best = -1; i >= -1; i--) {
        if (i >= 0) { /* the smallest that is large enough and not much larger; of equals the last used, still in cache */
            const size_t capacity = pool_header(pool->blocks[i])->capacity;
            if (capacity >= size && capacity - size <= size / 4
                && (best < 0 || capacity < pool_header(pool->blocks[best])->capacity))
                best = i;
        } else if (best >= 0)
            block = pool_take(pool, best);
    }
    PyThread_release_lock(pool->lock);
    if (!block) block = pool_new_block(size);
    if (block) pool_allow(block, size);
    return block;
}

static void pool_free(void *context, void *memory, size_t size) {
    Pool *pool = (Pool *)context;
    char *block = (char *)memory;
    (void)size;
    if (!block) return;
    PyThread_acquire_lock(pool->lock, WAIT_LOCK);
    if (pool_header(block)->capacity > pool->limit) {
        PyThread_release_lock(pool->lock);
        free(pool_header(block)->raw);
        return;
    }
    pool_allow(block, 0);
    char *surplus = pool->count == POOL_BLOCKS ? pool_take(pool, 0) : NULL;
    pool->blocks[pool->count++] = block;
    pool->held += pool_header(block)->capacity;
    pool_shrink(pool);
    PyThread_release_lock(pool->lock);
    if (surplus) free(pool_header(surplus)->raw);
}

static void *pool_calloc(void *context, size_t count, size_t size) {
    void *memory = pool_malloc(context, count * size);
    return memory ? memset(memory, 0, count * size) : NULL;
}

static void *pool_realloc(void *context, void *memory, size_t size) {
    char *old = (char *)memory, *moved;
    if (old) pool_allow(old, pool_header(old)->capacity); /* all of it is copied: nobody says how much is in use */
    if (old && pool_header(old)->capacity >= size) {
        pool_allow(old, size);
        return old;
    }
    moved = (char *)pool_malloc(context, size);
    if (moved && old) {
        memcpy(moved, old, pool_header(old)->capacity);
        pool_free(context, old, 0);
    }
    return moved;
}

/* One for the process; arrays may outlive everything else. */
static Pool pool_of_results;
static PyDataMem_Handler pool_handler = {
    "normcore", 1, {&pool_of_results, pool_malloc, pool_calloc, pool_realloc, pool_free}};

static void pool_lock(void) { PyThread_acquire_lock(pool_of_results.lock, WAIT_LOCK); }

static void pool_unlock(void) { PyThread_release_lock(pool_of_results.lock); }

static void pool_set_limit(size_t limit) {
    pool_lock();
    pool_of_results.limit = limit;
    pool_shrink(&pool_of_results);
    pool_unlock();
}

static size_t pool_held(void) {
    pool_lock();
    const size_t held = pool_of_results.held;
    pool_unlock();
    return held;
}

static PyObject *pool_capsule(void) {
    pool_of_results.lock = PyThread_allocate_lock();
    if (!pool_of_results.lock) return PyErr_NoMemory();
#ifndef _WIN32
    if (pthread_atfork(pool_lock, pool_unlock, pool_unlock) != 0) return PyErr_NoMemory();
#endif
    return PyCapsule_New(&pool_handler, "mem_handler", NULL);
}

#endif
