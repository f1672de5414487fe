# The rows walk: (R, K, L), each row one statistics group of K segments of L contiguous values. The parameter of segment
# k in
# row r is number (r * K + k) % P. Layer and RMS norm have L = 1 and a parameter for every value of a row.


cdef struct Rows:
    # The walk, how it is cut, and weight and bias as float32 (or NULL).
    Py_ssize_t rows
    Py_ssize_t segments
    Py_ssize_t inner
    Py_ssize_t parameters
    Py_ssize_t size  # values of a row
    Py_ssize_t strip  # rows of a task where parameters' gradients are summed, and their number
    Py_ssize_t strips
    Py_ssize_t step  # rows that stay in cache between the passes of backward
    double count
    float* weight32
    float* bias32


cdef Rows cut_rows(
    Py_ssize_t rows, Py_ssize_t segments, Py_ssize_t inner, Py_ssize_t parameters, Py_ssize_t itemsize
) noexcept nogil:
    cdef Rows w
    cdef Py_ssize_t most
    w.rows, w.segments, w.inner, w.parameters = rows, segments, inner, parameters
    w.size = segments * inner
    w.count = <double>w.size
    w.weight32 = w.bias32 = NULL
    w.step = max(<Py_ssize_t>4, 65536 // (w.size * itemsize))
    most = min(<Py_ssize_t>MAX_PIECES, max(<Py_ssize_t>4, 262144 // w.size))  # partial sums stay within 4 MB
    w.strip = max(w.step, (rows + most - 1) // most)
    w.strips = (rows + w.strip - 1) // w.strip
    return w


cdef inline Py_ssize_t first_parameter(const Rows* w, Py_ssize_t r) noexcept nogil:
    return r * w.segments % w.parameters


cdef inline Affine affine_of_values(
    const Rows* w, Py_ssize_t r, Py_ssize_t k, const double* mean, const double* rstd, const double* weight,
    const double* bias, int activation, bint stream
) noexcept nogil:
    # For values from number k of row r on, each with a weight and bias of its own.
    cdef Affine to = affine_of(mean[r], rstd[r], 0.0, activation, stream)
    cdef Py_ssize_t parameter = first_parameter(w, r) + k
    to.weights, to.biases = weight + parameter, bias + parameter
    to.narrow = to.narrow and w.weight32 != NULL
    if to.narrow:
        to.weights32, to.biases32 = w.weight32 + parameter, w.bias32 + parameter
    return to


cdef inline Py_ssize_t row_pieces(const Rows* w) noexcept nogil:
    return (w.size + PIECE - 1) // PIECE


cdef inline void row_moments_of_piece(
    const Loops* f, Array x, const Rows* w, Py_ssize_t r, Py_ssize_t p, double shift, double* s1, double* s2
) noexcept nogil:
    cdef double acc[2 * LANES]
    cdef Py_ssize_t first = p * PIECE, n = min(<Py_ssize_t>PIECE, w.size - first)
    memset(acc, 0, sizeof(acc))
    f.moments(at(x, r * w.size + first, n), 1, n, &shift, acc)
    f.add_lanes(acc, 1, s1, s2)


cdef inline double row_shift(const Loops* f, const RowForward* o, const Rows* w, Py_ssize_t r) noexcept nogil:
    return finite_or_zero(f.value(at(o.x, r * w.size, 1))) if o.centred else 0.0


cdef inline void finish_row(
    const RowForward* o, const Rows* w, Py_ssize_t r, double shift, double s1, double s2
) noexcept nogil:
    if o.centred:
        finish_moments(&shift, &s1, &s2, 1, w.count, &o.mean[r], &o.var[r])
    else:
        o.mean[r] = 0.0
        o.var[r] = s2 / w.count
    o.rstd[r] = 1.0 / sqrt(o.var[r] + o.eps)


cdef void write_row(
    const Loops* f, const RowForward* o, const Rows* w, Py_ssize_t r, Py_ssize_t k0, Py_ssize_t k1
) noexcept nogil:
    # segments k0..k1-1 of row r
    cdef Affine to
    cdef Py_ssize_t k, parameter, first
    if w.inner == 1:
        to = affine_of_values(w, r, k0, o.mean, o.rstd, o.weight, o.bias, o.activation, o.stream)
        first = r * w.size + k0
        f.normalize(at(o.x, first, k1 - k0), 1, k1 - k0, &to, at(o.y, first, k1 - k0))
        return
    for k in range(k0, k1):
        parameter = (r * w.segments + k) % w.parameters
        first = r * w.size + k * w.inner
        to = affine_of(
            o.mean[r], o.rstd[r] * o.weight[parameter], o.bias[parameter], o.activation,
            o.stream)
        f.normalize(at(o.x, first, w.inner), 1, w.inner, &to, at(o.y, first, w.inner))


cdef void forward_row(const Loops* f, const RowForward* o, const Rows* w, Py_ssize_t r) noexcept nogil:
    cdef double shift = row_shift(f, o, w, r), s1 = 0.0, s2 = 0.0
    cdef Py_ssize_t p
    for p in range(row_pieces(w)):
        row_moments_of_piece(f, o.x, w, r, p, shift, &s1, &s2)
    finish_row(o, w, r, shift, s1, s2)
    write_row(f, o, w, r, 0, w.segments)


cdef void forward_large_row(
    const Loops* f, const RowForward* o, const Rows* w, Py_ssize_t r, int num_threads
) noexcept nogil:
    # One row with all threads.
    cdef Py_ssize_t p, pieces = row_pieces(w), each = (w.segments + pieces - 1) // pieces
    cdef double shift = row_shift(f, o, w, r), s1 = 0.0, s2 = 0.0
    cdef double* partial = <double*>malloc(2 * pieces * sizeof(double))
    memset(partial, 0, 2 * pieces * sizeof(double))
    for p in prange(pieces, num_threads=num_threads, schedule="dynamic"):
        row_moments_of_piece(f, o.x, w, r, p, shift, &partial[2 * p], &partial[2 * p + 1])
    for p in range(pieces):
        s1 += partial[2 * p]
        s2 += partial[2 * p + 1]
    free(partial)
    finish_row(o, w, r, shift, s1, s2)
    for p in prange(pieces, num_threads=num_threads, schedule="dynamic"):
        write_row(f, o, w, r, min(p * each, w.segments), min((p + 1) * each, w.segments))
        f.stream_end()


cdef inline Py_ssize_t rows_of_task(const Rows* w, Py_ssize_t itemsize) noexcept nogil:
    # Short rows, several to a task: taking a task costs as much as a row of some hundred values.
    return max(<Py_ssize_t>1, 65536 // (w.size * itemsize))


cdef void forward_rows(const Loops* f, const RowForward* o, const Rows* w, int num_threads) noexcept nogil:
    cdef Py_ssize_t r, t, many, tasks
    if num_threads == 1:
        for r in range(w.rows):
            forward_row(f, o, w, r)
        f.stream_end()
    elif w.rows >= 2 * num_threads:
        many = rows_of_task(w, o.x.itemsize)
        tasks = (w.rows + many - 1) // many
        for t in prange(tasks, num_threads=num_threads, schedule="dynamic"):
            for r in range(t * many, min((t + 1) * many, w.rows)):
                forward_row(f, o, w, r)
            f.stream_end()
    else:
        for r in range(w.rows):
            forward_large_row(f, o, w, r, num_threads)


# --- backward ---------------------------------------------------------------------------------------------------------


cdef inline Slope row_slope(
    const RowBackward* o, const Rows* w, Py_ssize_t r, double sum_dxhat, double sum_dxhat_xshift
) noexcept nogil:
    # dx = (dxhat - mean(dxhat) - xhat * mean(dxhat * xhat)) * rstd; RMS norm has no mean to take out
    cdef double rstd = o.rstd[r]
    return slope_of(
        o.mean[r], rstd, sum_dxhat_xshift * rstd / w.count * rstd * rstd,
        sum_dxhat / w.count * rstd if o.centred else 0.0, o.stream)


cdef void undo_activation(
    const Loops* f, const RowBackward* o, const Rows* w, Py_ssize_t r, Py_ssize_t k0, Py_ssize_t k1
) noexcept nogil:
    # dx = dy * activation'(z) for segments k0..k1-1 of row r
    cdef Affine to
    cdef Py_ssize_t k, n, first, parameter
    if w.inner == 1:
        to = affine_of_values(w, r, k0, o.mean, o.rstd, o.weight, o.bias, o.activation, False)
        first, n = r * w.size + k0, k1 - k0
        f.activation_gradient(at(o.dy, first, n), at(o.x, first, n), n, &to, at(o.dx, first, n))
        return
    for k in range(k0, k1):
        parameter = (r * w.segments + k) % w.parameters
        first, n = r * w.size + k * w.inner, w.inner
        to = affine_of(o.mean[r], o.rstd[r] * o.weight[parameter], o.bias[parameter], o.activation, False)
        f.activation_gradient(at(o.dy, first, n), at(o.x, first, n), n, &to, at(o.dx, first, n))


cdef inline Array activated(const RowBackward* o) noexcept nogil:
    # What the sums and dx are made from: dy, or after undo_activation dx in its place.
    return o.dx if o.activation else o.dy


# L = 1: a parameter for every value. Rows are taken a few at a time, which stay in cache: sums, parameters' sums, dx.


cdef void row_sums(
    const Loops* f, const RowBackward* o, const Rows* w, Py_ssize_t r, double* s1, double* s2
) noexcept nogil:
    cdef double acc[2 * LANES]
    cdef Array dy = activated(o)
    cdef Py_ssize_t first = 0, n
    s1[0] = 0.0
    s2[0] = 0.0
    while first < w.size:
        n = min(<Py_ssize_t>PIECE, w.size - first)
        memset(acc, 0, sizeof(acc))
        f.weighted_gradients(
            at(dy, r * w.size + first, n), at(o.x, r * w.size + first, n),
            o.weight + first_parameter(w, r) + first, n, o.mean[r], acc)
        f.add_lanes(acc, 1, s1, s2)
        first += n


cdef void row_input_gradient(
    const Loops* f, const RowBackward* o, const Rows* w, Py_ssize_t r, double s1, double s2
) noexcept nogil:
    cdef Slope by = row_slope(o, w, r, s1, s2)
    cdef Array dy = activated(o)
    by.weights = o.weight + first_parameter(w, r)
    by.narrow = by.narrow and w.weight32 != NULL
    if by.narrow:
        by.weights32 = w.weight32 + first_parameter(w, r)
    f.input_gradient(
        at(dy, r * w.size, w.size), at(o.x, r * w.size, w.size), 1, w.size, &by, at(o.dx, r * w.size, w.size))


cdef void backward_strip(
    const Loops* f, const RowBackward* o, const Rows* w, Py_ssize_t t, double* sums, double* dweight, double* dbias
) noexcept nogil:
    # rows of strip t; dweight and dbias are this strip's own, sums is scratch for the rows
    cdef Py_ssize_t r, first = t * w.strip, last = min(first + w.strip, w.rows), stop, n
    cdef Array dy = activated(o)
    memset(dweight, 0, w.parameters * sizeof(double))
    memset(dbias, 0, w.parameters * sizeof(double))
    while first < last:
        stop = min(first + w.step, last)
        n = stop - first
        for r in range(first, stop):
            if o.activation:
                undo_activation(f, o, w, r, 0, w.segments)
            row_sums(f, o, w, r, &sums[2 * r], &sums[2 * r + 1])
        if w.parameters == w.segments:
            f.parameter_gradients(
                at(dy, first * w.size, n * w.size), at(o.x, first * w.size, n * w.size), n, w.size, w.size,
                o.mean + first, o.rstd + first, dweight, dbias)
        else:  # group norm of (N, C): each row has parameters of its own group
            for r in range(first, stop):
                f.parameter_gradients(
                    at(dy, r * w.size, w.size), at(o.x, r * w.size, w.size), 1, w.size, w.size, o.mean + r, o.rstd + r,
                    dweight + first_parameter(w, r), dbias + first_parameter(w, r))
        for r in range(first, stop):
            row_input_gradient(f, o, w, r, sums[2 * r], sums[2 * r + 1])
        first = stop
    f.stream_end()


cdef void backward_values(const Loops* f, const RowBackward* o, const Rows* w, int num_threads) noexcept nogil:
    cdef Py_ssize_t t, p, n = w.parameters, width
    cdef double* sums = <double*>malloc((2 * w.rows + w.strips * 2 * n) * sizeof(double))
    cdef double* partial = sums + 2 * w.rows
    cdef Array dy = activated(o)
    memset(o.dweight, 0, n * sizeof(double))
    memset(o.dbias, 0, n * sizeof(double))
    if num_threads == 1 or w.strips == 1 and w.rows > 1 and n < PIECE:
        for t in range(w.strips):
            backward_strip(f, o, w, t, sums, partial + t * 2 * n, partial + t * 2 * n + n)
    else:
        for t in prange(w.strips, num_threads=num_threads, schedule="dynamic"):
            backward_strip(f, o, w, t, sums, partial + t * 2 * n, partial + t * 2 * n + n)
    for t in range(w.strips):
        for p in range(n):
            o.dweight[p] += partial[t * 2 * n + p]
            o.dbias[p] += partial[t * 2 * n + n + p]
    free(sums)


# L > 1: a parameter for every segment.


cdef void segment_sums(
    const Loops* f, const RowBackward* o, const Rows* w, Py_ssize_t r, Py_ssize_t k, double* s1, double* s2
) noexcept nogil:
    cdef double acc[2 * LANES]
    cdef Array dy = activated(o)
    cdef Py_ssize_t start = 0, n, first = r * w.size + k * w.inner
    s1[0] = 0.0
    s2[0] = 0.0
    while start < w.inner:
        n = min(<Py_ssize_t>PIECE, w.inner - start)
        memset(acc, 0, sizeof(acc))
        f.gradients(at(dy, first + start, n), at(o.x, first + start, n), 1, n, &o.mean[r], acc)
        f.add_lanes(acc, 1, s1, s2)
        start += n


cdef Slope segments_slope(
    const RowBackward* o, const Rows* w, Py_ssize_t r, const double* s1, const double* s2
) noexcept nogil:
    cdef double sum_dxhat = 0.0, sum_dxhat_xshift = 0.0, weight
    cdef Py_ssize_t k
    for k in range(w.segments):
        weight = o.weight[(r * w.segments + k) % w.parameters]
        sum_dxhat += weight * s1[k]
        sum_dxhat_xshift += weight * s2[k]
    return row_slope(o, w, r, sum_dxhat, sum_dxhat_xshift)


cdef void segment_input_gradient(
    const Loops* f, const RowBackward* o, const Rows* w, Py_ssize_t r, Py_ssize_t k, const Slope* of_row
) noexcept nogil:
    cdef Slope by
    cdef Array dy = activated(o)
    cdef Py_ssize_t first = r * w.size + k * w.inner
    by = slope_of(
        of_row.mean, of_row.a * o.weight[(r * w.segments + k) % w.parameters], of_row.b, of_row.c,
        o.stream)
    f.input_gradient(
        at(dy, first, w.inner), at(o.x, first, w.inner), 1, w.inner, &by, at(o.dx, first, w.inner))


cdef void backward_row(
    const Loops* f, const RowBackward* o, const Rows* w, Py_ssize_t r, double* s1, double* s2
) noexcept nogil:
    # s1, s2: the sums of this row's segments
    cdef Slope by
    cdef Py_ssize_t k
    if o.activation:
        undo_activation(f, o, w, r, 0, w.segments)
    for k in range(w.segments):
        segment_sums(f, o, w, r, k, &s1[k], &s2[k])
    by = segments_slope(o, w, r, s1, s2)
    for k in range(w.segments):
        segment_input_gradient(f, o, w, r, k, &by)


cdef void backward_segments(const Loops* f, const RowBackward* o, const Rows* w, int num_threads) noexcept nogil:
    cdef Py_ssize_t r, k, t, p, many, tasks, total = w.rows * w.segments
    cdef double* s1 = <double*>malloc(2 * total * sizeof(double) + w.rows * sizeof(Slope))
    cdef double* s2 = s1 + total
    cdef Slope* by = <Slope*>(s2 + total)
    if num_threads == 1:
        for r in range(w.rows):
            backward_row(f, o, w, r, s1 + r * w.segments, s2 + r * w.segments)
        f.stream_end()
    elif w.rows >= 2 * num_threads:
        many = rows_of_task(w, o.x.itemsize)
        tasks = (w.rows + many - 1) // many
        for t in prange(tasks, num_threads=num_threads, schedule="dynamic"):
            for r in range(t * many, min((t + 1) * many, w.rows)):
                backward_row(f, o, w, r, s1 + r * w.segments, s2 + r * w.segments)
            f.stream_end()
    else:
        for t in prange(total, num_threads=num_threads, schedule="dynamic"):
            if o.activation:
                undo_activation(f, o, w, t // w.segments, t % w.segments, t % w.segments + 1)
            segment_sums(f, o, w, t // w.segments, t % w.segments, &s1[t], &s2[t])
        for r in range(w.rows):
            by[r] = segments_slope(o, w, r, s1 + r * w.segments, s2 + r * w.segments)
        for t in prange(total, num_threads=num_threads, schedule="dynamic"):
            r = (total - 1 - t) // w.segments
            segment_input_gradient(f, o, w, r, (total - 1 - t) % w.segments, &by[r])
            f.stream_end()
    memset(o.dweight, 0, w.parameters * sizeof(double))
    memset(o.dbias, 0, w.parameters * sizeof(double))
    for t in range(total):
        p = t % w.parameters
        o.dweight[p] += s2[t] * o.rstd[t // w.segments]
        o.dbias[p] += s1[t]
    free(s1)


# --- the walk ---------------------------------------------------------------------------------------------------------


cdef void narrow_parameters(const double* weight, const double* bias, Rows* w, Py_ssize_t itemsize) noexcept nogil:
    # Weight and bias as float32 where a run of them is read beside x and float32 is right for all of them.
    cdef Py_ssize_t i, n = w.parameters
    if w.inner > 1 or itemsize == 8:
        return
    for i in range(n):
        if not (comfortable(weight[i]) and fabs(bias[i]) < 1e30):
            return
    w.weight32 = <float*>malloc(2 * n * sizeof(float))
    w.bias32 = w.weight32 + n
    narrowed(weight, n, w.weight32)
    narrowed(bias, n, w.bias32)


cdef void rows_forward_walk(
    const Loops* f, const RowForward* o, Py_ssize_t rows, Py_ssize_t segments, Py_ssize_t inner, Py_ssize_t parameters,
    int num_threads
) noexcept nogil:
    cdef Rows w = cut_rows(rows, segments, inner, parameters, f.itemsize)
    narrow_parameters(o.weight, o.bias, &w, f.itemsize)
    forward_rows(f, o, &w, num_threads)
    free(w.weight32)


cdef void rows_backward_walk(
    const Loops* f, const RowBackward* o, Py_ssize_t rows, Py_ssize_t segments, Py_ssize_t inner, Py_ssize_t parameters,
    int num_threads
) noexcept nogil:
    cdef Rows w = cut_rows(rows, segments, inner, parameters, f.itemsize)
    narrow_parameters(o.weight, o.bias, &w, f.itemsize)
    if inner == 1:
        backward_values(f, o, &w, num_threads)
    else:
        backward_segments(f, o, &w, num_threads)
    free(w.weight32)
