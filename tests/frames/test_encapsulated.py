"""Frames of encapsulated pixel data: fragments dealt by table, by count and by marker."""

from __future__ import annotations

import os
import struct
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom.encaps import encapsulate, encapsulate_extended

from dicom2cache.errors import FrameError
from dicom2cache.frames.fragments import find_frames
from dicom2cache.sources.place import Opened


def _item(data: bytes) -> bytes:
    return b"\xfe\xff\x00\xe0" + struct.pack("<I", len(data)) + data


_DELIMITER = b"\xfe\xff\xdd\xe0\0\0\0\0"
_EOI = b"\xff\xd9"
_JPEG = b"\xff\xd8\xff\xdb" + bytes(4) + _EOI
_J2K = b"\xff\x4f\xff\x51" + bytes(4) + _EOI
_RLE = b"\1\0\0\0\x40\0\0\0" + bytes(4)


def _read(
    folder: Path, data: bytes, frames: int, start: int = 0, before: bytes = b""
) -> list[bytes]:
    path = folder / "pixels"
    path.write_bytes(bytes(start - len(before)) + before + data)
    descriptor = Opened(path)
    try:
        found = find_frames(descriptor, start, start + len(data), frames)
        return [found.read(descriptor, k) for k in range(frames)]
    finally:
        descriptor.close()


@pytest.mark.parametrize(
    ("table", "fragments", "frames", "expected"),
    [
        (b"", [b"ab", b"cd"], 2, [b"ab", b"cd"]),  # one fragment for each frame
        (b"", [b"ab", b"cd", b"ef"], 1, [b"abcdef"]),  # one frame: all fragments
        (struct.pack("<2I", 0, 20), [b"ab", b"cd", b"ef"], 2, [b"abcd", b"ef"]),  # by the table
        (struct.pack("<2I", 0, 10), [b"ab", b"cd", b"ef"], 2, [b"ab", b"cdef"]),
        (b"", [b"ab", b"c" + _EOI + b"\0", b"ef" + _EOI], 2,
         [b"abc" + _EOI + b"\0", b"ef" + _EOI]),  # by the end of image, padded
        (struct.pack("<2I", 0, 7), [b"ab" + _EOI, b"cd", b"ef" + _EOI], 2,
         [b"ab" + _EOI, b"cdef" + _EOI]),  # the table points into a fragment: by the marker
        (struct.pack("<2I", 0, 0), [b"ab" + _EOI, b"cd", b"ef" + _EOI], 2,
         [b"ab" + _EOI, b"cdef" + _EOI]),  # a table of zeros is no table
        (struct.pack("<I", 0), [b"", b"cd"], 1, [b"cd"]),  # an empty fragment
        (b"", [_JPEG, b"", _J2K, b"", b""], 2, [_JPEG, _J2K]),  # after each frame, and at the end
        (b"", [b"", _RLE, b"", _RLE], 2, [_RLE, _RLE]),  # before each
        (struct.pack("<2I", 0, 16), [_RLE[:8], b"", b"", _RLE], 2, [_RLE[:8], _RLE]),  # by table
        (b"", [_JPEG[:4], b"cd" + _EOI, _JPEG, b"??"], 2,
         [_JPEG[:4] + b"cd" + _EOI, _JPEG + b"??"]),
        (b"", [_JPEG[:4], b"cd", _JPEG[:4], b"gh"], 2, [_JPEG[:4] + b"cd", _JPEG[:4] + b"gh"]),
        (b"", [_JPEG, b"?" + _JPEG, _JPEG], 3, [_JPEG, b"?" + _JPEG, _JPEG]),  # one is damaged
        (struct.pack("<2I", 0, 24), [_JPEG, _JPEG[:4], b"cdef"], 2,
         [_JPEG, _JPEG[:4] + b"cdef"]),  # a table that puts the second's beginning into the first
        (struct.pack("<2I", 0, 28), [_JPEG, _JPEG], 2, [_JPEG, _JPEG]),  # to the delimiter
        (_JPEG, [_J2K], 2, [_JPEG, _J2K]),  # no item for a table at all
    ],
)  # fmt: skip
def test_fragments_to_frames(
    tmp_path: Path, table: bytes, fragments: list[bytes], frames: int, expected: list[bytes]
) -> None:
    data = _item(table) + b"".join(map(_item, fragments)) + _DELIMITER
    assert _read(tmp_path, data, frames) == expected
    assert _read(tmp_path, data, frames, start=37) == expected  # anywhere in the file


@pytest.mark.parametrize(
    ("data", "frames", "reason"),
    [
        (_item(b"") + _DELIMITER, 1, "no fragments"),
        (b"", 1, "no fragments"),
        (_item(b"") + _item(b"abcd")[:-1], 1, "truncated"),  # the file ends in a fragment
        (_item(b"") + _item(b"ab") + b"junkjunk", 1, "no item at byte 18"),
        (_item(b"") + _item(b"ab") + _item(b"cd") + _DELIMITER, 3, "cannot be dealt to 3 frames"),
        (_item(b"") + _item(b"") + _item(b"") + _DELIMITER, 1, "its 2 fragments hold no byte"),
        (_item(b"") + _item(b"") + _item(b"") + _DELIMITER, 2, "its 2 fragments hold no byte"),
        (_item(b"") + _item(b"ab") + _item(b"cd") + _item(b"ef") + _DELIMITER, 2,
         "cannot be dealt to 2 frames"),  # neither table nor marker: no guess
        (_item(b"") + b"\xfe\xff\x00\xe0\xff\xff\xff\xff", 1, "no item"),  # undefined length
        (_item(b"") + _item(b"ab") + _item(b"cd")[:4], 1, "within the header of a fragment"),
        (_item(b"") + _item(b"ab") + _item(b"cd")[:7], 1, "within the header of a fragment"),
    ],
)  # fmt: skip
def test_what_makes_no_frames_is_refused(
    tmp_path: Path, data: bytes, frames: int, reason: str
) -> None:
    with pytest.raises(FrameError, match=reason):
        _read(tmp_path, data, frames)


@given(
    frames=st.lists(st.binary(min_size=1, max_size=40), min_size=1, max_size=6),
    per_frame=st.integers(1, 4),
    has_bot=st.booleans(),
)
def test_what_pydicom_encapsulates_comes_back(
    tmp_path_factory: pytest.TempPathFactory, frames: list[bytes], per_frame: int, has_bot: bool
) -> None:
    even = [b"\x01\x02" + f + bytes(len(f) % 2) for f in frames]
    if not has_bot:  # then only the marker tells where a frame ends
        even = [f.replace(b"\xff\xd9", b"\0\0") + b"\xff\xd9" for f in even]
    fragments = min(per_frame, min(len(f) for f in even) // 4 or 1)
    data = encapsulate(even, fragments_per_frame=fragments, has_bot=has_bot) + _DELIMITER
    assert _read(tmp_path_factory.mktemp("e"), data, len(even)) == even


def _counted(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int]]:
    """(offset, bytes) of every read from here on."""
    seen: list[tuple[int, int]] = []
    pread = os.pread

    def counted(descriptor: int, count: int, offset: int) -> bytes:
        seen.append((offset, count))
        return pread(descriptor, count, offset)

    monkeypatch.setattr(os, "pread", counted)
    return seen


_FRAMES = [bytes([k]) * (100 + 2 * k) for k in range(50)]


def _extended_table(frames: list[bytes]) -> tuple[bytes, bytes]:
    """(the elements before the pixel data that end in its own header, its items)."""
    data, offsets, lengths = encapsulate_extended(frames)
    tables = b""
    for element, value in ((b"\1\0", offsets), (b"\2\0", lengths)):
        tables += b"\xe0\x7f" + element + b"OV\0\0" + struct.pack("<I", len(value)) + value
    return tables + b"\xe0\x7f\x10\0OB\0\0\xff\xff\xff\xff", data + _DELIMITER


@pytest.mark.parametrize("table", ["basic", "extended"])
def test_a_table_finds_a_frame_without_a_walk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, table: str
) -> None:
    before, data = b"", encapsulate(_FRAMES, has_bot=True) + _DELIMITER
    if table == "extended":
        before, data = _extended_table(_FRAMES)
    (tmp_path / "pixels").write_bytes(before + data)
    descriptor = Opened(tmp_path / "pixels")
    reads = _counted(monkeypatch)
    start, size = len(before), len(before) + len(data)
    found = find_frames(descriptor, start, size, 50)
    assert len(reads) <= 7  # the table, and the items of the last frame
    reads.clear()
    assert found.read(descriptor, 31) == _FRAMES[31]
    assert [count for _, count in reads] == [8 + len(_FRAMES[31])]
    assert [found.read(descriptor, k) for k in range(50)] == _FRAMES
    descriptor.close()


def test_without_a_table_a_file_is_walked_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = encapsulate(_FRAMES, has_bot=False) + _DELIMITER
    assert _read(tmp_path, data, 50) == _FRAMES
    reads = _counted(monkeypatch)
    descriptor = Opened(tmp_path / "pixels")  # another shard of the same file
    found = find_frames(descriptor, 0, len(data), 50)
    assert found.read(descriptor, 49) == _FRAMES[49]
    descriptor.close()
    assert len(reads) <= 2  # the table's item, and the frame


def _tables(change: int) -> bytes:
    offsets = [0, 12, 24, 38]
    offsets[2] += change
    return struct.pack("<4I", *offsets)


@pytest.mark.parametrize("change", [0, 2, -2, 14, 1 << 30])
def test_a_table_that_is_wrong_in_the_middle_is_not_believed(tmp_path: Path, change: int) -> None:
    frames = [b"ab" + _EOI, b"cd" + _EOI, b"ghij" + _EOI, b"kl" + _EOI]
    data = _item(_tables(change)) + b"".join(map(_item, frames)) + _DELIMITER
    assert _read(tmp_path, data, 4) == frames


@pytest.mark.parametrize("wrong", [0, 7, 1 << 62, (1 << 64) - 1])
def test_an_extended_table_that_is_wrong_is_not_believed(tmp_path: Path, wrong: int) -> None:
    before, data = _extended_table(_FRAMES)
    before = before[: 12 + 8 * 20] + struct.pack("<Q", wrong) + before[12 + 8 * 21 :]
    assert _read(tmp_path, data, 50, len(before) + 100, before) == _FRAMES


def test_tables_that_the_end_of_the_file_cuts(tmp_path: Path) -> None:
    """Not even the last offset of them is whole."""
    cut = b"\xfe\xff\x00\xe0" + struct.pack("<I", 8) + b"\0\0\0\0\x0a"
    with pytest.raises(FrameError, match="truncated"):
        _read(tmp_path, cut, 2)
    before, _ = _extended_table(_FRAMES)
    with pytest.raises(FrameError, match="no fragments"):
        _read(tmp_path, b"", 50, len(before), before)


@pytest.mark.parametrize("end", [b"", _DELIMITER[:3], _DELIMITER[:7], _DELIMITER])
@pytest.mark.parametrize("frames", [1, 2])
def test_items_without_a_delimiter_are_flagged(tmp_path: Path, end: bytes, frames: int) -> None:
    table = struct.pack("<2I", 0, 10) if frames == 2 else b""
    data = _item(table) + _item(b"ab") + _item(b"cd") + end
    (tmp_path / "pixels").write_bytes(data)
    descriptor = Opened(tmp_path / "pixels")
    found = find_frames(descriptor, 0, len(data), frames)
    assert found.flags == (() if len(end) >= 4 else ("unterminated",))
    expected = [b"abcd"] if frames == 1 else [b"ab", b"cd"]
    assert [found.read(descriptor, k) for k in range(frames)] == expected
    descriptor.close()


_SOI = b"\xff\xd8\xff\xdb"


@pytest.mark.parametrize(
    ("table", "fragments", "own", "flags"),
    [
        (b"", [_SOI + b"ab", b"cd"], 2, ()),
        (b"", [_SOI + b"ab", b"cd", _SOI + b"ef", b"gh"], 2, ("excess-pixel-data",)),
        (b"", [b"\xff\x4f\xff\x51a", b"\xff\x4f\xff\x51b"], 1, ("excess-pixel-data",)),
        (struct.pack("<2I", 0, 14), [_SOI + b"ab", _SOI + b"cd"], 1, ("excess-pixel-data",)),
        (struct.pack("<2I", 0, 14), [_SOI + b"ab", b"cd"], 2, ("excess-pixel-data",)),
    ],
)
def test_more_than_the_one_frame(
    tmp_path: Path, table: bytes, fragments: list[bytes], own: int, flags: tuple[str, ...]
) -> None:
    data = _item(table) + b"".join(map(_item, fragments)) + _DELIMITER
    (tmp_path / "pixels").write_bytes(data)
    descriptor = Opened(tmp_path / "pixels")
    found = find_frames(descriptor, 0, len(data), 1)
    assert (found.read(descriptor, 0), found.flags) == (b"".join(fragments[:own]), flags)
    descriptor.close()


@pytest.mark.parametrize("frames", [1, 2])
@pytest.mark.parametrize("has_bot", [True, False])
def test_the_system_may_read_less_than_was_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, frames: int, has_bot: bool
) -> None:
    """Linux reads 2147479552 bytes at most: here 100."""
    streams = [bytes([k]) * 1000 + _EOI for k in range(frames)]
    data = encapsulate(streams, has_bot=has_bot) + _DELIMITER
    pread = os.pread
    monkeypatch.setattr(os, "pread", lambda d, n, offset: pread(d, min(n, 100), offset))
    assert _read(tmp_path, data, frames) == streams


@pytest.mark.parametrize(
    ("table", "fragments", "frames", "there", "flags", "reason"),
    [
        (b"", [_JPEG, _J2K], 3, [_JPEG, _J2K], ("frames-missing",), "2 codestreams"),
        (b"", [_RLE, _RLE], 4, [_RLE, _RLE], ("frames-missing",), "2 codestreams"),
        (b"", [_JPEG, _JPEG[:4], b"d" + _EOI], 3, [_JPEG, _JPEG[:4] + b"d" + _EOI],
         ("frames-missing",), "2 codestreams"),  # three fragments, and yet two frames
        (b"", [_JPEG, b"", _J2K], 3, [_JPEG, None, _J2K], (), "frame 1 is empty"),  # one for each
        (struct.pack("<3I", 0, 18, 26), [_JPEG, b"", _J2K], 3, [_JPEG, None, _J2K], (),
         "frame 1 is empty"),
        (b"", [_JPEG, _J2K, _JPEG], 2, [_JPEG, _J2K], ("excess-pixel-data",), ""),
        (struct.pack("<3I", 0, 18, 36), [_JPEG, _J2K, _JPEG], 2, [_JPEG, _J2K],
         ("excess-pixel-data",), ""),
        (struct.pack("<2I", 0, 18), [_JPEG, _J2K, _JPEG], 2, [_JPEG, _J2K],
         ("excess-pixel-data",), ""),
    ],
)  # fmt: skip
def test_what_is_there_is_found_and_what_is_not_fails_by_itself(
    tmp_path: Path, table: bytes, fragments: list[bytes], frames: int,
    there: list[bytes | None], flags: tuple[str, ...], reason: str,
) -> None:  # fmt: skip
    data = _item(table) + b"".join(map(_item, fragments)) + _DELIMITER
    (tmp_path / "pixels").write_bytes(data)
    descriptor = Opened(tmp_path / "pixels")
    found = find_frames(descriptor, 0, len(data), frames)
    assert found.flags == flags
    for k in range(frames):
        if k < len(there) and there[k] is not None:
            assert found.read(descriptor, k) == there[k]
        else:
            with pytest.raises(FrameError, match=reason):
                found.read(descriptor, k)
    descriptor.close()


@pytest.mark.parametrize(
    ("after", "own", "reason"),
    [
        (_item(_JPEG)[:-3], 2, "pixel data is truncated"),  # cut in the third, which begins
        (_item(b"more of it")[:-3], 2, "pixel data is truncated"),  # the second had ended
        (_item(_JPEG)[:5], 2, "within the header of a fragment"),
        (b"junk junk", 2, "no item at byte 44"),
    ],
)
def test_frames_before_damage_are_found_without_a_table(
    tmp_path: Path, after: bytes, own: int, reason: str
) -> None:
    data = _item(b"") + _item(_JPEG) + _item(_J2K) + after
    (tmp_path / "pixels").write_bytes(data)
    descriptor = Opened(tmp_path / "pixels")
    found = find_frames(descriptor, 0, len(data), 4)
    assert [found.read(descriptor, k) for k in range(own)] == [_JPEG, _J2K][:own]
    for k in range(own, 4):
        with pytest.raises(FrameError, match=reason):
            found.read(descriptor, k)
    descriptor.close()


def test_frames_without_marks_are_dealt_by_number_alone(tmp_path: Path) -> None:
    """Bytes of uncompressed frames may look like the beginning of a codestream."""
    plain = [_JPEG, b"0123456789", b"abcdefghij"]
    data = _item(b"") + b"".join(map(_item, plain)) + _DELIMITER
    (tmp_path / "pixels").write_bytes(data)
    descriptor = Opened(tmp_path / "pixels")
    found = find_frames(descriptor, 0, len(data), 3, marked=False)
    assert [found.read(descriptor, k) for k in range(3)] == plain
    descriptor.close()
