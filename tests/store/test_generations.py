"""Caches of several generations, with part-filled shards, as other programs see them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorstore
import zarr
from numpy.typing import NDArray

from tests.support import hand_made
from tests.support.caches import run_here


@pytest.fixture(scope="module", params=["none", "lz4", "zstd"])
def cache(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Path:
    """The cache of three generations, of one codec."""
    folder = tmp_path_factory.mktemp("generations") / "cache"
    hand_made.write(folder, request.param)
    return folder


def by_zarr(cache: Path, array: str) -> NDArray[Any]:
    return np.asarray(zarr.open_group(cache, mode="r")[array])


def by_tensorstore(cache: Path, array: str) -> NDArray[Any]:
    place = {"driver": "file", "path": str(cache / array)}
    opened = tensorstore.open({"driver": "zarr3", "kvstore": place}, read=True).result()
    return np.asarray(opened.read().result())


@pytest.mark.parametrize("program", [by_zarr, by_tensorstore])
def test_other_programs_see_frames_and_gaps(cache: Path, program: Any) -> None:
    sizes = {(n, s): z for shards in hand_made.SHARDS for n, s, _, z in shards}
    for array, (_, slot, per_shard) in hand_made.ARRAYS.items():
        found = program(cache, array)
        assert found.shape == ({"grey": 18, "colour": 6}[array], *slot)
        frames = 0
        for row, whole in enumerate(found):
            shard, k = divmod(row, per_shard)
            held = sizes[array, shard]
            size = held[k] if k < len(held) else None
            expected = np.zeros(slot, whole.dtype)
            if size is not None:
                expected[: size[0], : size[1]] = hand_made.pixels(array, row, *size)
                frames += 1
            np.testing.assert_array_equal(whole, expected)
        assert frames == {"grey": 11, "colour": 4}[array]


def test_verify_and_info(cache: Path) -> None:
    for flags in ([], ["--quick"]):
        ran = run_here("verify", cache, *flags)
        assert (ran.returncode, ran.stdout) == (0, f"{cache}: whole (15 frames)\n"), ran.stderr
    said = run_here("info", cache).stdout
    assert "15 frames of 15 files" in said
    assert "7 shards" in said
    for lost in ("grey/2.dcm", "colour/4.dcm"):  # of the first and of the second generation
        assert f"failed: {lost}, frame 0: made so" in said
