"""What a trainer knows by path or UID, in a cache that has hashes of them."""

from __future__ import annotations

import pickle
from pathlib import Path

import pytest

from tests.support.caches import run_here
from tests.support.dicom_files import pattern, uid, write_dicom
from trainer_adapter import CacheLoader, FrameDataset, open_cache
from trainer_adapter.errors import LabelError, NotServedError
from trainer_adapter.lightly.images import Images
from trainer_adapter.lightly.look import look
from trainer_adapter.lightly.paths import Names, frame_names, stub_tree


def _key(path: Path, first: int) -> Path:
    path.touch(0o600)
    path.write_bytes(bytes(range(first, first + 32)))
    return path


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """in/, a de-identified cache of it, and keys."""
    folder = tmp_path_factory.mktemp("trainer")
    _key(folder / "key", 0)
    _key(folder / "other", 1)
    for name in ("a", "b", "c"):
        write_dicom(
            folder / "in" / f"{name}.dcm", pattern(name, (8, 8)), SOPInstanceUID=uid(name),
            SeriesInstanceUID=uid(f"series {name}"), PatientID=f"P{name}",
        )  # fmt: skip
    ran = run_here(
        "build", folder / "in", folder / "cache", "--jobs", "1", "--deidentify", folder / "key"
    )
    assert ran.returncode == 0, ran.stderr
    return folder


@pytest.mark.parametrize(
    ("on", "keys"),
    [
        ("path", ["a.dcm", "b.dcm", "c.dcm"]),
        ("sop_uid", [uid(k) for k in "abc"]),
        ("series_uid", [uid(f"series {k}") for k in "abc"]),
        ("patient", ["Pa", "Pb", "Pc"]),
    ],
)
def test_labels_by_what_is_hashed(folder: Path, on: str, keys: list[str]) -> None:
    cache = open_cache(folder / "cache")
    labels = {on: keys, "grade": [1, 2, 3]}
    with pytest.raises(LabelError, match=f"its column '{on}' has hashes.*give key=KEYFILE"):
        FrameDataset(cache, "grade", labels=labels, on=on)
    data = FrameDataset(cache, "grade", labels=labels, on=on, key=folder / "key")
    found = {data[k].image.numpy().tobytes(): data[k].label for k in range(3)}
    expected = {pattern(k, (8, 8)).tobytes(): n for k, n in (("a", 1), ("b", 2), ("c", 3))}
    assert found == expected
    loader = CacheLoader(
        cache, 3, label="grade", labels=labels, on=on, key=folder / "key", threads=0
    )
    (batch,) = loader
    assert sorted(batch.label.tolist()) == [1, 2, 3]
    own = {on: cache.column(on).to_pylist(), "grade": [1, 2, 3]}  # hashes already
    assert len(FrameDataset(cache, "grade", labels=own, on=on)) == 3


@pytest.mark.parametrize("on", ["path", "PatientID", "SOPInstanceUID"])
def test_labels_by_whole_paths_and_keywords(folder: Path, on: str) -> None:
    cache = open_cache(folder / "cache")
    keys = {
        "path": [f"{folder}/in/./{k}.dcm" for k in "abc"],
        "PatientID": ["Pa", "Pb ", "Pc"],
        "SOPInstanceUID": [uid(k) for k in "abc"],
    }
    labels = {on: keys[on], "grade": [1, 2, 3]}
    with pytest.raises(ValueError, match=r"hashes.*; give key=KEYFILE"):
        FrameDataset(cache, "grade", labels=labels, on=on)
    data = FrameDataset(cache, "grade", labels=labels, on=on, key=folder / "key")
    found = {data[k].image.numpy().tobytes(): data[k].label for k in range(3)}
    assert found == {pattern(k, (8, 8)).tobytes(): n for n, k in enumerate("abc", 1)}


def test_a_key_that_others_may_read_is_refused(folder: Path, tmp_path: Path) -> None:
    public = _key(tmp_path / "key", 0)
    public.chmod(0o644)
    with pytest.raises(ValueError, match="others have access to this key; run `chmod 600"):
        FrameDataset(
            open_cache(folder / "cache"), "grade", labels={"path": ["a.dcm"], "grade": [1]},
            on="path", key=public,
        )  # fmt: skip


def test_another_key_is_refused(folder: Path, tmp_path: Path) -> None:
    cache = open_cache(folder / "cache")
    labels = {"path": ["a.dcm"], "grade": [1]}
    with pytest.raises(ValueError, match=r"not the key of .*its fingerprint is [0-9a-f]{16}"):
        FrameDataset(cache, "grade", labels=labels, on="path", key=folder / "other")
    ran = run_here("build", folder / "in", tmp_path / "plain", "--jobs", "1")
    assert ran.returncode == 0
    with pytest.raises(ValueError, match="not de-identified"):
        FrameDataset(
            open_cache(tmp_path / "plain"), "grade", labels=labels, on="path", key=folder / "key"
        )


def test_paths_of_lightlytrain(folder: Path) -> None:
    cache = open_cache(folder / "cache")
    with pytest.raises(NotServedError, match=r"hashes of paths; give serve\(cache, root=FOLDER"):
        Names(cache)[folder / "in" / "b.dcm"]
    with pytest.raises(ValueError, match="give root, the source folder, too"):
        Names(cache, key=folder / "key")
    pixels = [pattern(k, (8, 8)) for k in "abc"]
    for root in (folder / "in", {str(folder / "in"): folder / "in"}):
        names = Names(cache, root, key=folder / "key")
        for name, expected in zip("abc", pixels, strict=True):
            assert (cache[names[folder / "in" / f"{name}.dcm"]] == expected).all()
            assert (cache[names[f"{folder}/in/{name}.dcm#frame=0.dcm"]] == expected).all()
    images = Images(cache, look(None, "uint8"), folder / "in", key=folder / "key")
    assert pickle.loads(pickle.dumps(images)).names[folder / "in" / "a.dcm"] in range(3)


def test_names_and_stubs_need_no_key(folder: Path, tmp_path: Path) -> None:
    cache = open_cache(folder / "cache")
    names = frame_names(cache)
    assert [Names(cache)[name] for name in names] == [0, 1, 2]
    stubs = stub_tree(cache, tmp_path / "stubs")
    found = {Names(cache, stubs)[path] for path in stubs.glob("*.dcm")}
    assert found == {0, 1, 2}
    assert not [path for path in (*names, *stubs.rglob("*")) if "a.dcm" in str(path)[-40:-14]]
