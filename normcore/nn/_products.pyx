"""The products of a fully connected layer, compiled: with few rows they beat BLAS, and each thread keeps its part.

BLAS packs both matrices anew in every call, which for a batch of 10 or 100 rows costs as much as the arithmetic. And
its threads share the work out otherwise than the optimiser's do: a step of Adam then reads the weights from the other
core's cache, three times as slowly. Here thread k has the k-th part of the weights in forward, gradient and step
(workers.h).

Whatever is not plain (contiguous, aligned, of the machine's own float32 or float64), or runs on a CPU without FMA, is
declined, for NumPy to compute.
"""

from libc.stdlib cimport free, malloc

cimport numpy as cnp

from normcore._compiled_pool cimport new_array
from normcore._workers cimport Task, run_tasks

cnp.import_array()

cdef extern from "loops/products.h":
    """
    #if NORMCORE_PRODUCTS_X86
    #define HAS_AVX2 (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"))
    #define HAS_AVX512 (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq") \
                        && __builtin_cpu_supports("avx512vl") && HAS_AVX2)
    #define products_of(vectors) ((vectors) == 2 ? normcore_products_avx512 : normcore_products_avx2)
    #else
    #define HAS_AVX2 0
    #define HAS_AVX512 0
    #define products_of(vectors) ((const Products *)0)
    #endif
    """
    enum:
        DEPTH
        WIDE
        TALL
        TASKS
        SHORT
        FEW
        STRIP
        HAS_AVX2
        HAS_AVX512
    ctypedef struct Product:
        const void* x
        const void* w
        const void* bias
        const void* dy
        void* y
        void* g
        void* dbias
        void* dx
        void* parts
        Py_ssize_t M
        Py_ssize_t N
        Py_ssize_t K
        Py_ssize_t depths
        Py_ssize_t tall
        Py_ssize_t talls
        Py_ssize_t shorts
        Py_ssize_t wides
        Py_ssize_t strips
    ctypedef struct Products:
        Task forward
        Task add_parts
        Task gradient
        Task input_gradient
        void (*bias_gradient)(void*) noexcept nogil
    const Products* products_of(int) noexcept nogil

cdef enum:
    SERIAL = 400000  # multiplications up to which a second thread gains nothing: some 8 us

cdef tuple VECTORS = ("none", "avx2", "avx512")
cdef int vectors = 2 if HAS_AVX512 else 1 if HAS_AVX2 else 0


def use_vectors(name):
    """Choose among "none", "avx2" and "avx512" what this CPU has; return the choice before. For tests."""
    global vectors
    cdef int wanted = VECTORS.index(name)
    if wanted > (2 if HAS_AVX512 else 1 if HAS_AVX2 else 0):
        raise ValueError(f"this CPU has no {name}")
    before = VECTORS[vectors]
    vectors = wanted
    return before


def usable():
    """Whether this CPU has what the loops are written for; else all is declined."""
    return vectors > 0


cdef bint plain(object array, int kind, int ndim, int order) noexcept:
    return (
        type(array) is cnp.ndarray and cnp.PyArray_TYPE(array) == kind and cnp.PyArray_NDIM(array) == ndim
        and cnp.PyArray_CHKFLAGS(array, order | cnp.NPY_ARRAY_ALIGNED) and cnp.PyArray_ISNOTSWAPPED(array))


cdef int kind_of_rows(object array) noexcept:
    # The dtype of an array that the loops take as x or dy; -1 for another.
    cdef int kind
    if vectors == 0 or type(array) is not cnp.ndarray:
        return -1
    kind = cnp.PyArray_TYPE(array)
    if kind not in (cnp.NPY_FLOAT32, cnp.NPY_FLOAT64) or not plain(array, kind, 2, cnp.NPY_ARRAY_C_CONTIGUOUS):
        return -1
    return kind


cdef Py_ssize_t parts_of(Py_ssize_t n, Py_ssize_t each) noexcept nogil:
    return (n + each - 1) // each


cdef inline int threads_of(object threads, Product* p) except -1:
    return 1 if <double>p.M * p.N * p.K < SERIAL else threads()


def forward(x, weight, bias, threads):
    """Return `x @ weight.T + bias`, or None for NumPy to do it.

    Parameters
    ----------
    x : (M, K) in C order
    weight : (N, K) in Fortran's order
    bias : (N,) or None
    threads : callable
        The number of threads for a large product.
    """
    cdef Product p
    cdef int kind = kind_of_rows(x), used
    cdef cnp.npy_intp shape[2]
    cdef cnp.ndarray y
    cdef const Products* loops
    cdef Py_ssize_t itemsize, tasks
    if (
        kind < 0 or not plain(weight, kind, 2, cnp.NPY_ARRAY_F_CONTIGUOUS)
        or (bias is not None and not plain(bias, kind, 1, cnp.NPY_ARRAY_C_CONTIGUOUS))
    ):
        return None
    p.M, p.K, p.N = cnp.PyArray_DIM(x, 0), cnp.PyArray_DIM(x, 1), cnp.PyArray_DIM(weight, 0)
    if (
        cnp.PyArray_DIM(weight, 1) != p.K or p.K == 0 or p.M == 0
        or (bias is not None and cnp.PyArray_DIM(bias, 0) != p.N)
    ):
        return None
    shape[0], shape[1] = p.M, p.N
    y = new_array(2, shape, kind)
    itemsize = cnp.PyArray_ITEMSIZE(y)
    p.x, p.w, p.y = cnp.PyArray_DATA(x), cnp.PyArray_DATA(weight), cnp.PyArray_DATA(y)
    p.bias = NULL if bias is None else cnp.PyArray_DATA(bias)
    p.depths, p.wides = parts_of(p.K, DEPTH), parts_of(p.N, WIDE)
    p.tall = max(<Py_ssize_t>TALL, parts_of(p.M, parts_of(TASKS, p.wides)))
    p.talls = parts_of(p.M, p.tall)
    p.shorts, p.parts = parts_of(p.M, SHORT), NULL
    used = threads_of(threads, &p)  # Python's: a signal may end the call here
    if p.depths > 1 and p.M * p.N <= FEW:
        p.parts = malloc(p.depths * p.M * p.N * itemsize)  # without it, another way to the same bits
    loops = products_of(vectors) + (kind == cnp.NPY_FLOAT64)
    with nogil:
        tasks = p.talls * p.wides if p.parts == NULL else p.depths
        run_tasks(loops.forward, &p, tasks, used)
        if p.parts != NULL:
            run_tasks(loops.add_parts, &p, p.shorts, used)
            free(p.parts)
    return y


def gradients(x, dy, dweight, dbias, threads):
    """Write `dy.T @ x` into dweight and `dy.sum(0)` into dbias; or return False, for NumPy to do it.

    Parameters
    ----------
    x, dy : (M, K) and (M, N) in C order
    dweight : (N, K) in Fortran's order
    dbias : (N,) or None
    threads : callable
        The number of threads for a large product.
    """
    cdef Product p
    cdef int kind = kind_of_rows(x), used
    cdef const Products* loops
    if (
        kind < 0 or not plain(dy, kind, 2, cnp.NPY_ARRAY_C_CONTIGUOUS)
        or not plain(dweight, kind, 2, cnp.NPY_ARRAY_F_CONTIGUOUS | cnp.NPY_ARRAY_WRITEABLE)
        or (dbias is not None and not plain(dbias, kind, 1, cnp.NPY_ARRAY_C_CONTIGUOUS | cnp.NPY_ARRAY_WRITEABLE))
    ):
        return False
    p.M, p.K, p.N = cnp.PyArray_DIM(x, 0), cnp.PyArray_DIM(x, 1), cnp.PyArray_DIM(dy, 1)
    if (
        p.M == 0 or cnp.PyArray_DIM(dy, 0) != p.M or cnp.PyArray_DIM(dweight, 0) != p.N
        or cnp.PyArray_DIM(dweight, 1) != p.K or (dbias is not None and cnp.PyArray_DIM(dbias, 0) != p.N)
    ):
        return False
    p.x, p.dy, p.g = cnp.PyArray_DATA(x), cnp.PyArray_DATA(dy), cnp.PyArray_DATA(dweight)
    p.dbias = NULL if dbias is None else cnp.PyArray_DATA(dbias)
    p.strips = parts_of(p.K, STRIP)
    loops = products_of(vectors) + (kind == cnp.NPY_FLOAT64)
    used = threads_of(threads, &p)
    with nogil:
        run_tasks(loops.gradient, &p, p.strips, used)
        if p.dbias != NULL:
            loops.bias_gradient(&p)
    return True


def input_gradient(dy, weight, threads):
    """Return `dy @ weight`, or None for NumPy to do it.

    Parameters
    ----------
    dy : (M, N) in C order
    weight : (N, K) in Fortran's order
    threads : callable
        The number of threads for a large product.
    """
    cdef Product p
    cdef int kind = kind_of_rows(dy), used
    cdef cnp.npy_intp shape[2]
    cdef cnp.ndarray dx
    cdef const Products* loops
    if kind < 0 or not plain(weight, kind, 2, cnp.NPY_ARRAY_F_CONTIGUOUS):
        return None
    p.M, p.N, p.K = cnp.PyArray_DIM(dy, 0), cnp.PyArray_DIM(dy, 1), cnp.PyArray_DIM(weight, 1)
    if cnp.PyArray_DIM(weight, 0) != p.N or p.N == 0 or p.M == 0:
        return None
    shape[0], shape[1] = p.M, p.K
    dx = new_array(2, shape, kind)
    p.dy, p.w, p.dx = cnp.PyArray_DATA(dy), cnp.PyArray_DATA(weight), cnp.PyArray_DATA(dx)
    p.strips = parts_of(p.K, STRIP)
    loops = products_of(vectors) + (kind == cnp.NPY_FLOAT64)
    used = threads_of(threads, &p)
    with nogil:
        run_tasks(loops.input_gradient, &p, p.strips, used)
    return dx
