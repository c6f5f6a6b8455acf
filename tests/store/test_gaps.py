"""Slots without a frame: zeros, or holes in the file."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from dicom2cache.records import ArraySpec
from dicom2cache.store.shards import filled_gap

SPEC = ArraySpec("uint8_64x64", "uint8", (64, 64), slots=4, frames_per_shard=4)
USED = np.array([1])
"""of four slots of 4,096 bytes"""


@pytest.mark.parametrize(
    ("writes", "size", "found"),
    [
        ({}, 16384, None),  # a hole as a whole
        ({4096: b"frame"}, 16384, None),
        ({0: b"\0" * 4096, 12288: b"\0"}, 16384, None),  # zeros that were written
        ({4095: b"x"}, 16384, 0),
        ({8192: b"x", 12288: b"x"}, 16384, 2),
        ({16383: b"x"}, 16384, 3),
        ({16384: b"index"}, 16389, None),  # behind the slots
        ({}, 5000, None),  # it was cut: that is seen elsewhere
        ({}, 0, None),
    ],
)
def test_what_is_between_frames(
    tmp_path: Path, writes: dict[int, bytes], size: int, found: int | None
) -> None:
    with open(tmp_path / "c.0.0.0", "w+b") as file:
        for at, data in writes.items():
            os.pwrite(file.fileno(), data, at)
        file.truncate(size)
        assert filled_gap(file.fileno(), SPEC, 4, USED) == found
