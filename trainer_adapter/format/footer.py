"""Where the column chunks of a Parquet file are, out of its footer.

Read here and not by pyarrow, which ends the process on metadata that contradict themselves
(ColumnChunk may throw, and Cython does not expect it). Thrift's compact protocol, and of Parquet's
metadata (parquet.thrift: FileMetaData, RowGroup, ColumnChunk, ColumnMetaData) a few fields.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

_FALSE, _BYTE, _DOUBLE, _TEXT, _LIST, _SET, _STRUCT = 2, 3, 7, 8, 9, 10, 12
_WHOLE = (4, 5, 6)
"""16, 32 and 64 bits"""
_DEEPEST = 32


class Chunk(NamedTuple):
    """A column chunk."""

    start: int
    """its first byte: of its dictionary, if it has one; 0: it has no bytes"""
    values: int
    plain: int
    """bytes when it is decompressed"""


@dataclass(frozen=True)
class RowGroup:
    """Rows that are stored together."""

    rows: int
    chunks: list[Chunk]
    """of each leaf of the schema, in order"""


@lru_cache(16)  # of a million frames it takes 50 ms, and each column is asked for by itself
def row_groups(footer: bytes) -> tuple[int, list[RowGroup]]:
    """(rows of the file, its row groups). Raises ValueError for what is none."""
    thrift, rows, groups = _Thrift(footer), [0], list[RowGroup]()

    def group() -> None:
        counts, chunks = [0], list[Chunk]()
        thrift.struct({3: thrift.number(counts), 1: thrift.each(lambda: chunks.append(chunk()))})
        groups.append(RowGroup(counts[-1], chunks))

    def chunk() -> Chunk:
        values, plain, data, dictionary = [0], [0], [0], [0]
        about = {
            5: thrift.number(values), 6: thrift.number(plain), 9: thrift.number(data),
            11: thrift.number(dictionary),
        }  # fmt: skip
        thrift.struct({3: lambda kind: thrift.struct(about)})
        return Chunk(dictionary[-1] or data[-1], values[-1], plain[-1])

    try:
        thrift.struct({3: thrift.number(rows), 4: thrift.each(group)})
    except IndexError:
        raise ValueError("its metadata end early") from None
    return rows[-1], groups


class _Thrift:
    """A cursor in bytes of the compact protocol."""

    def __init__(self, data: bytes) -> None:
        self._data, self._at, self._depth = data, 0, 0

    def struct(self, wanted: dict[int, Callable[[int], None]]) -> None:
        """Read a struct: `wanted` by the number of a field, given its type; others are skipped."""
        self._depth += 1
        if self._depth > _DEEPEST:
            raise ValueError("its metadata are nested too deep")
        number = 0
        while head := self._byte():
            delta, kind = head >> 4, head & 15
            number = number + delta if delta else self._whole()
            field = wanted.get(number)
            if field is not None:
                field(kind)
            elif kind > _FALSE:  # truth is in the head
                self._skip(kind)
        self._depth -= 1

    def number(self, into: list[int]) -> Callable[[int], None]:
        """What reads a whole number, and puts it at the end of a list."""

        def field(kind: int) -> None:
            if kind not in _WHOLE:
                raise ValueError("its metadata have another type than Parquet's")
            into.append(self._whole())

        return field

    def each(self, item: Callable[[], None]) -> Callable[[int], None]:
        """What reads a list of structs, each by `item`."""

        def field(kind: int) -> None:
            if kind != _LIST:
                raise ValueError("its metadata have another type than Parquet's")
            for inner in self._items():
                if inner != _STRUCT:
                    raise ValueError("its metadata have another type than Parquet's")
                item()

        return field

    def _items(self) -> Iterator[int]:
        """The type of each item of a list."""
        head = self._byte()
        count = head >> 4
        if count == 15:
            count = self._varint()
        if count > len(self._data) - self._at:
            raise ValueError("its metadata end early")
        for _ in range(count):
            yield head & 15

    def _skip(self, kind: int) -> None:
        if kind in _WHOLE:
            self._varint()
        elif kind == _TEXT:
            length = self._varint()  # which moves on, too
            self._at += length
        elif kind == _STRUCT:
            self.struct({})
        elif kind in (_LIST, _SET):
            self._depth += 1
            if self._depth > _DEEPEST:
                raise ValueError("its metadata are nested too deep")
            for inner in self._items():
                if inner <= _BYTE:
                    self._at += 1
                else:
                    self._skip(inner)
            self._depth -= 1
        elif kind == _BYTE:
            self._at += 1
        elif kind == _DOUBLE:
            self._at += 8
        else:  # Parquet has no maps
            raise ValueError("its metadata have another type than Parquet's")

    def _byte(self) -> int:
        found = self._data[self._at]
        self._at += 1
        return found

    def _varint(self) -> int:
        data, at = self._data, self._at
        found = data[at]
        if found > 127:
            found, shift = found & 127, 7
            while True:
                at += 1
                byte = data[at]
                found |= (byte & 127) << shift
                if byte < 128:
                    break
                shift += 7
                if shift > 63:
                    raise ValueError("its metadata have a number of over 64 bits")
        self._at = at + 1
        return found

    def _whole(self) -> int:
        found = self._varint()
        return found >> 1 ^ -(found & 1)  # zigzag
