"""Work done twice: by the compiled loops, and by NumPy."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import pytest

from dicom2cache.pixels import kernel
from tests.house.kernel import compiler

T = TypeVar("T")
needed = pytest.mark.skipif(
    kernel.compiled is None and compiler() is None, reason="no C compiler: nothing to compare"
)


@contextmanager
def by_numpy() -> Iterator[None]:
    """A block in which the compiled loops are not there."""
    before, kernel.compiled = kernel.compiled, None
    try:
        yield
    finally:
        kernel.compiled = before


def both(work: Callable[[], T]) -> tuple[T, T]:
    """(by the compiled loops, by NumPy)."""
    assert kernel.compiled is not None
    with by_numpy():
        slow = work()
    return work(), slow


def bits(found: Any) -> Any:
    """The statistics, floats as their bytes: 0.0 and -0.0 are two."""
    if isinstance(found, tuple):
        return tuple(map(bits, found))
    return struct.pack("<d", found) if isinstance(found, float) else found
