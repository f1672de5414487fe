# The rows walk: (R, K, L), each row one statistics group of K segments of L contiguous values. The parameter of segment
# k in row r is number (r * K + k) % P. Layer and RMS norm have L = 1 and a parameter for every value of a row.
#
# Short rows go through the loops several at a time, and so do short segments.


cdef struct Rows:
    # The walk, how it is cut, and weight and bias as float32 (or NULL).
    Py_ssize_t rows
    Py_ssize_t segments
    Py_ssize_t inner
    Py_ssize_t parameters
    Py_ssize_t size  # values of a row
    Py_ssize_t block  # rows that go through the loops together
    Py_ssize_t task  # rows that a thread takes at a time
    Py_ssize_t tasks
    Py_ssize_t step  # rows that stay in cache through the passes of backward
    Py_ssize_t strip  # rows of a task where parameters' gradients are summed, and their number
    Py_ssize_t strips
    double count
    float* weight32  # divided by lift
    float* bias32
    float* whole32  # of a backward pass: weight32 not divided
    double lift


cdef Rows cut_rows(
    Py_ssize_t rows, Py_ssize_t segments, Py_ssize_t inner, Py_ssize_t parameters, Py_ssize_t itemsize
) noexcept nogil:
    cdef Rows w
    cdef Py_ssize_t most
    w.rows, w.segments, w.inner, w.parameters = rows, segments, inner, parameters
    w.size = segments * inner
    w.count = <double>w.size
    w.weight32 = w.bias32 = NULL
    w.whole32 = NULL
    w.lift = 1.0
    w.block = max(<Py_ssize_t>1, min(<Py_ssize_t>MAX_BLOCK, ROWS_BYTES // (w.size * itemsize)))
    w.task = w.block * max(<Py_ssize_t>1, 65536 // (w.block * w.size * itemsize))
    w.tasks = (rows + w.task - 1) // w.task
    most = min(<Py_ssize_t>MAX_PIECES, max(<Py_ssize_t>4, 262144 // w.size))  # partial sums stay within 4 MB
    # a strip's own sums are worth some dozen rows; a few strips there should be for the threads
    w.step = max(w.block, min(<Py_ssize_t>FLOAT_SUMS, 32768 // (w.size * itemsize)))
    w.strip = max(w.step, (rows + most - 1) // most, min(<Py_ssize_t>32, (rows + 3) // 4))
    w.strips = (rows + w.strip - 1) // w.strip
    return w


cdef inline Py_ssize_t first_parameter(const Rows* w, Py_ssize_t r) noexcept nogil:
    return r * w.segments % w.parameters


cdef inline bint share_parameters(const Rows* w) noexcept nogil:
    # Whether all rows have the same: not in group norm.
    return w.parameters == w.segments


cdef inline Affine affine_of_values(
    const Rows* w, Py_ssize_t r, Py_ssize_t k, const double* mean, const double* rstd, const double* weight,
    const double* bias, int activation, bint stream
) noexcept nogil:
    # For values from number k of row r on, each with a weight and bias of its own.
    cdef Affine to
    cdef Py_ssize_t parameter = first_parameter(w, r) + k
    to.mean, to.scale, to.bias = mean + r, rstd + r, NULL
    to.weights, to.biases = weight + parameter, bias + parameter
    to.weights32 = to.biases32 = NULL
    to.lift, to.activation, to.narrow, to.stream = w.lift, activation, w.weight32 != NULL, stream
    if to.narrow:
        to.weights32, to.biases32 = w.weight32 + parameter, w.bias32 + parameter
    return to


cdef struct Segment:
    # Number, row, segment of the row, parameter: moved on by `advance`, for divisions take as long as short segments.
    Py_ssize_t t
    Py_ssize_t r
    Py_ssize_t k
    Py_ssize_t parameter


cdef inline Segment segment_number(const Rows* w, Py_ssize_t t) noexcept nogil:
    cdef Segment s
    s.t, s.r, s.k, s.parameter = t, t // w.segments, t % w.segments, t % w.parameters
    return s


cdef inline void advance(const Rows* w, Segment* s) noexcept nogil:
    s.t += 1
    s.k += 1
    s.parameter += 1
    if s.k == w.segments:
        s.k = 0
        s.r += 1
    if s.parameter == w.parameters:
        s.parameter = 0


cdef Affine affine_of_segments(
    const Rows* w, Py_ssize_t t, Py_ssize_t n, const double* mean, const double* rstd, const double* weight,
    const double* bias, int activation, bint stream, double* numbers
) noexcept nogil:
    # For n segments from number t of all on; `numbers` is double[3][MAX_BLOCK].
    cdef Affine to
    cdef Py_ssize_t i
    cdef Segment s = segment_number(w, t)
    for i in range(n):
        numbers[i] = mean[s.r]
        numbers[MAX_BLOCK + i] = rstd[s.r] * weight[s.parameter]
        numbers[2 * MAX_BLOCK + i] = bias[s.parameter]
        advance(w, &s)
    to.mean, to.scale, to.bias = numbers, numbers + MAX_BLOCK, numbers + 2 * MAX_BLOCK
    to.weights = to.biases = NULL
    to.weights32 = to.biases32 = NULL
    to.lift, to.activation, to.narrow, to.stream = 1.0, activation, True, stream
    return to


# --- forward ----------------------------------------------------------------------------------------------------------


cdef void moments_of_rows(
    const Loops* f, const RowForward* o, const Rows* w, Py_ssize_t r, Py_ssize_t n, const double* shift, double* s1,
    double* s2
) noexcept nogil:
    # of rows r..r+n-1; more than one only where a row is a single piece
    cdef Py_ssize_t first = 0, size
    memset(s1, 0, n * sizeof(double))
    memset(s2, 0, n * sizeof(double))
    while first < w.size:
        size = min(<Py_ssize_t>PIECE, w.size - first)
        f.moments(at(o.x, r * w.size + first, n * size), n, size, shift, s1, s2)
        first += size


cdef inline void first_shifts(
    const Loops* f, const RowForward* o, const Rows* w, Py_ssize_t r, Py_ssize_t n, double* shift
) noexcept nogil:
    cdef Py_ssize_t i
    for i in range(n):
        shift[i] = first_shift(f, o.x, (r + i) * w.size, w.size, 1, w.size) if o.centred else 0.0


cdef bint finish_rows(
    const Loops* f, const RowForward* o, const Rows* w, Py_ssize_t r, Py_ssize_t n, double* shift, const double* s1,
    const double* s2
) noexcept nogil:
    # mean, var and rstd; whether to sum again, with the better shifts that are in place then
    cdef Py_ssize_t i
    cdef double better
    cdef bint again = False
    if o.centred:
        finish_moments(shift, s1, s2, n, w.count, o.mean + r, o.var + r)
        for i in range(n):
            better = second_shift(f, shift[i], o.mean[r + i], o.var[r + i])
            again = again or better != shift[i]
            shift[i] = better
    else:
        for i in range(n):
            o.mean[r + i] = 0.0
            o.var[r + i] = s2[i] / w.count
    finish_rstd(o.var + r, n, o.eps, o.rstd + r)
    return again


cdef void write_values(
    const Loops* f, const RowForward* o, const Rows* w, Py_ssize_t r, Py_ssize_t n, Py_ssize_t k0, Py_ssize_t k1
) noexcept nogil:
    # L = 1: values k0..k1-1 of rows r..r+n-1; of more than one row, all of them
    cdef Affine to
    cdef Py_ssize_t first, size, runs = n if share_parameters(w) else 1
    for r from r <= r < r + n by runs:
        to = affine_of_values(w, r, k0, o.mean, o.rstd, o.weight, o.bias, o.activation, o.stream)
        first, size = r * w.size + k0, k1 - k0
        f.normalize(at(o.x, first, runs * size), runs, size, &to, at(o.y, first, runs * size))


cdef void write_segments(
    const Loops* f, const RowForward* o, const Rows* w, Py_ssize_t t0, Py_ssize_t t1
) noexcept nogil:
    cdef Affine to
    cdef double numbers[3 * MAX_BLOCK]
    cdef Py_ssize_t n, size
    while t0 < t1:
        n = min(<Py_ssize_t>MAX_BLOCK, t1 - t0)
        to = affine_of_segments(w, t0, n, o.mean, o.rstd, o.weight, o.bias, o.activation, o.stream, numbers)
        size = n * w.inner
        f.normalize(at(o.x, t0 * w.inner, size), n, w.inner, &to, at(o.y, t0 * w.inner, size))
        t0 += n


cdef struct RowsForward:
    # What the tasks of a pass share; from r on, what those of a single large row do.
    const Loops* f
    const RowForward* o
    const Rows* w
    Py_ssize_t r
    Py_ssize_t pieces
    double shift
    double* partial  # s1 and s2 of each piece
    int num_threads


cdef void forward_task(void* what, Py_ssize_t t) noexcept nogil:
    cdef const RowsForward* walk = <const RowsForward*>what
    cdef const Loops* f = walk.f
    cdef const RowForward* o = walk.o
    cdef const Rows* w = walk.w
    cdef double shift[MAX_BLOCK]
    cdef double s1[MAX_BLOCK]
    cdef double s2[MAX_BLOCK]
    cdef Py_ssize_t r = t * w.task, last = min(r + w.task, w.rows), n
    while r < last:
        n = min(w.block, last - r)
        first_shifts(f, o, w, r, n, shift)
        moments_of_rows(f, o, w, r, n, shift, s1, s2)
        if finish_rows(f, o, w, r, n, shift, s1, s2):
            moments_of_rows(f, o, w, r, n, shift, s1, s2)
            finish_rows(f, o, w, r, n, shift, s1, s2)
        if w.inner == 1:
            write_values(f, o, w, r, n, 0, w.size)
        else:
            write_segments(f, o, w, r * w.segments, (r + n) * w.segments)
        r += n
    f.stream_end()


cdef void moments_of_piece_of_row(void* what, Py_ssize_t p) noexcept nogil:
    cdef const RowsForward* walk = <const RowsForward*>what
    cdef Py_ssize_t first = p * PIECE, n = min(<Py_ssize_t>PIECE, walk.w.size - first)
    cdef double* sums = walk.partial + 2 * p
    sums[0] = sums[1] = 0.0
    walk.f.moments(at(walk.o.x, walk.r * walk.w.size + first, n), 1, n, &walk.shift, &sums[0], &sums[1])


cdef void write_piece_of_row(void* what, Py_ssize_t p) noexcept nogil:
    cdef const RowsForward* walk = <const RowsForward*>what
    cdef const Rows* w = walk.w
    cdef Py_ssize_t each = (w.segments + walk.pieces - 1) // walk.pieces, k0, k1
    p = mirrored(p, walk.pieces, walk.num_threads)
    k0, k1 = min(p * each, w.segments), min((p + 1) * each, w.segments)
    if w.inner == 1:
        write_values(walk.f, walk.o, w, walk.r, 1, k0, k1)
    else:
        write_segments(walk.f, walk.o, w, walk.r * w.segments + k0, walk.r * w.segments + k1)
    walk.f.stream_end()


cdef bint moments_of_large_row(RowsForward* walk) noexcept nogil:
    cdef Py_ssize_t p
    cdef double s1 = 0.0, s2 = 0.0
    run_tasks(moments_of_piece_of_row, walk, walk.pieces, walk.num_threads)
    for p in range(walk.pieces):
        s1 += walk.partial[2 * p]
        s2 += walk.partial[2 * p + 1]
    return finish_rows(walk.f, walk.o, walk.w, walk.r, 1, &walk.shift, &s1, &s2)


cdef void forward_large_row(RowsForward* walk, Py_ssize_t r) noexcept nogil:
    # One row with all threads.
    walk.r = r
    first_shifts(walk.f, walk.o, walk.w, r, 1, &walk.shift)
    if moments_of_large_row(walk):
        moments_of_large_row(walk)
    run_tasks(write_piece_of_row, walk, walk.pieces, walk.num_threads)


cdef int forward_rows(const Loops* f, const RowForward* o, const Rows* w, int num_threads) except -1 nogil:
    cdef RowsForward walk
    cdef Py_ssize_t r
    walk.f, walk.o, walk.w, walk.num_threads = f, o, w, num_threads
    if num_threads == 1 or w.tasks >= 2 * num_threads or w.size < 2 * PIECE:
        run_tasks(forward_task, &walk, w.tasks, num_threads)
    else:
        walk.pieces = (w.size + PIECE - 1) // PIECE
        walk.partial = <double*>scratch_memory(2 * walk.pieces * sizeof(double))
        for r in range(w.rows):
            forward_large_row(&walk, r)
        free(walk.partial)
    return 0


# --- the walk ---------------------------------------------------------------------------------------------------------


cdef int narrow_parameters(
    const double* weight, const double* bias, bint forward, bint activation, Rows* w, Py_ssize_t itemsize
) except -1 nogil:
    # Weight and bias as float32 where a run of them is read beside x and float32 is right for all of them.
    cdef Py_ssize_t i, n = w.parameters
    cdef double size, largest = 0.0
    cdef int exponent
    if w.inner > 1 or itemsize == 8:
        return 0
    for i in range(n):
        size = fabs(weight[i])
        if not 1e-30 < size <= LIFT:
            if not comfortable(weight[i]):
                return 0
            largest = max(largest, size)
        if not fits_float(bias[i]):
            return 0
    if forward or activation:
        w.lift = LIFT
    if largest > LIFT and w.lift != 1.0:
        frexp(largest, &exponent)
        w.lift = ldexp(1.0, exponent)
        for i in range(n):
            if not (weight[i] == 0.0 or fabs(weight[i]) > 1e-37 * w.lift):
                return 0
    w.weight32 = <float*>scratch_memory((2 if forward else 3) * n * sizeof(float))
    w.bias32 = w.weight32 + n
    narrowed(bias, n, w.bias32)
    lowered(weight, 1.0 / w.lift, n, w.weight32)
    if not forward:
        w.whole32 = w.weight32
        if w.lift != 1.0:
            w.whole32 = w.weight32 + 2 * n
            narrowed(weight, n, w.weight32 + 2 * n)
    return 0


cdef inline void lowered(const double* values, double by, Py_ssize_t n, float* to) noexcept nogil:
    cdef Py_ssize_t i
    for i in range(n):
        to[i] = <float>(values[i] * by)


cdef int rows_forward_walk(
    const Loops* f, const RowForward* o, Py_ssize_t rows, Py_ssize_t segments, Py_ssize_t inner, Py_ssize_t parameters,
    int num_threads
) except -1 nogil:
    cdef Rows w = cut_rows(rows, segments, inner, parameters, f.itemsize)
    narrow_parameters(o.weight, o.bias, True, False, &w, f.itemsize)
    try:
        forward_rows(f, o, &w, num_threads)
    finally:
        free(w.weight32)
    return 0


cdef int rows_backward_walk(
    const Loops* f, const RowBackward* o, Py_ssize_t rows, Py_ssize_t segments, Py_ssize_t inner, Py_ssize_t parameters,
    int num_threads
) except -1 nogil:
    cdef Rows w = cut_rows(rows, segments, inner, parameters, f.itemsize)
    narrow_parameters(o.weight, o.bias, False, o.activation != 0, &w, f.itemsize)
    try:
        if inner == 1:
            backward_values(f, o, &w, num_threads)
        else:
            backward_segments(f, o, &w, num_threads)
    finally:
        free(w.weight32)
    return 0
