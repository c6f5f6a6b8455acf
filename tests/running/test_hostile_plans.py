"""A folder build/ that lies: nothing is waited for, and nothing written elsewhere."""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import asdict
from pathlib import Path

import pytest

from dicom2cache.running.claims import holder_of, me
from tests.support.caches import run_here
from tests.support.dicom_files import pattern, write_dicom
from tests.support.faults import at_most


@pytest.fixture(scope="module")
def half(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All is converted but the first shard, nothing committed; percentiles and codecs chosen."""
    folder = tmp_path_factory.mktemp("half")
    for name, shape in (("a", (8, 8)), ("b", (6, 4))):
        write_dicom(folder / "in" / f"{name}.dcm", pattern(name, shape))
    recipe = ("--intensity", "percentiles", "--codec", "auto")
    assert run_here("plan", folder / "in", folder / "cache", *recipe).returncode == 0
    assert run_here("convert", folder / "cache", "--jobs", 1).returncode == 0
    (receipt,) = folder.glob("cache/build/*/receipts/0.0.arrow")
    receipt.unlink()
    return folder / "cache"


@pytest.fixture
def cache(half: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(half, tmp_path / "cache"))


def _state(cache: Path) -> Path:
    (state,) = (path for path in (cache / "build").iterdir() if path.is_dir())
    return state


def _commands(cache: Path) -> list[tuple[str, int, str]]:
    """(command, its status, what it says), each within 40 s, without a traceback."""
    found = []
    for call in (("info", cache), ("convert", cache, "--jobs", 1), ("commit", cache)):
        with at_most(40):
            ran = run_here(*call)
        assert "Traceback" not in ran.stderr, call
        assert "internal error" not in ran.stderr, call
        found.append((str(call[0]), ran.returncode, ran.stderr))
    return found


@pytest.mark.parametrize(
    "name", ["files.arrow", "frames.arrow", "choices/stack.0.json", "choices/codec.0.json"]
)
def test_a_fifo_of_what_a_plan_needs(cache: Path, name: str) -> None:
    path = _state(cache) / name
    path.unlink()
    os.mkfifo(path)
    said = dict((command, words) for command, _, words in _commands(cache))
    assert f"{path.name}: not a plain file" in said["convert"]


@pytest.mark.parametrize("name", ["receipts/1.0.arrow", "claims/0.0", "holders/1-1"])
def test_a_fifo_among_receipts_claims_and_holders(cache: Path, name: str) -> None:
    path = _state(cache) / name
    path.unlink(missing_ok=True)
    path.parent.mkdir(exist_ok=True)
    os.mkfifo(path)
    _commands(cache)


def test_a_fifo_in_the_place_of_a_shard_is_replaced(cache: Path) -> None:
    (path,) = cache.glob("uint8_6x4/c.0.0.0")
    before = path.read_bytes()
    path.unlink()
    os.mkfifo(path)
    assert [status for _, status, _ in _commands(cache)] == [0, 0, 0]
    assert path.read_bytes() == before


@pytest.mark.parametrize("name", ["receipts", "attempts", "claims", "choices", "holders"])
def test_a_link_in_the_place_of_a_folder(cache: Path, name: str) -> None:
    outside = cache.parent / "outside"
    folder = _state(cache) / name
    folder.mkdir(exist_ok=True)
    folder.rename(outside)
    before = sorted((path.name, path.stat().st_size) for path in outside.iterdir())
    folder.symlink_to(outside)
    for _, status, words in _commands(cache):
        assert status == 2
        assert f"{name}: a link, and a cache has none" in words
    assert sorted((path.name, path.stat().st_size) for path in outside.iterdir()) == before


@pytest.mark.parametrize("text", ["", "[]", '{"ends": [1], "left_out": 3}', "[" * 100_000])
def test_a_choice_that_is_none(cache: Path, text: str) -> None:
    for path in (_state(cache) / "choices").iterdir():
        path.write_text(text)
    _, (_, status, words), _ = _commands(cache)
    assert status == 2
    assert "damaged; run `dicom2cache plan` or `build` with --overwrite" in words


def test_a_receipt_that_is_damaged_while_one_looks(cache: Path) -> None:
    path = _state(cache) / "receipts" / "1.0.arrow"
    path.write_bytes(path.read_bytes()[:-100])
    (_, status, words), *_ = _commands(cache)
    assert status == 2
    assert "1.0.arrow: damaged" in words


@pytest.mark.parametrize("name", ["pid", "started", "host", "machine", "run", "token"])
def test_a_claim_of_nobody(cache: Path, name: str) -> None:
    """It is as one that does not say, and held by nobody once it is two minutes old."""
    said = {**asdict(me()), name: None}
    with pytest.raises(TypeError):
        holder_of(said)
    path = _state(cache) / "claims" / "0.0"
    path.write_text(f"{0:012d} {json.dumps(said)}")
    ran = run_here("info", cache)
    assert (ran.returncode, "Traceback" in ran.stderr) == (0, False)
