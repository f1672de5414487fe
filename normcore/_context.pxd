"""The attributes of the compiled context, for the fast lane."""

cdef class NormContext:
    cdef public object plan
    cdef public object x
    cdef public object weight
    cdef public object bias
    cdef public object bias_dtype
    cdef public object mean
    cdef public object rstd
    cdef public bint overwritten
