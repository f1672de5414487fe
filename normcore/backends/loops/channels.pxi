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


cdef void moments_of_piece(
    const Loops* f, Array x, const Channels* w, Py_ssize_t c0, Py_ssize_t c1, Py_ssize_t p, const double* shift,
    double* s1, double* s2
) noexcept nogil:
    # s1, s2 += the sums of piece p of channels c0..c1-1; shift, s1, s2 are indexed from 0
    cdef Piece piece = piece_of(w, p)
    cdef Py_ssize_t n, k, first, runs = runs_of(w, &piece, c1 - c0)
    for n in range(piece.first, piece.last):
        for k from 0 <= k < c1 - c0 by runs:
            first = (n * w.channels + c0 + k) * w.inner + piece.start
            f.moments(at(x, first, runs * piece.size), runs, piece.size, shift + k, s1 + k, s2 + k)


cdef void gradients_of_piece(
    const Loops* f, Array dy, Array x, const Channels* w, Py_ssize_t c0, Py_ssize_t c1, Py_ssize_t p, bint exact,
    const double* mean, double* s1, double* s2
) noexcept nogil:
    # s1 += sum(dy), s2 += sum(dy * (x - mean))
    cdef Piece piece = piece_of(w, p)
    cdef Py_ssize_t n, k, first, runs = runs_of(w, &piece, c1 - c0)
    for n in range(piece.first, piece.last):
        for k from 0 <= k < c1 - c0 by runs:
            first = (n * w.channels + c0 + k) * w.inner + piece.start
            if exact:
                f.exact_gradients(
                    at(dy, first, runs * piece.size), at(x, first, runs * piece.size), NULL, runs, piece.size, mean + k,
                    s1 + k, s2 + k)
            else:
                f.gradients(
                    at(dy, first, runs * piece.size), at(x, first, runs * piece.size), NULL, runs, piece.size, mean + k,
                    s1 + k, s2 + k)


# --- writing ----------------------------------------------------------------------------------------------------------


cdef enum Pass:
    NORMALIZE
    INPUT_GRADIENT
    SCALE
    ACTIVATION_GRADIENT


cdef struct Write:
    # A pass that writes z: what it reads (dy only where it has one) and the numbers of each channel of a block.
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


cdef inline Affine affine_from(const Affine* to, Py_ssize_t k) noexcept nogil:
    cdef Affine moved = to[0]
    moved.mean, moved.scale, moved.bias = to.mean + k, to.scale + k, to.bias + k
    return moved


cdef inline Slope slope_from(const Slope* by, Py_ssize_t k) noexcept nogil:
    cdef Slope moved = by[0]
    moved.mean, moved.a, moved.b, moved.c = by.mean + k, by.a + k, by.b + k, by.c + k
    return moved


cdef void write_piece(
    const Loops* f, const Write* write, const Channels* w, Py_ssize_t c0, Py_ssize_t c1, Piece piece
) noexcept nogil:
    # Upwards, even where the last values are the ones still in cache: prefetchers follow ascending addresses.
    cdef Py_ssize_t n, k, first, size = piece.size, runs = runs_of(w, &piece, c1 - c0)
    cdef Affine to
    cdef Slope by
    for n in range(piece.first, piece.last):
        for k from 0 <= k < c1 - c0 by runs:
            first = (n * w.channels + c0 + k) * w.inner + piece.start
            if write.kind == NORMALIZE:
                to = affine_from(&write.to, k)
                f.normalize(at(write.x, first, runs * size), runs, size, &to, at(write.z, first, runs * size))
            elif write.kind == INPUT_GRADIENT:
                by = slope_from(&write.by, k)
                f.input_gradient(
                    at(write.dy, first, runs * size), at(write.x, first, runs * size), runs, size, &by,
                    at(write.z, first, runs * size))
            elif write.kind == SCALE:
                f.scale(at(write.dy, first, runs * size), runs, size, write.by.a + k, at(write.z, first, runs * size))
            else:
                to = affine_from(&write.to, k)
                f.activation_gradient(
                    at(write.dy, first, runs * size), at(write.x, first, runs * size), runs, size, &to,
                    at(write.z, first, runs * size))
    f.stream_end()


cdef inline Piece whole(const Channels* w) noexcept nogil:
    cdef Piece piece
    piece.first, piece.last, piece.start, piece.size = 0, w.outer, 0, w.inner
    return piece


# --- forward ----------------------------------------------------------------------------------------------------------


cdef void shifts_of(
    const Loops* f, Array x, const Channels* w, Py_ssize_t c0, Py_ssize_t c1, double* shift
) noexcept nogil:
    cdef Py_ssize_t c
    for c in range(c0, c1):
        shift[c - c0] = first_shift(f, x, c * w.inner, w.inner, 1, w.outer * w.inner)


cdef bint shift_again(
    const Loops* f, const Forward* o, const Channels* w, Py_ssize_t c0, Py_ssize_t c1, double* shift
) noexcept nogil:
    # Shifts for the channels whose sums did without and should not have; whether there are any.
    cdef Py_ssize_t c
    cdef bint any_ = False
    if f.itemsize == 8:
        return False
    for c in range(c0, c1):
        if wants_shift(shift[c - c0], o.mean[c], o.var[c]):
            shift[c - c0] = finite_or_zero(<float>o.mean[c])
            any_ = any_ or shift[c - c0] != 0.0
    return any_


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
    to.activation, to.narrow, to.stream = activation, True, stream
    return to


cdef void forward_block(const Loops* f, const Forward* o, const Channels* w, Py_ssize_t b) noexcept nogil:
    cdef Numbers numbers
    cdef double shift[MAX_BLOCK]
    cdef double s1[MAX_BLOCK]
    cdef double s2[MAX_BLOCK]
    cdef Py_ssize_t c0 = b * w.block, c1 = min(c0 + w.block, w.channels), p
    cdef Write write
    if o.training:
        shifts_of(f, o.x, w, c0, c1, shift)
        while True:
            memset(s1, 0, sizeof(s1))
            memset(s2, 0, sizeof(s2))
            for p in range(w.pieces):
                moments_of_piece(f, o.x, w, c0, c1, p, shift, s1, s2)
            finish_moments(shift, s1, s2, c1 - c0, w.count, &o.mean[c0], &o.var[c0])
            if not shift_again(f, o, w, c0, c1, shift):
                break
    if o.y.data == NULL:
        return
    finish_rstd(&o.var[c0], c1 - c0, o.eps, &o.rstd[c0])
    write.to = affine_of_channels(o.mean, o.rstd, o.weight, o.bias, c0, c1, o.activation, o.stream, &numbers)
    write.kind, write.x, write.z = NORMALIZE, o.x, o.y
    write_piece(f, &write, w, c0, c1, whole(w))


cdef inline void add_pieces(
    const double* partial, Py_ssize_t pieces, Py_ssize_t n, double* s1, double* s2
) noexcept nogil:
    # In their order; each has n sums s1, then n sums s2.
    cdef Py_ssize_t p, k
    for k in range(n):
        s1[k] = 0.0
        s2[k] = 0.0
        for p in range(pieces):
            s1[k] += partial[2 * n * p + k]
            s2[k] += partial[2 * n * p + n + k]


cdef void forward_pieces(
    const Loops* f, const Forward* o, const Channels* w, Py_ssize_t b, double* partial, int num_threads
) noexcept nogil:
    # One block with all threads: few channels, each large.
    cdef Numbers numbers
    cdef double shift[MAX_BLOCK]
    cdef double s1[MAX_BLOCK]
    cdef double s2[MAX_BLOCK]
    cdef Py_ssize_t c0 = b * w.block, c1 = min(c0 + w.block, w.channels), n = c1 - c0, p
    cdef Write write
    if o.training:
        shifts_of(f, o.x, w, c0, c1, shift)
        while True:
            memset(partial, 0, w.pieces * 2 * n * sizeof(double))
            for p in prange(w.pieces, num_threads=num_threads, schedule="dynamic"):
                moments_of_piece(f, o.x, w, c0, c1, p, shift, partial + 2 * n * p, partial + 2 * n * p + n)
            add_pieces(partial, w.pieces, n, s1, s2)
            finish_moments(shift, s1, s2, n, w.count, &o.mean[c0], &o.var[c0])
            if not shift_again(f, o, w, c0, c1, shift):
                break
    if o.y.data == NULL:
        return
    finish_rstd(&o.var[c0], n, o.eps, &o.rstd[c0])
    write.to = affine_of_channels(o.mean, o.rstd, o.weight, o.bias, c0, c1, o.activation, o.stream, &numbers)
    write.kind, write.x, write.z = NORMALIZE, o.x, o.y
    for p in prange(w.pieces, num_threads=num_threads, schedule="dynamic"):
        write_piece(f, &write, w, c0, c1, piece_of(w, w.pieces - 1 - p))


cdef void channels_forward_runs(const Loops* f, const Forward* o, const Channels* w, int num_threads) noexcept nogil:
    cdef Channels together
    cdef Py_ssize_t b
    cdef double* partial
    if num_threads == 1:
        for b in range(w.blocks):
            forward_block(f, o, w, b)
    elif w.blocks >= 2 * num_threads or w.pieces == 1:
        for b in prange(w.blocks, num_threads=num_threads, schedule="dynamic"):
            forward_block(f, o, w, b)
    else:
        together = merged(w, o.x.itemsize)
        partial = <double*>malloc(w.pieces * 2 * together.block * sizeof(double))
        for b in range(together.blocks):
            forward_pieces(f, o, &together, b, partial, num_threads)
        free(partial)


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


cdef Slope slope_of_channels(
    const Backward* o, const Channels* w, Py_ssize_t c0, Py_ssize_t c1, const double* s1, const double* s2,
    Numbers* numbers
) noexcept nogil:
    # dx = (dy - mean(dy) - xhat * mean(dy * xhat)) * (rstd * weight), gathered by what is multiplied
    cdef Slope by
    cdef Py_ssize_t c, k
    cdef double scale
    for c in range(c0, c1):
        k = c - c0
        o.dbias[c] = s1[k]
        o.dweight[c] = s2[k] * o.rstd[c]
        scale = o.rstd[c] * o.weight[c]
        numbers.a[k] = scale
        numbers.b[k] = o.rstd[c] * o.dweight[c] / w.count * scale
        numbers.c[k] = o.dbias[c] / w.count * scale
    by.mean, by.a, by.b, by.c = o.mean + c0, numbers.a, numbers.b, numbers.c
    by.weights = NULL
    by.weights32 = NULL
    by.narrow, by.stream = True, o.stream
    return by


cdef void backward_block(const Loops* f, const Backward* o, const Channels* w, Py_ssize_t b) noexcept nogil:
    cdef Numbers numbers
    cdef double s1[MAX_BLOCK]
    cdef double s2[MAX_BLOCK]
    cdef double exact1[MAX_BLOCK]
    cdef double exact2[MAX_BLOCK]
    cdef Py_ssize_t c0 = b * w.block, c1 = min(c0 + w.block, w.channels), p
    cdef Write write
    write.dy, write.x, write.z = o.dy, o.x, o.dx
    if o.activation:
        write.to = affine_of_channels(o.mean, o.rstd, o.weight, o.bias, c0, c1, o.activation, False, &numbers)
        write.kind = ACTIVATION_GRADIENT
        write_piece(f, &write, w, c0, c1, whole(w))
        write.dy = o.dx
    memset(s1, 0, sizeof(s1))
    memset(s2, 0, sizeof(s2))
    for p in range(w.pieces):
        gradients_of_piece(f, write.dy, o.x, w, c0, c1, p, f.itemsize == 8, o.mean + c0, s1, s2)
    if f.itemsize < 8 and not all_tame_and_sound(o, c0, c1, s1, s2):
        memset(exact1, 0, sizeof(s1))
        memset(exact2, 0, sizeof(s2))
        for p in range(w.pieces):
            gradients_of_piece(f, write.dy, o.x, w, c0, c1, p, True, o.mean + c0, exact1, exact2)
        replace_unsound(o, c0, c1, exact1, exact2, s1, s2)
    write.by = slope_of_channels(o, w, c0, c1, s1, s2, &numbers)
    write.kind = INPUT_GRADIENT if o.training else SCALE
    write_piece(f, &write, w, c0, c1, whole(w))


cdef void gradients_of_pieces(
    const Loops* f, Array dy, Array x, const Channels* w, Py_ssize_t c0, Py_ssize_t c1, bint exact, const double* mean,
    double* partial, double* s1, double* s2, int num_threads
) noexcept nogil:
    cdef Py_ssize_t p, n = c1 - c0
    memset(partial, 0, w.pieces * 2 * n * sizeof(double))
    for p in prange(w.pieces, num_threads=num_threads, schedule="dynamic"):
        gradients_of_piece(
            f, dy, x, w, c0, c1, p, exact, mean, partial + 2 * n * p, partial + 2 * n * p + n)
    add_pieces(partial, w.pieces, n, s1, s2)


cdef void backward_pieces(
    const Loops* f, const Backward* o, const Channels* w, Py_ssize_t b, double* partial, int num_threads
) noexcept nogil:
    cdef Numbers numbers
    cdef double s1[MAX_BLOCK]
    cdef double s2[MAX_BLOCK]
    cdef double exact1[MAX_BLOCK]
    cdef double exact2[MAX_BLOCK]
    cdef Py_ssize_t c0 = b * w.block, c1 = min(c0 + w.block, w.channels), p
    cdef Write write
    write.dy, write.x, write.z = o.dy, o.x, o.dx
    if o.activation:
        write.to = affine_of_channels(o.mean, o.rstd, o.weight, o.bias, c0, c1, o.activation, False, &numbers)
        write.kind = ACTIVATION_GRADIENT
        for p in prange(w.pieces, num_threads=num_threads, schedule="dynamic"):
            write_piece(f, &write, w, c0, c1, piece_of(w, p))
        write.dy = o.dx
    gradients_of_pieces(f, write.dy, o.x, w, c0, c1, f.itemsize == 8, o.mean + c0, partial, s1, s2, num_threads)
    if f.itemsize < 8 and not all_tame_and_sound(o, c0, c1, s1, s2):
        gradients_of_pieces(f, write.dy, o.x, w, c0, c1, True, o.mean + c0, partial, exact1, exact2, num_threads)
        replace_unsound(o, c0, c1, exact1, exact2, s1, s2)
    write.by = slope_of_channels(o, w, c0, c1, s1, s2, &numbers)
    write.kind = INPUT_GRADIENT if o.training else SCALE
    for p in prange(w.pieces, num_threads=num_threads, schedule="dynamic"):
        write_piece(f, &write, w, c0, c1, piece_of(w, w.pieces - 1 - p))


cdef void channels_backward_runs(const Loops* f, const Backward* o, const Channels* w, int num_threads) noexcept nogil:
    cdef Channels together
    cdef Py_ssize_t b
    cdef double* partial
    if num_threads == 1:
        for b in range(w.blocks):
            backward_block(f, o, w, b)
    elif w.blocks >= 2 * num_threads or w.pieces == 1:
        for b in prange(w.blocks, num_threads=num_threads, schedule="dynamic"):
            backward_block(f, o, w, b)
    else:
        together = merged(w, o.x.itemsize)
        partial = <double*>malloc(w.pieces * 2 * together.block * sizeof(double))
        for b in range(together.blocks):
            backward_pieces(f, o, &together, b, partial, num_threads)
        free(partial)
