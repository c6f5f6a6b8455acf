"""What `make bench-read` builds and reads without its peers' packages holds the frames it says."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks.figures import least, most
from benchmarks.read.bars import bars_of, together
from benchmarks.read.contenders import CONTENDERS, chosen
from benchmarks.read.limits import write_million
from benchmarks.read.workloads import Workload, untrue, write_frames
from trainer_adapter import open_cache

WHOLE = Workload("whole", (64, 64), "uint16", 20, 4)
CROPS = Workload("crops", (64, 64), "uint16", 20, 4, crop=16)
OURS: list[dict[str, Any]] = [{}, {"whole": True}, {"workers": 0}]


@pytest.mark.parametrize("work", [WHOLE, CROPS], ids=["whole", "crops"])
@pytest.mark.parametrize(
    ("peer", "options"),
    [("memcpy", {}), ("npy", {"workers": 0}), *(("ours", o) for o in OURS)],
)
def test_a_contender_serves_a_share_of_the_frames(
    tmp_path: Path, peer: str, options: dict[str, Any], work: Workload
) -> None:
    write_frames(Workload("all", work.shape, work.dtype, 32, 4), tmp_path / "all.npy")
    module, folder = import_module(f"benchmarks.read.peers.{peer}"), tmp_path / peer
    folder.mkdir()
    module.build(tmp_path / "all.npy", folder, work)
    true = np.load(tmp_path / "all.npy")[: work.frames]
    order = np.random.default_rng(0).permutation(work.frames)
    assert untrue(work, true, module.opened(folder, work, options)(order)) == ""


def test_a_part_of_the_contenders_has_the_bars_that_it_can(tmp_path: Path) -> None:
    taking = chosen("ours")
    assert {c.peer for c in taking} == {"memcpy", "ours"}
    assert [c.name for c in chosen("CacheLoader") if c.peer != "memcpy"] == ["CacheLoader"]
    assert chosen("") == CONTENDERS
    with pytest.raises(ValueError, match="no contender zar"):
        chosen("ours,zar")
    rows = [
        {"name": "memcpy", "rounds": [100.0, 200.0, 100.0]},
        {"name": "CacheLoader", "rounds": [75.0, 100.0, None]},
    ]
    tables = {name: {"rows": rows} for name in ("slices", "photos", "radiographs")}
    found = {bar["what"]: (bar["value"], bar["met"]) for bar in bars_of({"warm": tables})}
    assert found == {  # medians of the ratios within rounds
        "CacheLoader / memcpy, 512x512 int16": (0.625, False),
        "CacheLoader / memcpy, 224x224x3 uint8": (0.625, False),
        "CacheLoader / memcpy, 2048x2048, crop of 512": (0.625, False),
    }


def test_several_runs_as_one() -> None:
    runs = [[least("speed", v, 0.9), most("memory", 100 * v, 95)] for v in (0.8, 1.0, 0.92)]
    assert [(f["what"], f["value"], f["met"], f["note"]) for f in together(runs)] == [
        ("speed", 0.92, True, "of 0.80, 0.92, 1.00"),
        ("memory", 92.0, True, "of 80.00, 92.00, 100.00"),
    ]


def test_the_million_small_frames_are_those_that_were_broadcast(tmp_path: Path) -> None:
    write_million(tmp_path / "cache", 300)
    cache = open_cache(tmp_path / "cache")
    assert len(cache) == 300
    assert cache.arrays[0].slots > cache.arrays[0].frames_per_shard
    found = cache.gather(np.array([0, 299]))
    assert found.shape == (2, 32, 32)
    assert (found == np.arange(32)).all()
