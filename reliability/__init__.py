"""Programs that try to break normcore: `python -m reliability.NAME`; docs/reliability.md says what they found."""
