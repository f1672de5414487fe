"""Mutation testing: small faults in the sources, one at a time, and whether a test fails for each.

``python -m reliability.mutants GROUP`` runs a group of ``targets.py``. ``operators.py`` makes the faults, ``session.py``
runs the tests on them, ``record.py`` keeps what happened, ``equivalent.txt`` names the faults that change nothing.
"""
