# The rows walk, backward.


cdef inline bint wild(const RowBackward* o, Py_ssize_t r, double s1, double s2) noexcept nogil:
    return not (is_tame(o.mean[r], o.rstd[r]) and is_sound(s1, s2))


cdef inline void row_slope(
    const RowBackward* o, const Rows* w, Py_ssize_t r, double sum_dxhat, double sum_dxhat_xshift, double* b, double* c
) noexcept nogil:
    # dx = (dxhat - mean(dxhat) - xhat * mean(dxhat * xhat)) * rstd; RMS norm has no mean to take out
    cdef double rstd = o.rstd[r]
    b[0] = sum_dxhat_xshift * rstd / w.count * rstd * rstd
    c[0] = sum_dxhat / w.count * rstd if o.centred else 0.0


cdef bint unfold_row(
    const RowBackward* o, const Rows* w, Py_ssize_t r, double sum_dxhat, double sum_dxhat_xshift, double* b, double* c,
    double* apart
) noexcept nogil:
    # Where rstd * rstd may have left float64, b and c without it; `apart` is rstd then, else 0.
    cdef double rstd = o.rstd[r]
    apart[0] = 0.0
    if far_from_the_ends(rstd) and far_from_the_ends(sum_dxhat) and far_from_the_ends(sum_dxhat_xshift * rstd):
        return False
    b[0] = sum_dxhat_xshift * rstd / w.count
    c[0] = sum_dxhat / w.count if o.centred else 0.0
    apart[0] = rstd
    return True


cdef void undo_activation_of_values(
    const Loops* f, const RowBackward* o, const Rows* w, Py_ssize_t r, Py_ssize_t n
) noexcept nogil:
    # dx = dy * activation'(z) for rows r..r+n-1
    cdef Affine to
    cdef Py_ssize_t first, size, runs = n if share_parameters(w) else 1
    for r from r <= r < r + n by runs:
        to = affine_of_values(w, r, 0, o.mean, o.rstd, o.weight, o.bias, o.activation, False)
        first, size = r * w.size, runs * w.size
        f.activation_gradient(at(o.dy, first, size), at(o.x, first, size), runs, w.size, &to, at(o.dx, first, size))


cdef void undo_activation_of_segments(
    const Loops* f, const RowBackward* o, const Rows* w, Py_ssize_t t0, Py_ssize_t t1
) noexcept nogil:
    cdef Affine to
    cdef double numbers[3 * MAX_BLOCK]
    cdef Py_ssize_t n, first, size
    while t0 < t1:
        n = min(<Py_ssize_t>MAX_BLOCK, t1 - t0)
        to = affine_of_segments(w, t0, n, o.mean, o.rstd, o.weight, o.bias, o.activation, False, numbers)
        first, size = t0 * w.inner, n * w.inner
        f.activation_gradient(at(o.dy, first, size), at(o.x, first, size), n, w.inner, &to, at(o.dx, first, size))
        t0 += n


cdef inline Array activated(const RowBackward* o) noexcept nogil:
    # What the sums and dx are made from: dy, or after undo_activation dx in its place.
    return o.dx if o.activation else o.dy


cdef void sum_runs(
    const Loops* f, const RowBackward* o, Py_ssize_t first, Py_ssize_t runs, Py_ssize_t n, const double* weights,
    const float* weights32, bint exact, const double* mean, double* s1, double* s2
) noexcept nogil:
    # The sums of runs of n values; of more than one only where it is a single piece.
    cdef Array dy = activated(o)
    cdef Py_ssize_t start = 0, size, here
    memset(s1, 0, runs * sizeof(double))
    memset(s2, 0, runs * sizeof(double))
    while start < n:
        size = min(<Py_ssize_t>PIECE, n - start)
        here = first + start
        if exact:
            f.exact_gradients(
                at(dy, here, runs * size), at(o.x, here, runs * size), weights + start if weights != NULL else NULL,
                runs, size, mean, s1, s2)
        else:
            f.gradients(
                at(dy, here, runs * size), at(o.x, here, runs * size), weights32 + start if weights32 != NULL else NULL,
                runs, size, mean, s1, s2)
        start += size


# L = 1: a parameter for every value. Rows are taken a few at a time, which stay in cache: sums, parameters' sums, dx.


cdef bint sums_of_rows(
    const Loops* f, const RowBackward* o, const Rows* w, Py_ssize_t r, Py_ssize_t n, double* s1, double* s2
) noexcept nogil:
    # Returns whether float32 was good enough for all.
    cdef Py_ssize_t i, runs = n if share_parameters(w) and w.size <= PIECE else 1, parameter
    cdef bint exact = w.weight32 == NULL
    for i from 0 <= i < n by runs:
        parameter = first_parameter(w, r + i)
        sum_runs(
            f, o, (r + i) * w.size, runs, w.size, o.weight + parameter, NULL if exact else w.whole32 + parameter,
            exact, o.mean + r + i, s1 + i, s2 + i)
    if exact:
        return False
    for i in range(n):
        if wild(o, r + i, s1[i], s2[i]):
            exact = True
            sum_runs(
                f, o, (r + i) * w.size, 1, w.size, o.weight + first_parameter(w, r + i), NULL, True, o.mean + r + i,
                s1 + i, s2 + i)
    return not exact


cdef void input_gradient_of_rows(
    const Loops* f, const RowBackward* o, const Rows* w, Py_ssize_t r, Py_ssize_t n, const double* s1, const double* s2
) noexcept nogil:
    cdef double b[MAX_BLOCK]
    cdef double c[MAX_BLOCK]
    cdef double apart[MAX_BLOCK]
    cdef double a[MAX_BLOCK]
    cdef bint any_apart = False
    cdef Slope by
    cdef Array dy = activated(o)
    cdef Py_ssize_t i, first, size, runs = n if share_parameters(w) else 1
    for i in range(n):
        row_slope(o, w, r + i, s1[i], s2[i], b + i, c + i)
    by.rstd = NULL
    if f.itemsize == 8 and not all_moderate(b, n):
        for i in range(n):
            any_apart = unfold_row(o, w, r + i, s1[i], s2[i], b + i, c + i, apart + i) or any_apart
            a[i] = o.rstd[r + i] if apart[i] == 0.0 else 1.0
    by.narrow, by.stream = w.weight32 != NULL, o.stream
    for i from 0 <= i < n by runs:
        by.mean, by.a, by.b, by.c = o.mean + r + i, o.rstd + r + i, b + i, c + i
        if any_apart:
            by.a, by.rstd = a + i, apart + i
        by.weights = o.weight + first_parameter(w, r + i)
        by.weights32 = w.whole32 + first_parameter(w, r + i) if by.narrow else NULL
        first, size = (r + i) * w.size, runs * w.size
        f.input_gradient(at(dy, first, size), at(o.x, first, size), runs, w.size, &by, at(o.dx, first, size))


cdef void add_parameter_gradients(
    const Loops* f, const RowBackward* o, const Rows* w, Py_ssize_t r, Py_ssize_t n, bint exact, double* dweight,
    double* dbias
) noexcept nogil:
    cdef Array dy = activated(o)
    cdef Py_ssize_t i, first, size, parameter, runs = n if share_parameters(w) else 1
    for i from 0 <= i < n by runs:
        first, size, parameter = (r + i) * w.size, runs * w.size, first_parameter(w, r + i)
        if exact:
            f.exact_parameter_gradients(
                at(dy, first, size), at(o.x, first, size), runs, w.size, w.size, o.mean + r + i, o.rstd + r + i,
                dweight + parameter, dbias + parameter)
        else:
            f.parameter_gradients(
                at(dy, first, size), at(o.x, first, size), runs, w.size, w.size, o.mean + r + i, o.rstd + r + i,
                dweight + parameter, dbias + parameter)


cdef struct Strips:
    const Loops* f
    const RowBackward* o
    const Rows* w
    double* partial  # of each strip: its own dweight, then its dbias


cdef void backward_strip(void* what, Py_ssize_t t) noexcept nogil:
    cdef const Strips* walk = <const Strips*>what
    cdef const Loops* f = walk.f
    cdef const RowBackward* o = walk.o
    cdef const Rows* w = walk.w
    cdef double s1[MAX_BLOCK]
    cdef double s2[MAX_BLOCK]
    cdef Py_ssize_t r = t * w.strip, last = min(r + w.strip, w.rows), n
    cdef double* dweight = walk.partial + t * 2 * w.parameters
    cdef double* dbias = dweight + w.parameters
    cdef bint tame
    memset(dweight, 0, 2 * w.parameters * sizeof(double))
    while r < last:
        n = min(w.step, last - r)
        if o.activation:
            undo_activation_of_values(f, o, w, r, n)
        tame = sums_of_rows(f, o, w, r, n, s1, s2)
        add_parameter_gradients(f, o, w, r, n, not tame, dweight, dbias)
        input_gradient_of_rows(f, o, w, r, n, s1, s2)
        r += n
    f.stream_end()


cdef int backward_values(const Loops* f, const RowBackward* o, const Rows* w, int num_threads) except -1 nogil:
    cdef Strips walk
    cdef Py_ssize_t t, p, n = w.parameters
    cdef double* partial = <double*>scratch_memory(w.strips * 2 * n * sizeof(double))
    memset(o.dweight, 0, n * sizeof(double))
    memset(o.dbias, 0, n * sizeof(double))
    walk.f, walk.o, walk.w, walk.partial = f, o, w, partial
    run_tasks(backward_strip, &walk, w.strips, num_threads)
    for t in range(w.strips):
        for p in range(n):
            o.dweight[p] += partial[t * 2 * n + p]
            o.dbias[p] += partial[t * 2 * n + n + p]
    free(partial)
    return 0


# L > 1: a parameter for every segment.


cdef void sums_of_segments(
    const Loops* f, const RowBackward* o, const Rows* w, Py_ssize_t t0, Py_ssize_t t1, double* s1, double* s2
) noexcept nogil:
    # of segments t0..t1-1 of all; s1 and s2 are those of all
    cdef double mean[MAX_BLOCK]
    cdef Py_ssize_t i, n, most = MAX_BLOCK if w.inner <= PIECE else 1
    cdef Segment s = segment_number(w, t0), first
    while t0 < t1:
        n = min(most, t1 - t0)
        first = s
        for i in range(n):
            mean[i] = o.mean[s.r]
            advance(w, &s)
        sum_runs(f, o, t0 * w.inner, n, w.inner, NULL, NULL, f.itemsize == 8, mean, s1 + t0, s2 + t0)
        for i in range(n if f.itemsize < 8 else 0):
            if wild(o, first.r, s1[first.t], s2[first.t]):
                sum_runs(
                    f, o, first.t * w.inner, 1, w.inner, NULL, NULL, True, mean + i, s1 + first.t, s2 + first.t)
            advance(w, &first)
        t0 += n


cdef void slope_of_segments(
    const RowBackward* o, const Rows* w, Py_ssize_t r, const double* s1, const double* s2, double* b, double* c,
    double* apart
) noexcept nogil:
    cdef double sum_dxhat = 0.0, sum_dxhat_xshift = 0.0
    cdef Segment s = segment_number(w, r * w.segments)
    while s.r == r:
        sum_dxhat += o.weight[s.parameter] * s1[s.t]
        sum_dxhat_xshift += o.weight[s.parameter] * s2[s.t]
        advance(w, &s)
    row_slope(o, w, r, sum_dxhat, sum_dxhat_xshift, b + r, c + r)
    apart[r] = 0.0
    if o.x.itemsize == 8 and not all_moderate(b + r, 1):
        unfold_row(o, w, r, sum_dxhat, sum_dxhat_xshift, b + r, c + r, apart + r)


cdef void input_gradient_of_segments(
    const Loops* f, const RowBackward* o, const Rows* w, Py_ssize_t t0, Py_ssize_t t1, const double* row_b,
    const double* row_c, const double* row_apart
) noexcept nogil:
    cdef double mean[MAX_BLOCK]
    cdef double apart[MAX_BLOCK]
    cdef double a[MAX_BLOCK]
    cdef double b[MAX_BLOCK]
    cdef double c[MAX_BLOCK]
    cdef Slope by
    cdef Array dy = activated(o)
    cdef Py_ssize_t i, n, size
    cdef Segment s = segment_number(w, t0)
    by.mean, by.a, by.b, by.c = mean, a, b, c
    by.weights = NULL
    by.weights32 = NULL
    by.narrow, by.stream = True, o.stream
    while t0 < t1:
        n = min(<Py_ssize_t>MAX_BLOCK, t1 - t0)
        by.rstd = NULL
        for i in range(n):
            mean[i], b[i], c[i] = o.mean[s.r], row_b[s.r], row_c[s.r]
            a[i] = o.rstd[s.r] * o.weight[s.parameter]
            apart[i] = row_apart[s.r]
            if apart[i] != 0.0:
                a[i] = o.weight[s.parameter]
                by.rstd = apart
            advance(w, &s)
        size = n * w.inner
        f.input_gradient(
            at(dy, t0 * w.inner, size), at(o.x, t0 * w.inner, size), n, w.inner, &by, at(o.dx, t0 * w.inner, size))
        t0 += n


cdef struct SegmentsWalk:
    const Loops* f
    const RowBackward* o
    const Rows* w
    double* s1  # of all segments
    double* s2
    double* b  # of all rows
    double* c
    double* apart
    Py_ssize_t each  # segments of a task, where rows are few and large
    Py_ssize_t tasks
    int num_threads


cdef void backward_task(void* what, Py_ssize_t t) noexcept nogil:
    cdef const SegmentsWalk* walk = <const SegmentsWalk*>what
    cdef const Loops* f = walk.f
    cdef const RowBackward* o = walk.o
    cdef const Rows* w = walk.w
    cdef Py_ssize_t r = t * w.task, last = min(r + w.task, w.rows), n, t0, t1, row
    while r < last:
        n = min(w.block, last - r)
        t0, t1 = r * w.segments, (r + n) * w.segments
        if o.activation:
            undo_activation_of_segments(f, o, w, t0, t1)
        sums_of_segments(f, o, w, t0, t1, walk.s1, walk.s2)
        for row in range(r, r + n):
            slope_of_segments(o, w, row, walk.s1, walk.s2, walk.b, walk.c, walk.apart)
        input_gradient_of_segments(f, o, w, t0, t1, walk.b, walk.c, walk.apart)
        r += n
    f.stream_end()


cdef void sums_task(void* what, Py_ssize_t t) noexcept nogil:
    cdef const SegmentsWalk* walk = <const SegmentsWalk*>what
    cdef Py_ssize_t t0 = t * walk.each, t1 = min(t0 + walk.each, walk.w.rows * walk.w.segments)
    if walk.o.activation:
        undo_activation_of_segments(walk.f, walk.o, walk.w, t0, t1)
    sums_of_segments(walk.f, walk.o, walk.w, t0, t1, walk.s1, walk.s2)


cdef void input_gradient_task(void* what, Py_ssize_t t) noexcept nogil:
    cdef const SegmentsWalk* walk = <const SegmentsWalk*>what
    cdef Py_ssize_t t0 = mirrored(t, walk.tasks, walk.num_threads) * walk.each
    cdef Py_ssize_t t1 = min(t0 + walk.each, walk.w.rows * walk.w.segments)
    input_gradient_of_segments(walk.f, walk.o, walk.w, t0, t1, walk.b, walk.c, walk.apart)
    walk.f.stream_end()


cdef int backward_segments(const Loops* f, const RowBackward* o, const Rows* w, int num_threads) except -1 nogil:
    cdef SegmentsWalk walk
    cdef Py_ssize_t r, total = w.rows * w.segments
    cdef Segment s
    walk.f, walk.o, walk.w, walk.num_threads = f, o, w, num_threads
    walk.s1 = <double*>scratch_memory((2 * total + 3 * w.rows) * sizeof(double))
    walk.s2, walk.b, walk.c = walk.s1 + total, walk.s1 + 2 * total, walk.s1 + 2 * total + w.rows
    walk.apart = walk.c + w.rows
    if num_threads == 1 or w.tasks >= 2 * num_threads or w.size < 2 * PIECE:
        run_tasks(backward_task, &walk, w.tasks, num_threads)
    else:  # few rows, each large
        walk.each = max(<Py_ssize_t>1, min(<Py_ssize_t>MAX_BLOCK, PIECE // w.inner))
        walk.tasks = (total + walk.each - 1) // walk.each
        run_tasks(sums_task, &walk, walk.tasks, num_threads)
        for r in range(w.rows):
            slope_of_segments(o, w, r, walk.s1, walk.s2, walk.b, walk.c, walk.apart)
        run_tasks(input_gradient_task, &walk, walk.tasks, num_threads)
    memset(o.dweight, 0, w.parameters * sizeof(double))
    memset(o.dbias, 0, w.parameters * sizeof(double))
    s = segment_number(w, 0)
    while s.t < total:
        o.dweight[s.parameter] += walk.s2[s.t] * o.rstd[s.r]
        o.dbias[s.parameter] += walk.s1[s.t]
        advance(w, &s)
    free(walk.s1)
    return 0
