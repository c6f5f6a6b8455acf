"""`show`: one frame, stack or file as a picture, with its source and row."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from dicom2cache.cli.reporting import pictures
from dicom2cache.pixels.window import Window
from dicom2cache.records import ArraySpec
from tests.support.caches import built, run_here, table
from tests.support.dicom_files import CT_IMAGE, uid, write_dicom


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A CT of three slices, 0, 100 and 200 HU with a corner of 300; its window is 50 to 250."""
    folder = tmp_path_factory.mktemp("show")
    for k in range(3):
        pixels = np.full((16, 16), 1024 + 100 * k, np.uint16)
        pixels[:4, :4] = 1324
        write_dicom(
            folder / "in" / "ct" / f"{2 - k}.dcm", pixels, SOPClassUID=CT_IMAGE, Modality="CT",
            SOPInstanceUID=uid(f"slice {k}"), RescaleSlope=1, RescaleIntercept=-1024,
            ImagePositionPatient=[0, 0, k], ImageOrientationPatient=[1, 0, 0, 0, 1, 0],
            PixelSpacing=[1, 1], FrameOfReferenceUID=uid("space"), WindowCenter=150,
            WindowWidth=200, VOILUTFunction="LINEAR_EXACT",
        )  # fmt: skip
    write_dicom(folder / "in" / "rt.dcm", SOPClassUID="1.2.840.10008.5.1.4.1.1.481.5")
    return built(folder / "in", folder / "cache", "--jobs", 1)


def _shown(cache: Path, *words: object) -> tuple[list[str], Any]:
    out = cache.parent / "x.png"
    ran = run_here("show", cache, *words, "-o", out)
    assert ran.returncode == 0, ran.stderr
    return ran.stdout.splitlines(), np.asarray(Image.open(out))


def test_a_frame_by_its_window_with_its_row(cache: Path) -> None:
    lines, picture = _shown(cache, 1)
    assert lines[0] == f"frame 1: {cache.parent}/in/ct/1.dcm, frame 0"
    assert lines[1] == "slot 1 of int16_16x16/c.0.0.0"
    assert {"modality = CT", "path = ct/1.dcm", "unit = HU", "position = 0, 0, 1"} <= set(lines)
    assert lines[-1] == f"{cache.parent}/x.png: 50 to 250, by its window"
    # (100 - 50) / 200 of 255, and 300 HU is beyond
    assert (picture.shape, int(picture[8, 8]), int(picture[0, 0])) == ((16, 16), 64, 255)


def test_another_window(cache: Path) -> None:
    lines, picture = _shown(cache, 0, "--window", "0,1000")
    assert lines[-1].endswith("-500 to 500, by the window")
    assert int(picture[8, 8]) == 128
    assert run_here("show", cache, 0, "--window", "lungs").returncode == 2


def test_a_stack_in_its_order(cache: Path) -> None:
    number = table(cache, "frames")[0]["stack"]
    lines, picture = _shown(cache, "--stack", number)
    assert lines[0] == (
        f"3 frames of 3 files, 0 to 2; the first, frame 0: {cache.parent}/in/ct/2.dcm, frame 0"
    )
    assert picture.shape == (384, 384)  # two by two, in small
    assert [int(picture[y, x]) for y, x in ((96, 96), (96, 288), (288, 96))] == [0, 64, 191]


@pytest.mark.parametrize("path", ["ct/1.dcm", "{in}/ct/1.dcm"])
def test_a_file(cache: Path, path: str) -> None:
    lines, _ = _shown(cache, "--path", path.replace("{in}", str(cache.parent / "in")))
    assert lines[0].startswith("frame 1: ")


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (("7",), "frame 7; legal: 0 to 2"),
        (("-1",), "legal: 0 to 2"),
        (("--stack", 9), "no stack 9; the greatest is 0"),
        (("--path", "1.dcm"), "no file 1.dcm in frames/; perhaps ct/1.dcm"),
        (("--path", "rt.dcm"), "rt.dcm: not stored: no-pixels: RT Plan Storage has no pixel data"),
        ((), "give one: INDEX, --stack N or --path P"),
        ((1, "--stack", 0), "give one"),
    ],
)
def test_what_is_not_there(cache: Path, words: tuple[object, ...], why: str) -> None:
    before = ["--"] if words == ("-1",) else []
    ran = run_here("show", cache, *before, *words)
    assert (ran.returncode, why in ran.stderr) == (2, True), ran.stderr


def test_files_of_others_stay(cache: Path, tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.chdir(tmp_path)
    for _ in range(2):  # our own is replaced
        assert run_here("show", cache, 1).returncode == 0
    assert [p.name for p in tmp_path.iterdir()] == ["frame-1.png"]
    (tmp_path / "frame-1.png").write_bytes(b"theirs")
    assert run_here("show", cache, 1).returncode == 2
    assert (tmp_path / "frame-1.png").read_bytes() == b"theirs"


def test_a_damaged_frame_is_named(cache: Path, tmp_path: Path) -> None:
    shutil.copytree(cache, tmp_path / "cache")
    shard = tmp_path / "cache" / "int16_16x16" / "c.0.0.0"
    data = bytearray(shard.read_bytes())
    data[0] ^= 1
    shard.write_bytes(data)
    ran = run_here("show", tmp_path / "cache", 0, "-o", tmp_path / "x.png")
    assert ran.returncode == 2
    assert "int16_16x16/c.0.0.0: the CRC-32C of slot 0 does not match; run" in ran.stderr
    assert not (tmp_path / "x.png").exists()


def test_hashed_paths_by_their_key(cache: Path, tmp_path: Path) -> None:
    key = tmp_path / "key"
    key.touch(0o600)
    key.write_bytes(bytes(range(32)))
    hashed = built("--deidentify", key, cache.parent / "in", tmp_path / "cache", "--jobs", 1)
    ran = run_here("show", hashed, "--path", "ct/1.dcm")
    assert (ran.returncode, "give its key by --deidentify" in ran.stderr) == (2, True), ran.stderr
    out = tmp_path / "x.png"
    ran = run_here("show", hashed, "--path", "ct/1.dcm", "--deidentify", key, "-o", out)
    assert (ran.returncode, "position = 0, 0, 1" in ran.stdout) == (0, True), ran.stderr
    name = next(r["path"] for r in table(hashed, "frames") if r["position"][2] == 1)
    assert run_here("show", hashed, "--path", name, "-o", out).returncode == 0


_GREY = ArraySpec("int16_4x4", "int16", (4, 4), 1, 1)


@pytest.mark.parametrize(
    ("row", "low", "high"),
    [
        ({"p0_5": 10.0, "p99_5": 90.0}, 10, 90),
        ({"p0_5": None, "p99_5": None, "min": None}, 0, 1),
        # A window beyond all values would show nothing.
        ({"p0_5": 10.0, "p99_5": 90.0, "windows": [{"center": 5e3, "width": 9.0}]}, 10, 90),
        ({"p0_5": 10.0, "p99_5": 90.0, "windows": [{"center": 40.5, "width": 21.0}]}, 30, 50),
        ({"p0_5": 1.0, "p99_5": 9.0, "windows": [{"center": 5.0, "width": 0.0}]}, 1, 9),
        ({"unit": "window"}, 0, 32767),
        ({"kind": "mask", "max": 3.0}, 0, 3),
    ],
)
def test_what_a_frame_is_shown_by(row: dict[str, Any], low: float, high: float) -> None:
    shown, _ = pictures.how_shown([row], _GREY)
    assert (shown.low, shown.high) == (low, high)


def test_values_as_grey() -> None:
    values = np.array([[0, 50, 100, 200]], np.int16)
    shown = pictures.Shown(0, 100, "")
    assert pictures.grey(values, shown, {}, None).tolist() == [[0, 128, 255, 255]]
    inverted = pictures.grey(values, shown, {"polarity": "inverted"}, None)
    assert inverted.tolist() == [[255, 128, 0, 0]]
    window = pictures.grey(values, shown, {}, Window(100, 200))
    assert window.tolist() == [[0, 64, 128, 255]]
    lost = pictures.grey(np.array([[np.nan, np.inf, -np.inf]], np.float32), shown, {}, None)
    assert lost.tolist() == [[0, 255, 0]]
    labels = pictures.grey(np.array([[0, 1, 2, 11, 300]], np.uint16), shown, {"unit": "labelmap"},
                           None)  # fmt: skip
    assert labels[0].tolist()[:2] == [[0, 0, 0], [230, 159, 0]]
    assert len({tuple(c) for c in labels[0].tolist()}) == 4  # 11 is as 1
