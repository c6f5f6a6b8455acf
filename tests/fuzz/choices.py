"""Decisions that are read off the bytes of a fuzzer, so that each change of them changes one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

T = TypeVar("T")


class Choices:
    """Bytes read from the front; 0 for ever where they end."""

    def __init__(self, data: bytes) -> None:
        self._data, self._at = data, 0

    def __bool__(self) -> bool:
        """True while there are bytes left."""
        return self._at < len(self._data)

    def byte(self) -> int:
        """0 to 255."""
        self._at += 1
        return self._data[self._at - 1] if self._at <= len(self._data) else 0

    def below(self, count: int) -> int:
        """0 to `count` - 1, at most 65535."""
        return (self.byte() if count <= 256 else self.byte() << 8 | self.byte()) % count

    def pick(self, some: Sequence[T]) -> T:
        """One of them."""
        return some[self.below(len(some))]

    def one_in(self, count: int) -> bool:
        """True once in `count` times; False where the bytes end."""
        return self.below(count) == count - 1

    def take(self, most: int) -> bytes:
        """Up to `most` bytes, as many as a byte says."""
        count = self.below(most + 1)
        found = self._data[self._at : self._at + count]
        self._at += count
        return found

    def rest(self) -> bytes:
        """All that is left."""
        found = self._data[self._at :]
        self._at = len(self._data)
        return found
