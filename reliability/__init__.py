"""Long searches for what breaks: ``python -m reliability.NAME``; docs/reliability.md has what they found."""
