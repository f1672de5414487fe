"""The command ``normcore study``: one study or all of them, to tables, files and a report."""

from __future__ import annotations

import argparse
import contextlib
import importlib.util
import sys
import time
import traceback
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ._errors import UserError, check_backend, complain, writable_folder
from ._interrupts import Interrupts, held

if TYPE_CHECKING:
    from normcore.studies import Outcome, Study
    from normcore.studies._html import Section

FAILED, INTERRUPTED = 1, 130

_HOW_TO_GET_THE_PICTURE = 'install normcore-cpu[study], from a checkout with: pip install ".[study]"'
_OPTIONS = ("data", "data_dir", "epochs", "seed", "repeats", "quick", "live", "out")


def add_parser(commands: Any) -> None:
    """Add the command to the program's."""
    study = commands.add_parser(
        "study",
        help="run an experiment, or all: tables, pictures, numbers and an HTML report",
        description="Run an experiment, or all of them; print the tables, write numbers, pictures and an HTML report. "
        "Without a NAME, list them. With all, an option goes to the studies that take it.",
        allow_abbrev=False,
    )
    study.add_argument("name", nargs="?", metavar="NAME", help="which study, such as digits; all for every one")
    study.add_argument("--list", action="store_true", help="list the studies, a sentence each")
    study.add_argument("--quick", action="store_const", const=True, help="a look in seconds: small data, one seed")
    study.add_argument(
        "--data",
        metavar="NAME",
        help="data set: digits (comes along), mnist, fashion-mnist, cifar10; the study's own choice if left out, "
        "and digits with all",
    )
    study.add_argument("--data-dir", metavar="DIR", help="where its files are (default: $NORMCORE_DATA, then a cache)")
    study.add_argument("--epochs", type=int, metavar="N", help="how long to train; the study's own choice if left out")
    study.add_argument("--seed", type=int, metavar="N", help="for starting weights and order (default: 0)")
    study.add_argument("--repeats", type=int, metavar="N", help="how many seeds, from --seed on")
    study.add_argument(
        "--live", action="store_const", const=True, help="watch in a window while it trains: regression, with a display"
    )
    study.add_argument("--out", metavar="DIR", help="where to write (default: normcore-study-NAME)")
    study.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Run what was asked for and return the exit code."""
    from normcore.studies import STUDIES

    given = {name: getattr(options, name) for name in _OPTIONS}
    given = {name: value for name, value in given.items() if value is not None}
    if options.list or options.name is None:
        return _list(options.name, given)
    if options.name != "all" and options.name not in STUDIES:
        raise UserError(f"NAME must be one of the studies ({', '.join(STUDIES)}) or all, got {options.name!r}")
    out = given.pop("out", f"normcore-study-{options.name}")
    try:
        jobs = (
            _all(given) if options.name == "all" else [(STUDIES[options.name], STUDIES[options.name].config(**given))]
        )
    except (TypeError, ValueError) as error:  # the message begins with the option's name
        raise UserError(f"--{error}".replace("data_dir", "data-dir", 1)) from None
    # What can fail for reasons outside the study is tried before the training, not after it.
    check_backend()
    new = not Path(out).exists()
    folder = writable_folder(out)
    pictures = importlib.util.find_spec("matplotlib") is not None
    if not pictures:
        complain(f"matplotlib is missing, so there will be no picture; {_HOW_TO_GET_THE_PICTURE}")
    try:
        return _Session(folder, pictures, options.name == "all").run(jobs)
    finally:
        if new:  # a run that failed leaves no folder with nothing in it
            with contextlib.suppress(OSError):
                folder.rmdir()


def _list(name: str | None, given: dict[str, Any]) -> int:
    from normcore.studies import STUDIES

    if name is not None:
        raise UserError(f"--list takes no NAME, got {name!r}; leave one of them out")
    if given:
        option = next(iter(given)).replace("_", "-")
        raise UserError(f"--{option} needs the NAME of a study ({', '.join(STUDIES)}) or all")
    for study in STUDIES.values():
        print(f"{study.name}\n    {study.sentence}")
    print("\nRun one with: normcore study NAME\nRun them all with: normcore study all")
    return 0


def _all(given: dict[str, Any]) -> list[tuple[Study, Any]]:
    """Every study with the options that it takes; on digits unless other data are asked for."""
    from normcore.data import DATASETS
    from normcore.studies import STUDIES
    from normcore.studies._config import one_of

    data = given.get("data", "digits")
    one_of(data, DATASETS, "data")
    jobs = []
    for study in STUDIES.values():
        takes = study.options() | {"quick"}
        own = {name: value for name, value in given.items() if name in takes}
        if "data" in takes:
            own["data"] = data if data in study.kind.DATA else "digits"
        jobs.append((study, study.config(**own)))
    return jobs


@dataclass
class _Session:
    """Runs studies one after another; writes what each found as soon as it is there."""

    folder: Path
    pictures: bool
    several: bool
    sections: list[Section] = field(default_factory=list)
    written: list[Path] = field(default_factory=list)
    unwritten: UserError | None = None
    failed: list[str] = field(default_factory=list)

    def run(self, jobs: list[tuple[Study, Any]]) -> int:
        started = time.perf_counter()
        stopped = ""
        for number, (study, config) in enumerate(jobs, 1):
            if self.several:
                complain(f"study {number} of {len(jobs)}: {study.name}")
            try:
                stopped = self._study(study, config)
            except KeyboardInterrupt:
                if not self.sections:
                    raise
                stopped = f"Interrupted in the study {study.name}, which is left out."
            if stopped:
                break
        note = ""
        if stopped and self.several:
            left = [study.name for study, _ in jobs[number:]]
            note = stopped + (f" Not run: {', '.join(left)}." if left else "")
            self._report(note)
        if self.unwritten is not None:
            raise self.unwritten
        print(f"\nWritten after {time.perf_counter() - started:.1f} s:")
        for path in self.written:
            print(f"  {path}")
        if self.failed:
            complain(f"normcore: failed: {', '.join(self.failed)}")
        if stopped:
            complain(f"normcore: interrupted: {(note or stopped).removeprefix('Interrupted: ')}")
            return INTERRUPTED
        return FAILED if self.failed else 0

    def _study(self, study: Study, config: Any) -> str:
        """Run one study; return what is missing after Ctrl-C, or nothing."""
        from normcore.data import DataError, DataNotFoundError
        from normcore.data.published import OWN
        from normcore.studies._config import command
        from normcore.studies._html import Section
        from normcore.studies._needs import MissingPackageError

        line = command(study.name, config)
        try:
            result = study.run(config, progress=sys.stderr is not None)
        except (DataError, DataNotFoundError, MissingPackageError) as error:
            said = str(error).replace("data_dir", "--data-dir").replace(f", {OWN}", "")  # no option of the command
            if not self.several:
                raise UserError(said) from None
            return self._give_up(Section(study.name, line, None, {}, said))
        except Exception as error:
            # One study that fails must not cost the others; alone, its traceback is what is wanted.
            if not self.several:
                raise
            complain(traceback.format_exc())
            return self._give_up(Section(study.name, line, None, {}, f"{type(error).__name__}: {error}"))
        # Files first: standard output may be full or closed. If it is a file that fails, the table still comes.
        interrupted: str = result.interrupted
        images: dict[str, bytes] = {}
        # Whoever presses Ctrl-C once more has ended the pictures, not thrown away what was measured.
        with held() as interrupts:
            try:
                self._write(study.name, result, images, interrupts)
            except KeyboardInterrupt:
                interrupted = interrupted or "Interrupted: the pictures that are missing were not drawn."
            interrupts.allowed = False
            self.sections.append(Section(study.name, line, result, images))
            self._report()
        if interrupts.came and self.several:  # held back, and meant
            interrupted = interrupted or f"Interrupted after the study {study.name}."
        print(("\n" if len(self.sections) > 1 else "") + result.table(), flush=True)
        return interrupted

    def _give_up(self, section: Section) -> str:
        complain(f"normcore: the study {section.name} failed: {section.error}")
        self.failed.append(section.name)
        self.sections.append(section)
        self._report()
        return ""

    def _write(self, name: str, result: Outcome, images: dict[str, bytes], interrupts: Interrupts) -> None:
        """Write the numbers and the pictures; put the pictures that are for the report into `images`."""
        from normcore.studies._writing import drawn, numbers

        folder = self.folder / name if self.several else self.folder
        if not all(self._put(folder, file, content) for file, content in numbers(result)):
            return
        wanted = {picture.name + picture.suffix: picture.name for picture in result.pictures if picture.report}
        pictures = drawn(result) if self.pictures else iter(())
        interrupts.allowed = True
        for file, content in pictures:
            if file in wanted:
                images[wanted[file]] = content
            if not self._put(folder, file, content):
                break

    def _report(self, note: str = "") -> None:
        from normcore.studies._html import report

        self._put(self.folder, "index.html", report(self.sections, note).encode())

    def _put(self, folder: Path, file: str, content: bytes) -> bool:
        from normcore.studies._writing import write

        try:
            if not self.written:  # what a run before found is not what stands beside it now
                (self.folder / "index.html").unlink(missing_ok=True)
            folder.mkdir(exist_ok=True)
            path = write(folder, file, content)
        except OSError as error:
            where = error.filename or folder / file
            self.unwritten = self.unwritten or UserError(f"--out: cannot write {where}: {error.strerror or error}")
            return False
        if path not in self.written:
            self.written.append(path)
        return True
