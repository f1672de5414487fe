"""Long searches for faults, one a module; ``docs/reliability.md`` says what they are and what they found."""
