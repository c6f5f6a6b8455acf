"""How many frames a shard has: whole pages where that costs little."""

from __future__ import annotations

import pytest

from dicom2cache.planning.arrays import array_spec, joined
from dicom2cache.records import ArraySpec

MIB = 1 << 20


@pytest.mark.parametrize(
    ("dtype", "slot", "mib", "frames", "pages"),
    [
        ("int16", (512, 512), 128, 256, 65536),  # every frame is whole pages
        ("uint8", (240, 320, 3), 128, 576, 65536),  # of 582, by 64
        ("float32", (10, 10), 128, 16384, 65536),
        ("uint16", (240, 320), 2, 12, 4096),  # of 13, by 2; for 64 KiB by 32
        ("uint16", (2000, 2000), 128, 16, 4096),  # for 64 KiB by 128
        ("int16", (511, 511), 128, 257, None),  # by 2,048
        ("uint8", (87, 1024), 1, 11, None),  # by 4, which are more than a quarter of 11 too many
        ("uint16", (4000, 4001), 1, 1, None),  # larger than a shard
    ],
)
def test_frames_of_a_shard(
    dtype: str, slot: tuple[int, ...], mib: int, frames: int, pages: int | None
) -> None:
    spec = array_spec(dtype, slot, 1, mib * MIB)
    assert spec.frames_per_shard == frames
    data = frames * spec.slot_bytes
    assert next((page for page in (65536, 4096) if data % page == 0), None) == pages


def test_an_array_of_before_goes_on_with_its_own() -> None:
    """Of a cache that was made when frames were not rounded to whole pages: 13 of them."""
    before = ArraySpec("uint16_240x320", "uint16", (240, 320), 20, 13)
    wanted = array_spec("uint16", (240, 320), 5, 2 * MIB)
    assert wanted.frames_per_shard == 12
    (spec,), place = joined([before], [wanted])
    assert (spec.frames_per_shard, spec.first, spec.slots, place) == (13, 2, 5, [0])
    merged = ArraySpec("uint16_240x320.2", "uint16", (240, 320), 24, 12)
    specs, place = joined([before, merged], [wanted])
    assert ([s.slots for s in specs], place) == ([0, 5], [1])  # of two the one that is alike
    packed = ArraySpec("uint16_240x320", "uint16", (240, 320), 20, 12, "zstd")
    specs, place = joined([packed], [wanted])
    assert [s.name for s in specs] == ["uint16_240x320", "uint16_240x320.2"]
    assert place == [1]
