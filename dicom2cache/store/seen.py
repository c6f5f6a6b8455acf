"""What the source files of a cache were like when they were seen: by it an update knows changes.

Beside the cache proper, since modification times are not the same for the same bytes; and digests
only, since times may say when a patient was there.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from dicom2cache.store.durable import write_durably
from dicom2cache.store.layout import SEEN
from dicom2cache.store.names import refuse_link

TABLE = pa.schema([("root", pa.int16()), ("path", pa.string()), ("state", pa.binary(16))])
"""one row for each file that was seen: as `root` and `path` of frames/ and failures/ name it, and a
digest of its size and modification time"""
_DIGEST = hashlib.sha256().digest_size
_ROWS_PER_BYTE = 256


def keep(cache: Path, seen: pa.Table, scratch: Path) -> None:
    """Write the table (TABLE) durably: the SHA-256 of what follows, and Parquet."""
    sink = pa.BufferOutputStream()
    pq.write_table(seen.select(TABLE.names).cast(TABLE), sink, compression="zstd")
    data = sink.getvalue().to_pybytes()
    write_durably(cache / SEEN, hashlib.sha256(data).digest() + data, scratch)


def read(cache: Path) -> pa.Table | None:
    """The table; None if it is lost or damaged: changes are not known then."""
    path = cache / SEEN
    refuse_link(path)
    if not path.is_file():
        return None
    said = path.read_bytes()
    digest, data = said[:_DIGEST], said[_DIGEST:]
    if hashlib.sha256(data).digest() != digest:
        return None
    try:
        with pq.ParquetFile(pa.BufferReader(data)) as file:  # a digest says nothing of who wrote it
            if file.metadata.num_rows > _ROWS_PER_BYTE * len(data):
                return None
            table = file.read()
        table.validate(full=True)
        return table if table.schema.equals(TABLE) else None
    except (pa.ArrowException, ValueError, TypeError, OSError) as e:
        if isinstance(e, OSError) and e.errno is not None:
            raise
        return None
