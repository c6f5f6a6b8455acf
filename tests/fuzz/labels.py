"""Tables of labels: CSV and Parquet of anybody's making."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from functools import cache

import pyarrow as pa
import pyarrow.parquet as pq

from tests.fuzz.caches import plain
from tests.fuzz.choices import Choices
from tests.fuzz.headers import place
from trainer_adapter import CacheError, open_cache
from trainer_adapter.cache import Cache
from trainer_adapter.loading.labels import from_table


@cache
def _cache() -> Cache:
    return open_cache(plain())


def labels_joined(data: bytes) -> None:
    """The first two bytes choose column and kind of file; the others are its bytes."""
    c = Choices(data)
    on = c.pick(("path", "sop_uid", "series_uid", "instance", "frame", "slope", "windows"))
    suffix = c.pick((".csv", ".parquet"))
    path = place().folder / f"labels{suffix}"
    path.write_bytes(c.rest())
    with suppress(CacheError):
        from_table(_cache(), path, on, "label")


def seeds() -> Iterator[bytes]:
    """Tables that fit, of each kind."""
    table = pa.table({"path": ["0.dcm", "c.dcm"], "label": ["a", "b"]})
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink, compression="none", write_statistics=False)
    yield b"\0\0path,label\n0.dcm,a\n1.dcm,b\n2.dcm,\nc.dcm,a\n"
    yield b"\3\0instance,label\n1,0.5\n2,3\n"
    yield b"\4\0frame,label\n0,true\n"
    yield b"\0\1" + sink.getvalue().to_pybytes()
