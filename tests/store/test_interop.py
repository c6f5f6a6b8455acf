"""zarr-python, tensorstore and trainer_adapter read the same numbers from one cache."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorstore
import zarr
from numpy.typing import NDArray
from pydicom import dcmread, examples
from pydicom.pixels import apply_modality_lut, pixel_array

from tests.conftest import IMAGE_EXAMPLES
from tests.support.caches import attributes, built, table
from tests.support.dicom_files import pattern, real, uid, write_dicom
from trainer_adapter import open_cache


def by_zarr(cache: Path) -> Iterator[NDArray[Any]]:
    group = zarr.open_group(cache, mode="r")
    names = [a["name"] for a in attributes(cache)["arrays"]]
    for row in table(cache, "frames"):
        array: Any = group[names[row["array"]]]
        yield array[row["row"]][: row["height"], : row["width"]]


def by_tensorstore(cache: Path) -> Iterator[NDArray[Any]]:
    arrays = [
        tensorstore.open(
            {"driver": "zarr3", "kvstore": {"driver": "file", "path": str(cache / a["name"])}},
            read=True,
        ).result()
        for a in attributes(cache)["arrays"]
    ]
    for row in table(cache, "frames"):
        yield np.asarray(arrays[row["array"]][row["row"]])[: row["height"], : row["width"]]


def all_alike(cache: Path) -> int:
    """Compare every frame three ways; the number of frames."""
    ours = open_cache(cache)
    count = 0
    for k, (z, t) in enumerate(zip(by_zarr(cache), by_tensorstore(cache), strict=True)):
        assert z.dtype == t.dtype == ours[k].dtype
        np.testing.assert_array_equal(z, t)
        np.testing.assert_array_equal(z, ours[k])
        count += 1
    assert count == len(ours)
    return count


def test_examples(examples_cache: Path) -> None:
    assert all_alike(examples_cache) == 51


@pytest.mark.parametrize("codec", ["lz4", "zstd", "auto"])
def test_examples_compressed(examples_cache: Path, tmp_path: Path, codec: str) -> None:
    paths = [Path(examples.get_path(name)) for name in IMAGE_EXAMPLES]
    cache = built(*paths, tmp_path / "cache", "--codec", codec)
    assert all_alike(cache) == 51
    plain, packed = open_cache(examples_cache), open_cache(cache)
    assert {a.codec for a in packed.arrays} & {"lz4", "zstd"}
    for k in range(51):
        np.testing.assert_array_equal(packed[k], plain[k])


def test_examples_are_pydicoms_modality_values(examples_cache: Path) -> None:
    cache = open_cache(examples_cache)
    root = {s["root"]: Path(s["path"]) for s in cache.attributes["sources"]}
    for k, row in enumerate(cache.frames.to_pylist()):
        path = root[row["root"]] / row["path"]
        if row["kind"] == "dose" or row["photometric"] == "PALETTE COLOR":
            continue  # pydicom applies neither; their values are literal in test_examples
        pixels = pixel_array(ds := dcmread(path), index=row["frame"])
        if row["unit"] is not None:
            pixels = apply_modality_lut(pixels, ds)
        np.testing.assert_array_equal(cache[k], pixels)


@pytest.fixture(scope="module", params=["none", "lz4", "zstd"])
def ragged(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Path:
    """Seven frames of 256 KiB, four to a shard; the third, a truncated codestream, fails."""
    folder = tmp_path_factory.mktemp("ragged")
    for k in range(7):
        write_dicom(folder / f"{k}.dcm", pattern(str(k), (512, 256)), InstanceNumber=k)
    data = dcmread(real("693_J2KR.dcm"))
    data.Rows, data.Columns, data.InstanceNumber = 512, 256, 2  # contradicts the codestream
    for keyword in ("SeriesInstanceUID", "StudyInstanceUID", "PatientID"):
        setattr(data, keyword, getattr(dcmread(folder / "0.dcm"), keyword))
    data.SOPInstanceUID = uid("2.dcm")
    data.BitsStored, data.HighBit, data.PixelRepresentation = 16, 15, 0
    for keyword in (
        "FrameOfReferenceUID",
        "ImageOrientationPatient",
        "ImagePositionPatient",
        "SliceLocation",
    ):
        if keyword in data:
            delattr(data, keyword)
    for keyword in ("RescaleSlope", "RescaleIntercept", "RescaleType", "ImageType", "PixelSpacing"):
        if keyword in data:
            delattr(data, keyword)
    data.save_as(folder / "2.dcm")
    codec = ("--codec", request.param)
    return built(folder, folder / "cache", "--shard-mib", "1", *codec, status=1)


def test_a_failed_frame_keeps_its_slot(ragged: Path) -> None:
    assert all_alike(ragged) == 6
    (about,) = attributes(ragged)["arrays"]
    assert (about["slots"], about["frames"], about["frames_per_shard"]) == (7, 6, 4)
    rows = table(ragged, "frames")
    assert [r["row"] for r in rows] == [0, 1, 3, 4, 5, 6]
    array: Any = zarr.open_array(ragged / about["name"], mode="r")
    assert not array[2].any()  # fill
    for r in rows:
        name = r["path"].split(".")[0]
        np.testing.assert_array_equal(array[r["row"]], pattern(name, (512, 256)))


def test_the_ragged_shard_ends_with_the_array(ragged: Path) -> None:
    first, last = table(ragged, "shards")
    assert (first["slots"], first["frames"], last["slots"], last["frames"]) == (4, 3, 3, 3)
    slot, index = 512 * 256 * 2, 4 * 16 + 4
    (about,) = attributes(ragged)["arrays"]
    if about["codec"] == "none":
        assert (first["bytes"], last["bytes"]) == (4 * slot + index, 3 * slot + index)
        return
    for facts in (first, last):  # no bytes for the frame that failed, none between the others
        data = (ragged / about["name"] / f"c.{facts['shard']}.0.0").read_bytes()
        entries = np.frombuffer(data[-index:-4], "<u8").reshape(4, 2)
        missing = entries[:, 0] == 2**64 - 1
        assert missing.tolist() == [False, False, facts is first, facts is last]
        lengths = entries[~missing, 1]
        assert entries[~missing, 0].tolist() == [0, *np.cumsum(lengths)[:-1].tolist()]
        assert lengths.sum() + index == len(data) == facts["bytes"]


def test_shared_slots_give_the_corner(tmp_path: Path) -> None:
    sizes = [(30, 40), (40, 30), (40, 40), (7, 9)]
    for k, size in enumerate(sizes):
        write_dicom(tmp_path / "in" / f"{k}.dcm", pattern(str(k), size))
    cache = built(tmp_path / "in", tmp_path / "cache", "--max-arrays", "1")
    (about,) = attributes(cache)["arrays"]
    assert about["slot"] == [40, 40]
    assert all_alike(cache) == 4
    ours = open_cache(cache)
    for k, path in enumerate(ours.column("path").to_pylist()):
        name = path.split(".")[0]
        np.testing.assert_array_equal(ours[k], pattern(name, sizes[int(name)]))


def test_zarr_lists_the_arrays_without_a_warning(
    examples_cache: Path, recwarn: pytest.WarningsRecorder
) -> None:
    arrays = [name for name, _ in zarr.open_group(examples_cache, mode="r").arrays()]
    assert sorted(arrays) == sorted(a["name"] for a in attributes(examples_cache)["arrays"])
    assert not [w for w in recwarn if "Zarr" in type(w.message).__name__]


def test_consolidated_metadata_is_that_of_the_arrays(examples_cache: Path) -> None:
    root = json.loads((examples_cache / "zarr.json").read_bytes())
    for name, metadata in root["consolidated_metadata"]["metadata"].items():
        assert metadata == json.loads((examples_cache / name / "zarr.json").read_bytes())


def test_a_moved_cache_reads_the_same(examples_cache: Path, tmp_path: Path) -> None:
    shutil.copytree(examples_cache, tmp_path / "elsewhere")
    assert all_alike(tmp_path / "elsewhere") == 51
