# The channels walk where neighbours in memory are neighbouring channels: (M, C), also channels-last.
#
# A narrow array is folded: `fold` rows are taken as one long row, so that vectors are full and have no tails. Sums
# of the columns that belong to a channel are added in order at the end of a piece.


cdef struct Columns:
    Py_ssize_t outer
    Py_ssize_t channels
    Py_ssize_t fold  # rows taken as one
    Py_ssize_t width  # fold * channels
    Py_ssize_t rows  # long rows of a piece
    Py_ssize_t step  # long rows summed in registers at a time
    Py_ssize_t pieces
    double count


cdef Columns cut_columns(Py_ssize_t outer, Py_ssize_t channels, Py_ssize_t itemsize) noexcept nogil:
    cdef Columns w
    cdef Py_ssize_t fold = 1
    w.outer, w.channels = outer, channels
    w.count = <double>outer
    while fold * channels % LANES and fold < LANES:
        fold *= 2
    while fold * channels < 4 * LANES:
        fold *= 2
    if fold * channels > 4096 or fold > outer:
        fold = 1
    w.fold, w.width = fold, fold * channels
    w.step = max(<Py_ssize_t>16, 16384 // (w.width * itemsize))
    w.rows = max(<Py_ssize_t>1, max(<Py_ssize_t>(4 * PIECE), outer * channels // MAX_PIECES + 1) // w.width)
    w.rows = (w.rows + w.step - 1) // w.step * w.step
    w.pieces = max(<Py_ssize_t>1, (outer // fold + w.rows - 1) // w.rows)
    return w


cdef struct Strip:
    # A piece: `rows` long rows from `first` on, and (in the last piece) `rest` short ones after them; in values.
    Py_ssize_t first
    Py_ssize_t rows
    Py_ssize_t rest


cdef inline Strip strip_of(const Columns* w, Py_ssize_t p) noexcept nogil:
    cdef Strip strip
    cdef Py_ssize_t long_rows = w.outer // w.fold
    strip.first = p * w.rows * w.width
    strip.rows = max(<Py_ssize_t>0, min(w.rows, long_rows - p * w.rows))
    strip.rest = w.outer % w.fold if p == w.pieces - 1 else 0
    return strip


cdef struct ColumnSum:
    # What is summed: of x - centre and its square, or of dy and dy * (x - centre). The centres are tiled to the width.
    const Loops* f
    const Columns* w
    Sum kind
    Array dy
    Array x
    const double* centre
    const float* centre32
    double* partial  # of each piece: s1 and s2, one a channel, then scratch


cdef inline Py_ssize_t partial_size(const Columns* w) noexcept nogil:
    return 2 * (w.channels + w.width)


cdef inline void sum_rows(
    const ColumnSum* o, Py_ssize_t first, Py_ssize_t rows, Py_ssize_t width, double* s1, double* s2
) noexcept nogil:
    cdef Py_ssize_t n = rows * width
    if o.kind == MOMENTS:
        o.f.column_moments(at(o.x, first, n), rows, width, width, o.centre, s1, s2)
    elif o.kind == GRADIENTS:
        o.f.column_gradients(at(o.dy, first, n), at(o.x, first, n), rows, width, width, o.centre32, s1, s2)
    else:
        o.f.exact_column_gradients(at(o.dy, first, n), at(o.x, first, n), rows, width, width, o.centre, s1, s2)


cdef void sum_strip(void* what, Py_ssize_t p) noexcept nogil:
    cdef const ColumnSum* o = <const ColumnSum*>what
    cdef const Columns* w = o.w
    cdef double* s1 = o.partial + p * partial_size(w)
    cdef double* s2 = s1 + w.channels
    cdef double* folded = s1 if w.fold == 1 else s2 + w.channels
    cdef Strip strip = strip_of(w, p)
    cdef Py_ssize_t r = 0, rows, k, c
    memset(folded, 0, 2 * w.width * sizeof(double))
    while r < strip.rows:
        rows = min(w.step, strip.rows - r)
        sum_rows(o, strip.first + r * w.width, rows, w.width, folded, folded + w.width)
        r += rows
    if w.fold > 1:
        for c in range(w.channels):
            s1[c] = folded[c]
            s2[c] = folded[w.width + c]
    for k in range(1, w.fold):
        for c in range(w.channels):
            s1[c] += folded[k * w.channels + c]
            s2[c] += folded[w.width + k * w.channels + c]
    if strip.rest:
        sum_rows(o, strip.first + strip.rows * w.width, strip.rest, w.channels, s1, s2)


cdef void column_sums(const ColumnSum* o, double* s1, double* s2, int num_threads) noexcept nogil:
    # s1, s2 = the sums over all pieces, added in their order.
    cdef Py_ssize_t p, c, n = o.w.channels
    cdef const double* sums
    run_tasks(sum_strip, <void*>o, o.w.pieces, num_threads)
    memcpy(s1, o.partial, n * sizeof(double))
    memcpy(s2, o.partial + n, n * sizeof(double))
    for p in range(1, o.w.pieces):
        sums = o.partial + p * partial_size(o.w)
        for c in range(n):
            s1[c] += sums[c]
            s2[c] += sums[n + c]


cdef inline void tile(double* values, Py_ssize_t channels, Py_ssize_t width) noexcept nogil:
    # By doubling what is there: width is a multiple of channels.
    cdef Py_ssize_t done = channels, n
    while done < width:
        n = min(done, width - done)
        memcpy(values + done, values, n * sizeof(double))
        done += n


cdef inline void split(const double* values, Py_ssize_t width, float* first, float* rest) noexcept nogil:
    cdef Py_ssize_t i
    for i in range(width):
        first[i] = <float>values[i]
        rest[i] = <float>(values[i] - first[i])


cdef inline void narrowed(const double* values, Py_ssize_t width, float* to) noexcept nogil:
    cdef Py_ssize_t i
    for i in range(width):
        to[i] = <float>values[i]


cdef struct ColumnWrite:
    const Loops* f
    const Columns* w
    int num_threads
    Pass kind
    Array dy
    Array x
    Array z
    ColumnAffine to
    ColumnSlope by


cdef inline void write_rows(
    const ColumnWrite* o, Py_ssize_t first, Py_ssize_t rows, Py_ssize_t width
) noexcept nogil:
    cdef Py_ssize_t n = rows * width
    if rows == 0:
        return
    if o.kind == NORMALIZE:
        o.f.column_normalize(at(o.x, first, n), rows, width, &o.to, at(o.z, first, n))
    elif o.kind == INPUT_GRADIENT:
        o.f.column_input_gradient(at(o.dy, first, n), at(o.x, first, n), rows, width, &o.by, at(o.z, first, n))
    elif o.kind == SCALE:
        o.f.column_scale(at(o.dy, first, n), rows, width, o.by.a, at(o.z, first, n))
    else:
        o.f.column_activation_gradient(at(o.dy, first, n), at(o.x, first, n), rows, width, &o.to, at(o.z, first, n))


cdef void write_strip(void* what, Py_ssize_t p) noexcept nogil:
    cdef const ColumnWrite* o = <const ColumnWrite*>what
    cdef Strip strip = strip_of(o.w, mirrored(p, o.w.pieces, o.num_threads))
    write_rows(o, strip.first, strip.rows, o.w.width)
    write_rows(o, strip.first + strip.rows * o.w.width, strip.rest, o.w.channels)
    o.f.stream_end()


cdef inline void write_columns(const ColumnWrite* o) noexcept nogil:
    run_tasks(write_strip, <void*>o, o.w.pieces, o.num_threads)


cdef struct Scratch:
    # Vectors of a call, each tiled to the width, in one allocation.
    double* memory
    double* centre
    double* a
    double* b
    double* c
    double* s1
    double* s2
    float* centre32
    float* rest32
    float* a32
    float* b32
    float* c32
    double* partial


cdef inline int take_scratch(const Columns* w, double* on_stack, Scratch* s) except -1 nogil:
    # In on_stack where it fits, so that a small call allocates nothing.
    cdef Py_ssize_t n = w.width, need = 9 * n + w.pieces * partial_size(w)
    s.memory = on_stack if need <= SCRATCH else <double*>scratch_memory(need * sizeof(double))
    s.centre, s.a, s.b, s.c = s.memory, s.memory + n, s.memory + 2 * n, s.memory + 3 * n
    s.s1, s.s2 = s.memory + 4 * n, s.memory + 5 * n
    s.centre32 = <float*>(s.memory + 6 * n)
    s.rest32, s.a32, s.b32, s.c32 = s.centre32 + n, s.centre32 + 2 * n, s.centre32 + 3 * n, s.centre32 + 4 * n
    s.partial = s.memory + 9 * n
    return 0


cdef inline bint is_near(Array x) noexcept nogil:
    return x.size * x.itemsize <= NEAR_BYTES


cdef void column_affine(
    const double* mean, const double* rstd, const double* weight, const double* bias, const Columns* w, Scratch* s,
    int activation, bint stream, bint near, ColumnAffine* to
) noexcept nogil:
    cdef Py_ssize_t c
    to.narrow = True
    for c in range(w.channels):
        s.centre[c] = mean[c]
        s.a[c] = rstd[c] * weight[c]
        s.b[c] = bias[c]
        to.narrow = to.narrow and comfortable(mean[c]) and comfortable(s.a[c]) and fits_float(bias[c])
    tile(s.centre, w.channels, w.width)
    tile(s.a, w.channels, w.width)
    tile(s.b, w.channels, w.width)
    split(s.centre, w.width, s.centre32, s.rest32)
    narrowed(s.a, w.width, s.a32)
    narrowed(s.b, w.width, s.b32)
    to.mean, to.scale, to.bias = s.centre, s.a, s.b
    to.mean32, to.rest32, to.scale32, to.bias32 = s.centre32, s.rest32, s.a32, s.b32
    to.activation, to.stream, to.near = activation, stream, near


cdef void column_moments_of(
    const Loops* f, const Forward* o, const Columns* w, Scratch* s, int num_threads
) noexcept nogil:
    # mean and var; with the first shifts, and with better ones where a channel wants one
    cdef ColumnSum sums
    cdef Py_ssize_t c
    cdef double better
    cdef bint again = False
    sums.f, sums.w, sums.partial = f, w, s.partial
    sums.kind, sums.x, sums.centre = MOMENTS, o.x, s.centre
    for c in range(w.channels):
        s.centre[c] = first_shift(f, o.x, c, w.outer, w.channels, w.outer * w.channels)
    tile(s.centre, w.channels, w.width)
    column_sums(&sums, s.s1, s.s2, num_threads)
    finish_moments(s.centre, s.s1, s.s2, w.channels, w.count, o.mean, o.var)
    for c in range(w.channels):
        better = second_shift(f, s.centre[c], o.mean[c], o.var[c])
        again = again or better != s.centre[c]
        s.centre[c] = better
    if again:
        tile(s.centre, w.channels, w.width)
        column_sums(&sums, s.s1, s.s2, num_threads)
        finish_moments(s.centre, s.s1, s.s2, w.channels, w.count, o.mean, o.var)


cdef int channels_forward_columns(
    const Loops* f, const Forward* o, const Columns* w, int num_threads
) except -1 nogil:
    cdef double on_stack[SCRATCH]
    cdef Scratch s
    cdef ColumnWrite write
    take_scratch(w, on_stack, &s)
    if o.training:
        column_moments_of(f, o, w, &s, num_threads)
    if o.y.data != NULL:
        finish_rstd(o.var, w.channels, o.eps, o.rstd)
        column_affine(o.mean, o.rstd, o.weight, o.bias, w, &s, o.activation, o.stream, is_near(o.x), &write.to)
        write.f, write.w, write.num_threads = f, w, num_threads
        write.kind, write.x, write.z = NORMALIZE, o.x, o.y
        write_columns(&write)
    if s.memory != on_stack:
        free(s.memory)
    return 0


cdef void column_gradients_of(
    const Loops* f, const Backward* o, Array dy, const Columns* w, Scratch* s, int num_threads
) noexcept nogil:
    # dbias, and dweight before it is multiplied with rstd; centre, centre32 and rest32 are in place
    cdef ColumnSum sums
    cdef Py_ssize_t c
    cdef bint sound = True
    sums.f, sums.w, sums.partial = f, w, s.partial
    sums.dy, sums.x, sums.centre, sums.centre32 = dy, o.x, s.centre, s.centre32
    if f.itemsize < 8:
        sums.kind = GRADIENTS
        column_sums(&sums, s.s1, s.s2, num_threads)
        for c in range(w.channels):
            o.dbias[c] = s.s1[c]
            o.dweight[c] = s.s2[c] - s.s1[c] * (o.mean[c] - <double>s.centre32[c])
            sound = sound and is_tame(o.mean[c], o.rstd[c]) and is_sound(o.dbias[c], o.dweight[c])
        if sound:
            return
    sums.kind = EXACT_GRADIENTS
    column_sums(&sums, s.s1, s.s2, num_threads)
    for c in range(w.channels):
        if f.itemsize == 8 or not (is_tame(o.mean[c], o.rstd[c]) and is_sound(o.dbias[c], o.dweight[c])):
            o.dbias[c] = s.s1[c]
            o.dweight[c] = s.s2[c]


cdef int channels_backward_columns(
    const Loops* f, const Backward* o, const Columns* w, int num_threads
) except -1 nogil:
    cdef double on_stack[SCRATCH]
    cdef Scratch s
    cdef ColumnWrite write
    cdef Py_ssize_t c
    cdef double scale
    take_scratch(w, on_stack, &s)
    write.f, write.w, write.num_threads = f, w, num_threads
    write.dy, write.x, write.z = o.dy, o.x, o.dx
    if o.activation:
        column_affine(o.mean, o.rstd, o.weight, o.bias, w, &s, o.activation, False, is_near(o.x), &write.to)
        write.kind = ACTIVATION_GRADIENT
        write_columns(&write)
        write.dy = o.dx
    for c in range(w.channels):
        s.centre[c] = o.mean[c]
    tile(s.centre, w.channels, w.width)
    split(s.centre, w.width, s.centre32, s.rest32)
    column_gradients_of(f, o, write.dy, w, &s, num_threads)
    write.by.narrow = True
    write.by.rstd = NULL
    for c in range(w.channels):
        o.dweight[c] *= o.rstd[c]
        scale = o.rstd[c] * o.weight[c]
        s.a[c] = scale
        s.b[c] = o.rstd[c] * o.dweight[c] / w.count * scale
        s.c[c] = o.dbias[c] / w.count * scale
        if f.itemsize == 8:
            s.s1[c] = 0.0
            if o.training and not channel_folds(o, c, s.b[c]):
                s.a[c] = o.weight[c]
                s.b[c] = o.dweight[c] / w.count * o.weight[c]
                s.c[c] = o.dbias[c] / w.count * o.weight[c]
                s.s1[c] = o.rstd[c]
                write.by.rstd = s.s1  # whose sums nobody wants any more
        write.by.narrow = (
            write.by.narrow and comfortable(o.mean[c]) and comfortable(scale) and comfortable(s.b[c])
            and fits_float(s.c[c]))
    tile(s.a, w.channels, w.width)
    tile(s.b, w.channels, w.width)
    tile(s.c, w.channels, w.width)
    if write.by.rstd != NULL:
        tile(s.s1, w.channels, w.width)
    narrowed(s.a, w.width, s.a32)
    narrowed(s.b, w.width, s.b32)
    narrowed(s.c, w.width, s.c32)
    write.by.mean, write.by.a, write.by.b, write.by.c = s.centre, s.a, s.b, s.c
    write.by.mean32, write.by.rest32 = s.centre32, s.rest32
    write.by.a32, write.by.b32, write.by.c32 = s.a32, s.b32, s.c32
    write.by.stream, write.by.near = o.stream, is_near(o.x)
    write.kind = INPUT_GRADIENT if o.training else SCALE
    write_columns(&write)
    if s.memory != on_stack:
        free(s.memory)
    return 0


# --- the channels walk: runs or columns -------------------------------------------------------------------------------


cdef int channels_forward_walk(
    const Loops* f, const Forward* o, Py_ssize_t outer, Py_ssize_t channels, Py_ssize_t inner, int num_threads
) except -1 nogil:
    cdef ChannelsWalk walk
    cdef Channels runs
    cdef Columns columns
    if inner > 1 or channels == 1:
        runs = cut_channels(outer, channels, inner, f.itemsize)
        walk.f, walk.forward, walk.pass_of_block = f, o, forward_channels
        walk_channels(&walk, &runs, f.itemsize, num_threads)
    else:
        columns = cut_columns(outer, channels, f.itemsize)
        channels_forward_columns(f, o, &columns, num_threads)
    return 0


cdef int channels_backward_walk(
    const Loops* f, const Backward* o, Py_ssize_t outer, Py_ssize_t channels, Py_ssize_t inner, int num_threads
) except -1 nogil:
    cdef ChannelsWalk walk
    cdef Channels runs
    cdef Columns columns
    if inner > 1 or channels == 1:
        runs = cut_channels(outer, channels, inner, f.itemsize)
        walk.f, walk.backward, walk.pass_of_block = f, o, backward_channels
        walk_channels(&walk, &runs, f.itemsize, num_threads)
    else:
        columns = cut_columns(outer, channels, f.itemsize)
        channels_backward_columns(f, o, &columns, num_threads)
    return 0
