"""The fast lane: a call that has been checked before, with other arrays of the same kind, in a microsecond.

The general way (planners, dispatcher) costs some ten microseconds of Python, which a large array does not notice and a
small one does. What it finds out about a call depends on the shape, the dtype and the options alone, and is in the
plan. So after a call went well, its plan is *learned*; a later call with the very same options (of the same types:
True is not 1 here) and an x of that shape and dtype finds it here. What differs from call to call, the arrays, is
checked here again, by the plainest test that is surely right: C-contiguous, aligned, of a dtype the kernels carry, and
no two apart from in-place use sharing a range of memory. Whatever does not pass goes the general way, which has the
sentences for mistakes; the lane refuses nothing and raises nothing.
"""

cimport cython
from cpython.contextvars cimport get_value
from cpython.list cimport PyList_SetItem
from cpython.ref cimport Py_INCREF
from libc.stdlib cimport free

cimport numpy as cnp

from normcore._compiled_pool cimport new_array
from normcore._context cimport NormContext
from normcore.backends.cython_kernels cimport (
    Array,
    Backward,
    Forward,
    Loops,
    RowBackward,
    RowForward,
    channels_backward_walk,
    channels_forward_walk,
    loops_of,
    rows_backward_walk,
    rows_forward_walk,
    scratch_memory,
    streams,
)

from normcore import _dispatch, _threads

cnp.import_array()

cdef enum:
    ENTRIES = 32  # learned plans; the oldest goes
    ON_STACK = 256  # parameters whose float64 copies need no allocation

cdef Py_ssize_t PARALLEL_BYTES = _threads.PARALLEL_BYTES
cdef object backend_variable = _dispatch.chosen_backend.variable
cdef int process_allows = -1  # not asked yet


cdef class Entry:
    """What a plan says, for C."""

    cdef object plan
    cdef str op
    cdef tuple options
    cdef int kind  # NumPy's number of the dtype
    cdef int storage
    cdef int ndim
    cdef cnp.npy_intp shape[8]
    cdef int parameter_axes
    cdef Py_ssize_t sizes[3]
    cdef Py_ssize_t groups, parameters
    cdef bint rows, training, centred
    cdef double eps, momentum, unbiased
    cdef int activation


# Threads look for an entry while another one learns, without the GIL too: so the list never changes its length, and
# what is in a place is replaced by one store.
cdef list entries = [None] * ENTRIES
cdef Py_ssize_t learned = 0
cdef object learning = object()  # whom the threads that learn wait for, where there is no GIL


cdef int storage_of_kind(int kind) noexcept:
    return 0 if kind == cnp.NPY_FLOAT32 else 1 if kind == cnp.NPY_FLOAT64 else 2 if kind == cnp.NPY_FLOAT16 else -1


def learn(plan, tuple options):
    """Remember the plan of a forward call that went well."""
    cdef Entry entry = Entry()
    cdef Py_ssize_t i
    if not plan.in_c_order or plan.copies or not plan.size or len(plan.shape) > 8:
        return
    for option in options:
        if type(option) is tuple and all(type(n) is int for n in option):
            continue
        if not (option is None or type(option) in (int, float, bool, str)):
            return
    if knows(plan, options):
        return
    entry.plan, entry.op, entry.options = plan, plan.op, options
    entry.kind = plan.dtype.num
    entry.storage = storage_of_kind(entry.kind)
    if entry.storage < 0:
        return
    entry.ndim = len(plan.shape)
    for i in range(entry.ndim):
        entry.shape[i] = plan.shape[i]
    entry.parameter_axes = len(plan.parameter_shape)
    for i in range(3):
        entry.sizes[i] = plan.sizes[i]
    entry.groups = plan.groups
    entry.parameters = 1
    for i in plan.parameter_shape:
        entry.parameters *= i
    entry.rows, entry.training, entry.centred = plan.walk == "rows", plan.training, plan.centred
    entry.eps, entry.momentum, entry.activation = plan.eps, plan.momentum, plan.activation
    entry.unbiased = plan.group_size / (plan.group_size - 1.0) if plan.group_size > 1 else 1.0
    keep(entry)


cdef bint knows(plan, tuple options) except -1:
    cdef Entry known
    for known in entries:
        if known is None:
            return False
        if known.plan is plan and same_options(known.options, options):
            return True
    return False


cdef int keep(Entry entry) except -1:
    global learned
    with cython.critical_section(learning):
        Py_INCREF(entry)  # PyList_SetItem takes it
        PyList_SetItem(entries, learned % ENTRIES, entry)
        learned += 1
    return 0


include "_lane_arrays.pxi"


cdef int threads_of(Py_ssize_t nbytes) except -1:
    if nbytes < PARALLEL_BYTES:
        return 1
    return _threads.about_to_use(_threads.threads_for(nbytes))


cdef bint is_open() except -1:
    # Whether the choice of a backend leaves the call to Cython.
    cdef object chosen = get_value(backend_variable)
    global process_allows
    if chosen is not None:
        return chosen == "cython"
    if process_allows < 0:
        process_allows = _dispatch.process_backend() in (None, "cython")
    return process_allows


# --- forward ----------------------------------------------------------------------------------------------------------


def forward(str op, tuple options, x, weight, bias, running_mean, running_var, out):
    """(y, ctx), or None where the call has to go the general way."""
    cdef Entry entry = None, candidate
    cdef cnp.ndarray y
    cdef bint in_place
    if not plain(x):
        return None
    for candidate in entries:
        if candidate is None:
            break
        if candidate.op is op and same_shape(x, candidate) and same_options(candidate.options, options):
            entry = candidate
            break
    if (
        entry is None or not is_parameter(weight, entry) or not is_parameter(bias, entry)
        or not running_fit(entry, x, weight, bias, running_mean, running_var) or not is_open()
    ):
        return None
    if out is None:
        y = new_array(entry.ndim, entry.shape, entry.kind)
    elif (
        plain_writable(out) and same_shape(out, entry)
        and (cnp.PyArray_DATA(out) == cnp.PyArray_DATA(x) or apart(out, x)) and apart_or_none(out, weight)
        and apart_or_none(out, bias) and apart_or_none(out, running_mean) and apart_or_none(out, running_var)
    ):
        y = out
    else:
        return None
    mean, rstd = vector(entry.groups, cnp.NPY_FLOAT64), vector(entry.groups, cnp.NPY_FLOAT64)
    in_place = out is not None and cnp.PyArray_DATA(y) == cnp.PyArray_DATA(x)
    result = y, context(entry, x, weight, bias, mean, rstd, in_place)  # before anything is written: it may fail
    run_forward(entry, x, weight, bias, running_mean, running_var, mean, rstd, y)
    return result


cdef bint same_options(tuple known, tuple given) except -1:
    # Of the same types and values: True is not 1 here. A tuple holds ints alone, as learn() made sure.
    cdef Py_ssize_t i
    for i in range(len(known)):
        if known[i] is given[i]:
            continue
        if type(known[i]) is not type(given[i]) or type(given[i]) is bool or known[i] != given[i]:
            return False
        if type(given[i]) is tuple and not all(type(n) is int for n in given[i]):
            return False
    return True


cdef bint running_fit(Entry entry, object x, object weight, object bias, object mean, object var) noexcept:
    if mean is None and var is None:
        return entry.training
    if entry.rows or mean is None or var is None or not is_parameter(mean, entry) or not is_parameter(var, entry):
        return False
    return not entry.training or (
        plain_writable(mean) and plain_writable(var) and apart(mean, var) and apart(mean, x) and apart(var, x)
        and apart_or_none(mean, weight) and apart_or_none(mean, bias) and apart_or_none(var, weight)
        and apart_or_none(var, bias))


cdef NormContext context(Entry entry, x, weight, bias, mean, rstd, bint overwritten):
    cdef NormContext ctx = NormContext.__new__(NormContext)
    ctx.plan = entry.plan
    ctx.x = x
    ctx.weight = weight
    ctx.bias = bias if entry.activation else None
    ctx.bias_dtype = None if bias is None else bias.dtype
    ctx.mean = mean
    ctx.rstd = rstd
    ctx.overwritten = overwritten
    return ctx


cdef int run_forward(
    Entry entry, cnp.ndarray x, object weight, object bias, object running_mean, object running_var, cnp.ndarray mean,
    cnp.ndarray rstd, cnp.ndarray y
) except -1:
    cdef double on_stack[3 * ON_STACK]
    cdef double* scratch = on_stack
    cdef Py_ssize_t need = 2 * entry.parameters + entry.groups
    cdef int num_threads = threads_of(cnp.PyArray_NBYTES(x))
    cdef const Loops* f = loops_of(entry.storage)
    cdef Forward o
    cdef RowForward r
    cdef Array x_ = array_of(x), y_ = array_of(y)
    if need > 3 * ON_STACK:
        scratch = <double*>scratch_memory(need * sizeof(double))
    try:
        as_doubles(weight, 1.0, entry.parameters, scratch)
        as_doubles(bias, 0.0, entry.parameters, scratch + entry.parameters)
        if entry.rows:
            r.x, r.y, r.weight, r.bias = x_, y_, scratch, scratch + entry.parameters
            r.mean, r.rstd = <double*>cnp.PyArray_DATA(mean), <double*>cnp.PyArray_DATA(rstd)
            r.var = scratch + 2 * entry.parameters
            r.eps, r.centred, r.activation, r.stream = entry.eps, entry.centred, entry.activation, streams(y_, x_, x_)
            with nogil:
                rows_forward_walk(
                    f, &r, entry.sizes[0], entry.sizes[1], entry.sizes[2], entry.parameters, num_threads)
        else:
            o.x, o.y, o.weight, o.bias = x_, y_, scratch, scratch + entry.parameters
            o.mean, o.rstd = <double*>cnp.PyArray_DATA(mean), <double*>cnp.PyArray_DATA(rstd)
            o.var = scratch + 2 * entry.parameters
            o.eps, o.training, o.activation, o.stream = entry.eps, entry.training, entry.activation, streams(y_, x_, x_)
            if not entry.training:
                as_doubles(running_mean, 0.0, entry.groups, o.mean)
                as_doubles(running_var, 1.0, entry.groups, o.var)
            with nogil:
                channels_forward_walk(f, &o, entry.sizes[0], entry.sizes[1], entry.sizes[2], num_threads)
            if entry.training and running_mean is not None:
                update(entry, o.mean, 1.0, running_mean)
                update(entry, o.var, entry.unbiased, running_var)
    finally:
        if scratch != on_stack:
            free(scratch)
    return 0


cdef void update(Entry entry, const double* batch, double factor, cnp.ndarray running) noexcept:
    # new = (1 - momentum) * old + momentum * batch, the variance unbiased
    cdef Py_ssize_t i
    cdef double keep = 1.0 - entry.momentum
    cdef float* narrow
    cdef double* wide
    if cnp.PyArray_TYPE(running) == cnp.NPY_FLOAT32:
        narrow = <float*>cnp.PyArray_DATA(running)
        for i in range(entry.groups):
            narrow[i] = <float>(keep * narrow[i] + entry.momentum * (batch[i] * factor))
    else:
        wide = <double*>cnp.PyArray_DATA(running)
        for i in range(entry.groups):
            wide[i] = keep * wide[i] + entry.momentum * (batch[i] * factor)


# --- backward ---------------------------------------------------------------------------------------------------------


def backward(str op, dy, ctx, out):
    """(dx, dweight, dbias), or None where the call has to go the general way."""
    cdef NormContext known
    cdef Entry entry = None, candidate
    cdef cnp.ndarray dx
    if not plain(dy) or type(ctx) is not NormContext:
        return None
    known = <NormContext>ctx
    plan = known.plan
    for candidate in entries:
        if candidate is None:
            break
        if candidate.plan is plan:
            entry = candidate
            break
    if entry is None or entry.op is not op or known.overwritten or not same_shape(dy, entry):
        return None
    x, weight, bias, mean, rstd = known.x, known.weight, known.bias, known.mean, known.rstd
    if (
        not plain(x) or not same_shape(x, entry) or not is_parameter(weight, entry) or not is_parameter(bias, entry)
        or not is_statistic(mean, entry) or not is_statistic(rstd, entry) or not is_open()
    ):
        return None
    if out is None:
        dx = new_array(entry.ndim, entry.shape, entry.kind)
    elif (
        plain_writable(out) and same_shape(out, entry)
        and (cnp.PyArray_DATA(out) == cnp.PyArray_DATA(dy) or apart(out, dy)) and apart(out, x)
        and apart_or_none(out, weight) and apart_or_none(out, bias) and apart(out, mean) and apart(out, rstd)
    ):
        dx = out
    else:
        return None
    bias_dtype = known.bias_dtype
    dweight = None if weight is None else vector(entry.parameters, cnp.PyArray_TYPE(weight))
    dbias = None
    if bias_dtype is not None:
        if (
            entry.parameter_axes != 1 or not isinstance(bias_dtype, cnp.dtype)
            or bias_dtype.num not in (cnp.NPY_FLOAT32, cnp.NPY_FLOAT64)
        ):
            return None
        dbias = vector(entry.parameters, bias_dtype.num)
    run_backward(entry, dy, x, weight, bias, mean, rstd, dx, dweight, dbias)
    return dx, dweight, dbias


cdef int run_backward(
    Entry entry, cnp.ndarray dy, cnp.ndarray x, object weight, object bias, cnp.ndarray mean, cnp.ndarray rstd,
    cnp.ndarray dx, object dweight, object dbias
) except -1:
    cdef double on_stack[4 * ON_STACK]
    cdef double* scratch = on_stack
    cdef Py_ssize_t n = entry.parameters
    cdef int num_threads = threads_of(cnp.PyArray_NBYTES(x))
    cdef const Loops* f = loops_of(entry.storage)
    cdef Backward o
    cdef RowBackward r
    cdef Array x_ = array_of(x), dy_ = array_of(dy), dx_ = array_of(dx)
    cdef bint stream = not entry.activation and streams(dx_, dy_, x_)
    if n > ON_STACK:
        scratch = <double*>scratch_memory(4 * n * sizeof(double))
    try:
        as_doubles(weight, 1.0, n, scratch)
        as_doubles(bias, 0.0, n, scratch + n)
        if entry.rows:
            r.dy, r.x, r.dx, r.weight, r.bias = dy_, x_, dx_, scratch, scratch + n
            r.mean, r.rstd = <double*>cnp.PyArray_DATA(mean), <double*>cnp.PyArray_DATA(rstd)
            r.dweight, r.dbias = scratch + 2 * n, scratch + 3 * n
            r.centred, r.activation, r.stream = entry.centred, entry.activation, stream
            with nogil:
                rows_backward_walk(f, &r, entry.sizes[0], entry.sizes[1], entry.sizes[2], n, num_threads)
        else:
            o.dy, o.x, o.dx, o.weight, o.bias = dy_, x_, dx_, scratch, scratch + n
            o.mean, o.rstd = <double*>cnp.PyArray_DATA(mean), <double*>cnp.PyArray_DATA(rstd)
            o.dweight, o.dbias = scratch + 2 * n, scratch + 3 * n
            o.training, o.activation, o.stream = entry.training, entry.activation, stream
            with nogil:
                channels_backward_walk(f, &o, entry.sizes[0], entry.sizes[1], entry.sizes[2], num_threads)
        if dweight is not None:
            from_doubles(scratch + 2 * n, n, dweight)
        if dbias is not None:
            from_doubles(scratch + 3 * n, n, dbias)
    finally:
        if scratch != on_stack:
            free(scratch)
    return 0
