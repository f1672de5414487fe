"""Threads of our own, for norms, products and the steps of optimisers: see workers.h."""


cdef extern from "workers.h":
    void normcore_run(Task task, void* what, Py_ssize_t tasks, int threads) noexcept nogil
    int normcore_workers() noexcept nogil


cdef void run_tasks(Task task, void* what, Py_ssize_t tasks, int threads) noexcept nogil:
    normcore_run(task, what, tasks, threads)


def started():
    """How many threads this process has started, the callers' not counted."""
    return normcore_workers()
