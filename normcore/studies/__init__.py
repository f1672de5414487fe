"""Studies: experiments that run from one command and answer one question each.

``STUDIES`` is the whole table. A study is a module with a frozen dataclass ``Config`` and a function
``run(config, progress) -> StudyResult``; it is imported when it is asked for, and matplotlib only for the picture.
"""

from __future__ import annotations

import importlib
from typing import Any, NamedTuple

from ._result import Arm as Arm
from ._result import StudyResult as StudyResult


class Study(NamedTuple):
    """A row of the table of studies."""

    name: str
    sentence: str
    module: str

    def config(self, **options: Any) -> Any:
        """Return the study's ``Config`` with these options changed; a ValueError says which one does not fit."""
        return importlib.import_module(self.module).Config(**options)

    def run(self, config: Any = None, progress: bool = False) -> StudyResult:
        """Run the study; with `progress`, show a bar on stderr."""
        module = importlib.import_module(self.module)
        result: StudyResult = module.run(module.Config() if config is None else config, progress)
        return result


STUDIES = {
    study.name: study
    for study in (
        Study(
            "digits",
            "The same small network on 1,797 handwritten digits, without normalisation and with batch norm.",
            "normcore.studies.digits",
        ),
    )
}
