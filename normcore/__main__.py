"""``python -m normcore`` is the command ``normcore``."""

from __future__ import annotations

import sys

from normcore.cli import main

if __name__ == "__main__":
    sys.exit(main())
