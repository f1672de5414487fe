cdef extern from "workers.h":
    ctypedef void (*Task)(void* what, Py_ssize_t i) noexcept nogil

cdef void run_tasks(Task task, void* what, Py_ssize_t tasks, int threads) noexcept nogil


cdef inline Py_ssize_t mirrored(Py_ssize_t i, Py_ssize_t tasks, int threads) noexcept nogil:
    """The task for number i of a loop that goes back: each thread's own part, from its end to its front.

    A second loop over the same memory so begins with what its thread has touched last, which is still in its cache.
    """
    cdef Py_ssize_t part = ((i + 1) * threads - 1) // tasks  # whose part this is, as run_tasks shares them out
    return tasks * part // threads + tasks * (part + 1) // threads - 1 - i
