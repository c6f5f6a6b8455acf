"""Deflated datasets, however their group 0002 stands: the same pixels, and never inflated whole."""

from __future__ import annotations

import io
import zlib
from pathlib import Path

import numpy as np
import pytest

from dicom2cache.errors import FrameError
from dicom2cache.headers.by_pydicom import _readable, parse
from tests.support.caches import built, by_path
from tests.support.dicom_files import pattern, write_dicom

_DEFLATED = "1.2.840.10008.1.2.1.99"


def _text(tag: bytes, vr: bytes, length: int) -> bytes:
    return tag + vr + bytes(2) + length.to_bytes(4, "little") + b" " * length


def _bomb(before_the_syntax: bytes = b"", preamble: bytes = b"") -> bytes:
    """8 MiB of text, deflated to 8 KB, behind group 0002."""
    meta = before_the_syntax + b"\x02\0\x10\0UI\x16\0" + _DEFLATED.encode()
    deflater = zlib.compressobj(9, zlib.DEFLATED, -15)
    body = deflater.compress(_text(b"\x08\0\x01\0", b"UT", 8 << 20)) + deflater.flush()
    return preamble + b"\x02\0\0\0UL\x04\0" + len(meta).to_bytes(4, "little") + meta + body


_LONG = _text(b"\x02\0\x02\1", b"OB", 5000)  # what is private comes first


@pytest.mark.parametrize(
    "data",
    [_bomb(), _bomb(_LONG), _bomb(_LONG, bytes(128) + b"DICM"), _bomb(b"", bytes(128) + b"DICM")],
    ids=["no preamble", "no preamble, long group 0002", "long group 0002", "usual"],
)
def test_a_header_inflates_to_the_most_and_no_further(data: bytes) -> None:
    with pytest.raises(FrameError, match="inflate to more than 1 MiB"):
        parse(io.BytesIO(data), True, None, 1 << 20)


def test_a_deflated_file_without_preamble(tmp_path: Path) -> None:
    pixels = pattern("a", (40, 30))
    path = write_dicom(tmp_path / "in" / "a.dcm", pixels, syntax=_DEFLATED)
    path.write_bytes(path.read_bytes()[132:])
    row, stored = by_path(built(tmp_path / "in", tmp_path / "cache"))["a.dcm", 0]
    assert row["transfer_syntax"] == _DEFLATED
    np.testing.assert_array_equal(stored, pixels)


@pytest.mark.parametrize("made_of_it", [TypeError, zlib.error, None])
def test_want_of_memory_is_no_damage(made_of_it: type[Exception] | None) -> None:
    """What a parser makes of it is not to be told as the file's fault."""

    def parser() -> None:
        if made_of_it is None:
            raise zlib.error("Error -4 while decompressing data: out of memory")
        try:
            raise MemoryError
        except MemoryError as e:
            raise made_of_it("no element") from e

    with pytest.raises(MemoryError), _readable(io.BytesIO()):
        parser()
