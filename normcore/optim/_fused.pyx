"""The steps of the optimisers, compiled: one call for all parameters, one pass over memory.

A parameter whose arrays are not plain (contiguous in the same order, aligned, of the machine's own float32 or float64)
is left alone and returned, for NumPy to step. Bits do not depend on where arrays are cut, on threads or on vectors.
"""

from libc.math cimport pow, sqrt
from libc.stdlib cimport free, realloc

cimport numpy as cnp

from normcore._workers cimport run_tasks

import numpy as np

cnp.import_array()

cdef extern from "loops/steps.h":
    """
    #if NORMCORE_STEPS_X86
    #define STEPS_AVX2 (__builtin_cpu_supports("avx2"))
    #define STEPS_AVX512 (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq") \
                          && __builtin_cpu_supports("avx512vl"))
    #define steps_of(vectors) \
        ((vectors) == 2 ? normcore_steps_avx512 : (vectors) == 1 ? normcore_steps_avx2 : normcore_steps_baseline)
    #else
    #define STEPS_AVX2 0
    #define STEPS_AVX512 0
    #define steps_of(vectors) normcore_steps_baseline
    #endif
    """
    ctypedef struct Part:
        void* data
        const void* grad
        void* first
        void* second
        void* third
        Py_ssize_t n
        double size
        double scale
        int fresh
    ctypedef struct AdamOptions:
        double rate1, beta2, rate2, eps, decay, sign
        int decays, decoupled
    ctypedef struct SgdOptions:
        double lr, momentum, rate, decay, sign
        int decays, nesterov
    ctypedef void (*Step)(const Part*, const void*) noexcept nogil
    ctypedef struct Steps:
        Step adam
        Step sgd
        double (*squares)(const void*, Py_ssize_t) noexcept nogil
    int STEPS_AVX2
    int STEPS_AVX512
    const Steps* steps_of(int) noexcept nogil

cdef enum:
    PIECE = 4096  # values of a task, a microsecond: parameters end anywhere, and parts should still be of equal size

cdef tuple VECTORS = ("baseline", "avx2", "avx512")
cdef int vectors = 2 if STEPS_AVX512 else 1 if STEPS_AVX2 else 0


def use_vectors(name):
    """Choose among "baseline", "avx2" and "avx512" what this CPU has; return the choice before. For tests."""
    global vectors
    cdef int wanted = VECTORS.index(name)
    if wanted > (2 if STEPS_AVX512 else 1 if STEPS_AVX2 else 0):
        raise ValueError(f"this CPU has no {name}")
    before = VECTORS[vectors]
    vectors = wanted
    return before


# --- the parts of a step ----------------------------------------------------------------------------------------------


cdef class Parts:
    """What there is to do: pieces of float32 parameters, and of float64 ones."""

    cdef Part* parts[2]
    cdef Py_ssize_t count[2]
    cdef Py_ssize_t room[2]
    cdef Py_ssize_t nbytes
    cdef list held  # the arrays: another thread may set a parameter's grad meanwhile

    def __cinit__(self):
        self.held = []

    def __dealloc__(self):
        free(self.parts[0])
        free(self.parts[1])

    cdef int add(
        self, cnp.ndarray data, cnp.ndarray grad, object first, object second, object third, double size,
        double scale, bint fresh
    ) except -1:
        cdef int kind = cnp.PyArray_TYPE(data) == cnp.NPY_FLOAT64
        cdef Py_ssize_t itemsize = cnp.PyArray_ITEMSIZE(data), n = cnp.PyArray_SIZE(data), start = 0, room
        cdef Part* part
        cdef Part* more
        self.held.append((data, grad, first, second, third))
        self.nbytes += n * itemsize * 4
        while start < n:
            if self.count[kind] == self.room[kind]:
                room = 2 * self.room[kind] + 64
                more = <Part*>realloc(self.parts[kind], room * sizeof(Part))
                if more == NULL:
                    raise MemoryError
                self.parts[kind], self.room[kind] = more, room
            part = self.parts[kind] + self.count[kind]
            part.data = cnp.PyArray_BYTES(data) + start * itemsize
            part.grad = cnp.PyArray_BYTES(grad) + start * itemsize
            part.first = NULL if first is None else cnp.PyArray_BYTES(<cnp.ndarray>first) + start * itemsize
            part.second = NULL if second is None else cnp.PyArray_BYTES(<cnp.ndarray>second) + start * itemsize
            part.third = NULL if third is None else cnp.PyArray_BYTES(<cnp.ndarray>third) + start * itemsize
            part.n = min(n - start, <Py_ssize_t>PIECE)
            part.size, part.scale, part.fresh = size, scale, fresh
            self.count[kind] += 1
            start += PIECE
        return 0


cdef inline int order_of(object array) noexcept:
    # 1 for C order, 2 for Fortran order, 3 for both; 0 for an array that is not plain.
    if type(array) is not cnp.ndarray or not cnp.PyArray_ISNOTSWAPPED(array) or not cnp.PyArray_ISALIGNED(array):
        return 0
    return (
        (1 if cnp.PyArray_CHKFLAGS(array, cnp.NPY_ARRAY_C_CONTIGUOUS) else 0)
        + (2 if cnp.PyArray_CHKFLAGS(array, cnp.NPY_ARRAY_F_CONTIGUOUS) else 0))


cdef inline bint same_shape(cnp.ndarray a, cnp.ndarray b) noexcept:
    cdef int i
    if cnp.PyArray_NDIM(a) != cnp.PyArray_NDIM(b):
        return False
    for i in range(cnp.PyArray_NDIM(a)):
        if cnp.PyArray_DIM(a, i) != cnp.PyArray_DIM(b, i):
            return False
    return True


cdef inline bint beside(object array, cnp.ndarray data, int order, bint written) noexcept:
    # Whether its values lie in the order of those of data.
    return (
        (order_of(array) & order) != 0 and cnp.PyArray_TYPE(array) == cnp.PyArray_TYPE(data)
        and same_shape(array, data) and (not written or cnp.PyArray_ISWRITEABLE(array)))


cdef inline int order_to_step(object data, object grad) noexcept:
    cdef int order = order_of(data)
    if (
        order == 0 or cnp.PyArray_TYPE(data) not in (cnp.NPY_FLOAT32, cnp.NPY_FLOAT64)
        or not cnp.PyArray_ISWRITEABLE(data) or not beside(grad, data, order, False)
    ):
        return 0
    return order


ctypedef struct Job:
    Step step
    const Part* parts
    const void* options


cdef void step_part(void* what, Py_ssize_t i) noexcept nogil:
    cdef Job* job = <Job*>what
    job.step(job.parts + i, job.options)


cdef void run(Parts parts, Step of_float32, Step of_float64, const void* options, int threads):
    """Step all parts, those of float32 parameters first."""
    cdef Job job
    cdef int k
    job.options = options
    with nogil:
        for k in range(2):
            job.step, job.parts = of_float64 if k else of_float32, parts.parts[k]
            run_tasks(step_part, &job, parts.count[k], threads)


cdef inline bint apart(cnp.ndarray a, cnp.ndarray b) noexcept:
    # Surely without memory in common; of arrays with gaps it is not asked here.
    cdef char* first = cnp.PyArray_BYTES(a)
    cdef char* second = cnp.PyArray_BYTES(b)
    return (
        order_of(a) != 0 and order_of(b) != 0
        and (first + cnp.PyArray_NBYTES(a) <= second or second + cnp.PyArray_NBYTES(b) <= first))


def misfit(list params):
    """Whether a gradient needs another look.

    It is not surely a float array of the shape of its parameter, with memory of its own, or the parameter is read-only.
    """
    for param in params:
        grad, data = param.grad, param.data
        if grad is not None and not (
            type(grad) is cnp.ndarray and type(data) is cnp.ndarray and same_shape(grad, data)
            and cnp.PyArray_ISFLOAT(grad) and cnp.PyArray_ISWRITEABLE(data) and apart(grad, data)
        ):
            return True
    return False


# --- Adam -------------------------------------------------------------------------------------------------------------


def adam(
    list params, dict states, double lr, double beta1, double beta2, double eps, double weight_decay, bint amsgrad,
    bint maximize, bint decoupled, threads
):
    """Step all that have a gradient; return the parameters that are left for NumPy."""
    cdef AdamOptions options
    cdef Parts parts = Parts()
    cdef list rest = [], stepped = [], fresh = []
    cdef dict state
    cdef int order, used
    cdef long long t, known = -1
    cdef double size = 0.0, scale = 0.0
    cdef const Steps* steps = steps_of(vectors)
    for param in params:
        data, grad = param.data, param.grad
        if grad is None:
            continue
        state = states.get(param)
        order = order_to_step(data, grad)
        top = state.get("max_exp_avg_sq") if amsgrad and state else None
        if order == 0 or (
            state and not (
                beside(state["exp_avg"], data, order, True) and beside(state["exp_avg_sq"], data, order, True))
        ) or (top is not None and not beside(top, data, order, True)):
            rest.append(param)
            continue
        if not state:
            state = {"step": 0, "exp_avg": np.zeros_like(data), "exp_avg_sq": np.zeros_like(data)}
            fresh.append((param, state))
        if amsgrad and top is None:
            top = state["max_exp_avg_sq"] = np.zeros_like(data)
        t = state["step"] + 1
        stepped.append((state, t))
        if t != known:
            known = t
            size = lr / (1.0 - pow(beta1, <double>t))
            scale = 1.0 / sqrt(1.0 - pow(beta2, <double>t))
        parts.add(data, grad, state["exp_avg"], state["exp_avg_sq"], top, size, scale, False)
    used = threads(parts.nbytes)  # Python's: Ctrl-C may come here, and then no step has been counted
    for param, state in fresh:  # when no allocation can fail any more
        states[param] = state
    for state, t in stepped:
        state["step"] = t
    options.rate1, options.beta2, options.rate2, options.eps = 1.0 - beta1, beta2, 1.0 - beta2, eps
    options.sign = -1.0 if maximize else 1.0
    options.decays, options.decoupled = weight_decay != 0.0, decoupled
    options.decay = 1.0 - lr * weight_decay if decoupled else weight_decay
    run(parts, steps[0].adam, steps[1].adam, &options, used)
    return rest


# --- SGD --------------------------------------------------------------------------------------------------------------


def sgd(
    list params, dict states, double lr, double momentum, double dampening, double weight_decay, bint nesterov,
    bint maximize, threads
):
    """Step all that have a gradient; return the parameters that are left for NumPy."""
    cdef SgdOptions options
    cdef Parts parts = Parts()
    cdef list rest = [], begun = []
    cdef dict state
    cdef int order, used
    cdef bint fresh
    cdef const Steps* steps = steps_of(vectors)
    for param in params:
        data, grad = param.data, param.grad
        if grad is None:
            continue
        order = order_to_step(data, grad)
        buf = None
        fresh = False
        if momentum != 0.0:
            state = states.get(param)
            buf = state.get("momentum_buffer") if state else None
            fresh = buf is None
        if order == 0 or (buf is not None and not beside(buf, data, order, True)):
            rest.append(param)
            continue
        if fresh:
            buf = np.empty_like(data)
            begun.append((param, buf))
        parts.add(data, grad, buf, None, None, 0.0, 0.0, fresh)
    used = threads(parts.nbytes)  # Python's: Ctrl-C may come here, and then there is no momentum that was never written
    for param, buf in begun:  # when no allocation of size can fail any more
        states.setdefault(param, {})["momentum_buffer"] = buf
    options.sign = -1.0 if maximize else 1.0
    options.lr, options.momentum, options.rate = lr, momentum, 1.0 - dampening
    options.decay, options.decays, options.nesterov = weight_decay, weight_decay != 0.0, nesterov
    run(parts, steps[0].sgd, steps[1].sgd, &options, used)
    return rest


# --- the norm of gradients --------------------------------------------------------------------------------------------


def squares(array):
    """The sum of the squares of an array's values in float64; None where the array is not plain."""
    cdef const Steps* steps = steps_of(vectors)
    cdef const void* values
    cdef Py_ssize_t n
    cdef double total
    cdef int kind
    if order_of(array) == 0 or cnp.PyArray_TYPE(array) not in (cnp.NPY_FLOAT32, cnp.NPY_FLOAT64):
        return None
    kind = cnp.PyArray_TYPE(array) == cnp.NPY_FLOAT64
    values, n = cnp.PyArray_DATA(array), cnp.PyArray_SIZE(array)
    with nogil:
        total = steps[kind].squares(values, n)
    return total
