"""NIfTI byte by byte, ITK's and other tools' types, of caches."""

from __future__ import annotations

import gzip
import struct
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest

from tests.oracles.series import Series, diffusion, one_volume, several
from tests.support.caches import built
from tests.support.dicom_files import CT_IMAGE, uid, write_dicom
from trainer_adapter import (
    Cache,
    MissingLibraryError,
    SpatialImage,
    VolumeError,
    open_cache,
)
from trainer_adapter.volumes import convert

CORONAL = [1, 0, 0, 0, 0, -1]


def cache_of(tmp_path: Path, kind: Any) -> Cache:
    (tmp_path / "in").mkdir()
    kind(Series(tmp_path / "in"))
    return open_cache(built(tmp_path / "in", tmp_path / "cache"))


def ct(folder: Path, name: str, places: list[list[float]], **elements: Any) -> None:
    for k, place in enumerate(places):
        said = {
            "SOPClassUID": CT_IMAGE, "Modality": "CT", "SeriesInstanceUID": uid(name),
            "RescaleSlope": 1, "RescaleIntercept": -1024, "ImagePositionPatient": place,
            "ImageOrientationPatient": CORONAL, "PixelSpacing": [2, 0.5], "InstanceNumber": k + 1,
            "FrameOfReferenceUID": uid("space"), "ImageType": ["ORIGINAL", "PRIMARY", "AXIAL"],
        } | elements  # fmt: skip
        values = (np.arange(12, dtype=np.uint16) + 100 * k).reshape(3, 4)
        write_dicom(folder / f"{name}{k}.dcm", values, **said)


def test_a_nifti_is_what_its_standard_says(tmp_path: Path) -> None:
    ct(tmp_path / "in", "a", [[10, 20.0 - 4 * k, 30] for k in range(2)])
    cache = open_cache(built(tmp_path / "in", tmp_path / "cache"))
    cache.to_nifti(0, tmp_path / "a.nii.gz")
    data = gzip.decompress((tmp_path / "a.nii.gz").read_bytes())
    assert (tmp_path / "a.nii.gz").read_bytes()[:10] == b"\x1f\x8b\x08\0\0\0\0\0\x04\xff"  # no time
    assert struct.unpack_from("<i", data)[0] == 348
    assert struct.unpack_from("<8h", data, 40) == (3, 4, 3, 2, 1, 1, 1, 1)  # columns, rows, slices
    assert struct.unpack_from("<2h", data, 70) == (4, 16)  # int16
    assert struct.unpack_from("<4f", data, 76)[1:] == (0.5, 2, 4)
    assert struct.unpack_from("<3f", data, 108) == (352, 1, 0)  # offset, slope, intercept
    assert data[123] == 2 | 8  # mm, s
    assert data[148:228].strip(b"\0") == b""  # no description
    assert struct.unpack_from("<2h", data, 252) == (1, 1)  # qform and sform: the scanner's
    # Of LPS, in which the slices go from y = 20 to 16, to RAS. Slices follow row x column, which
    # is (0, 1, 0): the first one is the one at 16.
    assert struct.unpack_from("<12f", data, 280) == (
        -0.5, 0, 0, -10,
        0, 0, -4, -16,
        0, -2, 0, 30,
    )  # fmt: skip
    values = np.frombuffer(data, "<i2", offset=352).reshape(2, 3, 4)  # columns first
    assert values[0].tolist() == (np.arange(12).reshape(3, 4) + 100 - 1024).tolist()
    assert values[1, 2, 3] == 11 - 1024
    assert len(data) == 352 + 48


def test_the_quaternion_says_the_same(tmp_path: Path) -> None:
    image = cache_of(tmp_path, one_volume.oblique).to_nifti(0)
    np.testing.assert_allclose(image.get_qform(), image.get_sform(), atol=1e-4)


def test_colour_is_rgb24(tmp_path: Path) -> None:
    voxels = np.arange(36, dtype=np.uint8).reshape(2, 3, 2, 3)
    SpatialImage(voxels, np.eye(4)).to_nifti(tmp_path / "a.nii")
    data = (tmp_path / "a.nii").read_bytes()
    assert struct.unpack_from("<2h", data, 70) == (128, 24)
    assert data[352:] == bytes(range(36))
    wide = SpatialImage(voxels.astype(np.uint16), np.eye(4), name="stack 3")
    with pytest.raises(VolumeError, match="stack 3: NIfTI-1 has colour of 8 bits only"):
        wide.to_nifti()


def test_a_slanted_one_has_no_quaternion(tmp_path: Path) -> None:
    image = cache_of(tmp_path, one_volume.tilted).image(0, sheared=True).to_nifti()
    assert (image.header["qform_code"], image.header["sform_code"]) == (0, 1)
    np.testing.assert_allclose(image.affine[:3, 2], [0, 0, 3], atol=1e-6)


def test_the_remedy_is_named(tmp_path: Path) -> None:
    cache = cache_of(tmp_path, one_volume.tilted)
    for call in (cache.image, cache.to_nifti, cache.to_sitk):
        with pytest.raises(VolumeError, match=r"12\.0 degrees .*; resample\(0\) makes"):
            call(0)
    assert convert.sheared(cache.resample(0).affine, 8) is False


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        (one_volume.uneven, r"flag uneven\); resample\(0, gaps=True\) makes"),
        (one_volume.gap, r"flag gap\); resample\(0, gaps=True\) makes"),
        (one_volume.one_place, r"one place.*; cache\.volume\(0, gaps=True\) has its frames"),
        (one_volume.instance_only, r"do not say where in the patient it lies; cache\.volume"),
    ],
)
def test_what_is_no_even_volume(tmp_path: Path, kind: Any, said: str) -> None:
    cache = cache_of(tmp_path, kind)
    with pytest.raises(VolumeError, match=said):
        cache.to_nifti(0)
    if "gaps=True) makes" in said.replace("\\", ""):
        even = cache.resample(0, gaps=True)
        steps = np.diff(np.array(cache.column("position").to_pylist())[:, 2])
        assert even.spacing[0] == pytest.approx(np.median(steps))
        np.testing.assert_array_equal(even.voxels[0], cache.volume(0, gaps=True)[0])


def test_a_gap_is_filled_between_its_neighbours(tmp_path: Path) -> None:
    for k, z in enumerate((0, 2, 6, 8)):
        ct(tmp_path / "in", f"{k}", [[0, 0, z]], ImageOrientationPatient=[1, 0, 0, 0, 1, 0],
           SeriesInstanceUID=uid("one"), RescaleIntercept=100 * k)  # fmt: skip
    cache = open_cache(built(tmp_path / "in", tmp_path / "cache"))
    assert cache.resample(0, gaps=True).voxels[:, 0, 0].tolist() == [0, 100, 150, 200, 300]


def test_another_stack_or_cache_is_a_grid(tmp_path: Path) -> None:
    ct(tmp_path / "in", "a", [[10, 20.0 + 4 * k, 30] for k in range(3)])
    ct(tmp_path / "in", "b", [[10, 20.0 + 2 * k, 30] for k in range(5)], Rows=3, RescaleIntercept=0)
    ct(tmp_path / "in", "c", [[10, 20.0 + 4 * k, 30] for k in range(3)],
       FrameOfReferenceUID=uid("elsewhere"))  # fmt: skip
    cache = open_cache(built(tmp_path / "in", tmp_path / "cache"))
    series = dict(zip(cache.column("series_uid").to_pylist(), cache.column("stack").to_pylist(),
                      strict=True))  # fmt: skip
    a, b, c = (series[uid(name)] for name in "abc")
    found = cache.resample(a, like=b)
    assert found.voxels[:, 0, 0].tolist() == [-1024, -974, -924, -874, -824]
    np.testing.assert_array_equal(found.affine, cache.affine(b))
    np.testing.assert_array_equal(cache.resample(a, like=cache.image(b)).voxels, found.voxels)
    with pytest.raises(VolumeError, match=rf"stack {a} .*frame of reference is not that of stack"):
        cache.resample(a, like=c)
    assert cache.resample(a, like=c, across_spaces=True).voxels.shape == (3, 3, 4)


def test_outside_is_air_padding_or_nothing(tmp_path: Path) -> None:
    ct(tmp_path / "in", "a", [[0, 4.0 * k, 0] for k in range(2)])
    ct(tmp_path / "in", "b", [[0, 4.0 * k, 0] for k in range(2)], PixelPaddingValue=7)
    ct(tmp_path / "in", "c", [[0, 4.0 * k, 0] for k in range(2)], Modality="MR",
       SOPClassUID="1.2.840.10008.5.1.4.1.1.4", RescaleIntercept=0)  # fmt: skip
    cache = open_cache(built(tmp_path / "in", tmp_path / "cache"))
    names = {uid(name): name for name in "abc"}
    found = {
        names[row["series"]]: cache.image(row["stack"]).fill for row in cache.stacks().to_pylist()
    }
    assert found == {"a": -1024, "b": 7 - 1024, "c": 0}


def test_a_selection_is_converted_alone(tmp_path: Path) -> None:
    cache = cache_of(tmp_path, several.dual_echo)
    first = cache.stacks()["stack"].to_pylist()[0]
    part = cache.select(stack=first)[2:4]
    assert part.to_nifti(first).shape[2] == 2
    np.testing.assert_allclose(
        part.image(first).affine[:3, 3], cache.affine(first) @ [0, 0, 2, 1] @ np.eye(4)[:, :3]
    )


def test_volumes_over_time_are_one_image(tmp_path: Path) -> None:
    cache = cache_of(tmp_path, several.fmri)
    image = cache.series_to_nifti(0, tmp_path / "a.nii")
    assert image.shape == (20, 24, *cache.volume(0).shape[:1], len(cache.stacks()))
    assert image.header["pixdim"][4] == 2.0  # Repetition Time, s
    read = nibabel.load(tmp_path / "a.nii")
    np.testing.assert_array_equal(np.asarray(read.dataobj).T, cache.series4d(0).image)
    assert not (tmp_path / "a.bval").exists()


def test_directions_lie_beside_the_image(tmp_path: Path) -> None:
    cache = cache_of(tmp_path, diffusion.diffusion)
    cache.series_to_nifti(0, tmp_path / "a.nii.gz")
    assert (tmp_path / "a.bval").read_text() == "0 1000 1000 1000\n"
    assert (tmp_path / "a.bvec").read_text() == "0 -1 0 -0.6\n0 0 1 0\n0 0 0 0.8\n"


def test_what_is_missing_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    image = SpatialImage(np.zeros((2, 2, 2), np.uint8), np.eye(4))
    for name in ("nibabel", "SimpleITK", "monai", "torchio", "scipy"):
        monkeypatch.setitem(__import__("sys").modules, name, None)
    for call, remedy in (
        (image.to_nifti, "nibabel.*pip install 'nibabel>=5.2' 'scipy>=1.11'"),
        (image.to_sitk, "pip install SimpleITK"),
        (image.to_metatensor, "pip install monai"),
        (image.to_torchio, "pip install torchio"),
        (lambda: image.resample((1, 1, 0.5)), "scipy.*pip install 'nibabel>=5.2' 'scipy>=1.11'"),
    ):
        with pytest.raises(MissingLibraryError, match=remedy):
            call()


def test_a_file_is_whole_or_not_there(tmp_path: Path) -> None:
    path = tmp_path / "full" / "a.nii"
    path.parent.mkdir()
    SpatialImage(np.ones((2, 2, 2), np.uint8), np.eye(4)).to_nifti(path)
    before = path.read_bytes()
    with pytest.raises(ValueError, match=r"legal suffixes: \.nii\.gz, \.nii"):
        SpatialImage(np.ones((2, 2, 2), np.uint8), np.eye(4)).to_nifti(tmp_path / "a.mha")
    assert nibabel.load(path).shape == (2, 2, 2)
    assert [p.name for p in path.parent.iterdir()] == ["a.nii"]
    assert path.read_bytes() == before
