"""The files of a published set: where they are, or what to do so that they are there."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from .catalog import File, Source
from .cifar import FOLDER, TEST
from .errors import DataNotFoundError
from .places import candidates, download_root, roots


class Request:
    """What a call of a loader asked for.

    Parameters
    ----------
    source : Source
        The set.
    data_dir, download, progress, verify
        The arguments of the loader.
    """

    def __init__(
        self, source: Source, data_dir: str | os.PathLike[str] | None, download: bool, progress: bool, verify: bool
    ) -> None:
        self.source = source
        self.verify = verify
        self._roots = roots(data_dir)
        self._target = download_root(self._roots, data_dir) / source.folders[0]
        self._download = download
        self._progress = progress

    def places(self, file: File) -> Iterator[Path]:
        """The files that may be this one, likeliest first; at last the one that was downloaded.

        Raises
        ------
        DataNotFoundError
            If the caller wants more of them than there are.
        """
        yield from self._found(file)
        target = self._target / file.name
        reason = "download=False was passed"
        if self._download:
            # Not before it is needed: urllib and what it imports take longer than all the rest of this package.
            from .download import DownloadError
            from .download import download as fetch

            urls = [mirror + file.name for mirror in self.source.mirrors]
            try:
                fetch(urls, target, file.size, file.sha256, progress=self._progress)
            except DownloadError as error:
                reason = f"the download failed ({error})"
            except OSError as error:
                reason = f"the download could not be written ({error})"
            else:
                yield target
        # Where another set's file has the name of this one, its others are there too.
        only_foreign = bool(self._found(file))
        missing = [other.name for other in self.source.files if other == file or only_foreign or not self._found(other)]
        looked_in = ", ".join(str(root) for root in self._roots)
        raise DataNotFoundError(
            f"{self.source.title} was not found: put {', '.join(missing)} into {self._target}, or name the folder "
            f"with {'it' if len(missing) == 1 else 'them'} by data_dir or NORMCORE_DATA; looked in {looked_in}, "
            f"and {reason}"
        )

    def _found(self, file: File) -> list[Path]:
        return candidates(self._roots, self.source.folders, _names(file.name))


def _names(published: str) -> list[str]:
    """What a file may be called: as published, unpacked, and as some sites spell it; for an archive also its folder."""
    if published.endswith(".tar.gz"):
        return [published, published.removesuffix(".gz"), FOLDER, TEST]
    plain = published.removesuffix(".gz")
    dotted = plain.replace("-idx", ".idx")
    return [published, plain, f"{dotted}.gz", dotted]
