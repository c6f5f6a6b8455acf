"""Errors of our own, told once of each kind to the log: `logging`'s `dicom2cache`, or stderr."""

from __future__ import annotations

import logging
from collections.abc import Iterable

from dicom2cache.errors import Fault

_log = logging.getLogger("dicom2cache")


class FaultLog:
    """What a run says of errors of its own; failures/ names every file that they cost."""

    def __init__(self, veiled: bool = False) -> None:
        """`veiled`: it says what was raised and where, and neither the file nor a value."""
        self._told: set[str] = set()
        self._veiled = veiled

    def tell(self, faults: Iterable[Fault]) -> None:
        """Log each fault of a kind that was not told before, with its traceback."""
        for fault in faults:
            if fault.kind not in self._told:
                self._told.add(fault.kind)
                _log.error("%s", fault.kind if self._veiled else fault.text)
