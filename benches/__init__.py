"""Benchmarks: ``python -m benches.peers`` compares with other libraries, ``benchmarks/`` follows normcore (asv)."""
