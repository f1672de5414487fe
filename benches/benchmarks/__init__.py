"""Benchmarks in asv's form: how fast normcore is, followed over its history.

Run them from ``benches/``: ``asv run --python=same --quick``. Comparisons with other libraries are `benches.peers`.
"""
