"""How an array is cut into tasks: from its shape alone, so that the same bits come out for any number of threads."""

from __future__ import annotations

SHORT_RUN = 128  # values; shorter runs of a channel are taken as columns
BLOCK_BYTES = 1_048_576  # of x in a task: the second pass over it reads from the cache
L2_BYTES = 524_288  # of x in a task whose rows are far apart
WAVE_BYTES = 8_388_608  # of x between two barriers, where a channel is cut into pieces
MANY_BLOCKS = 16  # enough of them to keep the threads busy without cutting a channel
PIECE = 16_384  # values; a smaller one does not pay for its start
MAX_PIECES = 64  # bounds the memory for partial sums


def ceil_div(a: int, b: int) -> int:
    return -(-a // b)


def channels_in_block(channels: int, channel_bytes: int) -> int:
    """Channels that one task takes through both passes; 0 where channels are so few and large that they must be cut."""
    if channels < MANY_BLOCKS and channels * channel_bytes > L2_BYTES:
        return 0
    return max(1, min(ceil_div(channels, MANY_BLOCKS), BLOCK_BYTES // max(1, channel_bytes)))


def pieces_of_channel(outer: int, inner: int) -> tuple[int, int]:
    """Outer rows and inner width of a piece of a channel."""
    piece = max(PIECE, ceil_div(outer * inner, MAX_PIECES))
    if piece >= inner:
        return piece // inner, inner
    return 1, ceil_div(inner, ceil_div(inner, piece))


def channels_in_wave(channel_bytes: int) -> int:
    return max(1, WAVE_BYTES // channel_bytes)


def columns_in_block(rows: int, columns: int, itemsize: int) -> int:
    """Columns that one task takes through both passes over all rows; 0 where the rows are too many for that."""
    width = min(1024, L2_BYTES // (rows * itemsize))
    if columns * rows * itemsize <= PIECE * 8:
        return columns
    return width if width >= 64 and columns >= 8 * width else 0


def rows_in_piece(rows: int, columns: int) -> int:
    """Rows in a piece of a matrix with at least 16 of them, so that partial sums stay small beside it."""
    pieces = max(1, min(MAX_PIECES, rows * columns // PIECE, rows // 16))
    return max(1, ceil_div(rows, pieces))


def rows_in_block(rows: int, row_bytes: int) -> int:
    """Rows of the rows walk that one task takes; 0 where rows are so few and large that they must be cut."""
    if rows < MANY_BLOCKS and rows * row_bytes > L2_BYTES:
        return 0
    return max(1, min(ceil_div(rows, MANY_BLOCKS), L2_BYTES // max(1, row_bytes)))
