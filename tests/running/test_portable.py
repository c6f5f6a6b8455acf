"""Both packages on a system that has no more than Windows and macOS have: a share of the core.

`make test-portable` runs the core's tests so. It is Linux all the same: what only these systems do
is not seen (docs/reliability.md).
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.caches import built, run_cli, run_here, tree
from tests.support.dicom_files import write_series
from tests.support.faults import wavelets, with_fault

_READS = """
import importlib, json, pkgutil, sys
from pathlib import Path
import bare, os, signal
assert not [n for n in bare.OS if hasattr(os, n)] and not hasattr(signal, "setitimer")
import dicom2cache, trainer_adapter
for package in (dicom2cache, trainer_adapter):
    for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
        if not module.name.endswith("__main__") and ".lightly" not in module.name:
            importlib.import_module(module.name)
import numpy as np
cache = trainer_adapter.open_cache(sys.argv[1])
sums = [int(cache[i].sum()) for i in range(len(cache))]
batches = {}
for read in ("auto", "map", "advise", "pread"):
    loader = trainer_adapter.CacheLoader(cache, batch_size=4, read=read)
    batches[read] = [int(batch.image.sum()) for batch in loader]
from trainer_adapter.stage import staged
copied = staged(cache, sys.argv[2])
print(json.dumps([sums, batches, int(copied[0].sum())]))
"""


@pytest.fixture(scope="module")
def scans(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("scans")
    wavelets(folder / "old")
    write_series(folder / "old" / "ct", 3, 64)
    return folder


def test_a_cache_is_the_same_and_is_read(scans: Path, tmp_path: Path) -> None:
    bare, whole = tmp_path / "bare", built(scans, tmp_path / "whole", "--shard-mib", 1)
    ran = run_cli("build", scans, bare, "--shard-mib", 1, "--jobs", 2, env=with_fault("bare"))
    assert (ran.returncode, "Traceback" in ran.stderr) == (0, False), ran.stderr
    assert tree(bare) == tree(whole)
    ran = subprocess.run(
        [sys.executable, "-c", _READS, bare, tmp_path / "staged"],
        env={**os.environ, **with_fault("bare")},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert ran.returncode == 0, ran.stderr
    sums, batches, staged = json.loads(ran.stdout)
    assert len(sums) == 9
    assert batches["auto"] == batches["map"] == batches["advise"] == batches["pread"]
    assert sum(batches["map"]) == sum(sums)
    assert staged == sums[0]


_CHANGES = """
import sys
from pathlib import Path
from dicom2cache import repair, update, verify
*sources, cache = sys.argv[1:]
update(sources, cache, jobs=1)
shard = min(Path(cache).glob("int16_64x64/c.*"))
data = bytearray(shard.read_bytes())
data[100] ^= 1
shard.write_bytes(data)
assert len(verify(cache)) == 1
assert repair(cache, jobs=1).is_whole
"""


def test_an_update_a_check_and_a_repair(scans: Path, tmp_path: Path) -> None:
    cache = built(scans / "old" / "ct", tmp_path / "cache")
    write_series(tmp_path / "new", 5, 64)
    ran = subprocess.run(
        [sys.executable, "-c", _CHANGES, scans / "old" / "ct", tmp_path / "new", cache],
        env={**os.environ, **with_fault("bare")}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (ran.returncode, "Traceback" in ran.stderr) == (0, False), ran.stderr
    assert run_here("verify", cache).stdout.endswith("whole (5 frames)\n")
