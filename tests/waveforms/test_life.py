"""What happens to caches happens to waveforms: updates, removals, merges, repairs, hashes."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydicom import dcmread

from dicom2cache.planning.arrays import array_spec, fit_slots
from tests.support.caches import attributes, built, by_path, failures, run_here, table, tree
from tests.support.dicom_files import real, uid, write_dicom
from tests.support.drawn import write_ct, write_seg
from tests.support.waveforms import channel, group, write_waveform
from trainer_adapter import CacheLoader, open_cache

_ECG = "waveform_ecg.dcm"


def _wave(path: Path, first: int, sop: str = "", **elements: Any) -> Path:
    data = np.arange(first, first + 20, dtype="<i2").reshape(10, 2)
    channels = [channel("I", "2", **elements), channel("V1", "2", source=("2:3", "MDC", "Lead V1"))]
    said = {"SOPInstanceUID": uid(sop)} if sop else {}
    return write_waveform(path, [group(data, channels)], **said)


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("life") / "in"
    folder.mkdir()
    shutil.copy(real(_ECG), folder)
    _wave(folder / "a", 0)
    write_dicom(folder / "image", np.arange(12, dtype=np.uint8).reshape(3, 4))
    return folder


@pytest.fixture(scope="module")
def cache(sources: Path) -> Path:
    return built("--jobs", "1", sources, sources.parent / "cache")


def _run(*words: object, status: int = 0) -> str:
    ran = run_here(*words)
    assert ran.returncode == status, ran.stdout + ran.stderr
    return ran.stdout


def test_masks_lie_on_images_beside_them(sources: Path, tmp_path: Path) -> None:
    """Of one patient and study; a recording has no label map, and is no image of a loader."""
    folder = tmp_path / "in"
    shutil.copytree(sources, folder)
    write_ct(folder, "ct", 2)
    square = np.zeros((16, 12), np.uint8)
    square[2:6, 3:9] = 1
    write_seg(folder / "seg", [(1, uid("ct1"), 2, square)], {1: "liver"})
    cache = open_cache(built("--jobs", "1", "--masks", "labelmap", folder, tmp_path / "cache"))
    images = cache.select(modality="CT", kind="image")
    assert np.array_equal(images.labelmap([0, 1]), [0 * square, square])
    waves = cache.select(kind="waveform")
    assert not waves.annotated().any()
    with pytest.raises(ValueError, match=r'1 of 1 frame is a waveform, .*; select\(kind="image"'):
        waves.labelmap([0])
    loader = CacheLoader(cache, 1, target="mask", missing="drop")
    assert [int(batch.mask.sum()) for batch in loader] == [0, 24]
    assert cache.mask_counts().sum() == 24


def test_a_real_one_is_what_pydicom_makes_of_it(cache: Path) -> None:
    ds = dcmread(real(_ECG))
    for frame, size in enumerate((10000, 1200)):
        row, values = by_path(cache)[_ECG, frame]
        np.testing.assert_array_equal(values, ds.waveform_array(frame).T.astype(np.float32))
        assert values.shape == (12, size)
        assert (row["unit"], row["sampling_rate"]) == ("uV", 1000)
    assert row["channels"][3]["source"] == "SCPECG:5.6.3-9-62"
    assert (row["originality"], row["group_label"]) == ("DERIVED", "MEDIAN BEAT")


def test_it_is_whole_decoded_again_too(cache: Path) -> None:
    assert "whole" in _run("verify", cache, "--deep", "1")
    said = _run("info", cache)
    assert "waveforms:\n  ECG: 3 multiplex groups" in said
    assert "OT: 1 stack, 1 frame each" in said


def test_whatever_the_recipe_says_of_images(sources: Path, cache: Path, tmp_path: Path) -> None:
    words = ("--size", "2,2", "--window", "40,400", "--intensity", "window", "--dtype", "uint8")
    other = built("--jobs", "2", *words, sources, tmp_path / "cache")
    plain, treated = by_path(cache), by_path(other)
    for key, (row, values) in plain.items():
        if row["kind"] == "waveform":
            np.testing.assert_array_equal(treated[key][1], values)
            assert treated[key][0]["unit"] == "uV"
    assert treated["image", 0][1].shape == (2, 2)


def test_left_out_by_the_recipe(sources: Path, tmp_path: Path) -> None:
    cache = built("--jobs", "1", "--exclude", "waveform", sources, tmp_path / "cache")
    assert failures(cache)["a", None] == ("excluded", "recipe: exclude waveform")
    assert list(by_path(cache)) == [("image", 0)]


def test_slots_are_shared_among_waveforms_only() -> None:
    sizes = [
        ("float32", (512, 512), 10), ("float32", (500, 512), 10),
        ("waveform_float32", (12, 5000), 10), ("waveform_float32", (12, 5001), 10),
    ]  # fmt: skip
    assert fit_slots(sizes, 2, 1 << 20) == {
        ("float32", (512, 512)): (512, 512), ("float32", (500, 512)): (512, 512),
        ("waveform_float32", (12, 5000)): (12, 5001),
        ("waveform_float32", (12, 5001)): (12, 5001),
    }  # fmt: skip
    with pytest.raises(ValueError, match="max_arrays 1 is too few"):
        fit_slots(sizes, 1, 1 << 20)


def test_long_ones_are_not_compressed() -> None:
    """A window would cost the whole of it."""
    short = array_spec("waveform_float32", (12, 5000), 4, 1 << 26, "zstd")
    long = array_spec("waveform_float32", (12, 1 << 20), 4, 1 << 26, "zstd")
    assert (short.name, short.dtype, short.codec) == ("waveform_float32_12x5000", "float32", "zstd")
    assert (long.codec, array_spec("float32", (12, 1 << 20), 4, 1 << 26, "zstd").codec) == (
        "none",
        "zstd",
    )


def test_copies_and_what_differs_under_one_uid(tmp_path: Path) -> None:
    _wave(tmp_path / "in" / "a", 0, "one")
    _wave(tmp_path / "in" / "b", 0, "one")
    _wave(tmp_path / "in" / "c", 0, "one", FilterLowFrequency="0.5")
    _wave(tmp_path / "in" / "d", 7, "one")
    cache = built("--jobs", "1", tmp_path / "in", tmp_path / "cache")
    assert {key: outcome for key, (outcome, _) in failures(cache).items()} == {
        ("b", None): "duplicate"
    }
    assert {key[0]: row["flags"] for key, (row, _) in by_path(cache).items()} == {
        name: ["sop-uid-repeated"] for name in "acd"
    }


def test_what_comes_later_and_what_must_go(sources: Path, tmp_path: Path) -> None:
    folder = tmp_path / "in"
    shutil.copytree(sources, folder)
    cache = built("--jobs", "1", folder, tmp_path / "cache")
    before = {row["sop_uid"]: row["stack"] for row in table(cache, "frames")}
    _wave(folder / "later", 40)
    _run("update", folder, cache, "--jobs", "1")
    found = open_cache(cache)
    later = found.select(path="later")
    (row,) = later.frames.to_pylist()
    assert row["stack_of"] == row["stack"]
    assert row["stack"] not in before.values()
    assert row["stack_flags"] is None
    np.testing.assert_array_equal(later[0][0], np.arange(80, 120, 4))
    _run("remove", cache, "--where", "sampling_rate == 1000")
    _run("purge", cache)
    left = open_cache(cache)
    assert sorted(left.column("path").to_pylist()) == ["a", "image", "later"]
    np.testing.assert_array_equal(left.select(path="later")[0][0], np.arange(80, 120, 4))
    assert "whole" in _run("verify", cache, "--deep", "1")


def test_merged(sources: Path, cache: Path, tmp_path: Path) -> None:
    _wave(tmp_path / "in" / "b", 100)
    write_dicom(tmp_path / "in" / "i", np.ones((2, 10), np.float32).astype(np.uint8))
    other = built("--jobs", "1", tmp_path / "in", tmp_path / "other")
    _run("merge", cache, other, tmp_path / "whole")
    found = open_cache(tmp_path / "whole")
    assert len(found) == len(by_path(cache)) + 2
    mine = found.select(path="b")
    np.testing.assert_array_equal(mine[0][1], np.arange(202, 242, 4))
    assert [c["label"] for c in mine.column("channels")[0].as_py()] == ["I", "V1"]
    arrays = {array["name"]: array["frames"] for array in attributes(tmp_path / "whole")["arrays"]}
    assert arrays["waveform_float32_2x10"] == 2


def test_repaired(cache: Path, tmp_path: Path) -> None:
    hurt = Path(shutil.copytree(cache, tmp_path / "cache"))
    was = tree(hurt)
    shard = hurt / "waveform_float32_12x1200" / "c.0.0.0"
    data = bytearray(shard.read_bytes())
    data[100] ^= 1
    shard.write_bytes(data)
    _run("verify", hurt, status=1)
    _run("repair", hurt, "--jobs", "1")
    assert tree(hurt) == was


def test_nothing_of_patients_in_a_deidentified_one(tmp_path: Path) -> None:
    """Labels and codes that standards list stay; what somebody wrote does not."""
    data = np.zeros((2, 3), "<i2")
    channels = [
        channel("I", "2"),
        channel("Mrs Miller", "2", source=("2:3", "MDC", "of Mrs Miller")),
        channel("V2", "2", unit="Miller", source=("MILLER", "99OWN", "x")),
    ]
    groups = [group(data, channels, MultiplexGroupLabel="MILLER")]
    write_waveform(tmp_path / "in" / "a", groups, PatientName="Miller")
    key = tmp_path / "key"
    key.write_bytes(bytes(range(32)))
    key.chmod(0o600)
    cache = built("--jobs", "1", "--deidentify", key, tmp_path / "in", tmp_path / "cache")
    (row,) = table(cache, "frames")
    assert "miller" not in json.dumps(row, default=str).lower()
    said = [(c["label"], c["source"], c["unit"]) for c in row["channels"]]
    assert said == [("I", "MDC:2:1", "uV"), (None, "MDC:2:3", "uV"), ("V2", None, "US")]
    assert row["group_label"] is None
    for path in cache.rglob("*"):
        assert not path.is_file() or b"miller" not in path.read_bytes().lower(), path
