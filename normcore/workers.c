#include "workers.h"

static void run_here(Task task, void *what, ptrdiff_t tasks) {
    for (ptrdiff_t i = 0; i < tasks; i++) task(what, i);
}

#if defined(_WIN32) || !(defined(__GNUC__) || defined(__clang__))

void normcore_run(Task task, void *what, ptrdiff_t tasks, int threads) {
    (void)threads;
    run_here(task, what, tasks);
}

int normcore_workers(void) { return 0; }

#else

#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <time.h>

enum {
    MOST_THREADS = 64,
    MOST_PORTIONS = 0xFFFF, /* of a job: what a range can say */
    PAUSES = 32,         /* between two looks at the clock */
    SPIN_NS = 200000,    /* an idle thread sleeps after this: longer than a small network needs between two loops */
};

/* The portions of tasks that one thread begins with and nobody has taken yet: job << 32 | next << 16 | end. One word, so
   that a portion is taken by one exchange, which fails for a thread that was away while the job ended. */
typedef struct {
    _Alignas(64) uint64_t word;
} Range;

static struct {
    Range ranges[MOST_THREADS];
    _Alignas(64) uint32_t job; /* its number; a new one is the signal */
    int threads;               /* of the job */
    Task task;
    void *what;
    ptrdiff_t tasks, portion;    /* all, and how many are taken together */
    _Alignas(64) ptrdiff_t left; /* portions that are not done */
    _Alignas(64) int taken;      /* somebody's job is being done */
    int started, asleep, registered;
    pthread_mutex_t lock;
    pthread_cond_t wake;
} crew = {.lock = PTHREAD_MUTEX_INITIALIZER, .wake = PTHREAD_COND_INITIALIZER};

#define LOAD(what) __atomic_load_n(&(what), __ATOMIC_SEQ_CST)
#define STORE(what, value) __atomic_store_n(&(what), value, __ATOMIC_SEQ_CST)

static inline void pause_a_little(void) {
#if defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("yield");
#endif
}

/* A portion of a job out of a range, from its front or its end; -1 if there is none left or the job is over. */
static ptrdiff_t take(uint64_t *word, uint32_t job, int front) {
    uint64_t now = LOAD(*word);
    for (;;) {
        const uint32_t next = (now >> 16) & 0xFFFF, end = now & 0xFFFF;
        if ((uint32_t)(now >> 32) != job || next >= end) return -1;
        const uint64_t then = front ? now + 0x10000 : now - 1;
        if (__atomic_compare_exchange_n(word, &now, then, 0, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST))
            return front ? next : end - 1;
    }
}

static void work(int me, int threads, uint32_t job) {
    for (int k = 0; k < threads; k++) {
        const int of = (me + k) % threads;
        for (ptrdiff_t i; (i = take(&crew.ranges[of].word, job, k == 0)) >= 0;) {
            /* All of this job: it cannot end before this portion is done. */
            const ptrdiff_t first = i * crew.portion, rest = crew.tasks - first;
            for (ptrdiff_t j = 0; j < crew.portion && j < rest; j++) crew.task(crew.what, first + j);
            __atomic_fetch_sub(&crew.left, 1, __ATOMIC_SEQ_CST);
        }
    }
}

static int64_t now_ns(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

static int same_job(uint32_t seen) { return LOAD(crew.job) == seen; }

static void wait_for_another_job(uint32_t seen) {
    const int64_t until = now_ns() + SPIN_NS;
    do {
        for (int i = 0; i < PAUSES; i++) {
            if (!same_job(seen)) return;
            pause_a_little();
        }
        sched_yield(); /* whoever else wants this core has it */
    } while (now_ns() < until);
    pthread_mutex_lock(&crew.lock);
    __atomic_fetch_add(&crew.asleep, 1, __ATOMIC_SEQ_CST);
    while (same_job(seen)) pthread_cond_wait(&crew.wake, &crew.lock);
    __atomic_fetch_sub(&crew.asleep, 1, __ATOMIC_SEQ_CST);
    pthread_mutex_unlock(&crew.lock);
}

static void *live(void *number) {
    const int me = (int)(intptr_t)number;
    uint32_t seen = 0;
    for (;;) {
        wait_for_another_job(seen);
        seen = LOAD(crew.job);
        const int threads = LOAD(crew.threads);
        if (me < threads) work(me, threads, seen);
    }
    return NULL;
}

/* The threads of the parent are not there in the child, and a job that one of them had begun is nobody's. */
static void forget(void) {
    for (int k = 0; k < MOST_THREADS; k++) crew.ranges[k].word = 0; /* new threads take nothing of it */
    pthread_mutex_init(&crew.lock, NULL);
    pthread_cond_init(&crew.wake, NULL);
    crew.started = crew.asleep = crew.taken = 0;
}

static void start(int wanted) {
    sigset_t all, before;
    if (!crew.registered) {
        if (pthread_atfork(NULL, NULL, forget) != 0) return;
        crew.registered = 1;
    }
    sigfillset(&all); /* signals are for the threads of the program */
    pthread_sigmask(SIG_SETMASK, &all, &before);
    while (crew.started < wanted) {
        pthread_t thread;
        if (pthread_create(&thread, NULL, live, (void *)(intptr_t)(crew.started + 1)) != 0) break;
        pthread_detach(thread);
        STORE(crew.started, crew.started + 1);
    }
    pthread_sigmask(SIG_SETMASK, &before, NULL);
}

void normcore_run(Task task, void *what, ptrdiff_t tasks, int threads) {
    if (threads > MOST_THREADS) threads = MOST_THREADS;
    if (threads > tasks) threads = (int)tasks;
    if (threads < 2 || __atomic_exchange_n(&crew.taken, 1, __ATOMIC_SEQ_CST)) {
        run_here(task, what, tasks);
        return;
    }
    if (crew.started < threads - 1) start(threads - 1);
    if (threads > crew.started + 1) threads = crew.started + 1;
    uint32_t job = crew.job + 1;
    job += job == 0; /* 0 is what a new thread has seen */
    crew.task = task, crew.what = what, crew.tasks = tasks;
    crew.portion = (tasks + MOST_PORTIONS - 1) / MOST_PORTIONS;
    const ptrdiff_t portions = (tasks + crew.portion - 1) / crew.portion;
    STORE(crew.left, portions);
    STORE(crew.threads, threads);
    for (int k = 0; k < threads; k++)
        STORE(crew.ranges[k].word,
              (uint64_t)job << 32 | (uint64_t)(portions * k / threads) << 16 | (uint64_t)(portions * (k + 1) / threads));
    STORE(crew.job, job);
    if (threads > 1 && LOAD(crew.asleep)) {
        pthread_mutex_lock(&crew.lock);
        pthread_cond_broadcast(&crew.wake);
        pthread_mutex_unlock(&crew.lock);
    }
    work(0, threads, job);
    for (int i = 1; LOAD(crew.left); i++)
        if (i % PAUSES)
            pause_a_little();
        else
            sched_yield(); /* perhaps to the thread that is waited for */
    STORE(crew.taken, 0);
}

int normcore_workers(void) { return LOAD(crew.started); }

#endif
