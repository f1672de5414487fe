"""What a call takes of memory, and what it leaves behind when it gets none: `python -m reliability.memory`.

A small library of C (allocations.c) stands before C's malloc. It counts the bytes that are in use, and it makes the nth
allocation of a call fail, for every n.
"""
