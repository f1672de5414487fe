/* Stands before C's malloc (LD_PRELOAD): counts the bytes in use, and makes one allocation fail on demand. */

#include <errno.h>
#include <malloc.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

extern void *__libc_malloc(size_t);
extern void *__libc_calloc(size_t, size_t);
extern void *__libc_realloc(void *, size_t);
extern void *__libc_memalign(size_t, size_t);
extern void __libc_free(void *);

static atomic_int watching;
static atomic_long smallest, count, fail_at, failed, live, peak;

/* Begin to count; the nth allocation of at least so many bytes from now on fails, or none with n = 0. */
void allocations_begin(long n, long bytes) {
    smallest = bytes;
    count = failed = live = peak = 0;
    fail_at = n;
    watching = 1;
}

/* Stop; how many allocations there were, whether one was made to fail, the most bytes that were in use at a time. */
void allocations_end(long result[3]) {
    watching = 0;
    result[0] = count;
    result[1] = failed;
    result[2] = peak;
}

static int refused(size_t size) {
    if (!watching || size < (size_t)smallest || atomic_fetch_add(&count, 1) + 1 != fail_at) return 0;
    failed = 1;
    errno = ENOMEM;
    return 1;
}

static void *taken(void *memory) {
    if (watching && memory != NULL) {
        long now = atomic_fetch_add(&live, (long)malloc_usable_size(memory)) + (long)malloc_usable_size(memory), most = peak;
        while (now > most && !atomic_compare_exchange_weak(&peak, &most, now)) continue;
    }
    return memory;
}

static void given_back(void *memory) {
    if (watching && memory != NULL) atomic_fetch_sub(&live, (long)malloc_usable_size(memory));
}

void *malloc(size_t size) { return refused(size) ? NULL : taken(__libc_malloc(size)); }

void *calloc(size_t n, size_t size) { return refused(n * size) ? NULL : taken(__libc_calloc(n, size)); }

void *realloc(void *memory, size_t size) {
    void *moved;
    if (refused(size)) return NULL;
    given_back(memory);
    moved = __libc_realloc(memory, size);
    return taken(moved != NULL || size == 0 ? moved : memory);
}

void *memalign(size_t alignment, size_t size) { return refused(size) ? NULL : taken(__libc_memalign(alignment, size)); }

void *aligned_alloc(size_t alignment, size_t size) { return memalign(alignment, size); }

int posix_memalign(void **memory, size_t alignment, size_t size) {
    void *block = memalign(alignment, size);
    if (block == NULL) return ENOMEM;
    *memory = block;
    return 0;
}

void free(void *memory) {
    given_back(memory);
    __libc_free(memory);
}
