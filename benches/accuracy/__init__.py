"""How many digits are right: ``python -m benches.accuracy`` writes docs/accuracy.md."""
