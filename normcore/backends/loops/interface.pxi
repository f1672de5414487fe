# What Python calls: the interface of every backend (backends/__init__.py), for one kind of storage each.


def _available():
    """Kinds of vectors that this CPU has, the widest last."""
    return ("baseline", *(["avx2"] if HAS_AVX2 else []), *(["avx512"] if HAS_AVX512 else []))


VECTORS = _available()
cdef int _vectors = len(VECTORS) - 1


def vectors():
    """The kind of vectors in use."""
    return VECTORS[_vectors]


def use_vectors(name):
    """Use another kind of vectors from now on; for tests and measurements. Returns the one that was in use."""
    global _vectors
    if name not in VECTORS:
        raise ValueError(f"name must be one of {', '.join(VECTORS)}, the kinds that this CPU has, got {name!r}")
    before = VECTORS[_vectors]
    _vectors = VECTORS.index(name)
    return before


STORAGES = {"float32": 0, "float64": 1, "float16": 2, "bfloat16": 3}


cdef const Loops* loops_of(int storage) noexcept nogil:
    return &normcore_loops_of(_vectors)[storage]


cdef inline Array storage_of(x, Py_ssize_t itemsize):
    # Any dtype as bytes: NumPy's buffer protocol does not know bfloat16.
    cdef const unsigned char[::1] view = x.reshape(-1).view(np.uint8)
    cdef Array a
    a.data = <char*>&view[0]
    a.itemsize = itemsize
    a.size = view.shape[0] // itemsize
    return a


class _Kernels:
    """The loops for one kind of storage, bound to its number."""

    def __init__(self, storage):
        self.storage = storage

    def channels_stats(self, x, double[::1] mean, double[::1] var, int num_threads):
        cdef const Loops* f = loops_of(self.storage)
        cdef Py_ssize_t outer = x.shape[0], channels = x.shape[1], inner = x.shape[2]
        cdef Forward o
        memset(&o, 0, sizeof(o))
        o.x = storage_of(x, f.itemsize)
        o.mean, o.var, o.training = &mean[0], &var[0], True
        with nogil:
            channels_forward_walk(f, &o, outer, channels, inner, num_threads)

    def channels_forward(
        self, x, const double[::1] weight, const double[::1] bias, double[::1] mean, double[::1] var, double[::1] rstd,
        y, double eps, bint training, int activation, int num_threads
    ):
        cdef const Loops* f = loops_of(self.storage)
        cdef Py_ssize_t outer = x.shape[0], channels = x.shape[1], inner = x.shape[2]
        cdef Forward o
        o.x, o.y = storage_of(x, f.itemsize), storage_of(y, f.itemsize)
        o.weight, o.bias, o.mean, o.var, o.rstd = &weight[0], &bias[0], &mean[0], &var[0], &rstd[0]
        o.eps, o.training, o.activation = eps, training, activation
        o.stream = streams(o.y, o.x, o.x)
        with nogil:
            channels_forward_walk(f, &o, outer, channels, inner, num_threads)

    def channels_backward(
        self, dy, x, const double[::1] weight, const double[::1] bias, const double[::1] mean, const double[::1] rstd,
        dx, double[::1] dweight, double[::1] dbias, bint training, int activation, int num_threads
    ):
        cdef const Loops* f = loops_of(self.storage)
        cdef Py_ssize_t outer = x.shape[0], channels = x.shape[1], inner = x.shape[2]
        cdef Backward o
        o.dy, o.x, o.dx = storage_of(dy, f.itemsize), storage_of(x, f.itemsize), storage_of(dx, f.itemsize)
        o.weight, o.bias, o.mean, o.rstd = &weight[0], &bias[0], &mean[0], &rstd[0]
        o.dweight, o.dbias, o.training, o.activation = &dweight[0], &dbias[0], training, activation
        o.stream = not activation and streams(o.dx, o.dy, o.x)
        with nogil:
            channels_backward_walk(f, &o, outer, channels, inner, num_threads)

    def rows_forward(
        self, x, const double[::1] weight, const double[::1] bias, double[::1] mean, double[::1] var, double[::1] rstd,
        y, double eps, bint centred, int activation, int num_threads
    ):
        cdef const Loops* f = loops_of(self.storage)
        cdef Py_ssize_t parameters = weight.shape[0]
        cdef Py_ssize_t rows = x.shape[0], segments = x.shape[1], inner = x.shape[2]
        cdef RowForward o
        o.x, o.y = storage_of(x, f.itemsize), storage_of(y, f.itemsize)
        o.weight, o.bias, o.mean, o.var, o.rstd = &weight[0], &bias[0], &mean[0], &var[0], &rstd[0]
        o.eps, o.centred, o.activation, o.stream = eps, centred, activation, streams(o.y, o.x, o.x)
        with nogil:
            rows_forward_walk(f, &o, rows, segments, inner, parameters, num_threads)

    def rows_backward(
        self, dy, x, const double[::1] weight, const double[::1] bias, const double[::1] mean, const double[::1] rstd,
        dx, double[::1] dweight, double[::1] dbias, bint centred, int activation, int num_threads
    ):
        cdef const Loops* f = loops_of(self.storage)
        cdef Py_ssize_t parameters = weight.shape[0]
        cdef Py_ssize_t rows = x.shape[0], segments = x.shape[1], inner = x.shape[2]
        cdef RowBackward o
        o.dy, o.x, o.dx = storage_of(dy, f.itemsize), storage_of(x, f.itemsize), storage_of(dx, f.itemsize)
        o.weight, o.bias, o.mean, o.rstd = &weight[0], &bias[0], &mean[0], &rstd[0]
        o.dweight, o.dbias, o.centred, o.activation = &dweight[0], &dbias[0], centred, activation
        o.stream = not activation and streams(o.dx, o.dy, o.x)
        with nogil:
            rows_backward_walk(f, &o, rows, segments, inner, parameters, num_threads)


def declines(walk, dtype, activation=0):
    """Why this backend cannot carry such a call, or None."""
    if dtype.name not in STORAGES:
        return f"is compiled for {', '.join(STORAGES)}, not {dtype.name}"
    return None


def kernels(dtype):
    """The loops for one dtype."""
    bound = _Kernels(STORAGES[dtype.name])
    return Kernels(
        bound.channels_stats, bound.channels_forward, bound.channels_backward, bound.rows_forward, bound.rows_backward)
