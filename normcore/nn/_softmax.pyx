"""Cross-entropy of integer classes for small outputs, compiled: NumPy's dozen calls take longer than the arithmetic.

Whatever is not plain (contiguous, aligned, of the machine's own float32 or float64) or is large is declined by None,
for NumPy to compute.
"""

from libc.math cimport exp, log

cimport numpy as cnp

cnp.import_array()

cdef extern from *:
    """
    #define REGISTER 16
    #define WIDTH 2
    #include "loops/vectors.h"
    #include "loops/activation.h"
    static void exponentials(float *x, ptrdiff_t n) {
        for (ptrdiff_t i = 0; i < n; i++) x[i] = exp_float(x[i]);
    }
    static inline void not_needed_here(void) { (void)add_lanes, (void)stream_end, (void)not_needed_here; }
    """
    void exponentials(float* x, Py_ssize_t n) noexcept nogil

cdef enum:
    LARGE = 16384  # values from which NumPy's calls no longer matter

ctypedef fused real:
    float
    double


cdef bint plain(object array) noexcept:
    return (
        type(array) is cnp.ndarray and cnp.PyArray_CHKFLAGS(array, cnp.NPY_ARRAY_CARRAY_RO)
        and cnp.PyArray_ISNOTSWAPPED(array))


cdef bint shift_rows(
    const real* x, const cnp.npy_intp* classes, Py_ssize_t rows, Py_ssize_t n, real* z, real* loss
) noexcept nogil:
    # z = x - max(x) for each row, and loss that of its class; whether all classes are columns.
    cdef Py_ssize_t i, j, which
    cdef real largest
    for i in range(rows):
        which = classes[i]
        if which < 0 or which >= n:
            return False
        largest = x[i * n]
        for j in range(1, n):
            largest = x[i * n + j] if x[i * n + j] > largest else largest
        for j in range(n):
            z[i * n + j] = x[i * n + j] - largest
        loss[i] = z[i * n + which]
    return True


cdef void finish_rows(real* z, Py_ssize_t rows, Py_ssize_t n, real* total, real* loss) noexcept nogil:
    # z becomes exp(z), and loss log(sum(exp(z))) - loss.
    cdef Py_ssize_t i, j
    cdef double s
    if real is float:
        exponentials(z, rows * n)
    else:
        for i in range(rows * n):
            z[i] = exp(z[i])
    for i in range(rows):
        s = 0.0
        for j in range(n):
            s += z[i * n + j]
        total[i] = <real>s
        loss[i] = <real>(log(s) - loss[i])


cdef bint gradient_rows(
    const real* exponential, const real* total, const cnp.npy_intp* classes, Py_ssize_t rows, Py_ssize_t n,
    double scale, real* dy
) noexcept nogil:
    # Whether all classes are columns.
    cdef Py_ssize_t i, j, which
    cdef real factor
    for i in range(rows):
        which = classes[i]
        if which < 0 or which >= n:
            return False
        factor = <real>(scale / total[i])
        for j in range(n):
            dy[i * n + j] = exponential[i * n + j] * factor
        dy[i * n + which] -= <real>scale
    return True


def losses(output, target):
    """(loss of each row, exp(output - max), its sum over each row), or None."""
    cdef cnp.npy_intp rows, n
    cdef cnp.ndarray z, total, loss
    cdef int kind
    if not plain(output) or not plain(target) or cnp.PyArray_NDIM(output) != 2 or cnp.PyArray_NDIM(target) != 1:
        return None
    kind, rows, n = cnp.PyArray_TYPE(output), cnp.PyArray_DIM(output, 0), cnp.PyArray_DIM(output, 1)
    if (
        kind not in (cnp.NPY_FLOAT32, cnp.NPY_FLOAT64) or cnp.PyArray_TYPE(target) != cnp.NPY_INTP
        or cnp.PyArray_DIM(target, 0) != rows or n == 0 or rows * n > LARGE
    ):
        return None
    z = cnp.PyArray_EMPTY(2, cnp.PyArray_DIMS(output), kind, 0)
    total, loss = cnp.PyArray_EMPTY(1, &rows, kind, 0), cnp.PyArray_EMPTY(1, &rows, kind, 0)
    if kind == cnp.NPY_FLOAT32:
        fits = losses_of[float](
            <float*>cnp.PyArray_DATA(output), target, rows, n, <float*>cnp.PyArray_DATA(z),
            <float*>cnp.PyArray_DATA(total), <float*>cnp.PyArray_DATA(loss))
    else:
        fits = losses_of[double](
            <double*>cnp.PyArray_DATA(output), target, rows, n, <double*>cnp.PyArray_DATA(z),
            <double*>cnp.PyArray_DATA(total), <double*>cnp.PyArray_DATA(loss))
    return (loss, z, total) if fits else None


cdef bint losses_of(
    const real* x, cnp.ndarray target, Py_ssize_t rows, Py_ssize_t n, real* z, real* total, real* loss
) noexcept:
    if not shift_rows(x, <cnp.npy_intp*>cnp.PyArray_DATA(target), rows, n, z, loss):
        return False
    finish_rows(z, rows, n, total, loss)
    return True


def gradient(exponential, total, target, double scale):
    """`scale * (exponential / total - onehot(target))` for plain arrays, integer classes; or None."""
    cdef cnp.npy_intp rows, n
    cdef cnp.ndarray dy
    cdef int kind
    # Checked again: the target is the caller's, who may have changed it since.
    if not plain(exponential) or not plain(total) or not plain(target) or cnp.PyArray_NDIM(exponential) != 2:
        return None
    kind = cnp.PyArray_TYPE(exponential)
    rows, n = cnp.PyArray_DIM(exponential, 0), cnp.PyArray_DIM(exponential, 1)
    if (
        kind not in (cnp.NPY_FLOAT32, cnp.NPY_FLOAT64) or cnp.PyArray_TYPE(total) != kind
        or cnp.PyArray_SIZE(total) != rows or cnp.PyArray_TYPE(target) != cnp.NPY_INTP
        or cnp.PyArray_NDIM(target) != 1 or cnp.PyArray_DIM(target, 0) != rows
    ):
        return None
    dy = cnp.PyArray_EMPTY(2, cnp.PyArray_DIMS(exponential), kind, 0)
    cdef const cnp.npy_intp* classes = <cnp.npy_intp*>cnp.PyArray_DATA(target)
    if kind == cnp.NPY_FLOAT32:
        fits = gradient_rows(
            <float*>cnp.PyArray_DATA(exponential), <float*>cnp.PyArray_DATA(total), classes, rows, n, scale,
            <float*>cnp.PyArray_DATA(dy))
    else:
        fits = gradient_rows(
            <double*>cnp.PyArray_DATA(exponential), <double*>cnp.PyArray_DATA(total), classes, rows, n, scale,
            <double*>cnp.PyArray_DATA(dy))
    return dy if fits else None
