"""verify finds a flipped bit in any file of a cache; `make test-hostile` flips 2,000."""

from __future__ import annotations

from pathlib import Path

from tests.running.flipped_bits import CACHES, run


def test_every_flipped_bit_is_found(tmp_path: Path) -> None:
    tally = run(tmp_path, bits=150, seed=7)
    assert tally.missed == []
    assert tally.bits == 150


def test_a_chunk_that_differs_and_holds_the_same_slot_is_found(tmp_path: Path) -> None:
    """Blosc's header has bits that decompression does not look at, such as a flag."""
    from dicom2cache.pipeline import findings

    cache = CACHES["lz4"](tmp_path)
    path = cache / "uint16_12x10" / "c.0.0.0"
    data = bytearray(path.read_bytes())
    data[2] ^= 1 << 4
    path.write_bytes(data)
    (found,) = findings(cache)
    assert (found.kind, found.slots) == ("shard", ())
    assert "its chunks are not those that were written (CRC-32C); no frame is lost" in found.what
