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
    cdef double acc[MAX_BLOCK * 2 * LANES]
    cdef Piece piece = piece_of(w, p)
    cdef Py_ssize_t n, k, first, runs = runs_of(w, &piece, c1 - c0)
    memset(acc, 0, (c1 - c0) * 2 * LANES * sizeof(double))
    for n in range(piece.first, piece.last):
        for k from 0 <= k < c1 - c0 by runs:
            first = (n * w.channels + c0 + k) * w.inner + piece.start
            f.moments(at(x, first, runs * piece.size), runs, piece.size, &shift[k], &acc[k * 2 * LANES])
    f.add_lanes(acc, c1 - c0, s1, s2)


cdef void gradients_of_piece(
    const Loops* f, Array dy, Array x, const Channels* w, Py_ssize_t c0, Py_ssize_t c1, Py_ssize_t p,
    const double* mean, double* s1, double* s2
) noexcept nogil:
    # s1 += sum(dy), s2 += sum(dy * (x - mean))
    cdef double acc[MAX_BLOCK * 2 * LANES]
    cdef Piece piece = piece_of(w, p)
    cdef Py_ssize_t n, k, first, runs = runs_of(w, &piece, c1 - c0)
    memset(acc, 0, (c1 - c0) * 2 * LANES * sizeof(double))
    for n in range(piece.first, piece.last):
        for k from 0 <= k < c1 - c0 by runs:
            first = (n * w.channels + c0 + k) * w.inner + piece.start
            f.gradients(
                at(dy, first, runs * piece.size), at(x, first, runs * piece.size), runs, piece.size, &mean[k],
                &acc[k * 2 * LANES])
    f.add_lanes(acc, c1 - c0, s1, s2)


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
    Affine* to
    Slope* by


cdef void write_piece(
    const Loops* f, const Write* write, const Channels* w, Py_ssize_t c0, Py_ssize_t c1, Piece piece
) noexcept nogil:
    # Upwards, even where the last values are the ones still in cache: prefetchers follow ascending addresses.
    cdef Py_ssize_t n, k, j, first, size = piece.size, runs = runs_of(w, &piece, c1 - c0)
    for n in range(piece.first, piece.last):
        for k from 0 <= k < c1 - c0 by runs:
            first = (n * w.channels + c0 + k) * w.inner + piece.start
            if write.kind == NORMALIZE:
                f.normalize(at(write.x, first, runs * size), runs, size, &write.to[k], at(write.z, first, runs * size))
            elif write.kind == INPUT_GRADIENT:
                f.input_gradient(
                    at(write.dy, first, runs * size), at(write.x, first, runs * size), runs, size, &write.by[k],
                    at(write.z, first, runs * size))
            else:
                for j in range(k, k + runs):
                    if write.kind == SCALE:
                        f.scale(at(write.dy, first, size), size, write.by[j].a, at(write.z, first, size))
                    else:
                        f.activation_gradient(
                            at(write.dy, first, size), at(write.x, first, size), size, &write.to[j],
                            at(write.z, first, size))
                    first += size
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
        shift[c - c0] = finite_or_zero(f.value(at(x, c * w.inner, 1)))


cdef void affines_of(
    const Forward* o, const Channels* w, Py_ssize_t c0, Py_ssize_t c1, Affine* to
) noexcept nogil:
    cdef Py_ssize_t c
    finish_rstd(&o.var[c0], c1 - c0, o.eps, &o.rstd[c0])
    for c in range(c0, c1):
        to[c - c0] = affine_of(o.mean[c], o.rstd[c] * o.weight[c], o.bias[c], o.activation, o.stream)


cdef void forward_block(const Loops* f, const Forward* o, const Channels* w, Py_ssize_t b) noexcept nogil:
    cdef Affine to[MAX_BLOCK]
    cdef double shift[MAX_BLOCK]
    cdef double s1[MAX_BLOCK]
    cdef double s2[MAX_BLOCK]
    cdef Py_ssize_t c0 = b * w.block, c1 = min(c0 + w.block, w.channels), p
    cdef Write write
    if o.training:
        shifts_of(f, o.x, w, c0, c1, shift)
        memset(s1, 0, sizeof(s1))
        memset(s2, 0, sizeof(s2))
        for p in range(w.pieces):
            moments_of_piece(f, o.x, w, c0, c1, p, shift, s1, s2)
        finish_moments(shift, s1, s2, c1 - c0, w.count, &o.mean[c0], &o.var[c0])
    if o.y.data == NULL:
        return
    affines_of(o, w, c0, c1, to)
    write.kind, write.x, write.z, write.to = NORMALIZE, o.x, o.y, to
    write_piece(f, &write, w, c0, c1, whole(w))


cdef void forward_pieces(
    const Loops* f, const Forward* o, const Channels* w, Py_ssize_t b, double* partial, int num_threads
) noexcept nogil:
    # One block with all threads: few channels, each large.
    cdef Affine to[MAX_BLOCK]
    cdef double shift[MAX_BLOCK]
    cdef double s1[MAX_BLOCK]
    cdef double s2[MAX_BLOCK]
    cdef Py_ssize_t c0 = b * w.block, c1 = min(c0 + w.block, w.channels), n = c1 - c0, p, k
    cdef Write write
    if o.training:
        shifts_of(f, o.x, w, c0, c1, shift)
        memset(partial, 0, w.pieces * 2 * n * sizeof(double))
        for p in prange(w.pieces, num_threads=num_threads, schedule="dynamic"):
            moments_of_piece(f, o.x, w, c0, c1, p, shift, partial + 2 * n * p, partial + 2 * n * p + n)
        for k in range(n):
            s1[k] = 0.0
            s2[k] = 0.0
            for p in range(w.pieces):
                s1[k] += partial[2 * n * p + k]
                s2[k] += partial[2 * n * p + n + k]
        finish_moments(shift, s1, s2, n, w.count, &o.mean[c0], &o.var[c0])
    if o.y.data == NULL:
        return
    affines_of(o, w, c0, c1, to)
    write.kind, write.x, write.z, write.to = NORMALIZE, o.x, o.y, to
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


cdef void slopes_of(
    const Backward* o, const Channels* w, Py_ssize_t c0, Py_ssize_t c1, const double* s1, const double* s2, Slope* by
) noexcept nogil:
    # dx = (dy - mean(dy) - xhat * mean(dy * xhat)) * (rstd * weight), gathered by what is multiplied
    cdef Py_ssize_t c, k
    cdef double scale
    for c in range(c0, c1):
        k = c - c0
        o.dbias[c] = s1[k]
        o.dweight[c] = s2[k] * o.rstd[c]
        scale = o.rstd[c] * o.weight[c]
        by[k] = slope_of(
            o.mean[c], scale, o.rstd[c] * o.dweight[c] / w.count * scale, o.dbias[c] / w.count * scale, o.stream
        )


cdef void activation_affines(const Backward* o, Py_ssize_t c0, Py_ssize_t c1, Affine* to) noexcept nogil:
    cdef Py_ssize_t c
    for c in range(c0, c1):
        to[c - c0] = affine_of(o.mean[c], o.rstd[c] * o.weight[c], o.bias[c], o.activation, False)


cdef void backward_block(const Loops* f, const Backward* o, const Channels* w, Py_ssize_t b) noexcept nogil:
    cdef Affine to[MAX_BLOCK]
    cdef Slope by[MAX_BLOCK]
    cdef double s1[MAX_BLOCK]
    cdef double s2[MAX_BLOCK]
    cdef Py_ssize_t c0 = b * w.block, c1 = min(c0 + w.block, w.channels), p
    cdef Write write
    write.dy, write.x, write.z, write.to, write.by = o.dy, o.x, o.dx, to, by
    if o.activation:
        activation_affines(o, c0, c1, to)
        write.kind = ACTIVATION_GRADIENT
        write_piece(f, &write, w, c0, c1, whole(w))
        write.dy = o.dx
    memset(s1, 0, sizeof(s1))
    memset(s2, 0, sizeof(s2))
    for p in range(w.pieces):
        gradients_of_piece(f, write.dy, o.x, w, c0, c1, p, o.mean + c0, s1, s2)
    slopes_of(o, w, c0, c1, s1, s2, by)
    write.kind = INPUT_GRADIENT if o.training else SCALE
    write_piece(f, &write, w, c0, c1, whole(w))


cdef void backward_pieces(
    const Loops* f, const Backward* o, const Channels* w, Py_ssize_t b, double* partial, int num_threads
) noexcept nogil:
    cdef Affine to[MAX_BLOCK]
    cdef Slope by[MAX_BLOCK]
    cdef double s1[MAX_BLOCK]
    cdef double s2[MAX_BLOCK]
    cdef Py_ssize_t c0 = b * w.block, c1 = min(c0 + w.block, w.channels), n = c1 - c0, p, k
    cdef Write write
    write.dy, write.x, write.z, write.to, write.by = o.dy, o.x, o.dx, to, by
    if o.activation:
        activation_affines(o, c0, c1, to)
        write.kind = ACTIVATION_GRADIENT
        for p in prange(w.pieces, num_threads=num_threads, schedule="dynamic"):
            write_piece(f, &write, w, c0, c1, piece_of(w, p))
        write.dy = o.dx
    memset(partial, 0, w.pieces * 2 * n * sizeof(double))
    for p in prange(w.pieces, num_threads=num_threads, schedule="dynamic"):
        gradients_of_piece(f, write.dy, o.x, w, c0, c1, p, o.mean + c0, partial + 2 * n * p, partial + 2 * n * p + n)
    for k in range(n):
        s1[k] = 0.0
        s2[k] = 0.0
        for p in range(w.pieces):
            s1[k] += partial[2 * n * p + k]
            s2[k] += partial[2 * n * p + n + k]
    slopes_of(o, w, c0, c1, s1, s2, by)
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
