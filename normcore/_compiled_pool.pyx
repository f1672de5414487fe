"""Arrays for results, from a small pool of memory (``pool.h``)."""

cimport numpy as cnp

import numpy as np

cdef extern from *:
    """
    #include "pool.h"
    """
    ctypedef struct Pool:
        size_t limit
    Pool pool_of_results
    void pool_set_limit(size_t limit)
    size_t pool_held()
    object pool_capsule()

cdef extern from "numpy/arrayobject.h":
    object PyDataMem_SetHandler(object handler)

cnp.import_array()

cdef object handler = pool_capsule()


cdef object new_array(int ndim, cnp.npy_intp* shape, int kind):
    # as PyArray_EMPTY
    cdef cnp.npy_intp nbytes = cnp.PyArray_DescrFromType(kind).itemsize
    cdef int i
    for i in range(ndim):
        nbytes *= shape[i]
    if nbytes < POOLED:
        return cnp.PyArray_EMPTY(ndim, shape, kind, 0)
    before = PyDataMem_SetHandler(handler)
    try:
        return cnp.PyArray_EMPTY(ndim, shape, kind, 0)
    finally:
        PyDataMem_SetHandler(before)


def empty(shape, dtype):
    """``np.empty``, for a result."""
    before = PyDataMem_SetHandler(handler)
    try:
        return np.empty(shape, dtype)
    finally:
        PyDataMem_SetHandler(before)


def get_limit():
    """Bytes that may be kept."""
    return pool_of_results.limit


def set_limit(size_t nbytes):
    """Keep no more than that, from now on; what is beyond it is freed."""
    pool_set_limit(nbytes)


def held():
    """Bytes that are kept now."""
    return pool_held()
