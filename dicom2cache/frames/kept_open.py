"""Files that stay open for a while."""

from __future__ import annotations

import os
from collections.abc import Sequence

from dicom2cache.frames.decode import Source
from dicom2cache.records import Header


class OpenSources:
    """Open sources, the last few: neighbours in a shard often come from one file."""

    def __init__(self, roots: Sequence[str], headers: dict[int, Header], most: int = 4) -> None:
        self._roots, self._headers, self._most = roots, headers, most
        self._open: dict[int, Source] = {}

    def open(self, file: int) -> Source:
        """The source of a row of FILES; raises as Source."""
        if file in self._open:
            self._open[file] = self._open.pop(file)  # the last in order
            return self._open[file]
        while len(self._open) >= self._most:
            self._open.pop(next(iter(self._open))).__exit__()
        header = self._headers[file]
        path = os.path.join(self._roots[header["root"]], header["path"])
        self._open[file] = Source(path, header).__enter__()
        return self._open[file]

    def close(self) -> None:
        """Close all; they may be opened again."""
        while self._open:
            self._open.popitem()[1].__exit__()
