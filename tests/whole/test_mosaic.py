"""Volumes tiled into one frame: cut into slices, each where it lies in the patient."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import pytest
from numpy.typing import NDArray
from pydicom.encaps import encapsulate

from dicom2cache.frames.decode import Source
from tests.support.caches import attributes, built, failures, run_here, stored, table, tree
from tests.support.dicom_files import pattern, uid, write_dicom
from tests.support.siemens import tiled, write_mosaic, write_vframe
from trainer_adapter import open_cache
from trainer_adapter.errors import NotServedError
from trainer_adapter.lightly.images import Names
from trainer_adapter.lightly.paths import frame_names

AXIAL, SAGITTAL, CORONAL = [1, 0, 0, 0, 1, 0], [0, 1, 0, 0, 0, -1], [1, 0, 0, 0, 0, -1]
BIG_ENDIAN = "1.2.840.10008.1.2.2"
OBLIQUE = [1, 0, 0, 0, 0.8, -0.6]
Slices = dict[int, tuple[dict[str, Any], NDArray[Any]]]


def slices_of(cache: Path) -> Slices:
    """{part: (row of frames/, pixels)} of a cache of one mosaic."""
    return {row["part_of_frame"]: (row, pixels) for row, pixels in stored(cache)}


@pytest.mark.parametrize(
    ("count", "cosines", "normal", "options", "third"),
    [
        # the first slice begins at -10, -20, -30; the third lies two steps of 3.5 mm further
        (5, AXIAL, (0, 0, 1), {}, [-10, -20, -23]),
        (4, AXIAL, (0, 0, 1), {}, [-10, -20, -23]),  # no empty tile
        (10, AXIAL, (0, 0, -1), {}, [-10, -20, -37]),  # head to feet
        # the slices of a sagittal mosaic go to the left, against row x column
        (5, SAGITTAL, (1, 0, 0), {}, [-3, -20, -30]),
        (5, CORONAL, (0, 1, 0), {}, [-10, -13, -30]),
        (7, OBLIQUE, (0, 0.6, 0.8), {}, [-10, -15.8, -24.4]),
        (5, SAGITTAL, (1, 0, 0), {"version": 1}, [-3, -20, -30]),
        (5, SAGITTAL, (1, 0, 0), {"number": "both"}, [-3, -20, -30]),
        (5, SAGITTAL, (1, 0, 0), {"block": 0x13}, [-3, -20, -30]),  # moved by another program
        (5, AXIAL, (0, 0, 1), {"step": None}, [-10, -20, -24]),  # by Slice Thickness, 3 mm
        (5, SAGITTAL, (1, 0, 0), {"syntax": "1.2.840.10008.1.2"}, [-3, -20, -30]),  # no VRs
        (5, SAGITTAL, (1, 0, 0), {"syntax": BIG_ENDIAN, "number": "both"},
         [-3, -20, -30]),  # big-endian, but for the CSA header
        (5, SAGITTAL, (1, 0, 0), {"syntax": "1.2.840.10008.1.2.1.99"}, [-3, -20, -30]),  # deflated
    ],
)  # fmt: skip
def test_a_siemens_mosaic_becomes_its_slices(
    tmp_path: Path,
    count: int,
    cosines: list[float],
    normal: tuple[float, float, float],
    options: dict[str, Any],
    third: list[float],
) -> None:
    volume = pattern("mosaic", (count, 6, 8))
    written = volume.byteswap() if options.get("syntax") == BIG_ENDIAN else volume
    write_mosaic(tmp_path / "in" / "m.dcm", written, cosines, normal, **options)
    found = slices_of(built(tmp_path / "in", tmp_path / "cache"))
    assert sorted(found) == list(range(count))
    for k, (row, pixels) in found.items():
        assert np.array_equal(pixels, volume[k])
        assert (row["frame"], row["height"], row["width"]) == (0, 6, 8)
        assert (row["source_height"], row["source_width"]) == (6, 8)
        assert row["flags"] is None
    assert np.allclose(found[0][0]["position"], [-10, -20, -30], atol=1e-5)
    assert np.allclose(found[2][0]["position"], third, atol=1e-5)
    assert {row["stack_regular"] for row, _ in found.values()} == {True}
    assert len({row["stack"] for row, _ in found.values()}) == 1


def test_without_a_normal_the_direction_is_taken_from_the_image(tmp_path: Path) -> None:
    write_mosaic(tmp_path / "in" / "m.dcm", pattern("m", (5, 6, 8)), SAGITTAL, (), number="0019")
    found = slices_of(built(tmp_path / "in", tmp_path / "cache"))
    assert np.allclose(found[2][0]["position"], [-17, -20, -30])  # row x column is -x
    assert found[0][0]["flags"] == ["mosaic-direction"]


@pytest.mark.parametrize(
    ("count", "normal", "options"),
    [
        (5, (0, 0, 1), {"number": "none"}),  # as newer scanners export them
        (5, (0, 0, 1), {"private": 0}),  # 0 slices
        (5, (0, 0, 1), {"private": 50}),  # 8 a side do not divide 18 x 24
        (5, (0, 0, 1), {"private": 60_000}),
        (5, (0, 0, 1), {"ImageOrientationPatient": None}),
        (5, (0, 0, 1), {"PixelSpacing": None}),
    ],
)
def test_what_cannot_be_cut_stays_one_image(
    tmp_path: Path, count: int, normal: tuple[float, float, float], options: dict[str, Any]
) -> None:
    volume = pattern("mosaic", (count, 6, 8))
    if "private" in options:
        options = {"number": "0019", "claimed": options["private"]}
    write_mosaic(tmp_path / "in" / "m.dcm", volume, AXIAL, normal, **options)
    cache = built(tmp_path / "in", tmp_path / "cache")
    ((row, pixels),) = stored(cache)
    assert (row["flags"], row["part_of_frame"]) == (["mosaic"], 0)
    assert np.array_equal(pixels, tiled(volume, 3, 3))


def test_mosaics_that_cannot_be_cut_can_be_left_out(tmp_path: Path) -> None:
    write_mosaic(tmp_path / "in/cut.dcm", pattern("a", (5, 6, 8)), AXIAL, (0, 0, 1))
    write_mosaic(tmp_path / "in/whole.dcm", pattern("b", (5, 6, 8)), AXIAL, (), number="none")
    cache = built(tmp_path / "in", tmp_path / "cache", "--exclude", "mosaic")
    assert {row["path"] for row, _ in stored(cache)} == {"cut.dcm"}
    assert failures(cache) == {("whole.dcm", None): ("excluded", "recipe: exclude mosaic")}


def test_a_normal_that_is_none_of_this_image_is_not_believed(tmp_path: Path) -> None:
    for k, normal in enumerate([(1, 0, 0), (0, 0, 5), (0, 0, 0)]):
        write_mosaic(tmp_path / f"in/{k}.dcm", pattern(f"{k}", (5, 6, 8)), AXIAL, normal,
                     SeriesInstanceUID=uid(f"{k}"))  # fmt: skip
    rows = [row for row, _ in stored(built(tmp_path / "in", tmp_path / "cache"))]
    assert {tuple(row["flags"]) for row in rows} == {("mosaic-direction",)}
    third = [row["position"] for row in rows if row["part_of_frame"] == 2]
    assert np.allclose(third, [[-10, -20, -23]] * 3)


def test_diffusion_of_the_csa_header(tmp_path: Path) -> None:
    tags = [
        ("B_value", "IS", 1, ["1000"]),
        ("DiffusionGradientDirection", "FD", 3, ["0.6", "0.0", "-0.8"]),
    ]
    write_mosaic(tmp_path / "in/m.dcm", pattern("m", (5, 6, 8)), AXIAL, (0, 0, 1), csa_tags=tags)
    rows = [row for row, _ in stored(built(tmp_path / "in", tmp_path / "cache"))]
    assert {row["b_value"] for row in rows} == {1000.0}


@pytest.mark.parametrize(
    ("count", "options", "third"),
    [
        # 5 slices: 3 across and 2 down, as UIH says of its tag; the position is the first slice's
        (5, {"places": [(-10 + 4 * k, -20, -30) for k in range(5)]}, [-2, -20, -30]),
        (7, {"places": [(-10 - 4 * k, -20, -30) for k in range(7)]}, [-18, -20, -30]),
        (9, {"normal": (1, 0, 0)}, [-3, -20, -30]),
        (5, {"places": [(-10 + k * k, -20, -30) for k in range(5)]}, [-6, -20, -30]),  # uneven
    ],
)
def test_a_volume_of_uih(
    tmp_path: Path, count: int, options: dict[str, Any], third: list[float]
) -> None:
    volume = pattern("uih", (count, 6, 8))
    write_vframe(tmp_path / "in/v.dcm", volume, SAGITTAL, **options)
    found = slices_of(built(tmp_path / "in", tmp_path / "cache"))
    assert sorted(found) == list(range(count))
    for k, (row, pixels) in found.items():
        assert np.array_equal(pixels, volume[k])
        assert row["flags"] is None
    assert np.allclose(found[0][0]["position"], [-10, -20, -30])
    assert np.allclose(found[2][0]["position"], third)


def test_size_and_percentiles_are_of_a_slice(tmp_path: Path) -> None:
    flat = np.repeat(np.arange(1, 6, dtype=np.uint16) * 100, 48).reshape(5, 6, 8)
    write_mosaic(tmp_path / "in/m.dcm", flat, AXIAL, (0, 0, 1))
    cache = built(tmp_path / "in", tmp_path / "sized", "--size", "12,16")
    for k, (row, pixels) in slices_of(cache).items():  # no neighbour shines through
        assert np.array_equal(pixels, np.full((12, 16), 100 * (k + 1)))
        assert (row["scale_y"], row["offset_y"], row["spacing_y"]) == (2.0, 0.0, 1.0)
    cache = built(
        tmp_path / "in", tmp_path / "shares", "--intensity", "percentiles", "--percentiles", "0,100"
    )
    found = slices_of(cache)  # empty tiles, which are 0, are no part of the volume
    assert {(row["window_low"], row["window_high"]) for row, _ in found.values()} == {(100, 500)}
    assert [int(found[k][1].max()) for k in range(5)] == [0, 64, 128, 191, 255]


def test_a_mosaic_is_decoded_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_mosaic(tmp_path / "in/m.dcm", pattern("m", (20, 6, 8)), AXIAL, (0, 0, 1))
    frames, read = [], Source._read

    def counted(source: Source, *arguments: Any, **options: Any) -> Any:
        frames.append(arguments)
        return read(source, *arguments, **options)

    monkeypatch.setattr(Source, "_read", counted)
    built(tmp_path / "in", tmp_path / "cache", "--jobs", 1, "--backend", "threading")
    assert len(frames) == 1


def test_a_mosaic_that_fails_is_one_frame(tmp_path: Path) -> None:
    good, bad = pattern("good", (5, 6, 8), top=200), pattern("bad", (5, 6, 8), top=200)
    bad[3, 0, 0] = 300  # one pixel of one slice is too much for uint8
    for name, volume in (("good", good), ("bad", bad)):
        write_mosaic(tmp_path / f"in/{name}.dcm", volume, AXIAL, (0, 0, 1),
                     SeriesInstanceUID=uid(name))  # fmt: skip
    path = tmp_path / "in/torn.dcm"
    write_mosaic(path, good, AXIAL, (0, 0, 1), SeriesInstanceUID=uid("torn"))
    torn = write_dicom(tmp_path / "torn.dcm", tiled(good, 3, 3), syntax="1.2.840.10008.1.2.5",
                       encoded=[bytes(64) + b"no runs here"])  # fmt: skip
    _replace_pixels(path, torn)
    cache = built(tmp_path / "in", tmp_path / "cache", "--dtype", "uint8", status=1)
    assert {row["path"] for row, _ in stored(cache)} == {"good.dcm"}
    assert set(failures(cache)) == {("bad.dcm", 0), ("torn.dcm", 0)}
    counts = attributes(cache)["counts"]
    assert (counts["frames_stored"], counts["frames_failed"], counts["files_failed"]) == (5, 2, 2)
    assert run_here("verify", cache).returncode == 0


def _replace_pixels(path: Path, other: Path) -> None:
    """Give a file the pixel data, and the transfer syntax, of another."""
    from pydicom import dcmread

    ds, torn = dcmread(path), dcmread(other)
    ds.file_meta.TransferSyntaxUID = torn.file_meta.TransferSyntaxUID
    ds.PixelData = encapsulate([bytes(64) + b"no runs here"])
    ds["PixelData"].is_undefined_length = True
    ds.save_as(path)


def test_a_compressed_mosaic(tmp_path: Path) -> None:
    volume = pattern("m", (5, 6, 8))
    stream = imagecodecs.jpegls_encode(tiled(volume, 3, 3))
    write_mosaic(tmp_path / "in/m.dcm", volume, AXIAL, (0, 0, 1), encoded=[stream],
                 syntax="1.2.840.10008.1.2.4.80")  # fmt: skip
    found = slices_of(built(tmp_path / "in", tmp_path / "cache", "--codec", "auto"))
    assert all(np.array_equal(found[k][1], volume[k]) for k in range(5))
    assert found[3][0]["codec"].startswith("imagecodecs")


def test_shards_may_end_within_a_mosaic(tmp_path: Path) -> None:
    for k in range(3):
        write_mosaic(tmp_path / f"in/{k}.dcm", pattern(f"{k}", (70, 64, 64)), AXIAL, (0, 0, 1),
                     AcquisitionNumber=k, InstanceNumber=k)  # fmt: skip
    one = built(tmp_path / "in", tmp_path / "one", "--shard-mib", 1, "--jobs", 1)
    two = built(tmp_path / "in", tmp_path / "two", "--shard-mib", 1, "--jobs", 2)
    assert len(table(one, "shards")) == 2
    assert tree(one) == tree(two)
    for row, pixels in stored(one):
        volume = pattern(row["path"][0], (70, 64, 64))
        assert np.array_equal(pixels, volume[row["part_of_frame"]])
    assert run_here("verify", one, "--deep", "1").stdout.endswith("whole (210 frames)\n")


def test_a_trainer_names_each_slice(tmp_path: Path) -> None:
    volume = pattern("m", (5, 6, 8))
    path = write_mosaic(tmp_path / "in/m.dcm", volume, AXIAL, (0, 0, 1))
    write_dicom(tmp_path / "in/plain.dcm", pattern("plain", (6, 8)), SeriesInstanceUID=uid("p"))
    cache = open_cache(built(tmp_path / "in", tmp_path / "cache"))
    names = Names(cache)
    assert sorted(frame_names(cache)) == [
        *(f"{path}#frame=0#part={k}.dcm" for k in range(5)),
        str(tmp_path / "in/plain.dcm#frame=0.dcm"),
    ]
    for k in range(5):
        assert np.array_equal(cache[names[f"{path}#frame=0#part={k}.dcm"]], volume[k])
    for asked in (str(path), f"{path}#frame=0.dcm"):
        with pytest.raises(NotServedError, match=r"5 slices of it .*#frame=0#part=0\.dcm"):
            names[asked]
    with pytest.raises(NotServedError, match="frame 0, part 5 is not in"):
        names[f"{path}#frame=0#part=5.dcm"]
    some = cache.select(part_of_frame=0)  # still named as in the whole cache
    assert f"{path}#frame=0#part=0.dcm" in frame_names(some)
    assert cache.volume(cache.column("stack")[names[f"{path}#frame=0#part=0.dcm"]].as_py()).shape \
        == (5, 6, 8)  # fmt: skip


def test_copies_of_a_mosaic(tmp_path: Path) -> None:
    """A true copy is left out, its slices are found by its path; one turned round is no copy."""
    volume = pattern("m", (5, 6, 8))
    for name, normal in (("a", (0, 0, 1)), ("b", (0, 0, 1)), ("c", (0, 0, -1))):
        write_mosaic(tmp_path / f"in/{name}.dcm", volume, AXIAL, normal, SOPInstanceUID=uid("same"))
    path = built(tmp_path / "in", tmp_path / "cache")
    assert {key for key in failures(path)} == {("b.dcm", None)}
    assert {row["path"] for row, _ in stored(path)} == {"a.dcm", "c.dcm"}
    cache = open_cache(path)
    twin = Names(cache)[f"{tmp_path}/in/b.dcm#frame=0#part=3.dcm"]
    assert cache.column("path")[twin].as_py() == "a.dcm"
    assert np.array_equal(cache[twin], volume[3])
