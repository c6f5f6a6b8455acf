"""A plan, or a receipt in build/, that is not as it was written: told as that, and done again."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import dicom2cache
from dicom2cache.errors import CacheError
from dicom2cache.running import receipts
from dicom2cache.running.job import load_job
from tests.support.caches import run_here, tree
from tests.support.dicom_files import pattern, write_dicom


@pytest.fixture
def planned(tmp_path: Path) -> Path:
    """A plan of two arrays, of which nothing is converted yet."""
    for name, shape in (("a", (8, 8)), ("b", (6, 4))):
        write_dicom(tmp_path / "in" / f"{name}.dcm", pattern(name, shape))
    assert run_here("plan", tmp_path / "in", tmp_path / "cache").returncode == 0
    return tmp_path / "cache"


def _pop(name: str) -> Callable[[dict[str, Any]], Any]:
    return lambda about: about.pop(name)


def _set(name: str, value: Any) -> Callable[[dict[str, Any]], Any]:
    return lambda about: about.__setitem__(name, value)


def _array(name: str, value: Any) -> Callable[[dict[str, Any]], Any]:
    return lambda about: about["arrays"][0].__setitem__(name, value)


@pytest.mark.parametrize(
    "change",
    [
        *(_pop(name) for name in ("arrays", "recipe", "facts", "identity", "roots")),
        _set("facts", []), _set("facts", {"software": {}}), _set("roots", [1]),
        _set("identity", 3), _set("arrays", [3]), _set("arrays", []), _set("recipe", 5),
        _set("recipe", {"rules": [1]}), lambda about: about["arrays"][0].pop("slot"),
        lambda about: about["arrays"][0].__setitem__("slots", 9),
        *(_array(name, value) for name, value in (
            ("slot", [8, ".."]), ("slot", [8]), ("slot", [8, 0]), ("slot", [8, 2**70]),
            ("dtype", "object"), ("dtype", 3), ("codec", "gzip"), ("codec", None),
            ("frames_per_shard", 0), ("frames_per_shard", "1"), ("slots", True), ("slots", 1.0),
        )),
    ],
)  # fmt: skip
def test_a_plan_that_makes_no_sense(planned: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    path = planned / "build" / "plan.json"
    about = json.loads(path.read_bytes())
    change(about)
    path.write_text(json.dumps(about))
    with pytest.raises(CacheError, match=r"plan\.json: .*--overwrite"):
        load_job(planned)
    ran = run_here("convert", planned)
    assert ran.returncode == 2
    assert "Traceback" not in ran.stderr


@pytest.mark.parametrize("name", ["files", "frames", "rejects"])
@pytest.mark.parametrize("left", [0, 100, -100])
def test_a_table_that_is_cut(planned: Path, name: str, left: int) -> None:
    (path,) = planned.glob(f"build/*/{name}.arrow")
    path.write_bytes(path.read_bytes()[:left])
    with pytest.raises(CacheError, match=r"plan\.json: .*--overwrite"):
        load_job(planned)


@pytest.mark.parametrize(
    "damage",
    [lambda data: b"", lambda data: data[:-100], lambda data: data[:300] + data[308:],
     lambda data: data.replace(b"index_crc32c", b"index_crc32x")],
)  # fmt: skip
def test_a_receipt_that_is_damaged(planned: Path, damage: Callable[[bytes], bytes]) -> None:
    """Its shard is made anew once the receipt is removed, as the error says."""
    dicom2cache.convert(planned, jobs=1)
    (path,) = planned.glob("build/*/receipts/0.0.arrow")
    data = path.read_bytes()
    path.write_bytes(damage(data))
    job = load_job(planned)
    with pytest.raises(CacheError, match=r"0\.0\.arrow: damaged .*remove it and run"):
        receipts.settle(job, job.tasks[0])
    ran = run_here("commit", planned)
    assert (ran.returncode, "Traceback" in ran.stderr) == (2, False)
    path.unlink()
    dicom2cache.convert(planned, jobs=1)
    dicom2cache.commit(planned)
    assert dicom2cache.verify(planned) == []
    assert run_here("build", planned.parent / "in", planned.parent / "other").returncode == 0
    assert tree(planned) == tree(planned.parent / "other")
