cdef extern from "workers.h":
    ctypedef void (*Task)(void* what, Py_ssize_t i) noexcept nogil

cdef void run_tasks(Task task, void* what, Py_ssize_t tasks, int threads) noexcept nogil
