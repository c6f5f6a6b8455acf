"""A cache folder is not trusted: nothing is opened, written or removed but below it."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from dicom2cache import CacheError, convert, verify
from tests.support.caches import Ran, run_cli, run_here
from trainer_adapter import CacheError as ReaderError
from trainer_adapter import DamagedError, open_cache


def _signed(about: dict[str, Any]) -> dict[str, Any]:
    plain = {k: v for k, v in about.items() if k != "sha256"}
    text = json.dumps(plain, sort_keys=True, separators=(",", ":"))
    return {**plain, "sha256": hashlib.sha256(text.encode()).hexdigest()}


def _edited(cache: Path, edit: Callable[[dict[str, Any]], object]) -> None:
    """Root metadata changed by `edit`, with the digest that they then must have."""
    document = json.loads((cache / "zarr.json").read_text())
    about = document["attributes"]["dicom2cache"]
    edit(about)
    document["attributes"]["dicom2cache"] = _signed(about)
    (cache / "zarr.json").write_text(json.dumps(document))


@pytest.fixture
def cache(ct_series_cache: Path, tmp_path: Path) -> Path:
    copy = tmp_path / "cache"
    shutil.copytree(ct_series_cache, copy)
    return copy


def _array(about: dict[str, Any], **new: Any) -> None:
    about["arrays"][0].update(new)


def _table(about: dict[str, Any], kind: str, **new: Any) -> None:
    about["tables"][kind][0].update(new)


HOSTILE: dict[str, Callable[[dict[str, Any]], object]] = {
    "an array elsewhere": lambda a: _array(a, name="../precious"),
    "an array of an absolute name": lambda a: _array(a, name="/etc"),
    "an array that is hidden": lambda a: _array(a, name=".spare"),
    "an array without a name": lambda a: _array(a, name=None),
    "a table elsewhere": lambda a: _table(a, "frames", path="../frames/0.parquet"),
    "a table of an absolute name": lambda a: _table(a, "shards", path="/etc/passwd"),
    "a table that is a number": lambda a: _table(a, "frames", path=7),
    "a table of a text's size": lambda a: _table(a, "frames", bytes="many"),
    "no arrays": lambda a: a.pop("arrays"),
    "arrays that are a text": lambda a: a.update(arrays="int16"),
    "no tables": lambda a: a.update(tables=[]),
    "slots of a text": lambda a: _array(a, slots="12"),
    "slots below 0": lambda a: _array(a, slots=-1),
    "slots beyond all": lambda a: _array(a, slots=2**70),
    "no slots in a shard": lambda a: _array(a, frames_per_shard=0),
    "a slot of no size": lambda a: _array(a, slot=[0, 512]),
    "a slot of many sides": lambda a: _array(a, slot=[1, 2, 3, 4, 5]),
}


@pytest.mark.parametrize("what", HOSTILE)
def test_metadata_that_lie_are_typed_errors(cache: Path, what: str) -> None:
    _edited(cache, HOSTILE[what])
    with pytest.raises(ReaderError, match=r"zarr\.json|cache"):
        open_cache(cache)
    found = verify(cache)
    assert found, what
    ran = run_here("verify", cache)
    assert (ran.returncode, "Traceback" in ran.stderr) == (1, False)


def _copies(document: dict[str, Any]) -> dict[str, Any]:
    copies: dict[str, Any] = document["consolidated_metadata"]["metadata"]
    return copies


@pytest.mark.parametrize(
    "edit",
    [
        lambda d: _copies(d)["int16_512x512"].update(data_type="uint16"),
        lambda d: _copies(d)["int16_512x512"].update(shape=[9, 256, 1]),
        lambda d: _copies(d).clear(),
        lambda d: d.update(node_type="array"),
        lambda d: d.update(zarr_format=2),
    ],
)
def test_what_other_readers_believe_is_verified(
    cache: Path, edit: Callable[[dict[str, Any]], object]
) -> None:
    """zarr-python takes an array's dtype from the root's copy: -1024 would be read as 64512."""
    document = json.loads((cache / "zarr.json").read_text())
    edit(document)
    (cache / "zarr.json").write_text(json.dumps(document))
    (problem, *_) = verify(cache, quick=True)
    assert "zarr.json" in problem


@pytest.mark.parametrize("where", ["frames/0.parquet", "int16_512x512", "int16_512x512/c.0.0.0"])
def test_links_are_not_followed(cache: Path, where: str) -> None:
    elsewhere = cache.parent / "elsewhere"
    os.rename(cache / where, elsewhere)
    (cache / where).symlink_to(elsewhere)
    with pytest.raises(DamagedError, match="a link"):
        open_cache(cache)[0]
    assert any("a link" in problem for problem in verify(cache))


@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir])
@pytest.mark.parametrize("read", ["map", "pread"])
def test_what_is_no_file_is_an_error_and_no_wait(
    cache: Path, make: Callable[[Path], None], read: str
) -> None:
    from trainer_adapter import CacheLoader

    shard = cache / "int16_512x512" / "c.0.0.0"
    shard.unlink()
    make(shard)
    with pytest.raises(DamagedError, match="not a plain file"):
        next(iter(CacheLoader(open_cache(cache), 2, threads=0, read=read)))
    assert verify(cache)


def _planned(cache: Path, edit: Callable[[dict[str, Any]], object]) -> None:
    """Edit plan.json; of a committed cache, as older versions left one there."""
    path = cache / "build" / "plan.json"
    if not path.exists():
        path.parent.mkdir(exist_ok=True)
        path.write_text(json.dumps({"identity": "0", "arrays": [{"name": "int16_512x512"}]}))
    about = json.loads(path.read_text())
    edit(about)
    path.write_text(json.dumps(about))


def _overwrite(cache: Path, series: Path) -> Ran:
    return run_cli("build", series, cache, "--overwrite", "--shard-mib", "1")


def test_overwrite_removes_nothing_elsewhere(cache: Path, ct_series: Path) -> None:
    precious = cache.parent / "precious"
    precious.mkdir()
    (precious / "thesis.txt").write_text("years")
    (cache / "notes").mkdir()  # not this program's
    (cache / "build" / "mine").mkdir(parents=True)
    for name in ("../precious", str(precious), "notes", "../../x", 7, None):
        _planned(cache, lambda a, name=name: a["arrays"].append({"name": name}))
    assert _overwrite(cache, ct_series).returncode == 0
    assert (precious / "thesis.txt").read_text() == "years"
    assert (cache / "notes").is_dir()
    assert (cache / "build" / "mine").is_dir()


@pytest.mark.parametrize("folder", ["build", "frames", "int16_512x512", ".spare"])
def test_overwrite_follows_no_link(cache: Path, ct_series: Path, folder: str) -> None:
    elsewhere = cache.parent / "elsewhere"
    (cache / "build").mkdir()
    os.rename(cache / folder, elsewhere)
    (cache / folder).symlink_to(elsewhere)
    before = sorted(p.name for p in elsewhere.iterdir())
    ran = _overwrite(cache, ct_series)
    assert ran.returncode == 2
    assert "a link" in ran.stderr
    assert sorted(p.name for p in elsewhere.iterdir()) == before


def test_overwrite_keeps_its_own_sources(cache: Path, ct_series: Path) -> None:
    inside = cache / "int16_512x512" / "IM1.dcm"
    shutil.copy(next(ct_series.iterdir()), inside)
    ran = run_cli("build", inside, cache, "--overwrite")
    assert ran.returncode == 2
    assert "a source of this run" in ran.stderr
    assert inside.exists()


def test_a_receipt_that_names_another_file_moves_nothing(tmp_path: Path, ct_series: Path) -> None:
    import pyarrow as pa

    cache, secret = tmp_path / "cache", tmp_path / "secret"
    secret.write_text("mine")
    assert run_here("plan", ct_series, cache, "--shard-mib", "1").returncode == 0
    assert run_here("convert", cache, "--jobs", "1").returncode == 0
    receipt = min((cache / "build").glob("*/receipts/*.arrow"))
    with pa.memory_map(str(receipt)) as source:
        table = pa.ipc.open_file(source.read_buffer()).read_all()
    about = {**table.schema.metadata, b"attempt": b"../../../../secret"}
    with pa.ipc.new_file(str(receipt), table.schema.with_metadata(about)) as writer:
        writer.write_table(table.replace_schema_metadata(about))
    ran = run_here("commit", cache)
    assert ran.returncode == 2
    assert "../../../../secret" in ran.stderr
    assert secret.read_text() == "mine"


@pytest.mark.parametrize("command", ["info", "convert", "commit", "verify"])
def test_a_newer_format_is_refused_by_name(cache: Path, command: str) -> None:
    _edited(cache, lambda a: a.update(format=2))
    ran = run_here(command, cache)
    assert ran.returncode == 2
    assert "a cache of format 2; this version knows 1, install a newer dicom2cache" in ran.stderr


def test_a_plan_that_is_none_is_an_error_with_its_name(cache: Path) -> None:
    (cache / "zarr.json").unlink()
    (cache / "build").mkdir()
    (cache / "build" / "plan.json").write_text("[1, 2]")
    with pytest.raises(CacheError, match=r"plan\.json: no plan of dicom2cache"):
        convert(cache)
