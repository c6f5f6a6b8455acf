"""A plan, or a receipt in build/, that is not as it was written: told as that, and done again."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

import dicom2cache
from dicom2cache.errors import CacheError
from dicom2cache.running import plan_tables, receipts
from dicom2cache.running.convert import convert_task
from dicom2cache.running.job import _load, load_job
from tests.support.caches import run_here, tree
from tests.support.dicom_files import pattern, write_dicom
from tests.support.plans import sign_plan


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
    sign_plan(planned, change)
    with pytest.raises(CacheError, match=r"plan\.json: .*--overwrite"):
        load_job(planned)
    ran = run_here("convert", planned)
    assert ran.returncode == 2
    assert "Traceback" not in ran.stderr


def test_a_plan_that_is_not_as_it_was_written(planned: Path) -> None:
    path = planned / "build" / "plan.json"
    whole = path.read_bytes()
    path.write_bytes(whole.replace(b'"wasted_bytes": 0', b'"wasted_bytes": 1'))
    assert path.read_bytes() != whole
    with pytest.raises(CacheError, match=r"plan\.json: .* its SHA-256 .*--overwrite"):
        load_job(planned)


_TABLES = ("files", "frames", "rejects", "seen")


@pytest.mark.parametrize("name", [*_TABLES, "digests"])
def test_a_flipped_bit_is_met_or_changes_nothing(planned: Path, name: str) -> None:
    """Anywhere in a table of the plan, between columns too, where nothing is read."""
    (path,) = planned.glob(f"build/*/{name}.*")
    whole, before = path.read_bytes(), load_job(planned).written
    assert before is not None
    tables = {table: before.tables[table].to_pylist() for table in _TABLES}
    met = 0
    for k in range(97):
        data = bytearray(whole)
        data[k * len(whole) // 97] ^= 1 << k % 8
        path.write_bytes(data)
        _load.cache_clear()
        try:
            found = load_job(planned).written
            assert found is not None
            found.check_all()
        except CacheError:
            met += 1
            continue
        assert {table: found.tables[table].to_pylist() for table in _TABLES} == tables, k
    assert met > 30


@pytest.mark.parametrize(
    ("table", "column"), [("frames", "height"), ("frames", "file"), ("files", "pixel_offset")]
)
def test_a_worker_meets_a_number_that_is_another(planned: Path, table: str, column: str) -> None:
    """One that would be believed: the row of its shard is checked before it is read."""
    (path,) = planned.glob(f"build/*/{table}.arrow")
    with pa.OSFile(str(path)) as file:
        rows = pa.ipc.open_file(file).read_all()
    values = rows[column].to_pylist()
    changed = pa.array([value ^ 1 for value in values], rows.schema.field(column).type)
    rows = rows.set_column(rows.column_names.index(column), rows.schema.field(column), changed)
    path.unlink()  # it may be mapped
    with pa.ipc.new_file(str(path), rows.schema) as writer:
        writer.write_table(rows)
    _load.cache_clear()
    ran = run_here("convert", planned, "--jobs", "1")
    assert (ran.returncode, "Traceback" in ran.stderr) == (2, False)
    assert f"{table}.arrow: {column} of rows 0 to 1 is not as it was planned" in ran.stderr
    assert "with --overwrite" in ran.stderr
    assert not list(planned.glob("*/c.*"))


def test_a_worker_checks_its_own_rows_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows of other record batches may be damaged: the shard is whole, and commit meets it."""
    monkeypatch.setattr(plan_tables, "ROWS", 1)
    for name, shape in (("a", (8, 8)), ("b", (6, 4))):
        write_dicom(tmp_path / "in" / f"{name}.dcm", pattern(name, shape))
    cache = tmp_path / "cache"
    dicom2cache.plan(tmp_path / "in", cache, jobs=1)
    job = load_job(cache)
    (path,) = cache.glob("build/*/files.arrow")
    data = bytearray(path.read_bytes())
    data[data.rindex(b"b.dcm")] ^= 1
    path.unlink()
    path.write_bytes(data)
    _load.cache_clear()
    first, second = sorted(job.tasks, key=lambda task: job.plan.frames["file"][task.start].as_py())
    assert convert_task(str(cache), job.nonce, first).failed == 0
    with pytest.raises(CacheError, match=r"files\.arrow: path of rows 1 to 1"):
        convert_task(str(cache), job.nonce, second)


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
