"""SHA-256 of a Parquet table: of the file, of each column and of what says where they lie.

So that a reader of four columns of a million frames need not read the others to trust them. What
belongs to which digest is in FORMAT.md.
"""

from __future__ import annotations

import hashlib
import itertools
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from dicom2cache.errors import CacheError

_BLOCK = 1 << 20
_MAGIC = 4
"""bytes at both ends of a file; at its end behind the length of its metadata, of as many bytes"""


@dataclass(frozen=True)
class TableDigests:
    """Digests of a table, hex; each byte of the file is in one of `footer` and `columns`."""

    sha256: str
    """of the file"""
    footer: str
    """of its first four bytes, and of all behind the last column chunk"""
    columns: dict[str, str]
    """{column: of its chunks, row groups in order}"""


def table_digests(path: Path) -> TableDigests:
    """The digests of the table at `path`, in one pass. Raises CacheError for chunks out of order.

    Raises what pyarrow raises for a file that is no Parquet.
    """
    chunks, footer_start = _chunks(path)
    whole, footer = hashlib.sha256(), hashlib.sha256()
    columns = {name: hashlib.sha256() for name in pq.read_schema(path).names}
    parts = [(0, footer), *((start, columns[name]) for start, name in chunks)]
    parts.append((footer_start, footer))
    with path.open("rb") as file:
        for (start, digest), (stop, _) in itertools.pairwise(parts):
            left = stop - start
            while left > 0:
                block = file.read(min(left, _BLOCK))
                if not block:
                    raise CacheError(f"{path}: ends at byte {stop - left}; it was cut meanwhile")
                left -= len(block)
                digest.update(block)
                whole.update(block)
        while block := file.read(_BLOCK):
            footer.update(block)
            whole.update(block)
    found = {name: digest.hexdigest() for name, digest in columns.items()}
    return TableDigests(whole.hexdigest(), footer.hexdigest(), found)


def _chunks(path: Path) -> tuple[list[tuple[int, str]], int]:
    """(first byte, column) of each column chunk in order, and the first byte of the footer."""
    metadata = pq.read_metadata(path)
    with path.open("rb") as file:
        size = file.seek(-2 * _MAGIC, 2) + 2 * _MAGIC
        footer_start = size - 2 * _MAGIC - int.from_bytes(file.read(_MAGIC), "little")
    leaves = range(metadata.num_columns)
    names = [metadata.schema.column(k).path.split(".")[0] for k in leaves]
    chunks = []
    for k in range(metadata.num_row_groups):
        group = metadata.row_group(k)
        starts = [_start(group.column(leaf)) for leaf in leaves]
        chunks += [(start, names[leaf]) for leaf, start in enumerate(starts) if start]
    starts = [_MAGIC, *(start for start, _ in chunks), footer_start]
    # As all writers have it. Else a byte would be in no digest, or in two.
    if starts[:2] != [_MAGIC, _MAGIC] or starts != sorted(starts):
        raise CacheError(f"{path}: its column chunks do not follow one another from byte {_MAGIC}")
    return chunks, footer_start


def _start(chunk: Any) -> int:
    """Where a column chunk begins: with its dictionary, if it has one; 0: it has no bytes."""
    return int(chunk.dictionary_page_offset or chunk.data_page_offset)
