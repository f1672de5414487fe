# The channels walk where a channel has runs of contiguous values: (N, C, S) with S > 1.


cdef struct Channels:
    # The walk and how it is cut; from the shape and itemsize alone.
    Py_ssize_t outer
    Py_ssize_t channels
    Py_ssize_t inner
    Py_ssize_t block  # channels in a task
    Py_ssize_t blocks
    Py_ssize_t rows  # outer rows in a piece
    Py_ssize_t width  # inner values of each row in a piece
    Py_ssize_t across  # pieces across a row
    Py_ssize_t pieces  # of a channel
    double count


cdef Channels cut_channels(Py_ssize_t outer, Py_ssize_t channels, Py_ssize_t inner, Py_ssize_t itemsize) noexcept nogil:
    cdef Channels w
    cdef Py_ssize_t run = inner * itemsize, piece = max(<Py_ssize_t>PIECE, (outer * inner) // MAX_PIECES + 1)
    w.outer, w.channels, w.inner = outer, channels, inner
    w.count = <double>outer * <double>inner
    w.block = max((SHORT_RUN + run - 1) // run, min(BLOCK_BYTES // (outer * run), (channels + 7) // 8))
    w.block = max(<Py_ssize_t>1, min(w.block, channels, MAX_BLOCK))
    w.blocks = (channels + w.block - 1) // w.block
    w.width = min(inner, piece)
    w.rows = max(<Py_ssize_t>1, piece // inner)
    w.across = (inner + w.width - 1) // w.width
    w.pieces = w.across * ((outer + w.rows - 1) // w.rows)
    return w


cdef Channels merged(const Channels* w, Py_ssize_t itemsize) noexcept nogil:
    # For pieces: as many channels at a time as a second pass finds in the L3 cache. The pieces stay the same.
    cdef Channels together = w[0]
    together.block = max(<Py_ssize_t>1, WAVE_BYTES // (w.outer * w.inner * itemsize))
    together.block = min(together.block, w.channels, MAX_BLOCK)
    together.blocks = (w.channels + together.block - 1) // together.block
    return together


cdef struct Piece:
    Py_ssize_t first  # outer rows
    Py_ssize_t last
    Py_ssize_t start  # inner values
    Py_ssize_t size


cdef inline Piece piece_of(const Channels* w, Py_ssize_t p) noexcept nogil:
    cdef Piece piece
    piece.first = p // w.across * w.rows
    piece.last = min(piece.first + w.rows, w.outer)
    piece.start = p % w.across * w.width
    piece.size = min(w.width, w.inner - piece.start)
    return piece


cdef inline Py_ssize_t runs_of(const Channels* w, const Piece* piece, Py_ssize_t channels) noexcept nogil:
    # How many channels' runs follow one another in memory.
    return channels if piece.size == w.inner else 1


# --- sums -------------------------------------------------------------------------------------------------------------


cdef enum Sum:
    MOMENTS
    GRADIENTS
    EXACT_GRADIENTS


cdef struct Sums:
    # What is summed of channels c0..c1-1: x - centre and its square, or dy and dy * (x - centre).
    const Loops* f
    const Channels* w
    Py_ssize_t c0
    Py_ssize_t c1
    Sum kind
    Array dy
    Array x
    const double* centre  # of channel c0, and of the next ones
    double* partial  # the sums of each piece; NULL where a single task sums all


cdef void sum_piece(const Sums* o, Py_ssize_t p, double* s1, double* s2) noexcept nogil:
    # s1, s2 = the sums of piece p
    cdef Piece piece = piece_of(o.w, p)
    cdef Py_ssize_t n, k, first, size, channels = o.c1 - o.c0, runs = runs_of(o.w, &piece, channels)
    memset(s1, 0, channels * sizeof(double))
    memset(s2, 0, channels * sizeof(double))
    for n in range(piece.first, piece.last):
        for k from 0 <= k < channels by runs:
            first, size = (n * o.w.channels + o.c0 + k) * o.w.inner + piece.start, runs * piece.size
            if o.kind == MOMENTS:
                o.f.moments(at(o.x, first, size), runs, piece.size, o.centre + k, s1 + k, s2 + k)
            elif o.kind == GRADIENTS:
                o.f.gradients(
                    at(o.dy, first, size), at(o.x, first, size), NULL, runs, piece.size, o.centre + k, s1 + k, s2 + k)
            else:
                o.f.exact_gradients(
                    at(o.dy, first, size), at(o.x, first, size), NULL, runs, piece.size, o.centre + k, s1 + k, s2 + k)


cdef void sum_task(void* what, Py_ssize_t p) noexcept nogil:
    cdef const Sums* o = <const Sums*>what
    cdef Py_ssize_t n = o.c1 - o.c0
    sum_piece(o, p, o.partial + 2 * n * p, o.partial + 2 * n * p + n)


cdef inline void add_sums(Py_ssize_t n, const double* of1, const double* of2, double* s1, double* s2) noexcept nogil:
    cdef Py_ssize_t k
    for k in range(n):
        s1[k] += of1[k]
        s2[k] += of2[k]


cdef void sum_channels(const Sums* o, double* s1, double* s2, int num_threads) noexcept nogil:
    # Each piece is summed by itself, also by a single task: the bits must not depend on who sums.
    cdef double alone1[MAX_BLOCK]
    cdef double alone2[MAX_BLOCK]
    cdef Py_ssize_t n = o.c1 - o.c0, p
    memset(s1, 0, n * sizeof(double))
    memset(s2, 0, n * sizeof(double))
    if o.partial == NULL:
        for p in range(o.w.pieces):
            sum_piece(o, p, alone1, alone2)
            add_sums(n, alone1, alone2, s1, s2)
    else:
        run_tasks(sum_task, <void*>o, o.w.pieces, num_threads)
        for p in range(o.w.pieces):
            add_sums(n, o.partial + 2 * n * p, o.partial + 2 * n * p + n, s1, s2)


# --- writing ----------------------------------------------------------------------------------------------------------


cdef enum Pass:
    NORMALIZE
    INPUT_GRADIENT
    SCALE
    ACTIVATION_GRADIENT


cdef struct Write:
    # A pass that writes z: what it reads (dy only where it has one) and the numbers of each of channels c0..c1-1.
    const Loops* f
    const Channels* w
    Py_ssize_t c0
    Py_ssize_t c1
    int num_threads
    Pass kind
    Array dy
    Array x
    Array z
    Affine to
    Slope by


cdef struct Numbers:
    # Of the channels of a block: the vectors that an Affine or a Slope points to (mean is the caller's).
    double a[MAX_BLOCK]
    double b[MAX_BLOCK]
    double c[MAX_BLOCK]
    double rstd[MAX_BLOCK]


cdef inline Affine affine_from(const Affine* to, Py_ssize_t k) noexcept nogil:
    cdef Affine moved = to[0]
    moved.mean, moved.scale, moved.bias = to.mean + k, to.scale + k, to.bias + k
    return moved


cdef inline Slope slope_from(const Slope* by, Py_ssize_t k) noexcept nogil:
    cdef Slope moved = by[0]
    moved.mean, moved.a, moved.b, moved.c = by.mean + k, by.a + k, by.b + k, by.c + k
    if by.rstd != NULL:
        moved.rstd = by.rstd + k
    return moved


cdef void write_piece(const Write* o, Piece piece) noexcept nogil:
    # Upwards, even where the last values are the ones still in cache: prefetchers follow ascending addresses.
    cdef Py_ssize_t n, k, first, size = piece.size, runs = runs_of(o.w, &piece, o.c1 - o.c0)
    cdef Affine to
    cdef Slope by
    for n in range(piece.first, piece.last):
        for k from 0 <= k < o.c1 - o.c0 by runs:
            first = (n * o.w.channels + o.c0 + k) * o.w.inner + piece.start
            if o.kind == NORMALIZE:
                to = affine_from(&o.to, k)
                o.f.normalize(at(o.x, first, runs * size), runs, size, &to, at(o.z, first, runs * size))
            elif o.kind == INPUT_GRADIENT:
                by = slope_from(&o.by, k)
                o.f.input_gradient(
                    at(o.dy, first, runs * size), at(o.x, first, runs * size), runs, size, &by,
                    at(o.z, first, runs * size))
            elif o.kind == SCALE:
                o.f.scale(at(o.dy, first, runs * size), runs, size, o.by.a + k, at(o.z, first, runs * size))
            else:
                to = affine_from(&o.to, k)
                o.f.activation_gradient(
                    at(o.dy, first, runs * size), at(o.x, first, runs * size), runs, size, &to,
                    at(o.z, first, runs * size))
    o.f.stream_end()


cdef void write_task(void* what, Py_ssize_t p) noexcept nogil:
    cdef const Write* o = <const Write*>what
    write_piece(o, piece_of(o.w, mirrored(p, o.w.pieces, o.num_threads)))


cdef void write_channels(const Write* o, bint in_pieces) noexcept nogil:
    cdef Piece whole
    if in_pieces:
        run_tasks(write_task, <void*>o, o.w.pieces, o.num_threads)
    else:
        whole.first, whole.last, whole.start, whole.size = 0, o.w.outer, 0, o.w.inner
        write_piece(o, whole)


# --- blocks of channels -----------------------------------------------------------------------------------------------


cdef struct ChannelsWalk  # which a pass takes, and has

ctypedef void (*ChannelsPass)(const ChannelsWalk* walk, Py_ssize_t b, double* partial, int num_threads) noexcept nogil


cdef struct ChannelsWalk:
    # A pass over block b: all of it where `partial` is NULL, else piece by piece with all threads.
    const Loops* f
    const Forward* forward
    const Backward* backward
    const Channels* w
    ChannelsPass pass_of_block


cdef void block_task(void* what, Py_ssize_t b) noexcept nogil:
    cdef const ChannelsWalk* walk = <const ChannelsWalk*>what
    walk.pass_of_block(walk, b, NULL, 1)


cdef int walk_channels(
    ChannelsWalk* walk, const Channels* w, Py_ssize_t itemsize, int num_threads
) except -1 nogil:
    cdef Channels together
    cdef Py_ssize_t b
    cdef double* partial
    walk.w = w
    if num_threads == 1 or w.blocks >= 2 * num_threads or w.pieces == 1:
        run_tasks(block_task, walk, w.blocks, num_threads)
        return 0
    together = merged(w, itemsize)
    walk.w = &together
    partial = <double*>scratch_memory(w.pieces * 2 * together.block * sizeof(double))
    for b in range(together.blocks):
        walk.pass_of_block(walk, b, partial, num_threads)
    free(partial)
    return 0


# --- forward ----------------------------------------------------------------------------------------------------------


cdef void shifts_of(
    const Loops* f, Array x, const Channels* w, Py_ssize_t c0, Py_ssize_t c1, double* shift
) noexcept nogil:
    cdef Py_ssize_t c
    for c in range(c0, c1):
        shift[c - c0] = first_shift(f, x, c * w.inner, w.inner, 1, w.outer * w.inner)


cdef bint shift_again(
    const Loops* f, const Forward* o, Py_ssize_t c0, Py_ssize_t c1, double* shift
) noexcept nogil:
    # Better shifts for the channels whose sums want one; whether there are any.
    cdef Py_ssize_t c
    cdef double better
    cdef bint again = False
    for c in range(c0, c1):
        better = second_shift(f, shift[c - c0], o.mean[c], o.var[c])
        again = again or better != shift[c - c0]
        shift[c - c0] = better
    return again


cdef Affine affine_of_channels(
    const double* mean, const double* rstd, const double* weight, const double* bias, Py_ssize_t c0, Py_ssize_t c1,
    int activation, bint stream, Numbers* numbers
) noexcept nogil:
    cdef Affine to
    cdef Py_ssize_t c
    for c in range(c0, c1):
        numbers.a[c - c0] = rstd[c] * weight[c]
    to.mean, to.scale, to.bias = mean + c0, numbers.a, bias + c0
    to.weights = to.biases = NULL
    to.weights32 = to.biases32 = NULL
    to.lift, to.activation, to.narrow, to.stream = 1.0, activation, True, stream
    return to


cdef void forward_channels(const ChannelsWalk* walk, Py_ssize_t b, double* partial, int num_threads) noexcept nogil:
    cdef const Forward* o = walk.forward
    cdef const Channels* w = walk.w
    cdef Numbers numbers
    cdef double shift[MAX_BLOCK]
    cdef double s1[MAX_BLOCK]
    cdef double s2[MAX_BLOCK]
    cdef Py_ssize_t c0 = b * w.block, c1 = min(c0 + w.block, w.channels)
    cdef Sums sums
    cdef Write write
    if o.training:
        sums.f, sums.w, sums.c0, sums.c1, sums.partial = walk.f, w, c0, c1, partial
        sums.kind, sums.x, sums.centre = MOMENTS, o.x, shift
        shifts_of(walk.f, o.x, w, c0, c1, shift)
        sum_channels(&sums, s1, s2, num_threads)
        finish_moments(shift, s1, s2, c1 - c0, w.count, &o.mean[c0], &o.var[c0])
        if shift_again(walk.f, o, c0, c1, shift):
            sum_channels(&sums, s1, s2, num_threads)
            finish_moments(shift, s1, s2, c1 - c0, w.count, &o.mean[c0], &o.var[c0])
    if o.y.data == NULL:
        return
    finish_rstd(&o.var[c0], c1 - c0, o.eps, &o.rstd[c0])
    write.f, write.w, write.c0, write.c1, write.num_threads = walk.f, w, c0, c1, num_threads
    write.to = affine_of_channels(o.mean, o.rstd, o.weight, o.bias, c0, c1, o.activation, o.stream, &numbers)
    write.kind, write.x, write.z = NORMALIZE, o.x, o.y
    write_channels(&write, partial != NULL)


# --- backward ---------------------------------------------------------------------------------------------------------


cdef bint all_tame_and_sound(
    const Backward* o, Py_ssize_t c0, Py_ssize_t c1, const double* s1, const double* s2
) noexcept nogil:
    cdef Py_ssize_t c
    for c in range(c0, c1):
        if not (is_tame(o.mean[c], o.rstd[c]) and is_sound(s1[c - c0], s2[c - c0])):
            return False
    return True


cdef void replace_unsound(
    const Backward* o, Py_ssize_t c0, Py_ssize_t c1, const double* exact1, const double* exact2, double* s1, double* s2
) noexcept nogil:
    # Channels whose sums are sound keep them: what they get must not depend on their neighbours.
    cdef Py_ssize_t c, k
    for c in range(c0, c1):
        k = c - c0
        if not (is_tame(o.mean[c], o.rstd[c]) and is_sound(s1[k], s2[k])):
            s1[k] = exact1[k]
            s2[k] = exact2[k]


cdef inline bint channel_folds(const Backward* o, Py_ssize_t c, double b) noexcept nogil:
    # At a glance; where it does not tell, the factors decide.
    return 1e-70 < o.rstd[c] < 1e70 and 1e-140 < fabs(b) < 1e140 or (
        far_from_the_ends(o.rstd[c]) and far_from_the_ends(o.weight[c]) and far_from_the_ends(o.dbias[c])
        and far_from_the_ends(o.dweight[c]))


cdef Slope slope_of_channels(
    const Backward* o, const Channels* w, bint wide, Py_ssize_t c0, Py_ssize_t c1, const double* s1, const double* s2,
    Numbers* numbers
) noexcept nogil:
    # dx = (dy - mean(dy) - xhat * mean(dy * xhat)) * (rstd * weight), gathered by what is multiplied
    cdef Slope by
    cdef Py_ssize_t c, k
    cdef double scale
    by.rstd = NULL
    for c in range(c0, c1):
        k = c - c0
        o.dbias[c] = s1[k]
        o.dweight[c] = s2[k] * o.rstd[c]
        scale = o.rstd[c] * o.weight[c]
        numbers.a[k] = scale
        numbers.b[k] = o.rstd[c] * o.dweight[c] / w.count * scale
        numbers.c[k] = o.dbias[c] / w.count * scale
        numbers.rstd[k] = 0.0
        if wide and o.training and not channel_folds(o, c, numbers.b[k]):
            numbers.a[k] = o.weight[c]
            numbers.b[k] = o.dweight[c] / w.count * o.weight[c]
            numbers.c[k] = o.dbias[c] / w.count * o.weight[c]
            numbers.rstd[k] = o.rstd[c]
            by.rstd = numbers.rstd
    by.mean, by.a, by.b, by.c = o.mean + c0, numbers.a, numbers.b, numbers.c
    by.weights = NULL
    by.weights32 = NULL
    by.narrow, by.stream = True, o.stream
    return by


cdef void backward_channels(const ChannelsWalk* walk, Py_ssize_t b, double* partial, int num_threads) noexcept nogil:
    cdef const Backward* o = walk.backward
    cdef const Channels* w = walk.w
    cdef Numbers numbers
    cdef double s1[MAX_BLOCK]
    cdef double s2[MAX_BLOCK]
    cdef double exact1[MAX_BLOCK]
    cdef double exact2[MAX_BLOCK]
    cdef Py_ssize_t c0 = b * w.block, c1 = min(c0 + w.block, w.channels)
    cdef bint wide = walk.f.itemsize == 8
    cdef Sums sums
    cdef Write write
    write.f, write.w, write.c0, write.c1, write.num_threads = walk.f, w, c0, c1, num_threads
    write.dy, write.x, write.z = o.dy, o.x, o.dx
    if o.activation:
        write.to = affine_of_channels(o.mean, o.rstd, o.weight, o.bias, c0, c1, o.activation, False, &numbers)
        write.kind = ACTIVATION_GRADIENT
        write_channels(&write, partial != NULL)
        write.dy = o.dx
    sums.f, sums.w, sums.c0, sums.c1, sums.partial = walk.f, w, c0, c1, partial
    sums.dy, sums.x, sums.centre = write.dy, o.x, o.mean + c0
    sums.kind = EXACT_GRADIENTS if wide else GRADIENTS
    sum_channels(&sums, s1, s2, num_threads)
    if not wide and not all_tame_and_sound(o, c0, c1, s1, s2):
        sums.kind = EXACT_GRADIENTS
        sum_channels(&sums, exact1, exact2, num_threads)
        replace_unsound(o, c0, c1, exact1, exact2, s1, s2)
    write.by = slope_of_channels(o, w, wide, c0, c1, s1, s2, &numbers)
    write.kind = INPUT_GRADIENT if o.training else SCALE
    write_channels(&write, partial != NULL)
