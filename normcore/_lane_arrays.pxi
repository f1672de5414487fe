# The arrays of a call, for C: whether they are what an entry was learned with, and their values as float64.


cdef inline bint plain(object array) noexcept:
    return (
        type(array) is cnp.ndarray and cnp.PyArray_CHKFLAGS(array, cnp.NPY_ARRAY_CARRAY_RO)
        and cnp.PyArray_ISNOTSWAPPED(array))


cdef inline bint plain_writable(object array) noexcept:
    return plain(array) and cnp.PyArray_CHKFLAGS(array, cnp.NPY_ARRAY_CARRAY)


cdef inline bint same_shape(cnp.ndarray array, Entry entry) noexcept:
    cdef int i
    if cnp.PyArray_NDIM(array) != entry.ndim or cnp.PyArray_TYPE(array) != entry.kind:
        return False
    for i in range(entry.ndim):
        if cnp.PyArray_DIM(array, i) != entry.shape[i]:
            return False
    return True


cdef inline bint is_parameter(object array, Entry entry) noexcept:
    # A vector as the plan wants it; parameters with more axes are the general way's.
    return array is None or (
        plain(array) and entry.parameter_axes == 1 and cnp.PyArray_NDIM(array) == 1
        and cnp.PyArray_DIM(array, 0) == entry.parameters
        and cnp.PyArray_TYPE(array) in (cnp.NPY_FLOAT32, cnp.NPY_FLOAT64))


cdef inline bint is_statistic(object array, Entry entry) noexcept:
    # The context's attributes are the user's to set.
    return (
        plain(array) and cnp.PyArray_TYPE(array) == cnp.NPY_FLOAT64 and cnp.PyArray_NDIM(array) == 1
        and cnp.PyArray_DIM(array, 0) == entry.groups)


cdef inline bint apart(cnp.ndarray a, cnp.ndarray b) noexcept:
    cdef char* first = <char*>cnp.PyArray_DATA(a)
    cdef char* second = <char*>cnp.PyArray_DATA(b)
    return first + cnp.PyArray_NBYTES(a) <= second or second + cnp.PyArray_NBYTES(b) <= first


cdef inline bint apart_or_none(cnp.ndarray a, object b) noexcept:
    return b is None or apart(a, b)


cdef inline void as_doubles(object array, double absent, Py_ssize_t n, double* to) noexcept:
    cdef Py_ssize_t i
    cdef float* narrow
    cdef double* wide
    if array is None:
        for i in range(n):
            to[i] = absent
    elif cnp.PyArray_TYPE(array) == cnp.NPY_FLOAT32:
        narrow = <float*>cnp.PyArray_DATA(array)
        for i in range(n):
            to[i] = narrow[i]
    else:
        wide = <double*>cnp.PyArray_DATA(array)
        for i in range(n):
            to[i] = wide[i]


cdef inline void from_doubles(const double* values, Py_ssize_t n, cnp.ndarray to) noexcept:
    cdef Py_ssize_t i
    cdef float* narrow
    cdef double* wide
    if cnp.PyArray_TYPE(to) == cnp.NPY_FLOAT32:
        narrow = <float*>cnp.PyArray_DATA(to)
        for i in range(n):
            narrow[i] = <float>values[i]
    else:
        wide = <double*>cnp.PyArray_DATA(to)
        for i in range(n):
            wide[i] = values[i]


cdef inline Array array_of(cnp.ndarray array) noexcept:
    cdef Array a
    a.data = <char*>cnp.PyArray_DATA(array)
    a.itemsize = cnp.PyArray_ITEMSIZE(array)
    a.size = cnp.PyArray_SIZE(array)
    return a


cdef inline object vector(Py_ssize_t n, int kind):
    cdef cnp.npy_intp size = n
    return cnp.PyArray_EMPTY(1, &size, kind, 0)
