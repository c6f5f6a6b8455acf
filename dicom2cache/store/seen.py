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
_DIGEST = b"sha256"
_ROWS_PER_BYTE = 256


def keep(cache: Path, seen: pa.Table, scratch: Path) -> None:
    """Write the table (TABLE), durably, with its own digest."""
    plain = seen.select(TABLE.names).cast(TABLE).combine_chunks()
    sink = pa.BufferOutputStream()
    signed = plain.replace_schema_metadata({_DIGEST: _digest(plain)})
    pq.write_table(signed, sink, compression="zstd")
    write_durably(cache / SEEN, sink.getvalue().to_pybytes(), scratch)


def read(cache: Path) -> pa.Table | None:
    """The table; None if it is lost or damaged: changes are not known then."""
    path = cache / SEEN
    refuse_link(path)
    if not path.is_file():
        return None
    try:
        with pq.ParquetFile(path) as file:
            if file.metadata.num_rows > _ROWS_PER_BYTE * path.stat().st_size:
                return None
            if not file.schema_arrow.remove_metadata().equals(TABLE):
                return None
            said = (file.schema_arrow.metadata or {}).get(_DIGEST)
            table = file.read().replace_schema_metadata(None).combine_chunks()
        table.validate(full=True)
        return table if said == _digest(table) else None
    except (pa.ArrowException, ValueError, TypeError, OSError) as e:
        if isinstance(e, OSError) and e.errno is not None:
            raise
        return None


def _digest(table: pa.Table) -> bytes:
    """SHA-256 (hex) of the columns, as Arrow has them in memory."""
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, TABLE) as writer:
        for batch in table.to_batches(max_chunksize=1 << 20):
            writer.write_batch(batch)
    return hashlib.sha256(sink.getvalue()).hexdigest().encode()
