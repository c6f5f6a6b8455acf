"""Copies of one image: one is stored, and each path finds it; what only shares a UID is no copy."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.pixels.cases import item
from tests.support.caches import attributes, built, by_path, table
from tests.support.dicom_files import pattern, uid, write_dicom
from trainer_adapter import FrameDataset, LabelError, open_cache
from trainer_adapter.errors import NotServedError
from trainer_adapter.lightly.paths import Names

_ONE, _CLIP = pattern("one", (16, 16)), pattern("clip", (3, 16, 16))


@pytest.fixture(scope="module")
def cache_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two images, the first three times, and a clip twice; all in one folder, but for one copy."""
    folder = tmp_path_factory.mktemp("twins")
    same = {"SOPInstanceUID": uid("one")}
    for name in ("in/a.dcm", "in/b/copy.dcm", "other/a copy.dcm"):
        write_dicom(folder / name, _ONE, **same)
    write_dicom(folder / "in" / "z.dcm", pattern("z", (16, 16)))
    for name in ("clip.dcm", "clip again.dcm"):
        write_dicom(folder / "in" / name, _CLIP, SOPInstanceUID=uid("clip"))
    return built(folder / "in", folder / "other", folder / "cache")


def test_a_duplicate_names_the_frame_that_is_kept(cache_path: Path) -> None:
    rows = {r["path"]: r for r in table(cache_path, "failures")}
    assert {path: (r["outcome"], r["same_root"], r["same_path"], r["same_frame"])
            for path, r in rows.items()} == {
        "b/copy.dcm": ("duplicate", 0, "a.dcm", 0),
        "a copy.dcm": ("duplicate", 0, "a.dcm", 0),
        "clip.dcm": ("duplicate", 0, "clip again.dcm", None),
    }  # fmt: skip
    counts = attributes(cache_path)["counts"]
    assert (counts["files_stored"], counts["files_duplicate"]) == (3, 3)


def test_other_modality_luts_mean_something_else(tmp_path: Path) -> None:
    pixels = np.arange(4, dtype=np.uint16).reshape(2, 2)
    tables = {"a.dcm": [10, 20, 30, 40], "b.dcm": [40, 30, 20, 10], "c.dcm": [10, 20, 30, 40]}
    for name, entries in tables.items():
        lut = item(LUTDescriptor=[4, 0, 16], ModalityLUTType="US",
                   LUTData=np.array(entries, "<u2").tobytes())  # fmt: skip
        write_dicom(tmp_path / "in" / name, pixels, SOPInstanceUID=uid("lut"),
                    ModalityLUTSequence=[lut])  # fmt: skip
    cache = built(tmp_path / "in", tmp_path / "cache")
    assert [(r["path"], r["same_path"]) for r in table(cache, "failures")] == [("c.dcm", "a.dcm")]


def test_each_path_of_an_image_finds_its_frame(cache_path: Path) -> None:
    cache, folder = open_cache(cache_path), cache_path.parent
    names = Names(cache)
    for path in ("in/a.dcm", "in/b/copy.dcm", "other/a copy.dcm", "in/b/copy.dcm#frame=0.dcm"):
        assert np.array_equal(cache[names[folder / path]], _ONE)
    assert np.array_equal(cache[names[folder / "in/z.dcm"]], pattern("z", (16, 16)))
    for k in range(3):
        assert np.array_equal(cache[names[folder / f"in/clip.dcm#frame={k}.dcm"]], _CLIP[k])
    with pytest.raises(NotServedError, match="3 frames of it"):
        names[folder / "in/clip.dcm"]
    without = Names(cache.select(path="z.dcm"))
    with pytest.raises(NotServedError, match=r"not in .*duplicate of a\.dcm"):
        without[folder / "in/b/copy.dcm"]


@pytest.mark.parametrize(
    ("labels", "found"),
    [
        ({"a.dcm": "yes", "z.dcm": "no"}, "yes"),
        ({"b/copy.dcm": "yes", "z.dcm": "no"}, "yes"),  # found by its copy
        ({"a copy.dcm": "yes", "z.dcm": "no"}, "yes"),
        ({"a.dcm": "yes", "b/copy.dcm": "yes", "a copy.dcm": "yes", "z.dcm": "no"}, "yes"),
        ({"a.dcm": None, "a copy.dcm": "yes", "z.dcm": "no"}, "yes"),
        ({"a.dcm": "yes", "a copy.dcm": None, "z.dcm": "no"}, "yes"),
        ({"a.dcm": "yes", "b/copy.dcm": "no", "z.dcm": "no"}, LabelError),
        ({"b/copy.dcm": "yes", "a copy.dcm": "no", "z.dcm": "no"}, LabelError),
        ({"a copy.dcm": "yes", "b/copy.dcm": "no"}, LabelError),
    ],
)
def test_labels_by_the_path_of_a_copy(
    cache_path: Path, labels: dict[str, str | None], found: Any
) -> None:
    cache = open_cache(cache_path)
    keys = [*labels, "clip again.dcm"]
    rows = {"path": keys, "label": [*labels.values(), "no"]}
    if found is LabelError:
        with pytest.raises(LabelError, match="are the same file twice, but the labels say"):
            FrameDataset(cache, label="label", labels=rows, on="path")
        return
    dataset = FrameDataset(cache, label="label", labels=rows, on="path")
    place = cache.column("path").to_pylist().index("a.dcm")
    assert dataset.classes[dataset[place].label] == found


def _series(folder: Path, **elements: Any) -> None:
    """Six slices of which the first two and the last are blank, each with these elements."""
    for k in range(6):
        blank = np.zeros((8, 8), np.int16)
        pixels = blank + (0 if k in (0, 1, 5) else 1000 + k)
        own = {name: value[k] for name, value in elements.items()}
        write_dicom(folder / f"{k}.dcm", pixels, SOPInstanceUID=uid("all the same"), **own)


@pytest.mark.parametrize(
    "elements",
    [
        {"ImagePositionPatient": [[0, 0, 5.0 * k] for k in range(6)],
         "ImageOrientationPatient": [[1, 0, 0, 0, 1, 0]] * 6},
        {"InstanceNumber": list(range(1, 7))},
        {"SeriesInstanceUID": [uid(f"series {k}") for k in range(6)]},
        {"PatientID": [f"patient {k}" for k in range(6)]},
        {"EchoTime": [10.0 * k for k in range(1, 7)]},
        {"TriggerTime": [25.0 * k for k in range(6)]},
        {"RescaleIntercept": list(range(6)), "RescaleSlope": [1] * 6},
    ],
)  # fmt: skip
def test_one_uid_for_all_loses_no_slice(tmp_path: Path, elements: dict[str, list[Any]]) -> None:
    _series(tmp_path / "in", **elements)
    cache = built(tmp_path / "in", tmp_path / "cache", "-j1")
    found = by_path(cache)
    assert sorted(path for path, _ in found) == [f"{k}.dcm" for k in range(6)]
    assert all(row["flags"] == ["sop-uid-repeated"] for row, _ in found.values())
    assert not table(cache, "failures")
