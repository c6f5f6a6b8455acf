"""The few source files that a task has open."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

from dicom2cache.decode import Source


class OpenSources:
    """Open sources, a few at a time: neighbours in a shard often come from one file."""

    _MOST = 4

    def __init__(self, roots: Sequence[str], headers: dict[int, dict[str, Any]]) -> None:
        self._roots, self._headers = roots, headers
        self._open: dict[int, Source] = {}

    def open(self, file: int) -> Source:
        """The source of a row of FILES; raises as Source."""
        if file in self._open:
            return self._open[file]
        while len(self._open) >= self._MOST:
            self._open.pop(next(iter(self._open))).__exit__()
        header = self._headers[file]
        path = os.path.join(self._roots[header["root"]], header["path"])
        self._open[file] = Source(path, header).__enter__()
        return self._open[file]

    def close(self) -> None:
        """Close all."""
        for source in self._open.values():
            source.__exit__()
