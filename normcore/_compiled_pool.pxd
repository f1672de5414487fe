cimport numpy as cnp

cdef enum:
    POOLED = 262144  # bytes from which on a result comes from the pool: below, malloc has memory at hand

cdef object new_array(int ndim, cnp.npy_intp* shape, int kind)
