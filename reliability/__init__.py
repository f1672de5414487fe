"""Long-running programs that try what `docs/reliability.md` reports; no tests, and no part of the wheel."""
