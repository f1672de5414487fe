"""One thread for NumPy's matrix products while a study runs."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def one_blas_thread() -> Iterator[str]:
    """Limit BLAS to one thread inside, if threadpoolctl is installed; yield what was done, for the result.

    The products of a small network gain nothing from a second thread, and when another program wants the cores, two
    threads that wait for each other in every product make a study of seconds take minutes. normcore's own threads are
    left as they are.
    """
    try:
        from threadpoolctl import threadpool_limits
    except ImportError:
        yield "as many threads as it likes: threadpoolctl is not installed"
        return
    with threadpool_limits(1, user_api="blas"):
        yield "1 thread"
