"""Without scikit-learn there are no estimators to test."""

from __future__ import annotations

import importlib.util

collect_ignore_glob = [] if importlib.util.find_spec("sklearn") else ["test_*.py"]
