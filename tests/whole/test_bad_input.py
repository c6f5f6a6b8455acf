"""What is wrong with files costs those files only, and is named; exit status 0, 1 and 2."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydicom import dcmread, examples

from tests.support.caches import (
    attributes,
    built,
    by_path,
    failures,
    run_cli,
    run_here,
    table,
    tree,
)
from tests.support.dicom_files import pattern, real, uid, write_dicom, write_series
from tests.support.faults import without_override

_DOSE = "1.2.840.10008.5.1.4.1.1.481.2"

_SOUND = pattern("sound", (16, 16))


def _altered(source: Path, path: Path, **elements: Any) -> None:
    """A copy of a file with some elements set, and a UID of its own."""
    ds = dcmread(source)
    for keyword, value in {"SOPInstanceUID": uid(path.name), **elements}.items():
        setattr(ds, keyword, value)
    ds.save_as(path)


def _bad_files(folder: Path) -> None:
    """Files that are each wrong in one way, and three that are not."""
    folder.mkdir()
    write_dicom(folder / "sound.dcm", _SOUND)
    (folder / "notes.txt").write_text("no DICOM, and not called so")
    (folder / "text.dcm").write_text("The films are on my desk.\n" * 20)
    (folder / "empty.dcm").touch()
    (folder / "noise.dcm").write_bytes(pattern("noise", (4000,), "uint8", 256).tobytes())
    whole = Path(examples.get_path("ct")).read_bytes()
    (folder / "cut.dcm").write_bytes(whole[: len(whole) - 1000])
    (folder / "cut_in_header.dcm").write_bytes(whole[:700])
    (folder / "only_preamble.dcm").write_bytes(whole[:132])
    write_dicom(folder / "frames_native.dcm", _SOUND, NumberOfFrames=5)
    write_dicom(folder / "frames_negative.dcm", _SOUND, NumberOfFrames=-1)
    write_dicom(folder / "rows_zero.dcm", _SOUND, Rows=0)
    write_dicom(folder / "rows_many.dcm", _SOUND, Rows=17)
    write_dicom(folder / "bits_stored.dcm", _SOUND, BitsStored=17)
    write_dicom(folder / "high_bit.dcm", _SOUND, BitsStored=12, HighBit=3)
    write_dicom(folder / "bits_allocated.dcm", _SOUND, BitsAllocated=12, BitsStored=12, HighBit=11)
    write_dicom(folder / "samples.dcm", _SOUND, SamplesPerPixel=3)
    write_dicom(folder / "cmyk.dcm", _SOUND, PhotometricInterpretation="CMYK")
    write_dicom(folder / "no_pixels.dcm", None, Modality="PR")
    write_dicom(folder / "pixels_lost.dcm", None, Rows=16, Columns=16)
    write_dicom(folder / "slope_zero.dcm", _SOUND, RescaleSlope=0, RescaleIntercept=5)
    write_dicom(folder / "dose_zero.dcm", _SOUND, SOPClassUID=_DOSE, DoseGridScaling=0)
    write_dicom(
        folder / "all_zero.dcm", np.zeros((4, 4), np.uint16), RescaleSlope=0, RescaleIntercept=5
    )
    write_dicom(
        folder / "video.dcm", _SOUND, syntax="1.2.840.10008.1.2.4.102", encoded=[bytes(100)]
    )
    write_dicom(
        folder / "stream_noise.dcm", _SOUND, syntax="1.2.840.10008.1.2.4.90",
        encoded=[pattern("stream", (500,), "uint8", 256).tobytes()],
    )  # fmt: skip
    clip, rle = Path(examples.get_path("ybr_color")), real("MR_small_RLE.dcm")
    _altered(clip, folder / "frames_coded.dcm", NumberOfFrames=31)
    _altered(clip, folder / "frames_absurd.dcm", NumberOfFrames=2_000_000_000)
    _altered(clip, folder / "rows_coded.dcm", Rows=241, NumberOfFrames=30)
    _altered(rle, folder / "rows_absurd.dcm", Rows=65535, Columns=65535)
    _altered(rle, folder / "rows_rle.dcm", Rows=63)
    palette = Path(examples.get_path("palette_color"))
    _altered(palette, folder / "palette_cut.dcm", GreenPaletteColorLookupTableData=bytes(20))
    _altered(real("mlut_18.dcm"), folder / "mlut.dcm")


_WRONG = {
    "notes.txt": ("not-dicom", "no DICM at byte 128"),
    "text.dcm": ("failed", "not a DICOM file although its name says so"),
    "noise.dcm": ("failed", "not a DICOM file although its name says so"),
    "empty.dcm": ("failed", "the file is empty (0 bytes)"),
    "cut.dcm": ("failed", "pixel data is truncated: 31"),
    "cut_in_header.dcm": ("failed", "the file is truncated: it ends in the middle of its header"),
    "only_preamble.dcm": ("failed", "not a DICOM file"),
    "frames_native.dcm": ("failed", "512 bytes, 2560 expected for 5 frames of 16 x 16"),
    "frames_negative.dcm": ("failed", "NumberOfFrames (0028,0008) is"),
    "rows_zero.dcm": ("failed", "Rows x Columns is 0 x 16; legal: 1 to 65535"),
    "rows_many.dcm": ("failed", "512 bytes, 544 expected"),
    "bits_stored.dcm": ("failed", "BitsStored (0028,0101) 17"),
    "high_bit.dcm": ("failed", "HighBit (0028,0102) 3"),
    "bits_allocated.dcm": ("failed", "BitsAllocated (0028,0100) 12; legal: 1, 8, 16 or 32"),
    "samples.dcm": ("failed", "'MONOCHROME2' with SamplesPerPixel (0028,0002) 3"),
    "cmyk.dcm": ("failed", "'CMYK'"),
    "no_pixels.dcm": ("no-pixels", "Secondary Capture Image Storage has no pixel data"),
    "pixels_lost.dcm": ("failed", "has Rows (0028,0010) but no pixel data"),
    "slope_zero.dcm": ("failed", "Rescale Slope (0028,1053) is 0 but stored values are not"),
    "dose_zero.dcm": ("failed", "Dose Grid Scaling (3004,000E) is 0 but stored values are not"),
    "video.dcm": ("failed", "1.2.840.10008.1.2.4.102"),
    "stream_noise.dcm": ("failed", "no SOC and SIZ marker"),
    "frames_coded.dcm": ("failed", "frame 30 is not there: the pixel data holds 30 codestreams"),
    "frames_absurd.dcm": ("failed", "NumberOfFrames (0028,0008) is 2000000000, but the file has"),
    "rows_coded.dcm": ("failed", "the codestream holds (240, 320, 3), the header says (241"),
    "rows_absurd.dcm": ("failed", "4294836225 pixels a frame; limits.frame_pixels is"),
    "rows_rle.dcm": ("failed", "holds 4096 bytes, but Rows x Columns is 63 x 64: 4032"),
    "palette_cut.dcm": ("failed", "GreenPaletteColorLookupTableData"),
}


@pytest.fixture(scope="module")
def bad(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """(cache of _bad_files, what the run printed)."""
    folder = tmp_path_factory.mktemp("bad")
    _bad_files(folder / "source")
    ran = run_cli("build", folder / "source", folder / "cache", "--jobs", "2")
    assert ran.returncode == 1, ran.stderr
    return folder / "cache", ran.stdout


@pytest.mark.parametrize("name", sorted(_WRONG))
def test_bad_file_is_named_with_its_reason(bad: tuple[Path, str], name: str) -> None:
    outcome, reason = _WRONG[name]
    found = {key[1]: why for key, why in failures(bad[0]).items() if key[0] == name}
    assert found, f"{name} is not in failures/"
    for why in found.values():
        assert why[0] == outcome
        assert reason in why[1]
        assert len(why[1]) > 20, "a reason is a sentence"


def test_sound_files_are_stored_beside_bad_ones(bad: tuple[Path, str]) -> None:
    found = by_path(bad[0])
    of_the_clip = [("frames_coded.dcm", k) for k in range(30)]  # all that are there
    others = [("all_zero.dcm", 0), ("mlut.dcm", 0), ("sound.dcm", 0)]
    assert sorted(found) == sorted([*of_the_clip, *others])
    assert all(found[key][0]["flags"] == ["frames-missing"] for key in of_the_clip)
    assert np.array_equal(found["sound.dcm", 0][1], _SOUND)
    assert (found["all_zero.dcm", 0][1] == 5).all()
    assert found["all_zero.dcm", 0][0]["flags"] == ["slope-zero"]


def test_counts_of_a_bad_folder(bad: tuple[Path, str]) -> None:
    counts = attributes(bad[0])["counts"]
    assert counts["files"] == len(_WRONG) + 3
    assert counts["files_stored"] == 4  # the clip too, of which one frame failed
    outcomes = [outcome for name, (outcome, _) in _WRONG.items() if name != "frames_coded.dcm"]
    assert counts["files_failed"] == outcomes.count("failed")
    assert counts["files_no_pixels"] == counts["files_not_dicom"] == 1
    assert "failed: cmyk.dcm: PhotometricInterpretation (0028,0004) 'CMYK'" in bad[1]


def test_cache_of_a_bad_folder_is_whole(bad: tuple[Path, str]) -> None:
    assert run_here("verify", bad[0], "--deep", "1").returncode == 0


@pytest.fixture(scope="module")
def series(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a small CT series of three slices."""
    folder = tmp_path_factory.mktemp("small")
    write_series(folder, 3, size=32)
    return folder


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("SRC", "CACHE", "--dtype", "int12"), "dtype = 'int12'; legal: auto, uint8"),
        (("SRC", "CACHE", "--intensity", "hu"), "intensity = 'hu'; legal: modality, stored"),
        (("SRC", "CACHE", "--exclude", "bad"), "exclude has 'bad'; legal: localizer, derived"),
        (("SRC", "CACHE", "--shard-mib", "0"), "shard_mib = 0; legal: a whole number from 1"),
        (("SRC", "CACHE", "--max-arrays", "0"), "max_arrays = 0; legal"),
        (("SRC", "CACHE", "--where", "modality = 'CT'"), "where: cannot read"),
        (("SRC", "CACHE", "--where", "modalty == 'CT'"), "no such column; the columns are acc"),
        (("SRC", "CACHE", "--where", "modality == 3"), "where: the types do not match"),
        (("SRC", "CACHE", "--where", "modality"), "where: gives string, not true or false"),
        (("SRC", "CACHE", "--where", "os.remove('x')"), "where: legal are comparisons"),
        (("SRC", "CACHE", "--backend", "spark"), "legal: loky, threading, dask"),
        (("SRC", "CACHE", "--on-error", "panic"), "legal: skip, raise"),
        (("SRC", "CACHE", "--jobs", "0"), "--jobs"),
        (("SRC", "CACHE", "--recipe", "missing.toml"), "cannot read the recipe"),
        (("SRC", "CACHE", "--patient-key", "missing.key"), "missing.key"),
        (("SRC", "CACHE", "--where", "modality == 'MR'"), "3 files, none with an image to store"),
        (("SRC",), "give at least one source and then the cache's folder"),
        (("nowhere", "CACHE"), "nowhere: no such file or folder"),
        (("SRC", "nowhere", "CACHE"), "nowhere: no such file or folder"),
        (("EMPTY", "CACHE"), "no files here"),
        (("SRC", "FILE"), "a file, not a folder"),
        (("SRC", "OTHER"), "exists and is not a cache"),
        (("SRC", "OTHER", "--overwrite"), "exists and is not a cache"),
        (("SRC", "ALIKE", "--overwrite"), "exists and is not a cache"),  # it has a build/plan.json
        (("SRC", "FILE/CACHE"), ""),  # a file where a folder should be
    ],
)
def test_what_cannot_run_says_so_and_touches_nothing(
    tmp_path: Path, series: Path, arguments: tuple[str, ...], said: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    (tmp_path / "EMPTY").mkdir()
    (tmp_path / "FILE").write_text("precious")
    (tmp_path / "OTHER" / "frames").mkdir(parents=True)
    (tmp_path / "OTHER" / "frames" / "thesis.txt").write_text("precious")
    (tmp_path / "ALIKE" / "build").mkdir(parents=True)
    (tmp_path / "ALIKE" / "build" / "plan.json").write_text('{"arrays": []}')
    before = sorted(path for path in tmp_path.rglob("*"))
    words = [series if a == "SRC" else a for a in arguments]
    monkeypatch.chdir(tmp_path)
    ran = run_here("build", *words)
    assert ran.returncode == 2, ran.stdout
    assert said in ran.stderr.replace("\n", " ")
    assert "Traceback" not in ran.stderr
    left = [path for path in tmp_path.rglob("*") if path.relative_to(tmp_path).parts[0] != "CACHE"]
    assert sorted(left) == before
    assert (tmp_path / "FILE").read_text() == "precious"
    assert not list(tmp_path.glob("CACHE/zarr.json"))


@pytest.mark.parametrize(
    ("toml", "said"),
    [
        ("intensty = 'modality'", "unknown intensty; legal: codec, colour, columns, dtype"),
        ("exclude = 'dose'", "exclude = 'dose' must be a list"),
        ("exclude = 3", "exclude = 3 must be a list"),
        ("exclude = [3, 'dose']", "exclude has 3; legal"),
        ("shard_mib = '1'", "shard_mib = '1'; legal: a whole number"),
        ("shard_mib = true", "shard_mib = True; legal: a whole number"),
        ("where = 3", "where = 3 is not an expression"),
        ("dtype = ['int16']", "dtype = ['int16']; legal"),
        ("dtype = ", "cannot read the recipe"),
        ("codec = 'zip'", "codec = 'zip'; legal: none"),
    ],
)
def test_recipe_file_that_makes_no_sense(
    tmp_path: Path, series: Path, toml: str, said: str
) -> None:
    recipe = tmp_path / "recipe.toml"
    recipe.write_text(toml)
    ran = run_here("build", series, tmp_path / "cache", "--recipe", recipe)
    assert ran.returncode == 2
    assert said in ran.stderr
    assert "recipe.toml" in ran.stderr
    assert "Traceback" not in ran.stderr


def test_another_recipe_wants_overwrite(tmp_path: Path, series: Path) -> None:
    cache = built(series, tmp_path / "cache", "--jobs", "1")
    before = tree(cache)
    ran = run_here("build", series, cache, "--intensity", "stored")
    assert ran.returncode == 2
    assert "give --overwrite to replace it" in ran.stderr
    assert tree(cache) == before
    recipe = tmp_path / "recipe.toml"
    recipe.write_text('intensity = "modality"\nexclude = ["dose"]\n')
    built(series, cache, "--recipe", recipe, "--intensity", "stored", "--overwrite")
    assert attributes(cache)["recipe"]["intensity"] == "stored"  # the flag wins
    assert attributes(cache)["recipe"]["exclude"] == ["dose"]
    row, pixels = by_path(cache)["slice000.dcm", 0]
    assert (row["unit"], row["slope"], row["intercept"]) == ("stored", 1.0, 0.0)
    assert np.array_equal(pixels, pattern("slice0", (32, 32)))


def test_where_and_exclude_are_counted(tmp_path: Path, series: Path) -> None:
    source = tmp_path / "source"
    shutil.copytree(series, source)
    write_dicom(source / "localizer.dcm", _SOUND, ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"])
    write_dicom(source / "derived.dcm", _SOUND, ImageType=["DERIVED", "SECONDARY"])
    write_dicom(source / "untyped.dcm", _SOUND)
    cache = built(
        source, tmp_path / "cache", "--where", "instance is None or instance != 2",
        "--exclude", "localizer", "--exclude", "derived",
    )  # fmt: skip
    assert failures(cache) == {
        ("slice001.dcm", None): ("excluded", "recipe: where instance is None or instance != 2"),
        ("localizer.dcm", None): ("excluded", "recipe: exclude localizer"),
        ("derived.dcm", None): ("excluded", "recipe: exclude derived"),
    }
    counts = attributes(cache)["counts"]
    assert (counts["files_excluded"], counts["files_stored"]) == (3, 3)
    assert sorted(row["path"] for row in table(cache, "frames")) == [
        "slice000.dcm", "slice002.dcm", "untyped.dcm",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("wrong", "named"),
    [
        ({"Rows": 17}, "bad.dcm: pixel data is truncated"),  # seen in the header
        ({"RescaleSlope": 0, "RescaleIntercept": 0}, "bad.dcm, frame 0: Rescale Slope"),  # decoding
    ],
)
def test_on_error_raise_stops_each_time(tmp_path: Path, wrong: dict[str, int], named: str) -> None:
    source, cache = tmp_path / "source", tmp_path / "cache"
    write_dicom(source / "good.dcm", _SOUND)
    write_dicom(source / "bad.dcm", _SOUND, **wrong)
    for _ in range(2):  # the second run finds receipts of the first, and must not pass over them
        ran = run_here("build", source, cache, "--on-error", "raise", "--jobs", "1")
        assert ran.returncode == 2
        assert named in ran.stderr
        assert not (cache / "zarr.json").exists()
    assert run_here("build", source, cache).returncode == 1  # skip: the default
    assert [row["path"] for row in table(cache, "frames")] == ["good.dcm"]


def test_type_too_small_is_a_named_failure(tmp_path: Path, series: Path) -> None:
    ran = run_here("build", series, tmp_path / "cache", "--dtype", "uint8")
    assert ran.returncode == 1
    assert attributes(tmp_path / "cache")["counts"]["frames_failed"] == 3
    reasons = [why for _, why in failures(tmp_path / "cache").values()]
    assert all("do not fit uint8 (0 to 255); use dtype auto" in why for why in reasons)
    assert table(tmp_path / "cache", "frames") == []
    assert run_here("verify", tmp_path / "cache").returncode == 0


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda path: path.unlink(), "the file has vanished since plan"),
        (lambda path: path.write_bytes(path.read_bytes() + b"\0"), "changed since plan"),
        (lambda path: os.utime(path, (1, 1)), "changed since plan"),
    ],
)
def test_file_changed_after_plan(tmp_path: Path, series: Path, change: Any, reason: str) -> None:
    source, cache = tmp_path / "source", tmp_path / "cache"
    shutil.copytree(series, source)
    assert run_here("plan", source, cache).returncode == 0
    change(source / "slice001.dcm")
    assert run_here("convert", cache, "--jobs", "1").returncode == 1
    assert run_here("commit", cache).returncode == 1
    ((key, (outcome, why)),) = failures(cache).items()
    assert (key, outcome) == (("slice001.dcm", 0), "failed")
    assert reason in why
    assert "build again with --overwrite" in why
    assert len(table(cache, "frames")) == 2


def test_names_that_are_not_utf8(tmp_path: Path) -> None:
    source = tmp_path / "source"
    write_dicom(source / "grün.dcm", _SOUND)
    data = (source / "grün.dcm").read_bytes()
    latin = os.fsencode(source) + b"/gr\xfcn.dcm"
    with open(latin, "wb") as file:
        file.write(data)
    cache = built(source, tmp_path / "cache", status=1)
    assert [row["path"] for row in table(cache, "frames")] == ["grün.dcm"]
    assert failures(cache) == {
        ("gr\\udcfcn.dcm", None): ("failed", "the file name is not UTF-8; rename it")
    }


def test_a_folder_of_nothing_but_a_name_that_is_not_utf8(tmp_path: Path) -> None:
    (tmp_path / "source").mkdir()
    with open(os.fsencode(tmp_path) + b"/source/gr\xfcn.dcm", "wb") as file:
        file.write(Path(examples.get_path("ct")).read_bytes())
    ran = run_here("build", tmp_path / "source", tmp_path / "cache")
    assert ran.returncode == 2
    assert "1 file, none with an image to store:" in ran.stderr
    assert "gr\\udcfcn.dcm: the file name is not UTF-8; rename it" in ran.stderr


def test_python_m_is_the_command() -> None:
    command = [sys.executable, "-m", "dicom2cache", "convert", "x", "--part", "2/2"]
    ran = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (ran.returncode, ran.stdout) == (2, "")
    assert ran.stderr == (
        "dicom2cache: part 2/2; legal: I/N with I from 0 to N-1, or slurm/N in a Slurm array\n"
    )


def test_folders_whose_names_are_not_utf8(tmp_path: Path) -> None:
    source = Path(os.fsdecode(os.fsencode(tmp_path) + b"/quell\xe4"))
    write_dicom(source / "a.dcm", _SOUND)
    cache = built(source, tmp_path / "cache", "--jobs", "1")
    assert [row["path"] for row in table(cache, "frames")] == ["a.dcm"]
    assert run_here("verify", cache, "--deep", "1").returncode == 0
    unreadable = Path(os.fsdecode(os.fsencode(tmp_path) + b"/cach\xe9"))  # Arrow wants UTF-8
    ran = run_here("build", source, unreadable)
    assert ran.returncode == 2
    assert "not UTF-8; give another path" in ran.stderr
    assert not unreadable.exists()


def test_no_permission(tmp_path: Path) -> None:
    source, cache = tmp_path / "source", tmp_path / "cache"
    write_dicom(source / "open.dcm", _SOUND)
    write_dicom(source / "closed.dcm", _SOUND)
    write_dicom(source / "locked" / "inside.dcm", _SOUND)
    (source / "closed.dcm").chmod(0)
    (source / "locked").chmod(0)
    try:
        ran = run_cli("build", source, cache, preexec_fn=without_override)
    finally:
        (source / "locked").chmod(0o700)
    assert ran.returncode == 1, ran.stderr
    assert {key[0]: why for key, (_, why) in failures(cache).items()} == {
        "closed.dcm": "no permission to read the file; make it readable for the converting user",
        "locked": "cannot list the folder: Permission denied",
    }
    assert [row["path"] for row in table(cache, "frames")] == ["open.dcm"]


def test_no_permission_to_write(tmp_path: Path, series: Path) -> None:
    (tmp_path / "closed").mkdir(mode=0o500)
    ran = run_cli("build", series, tmp_path / "closed" / "cache", preexec_fn=without_override)
    assert ran.returncode == 2
    assert "closed" in ran.stderr
    assert "Traceback" not in ran.stderr


def test_processes_that_die_reading_headers_end_the_run(tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    for k in range(1100):  # enough for worker processes
        (source / f"{k}.txt").touch()
    hooks = {
        "PYTHONPATH": str(Path(__file__).parents[1] / "support" / "hooks"),
        "FAULT": "abort-workers at-once",
    }
    ran = run_cli("build", source, tmp_path / "cache", "--jobs", "2", env=hooks)
    assert ran.returncode == 2
    assert "processes that read headers die" in ran.stderr.splitlines()[-1]


_SLOT = 512 * 512 * 2


def _flip(path: Path, place: int) -> None:
    with open(path, "rb+") as file:
        file.seek(place)
        byte = file.read(1)[0]
        file.seek(place)
        file.write(bytes([byte ^ 1]))


@pytest.mark.parametrize(
    ("name", "damage", "quick", "said"),
    [
        ("int16_512x512/c.3.0.0", lambda p: _flip(p, _SLOT + 99), False, "slot 1 is damaged"),
        ("int16_512x512/c.3.0.0", lambda p: _flip(p, 0), False, "slot 0 is damaged"),
        ("int16_512x512/c.3.0.0", lambda p: _flip(p, 2 * _SLOT + 3), True, "of its index does not"),
        ("int16_512x512/c.3.0.0", lambda p: _flip(p, 2 * _SLOT + 35), True, "of its index does"),
        ("int16_512x512/c.3.0.0", lambda p: os.truncate(p, 2 * _SLOT), True, "bytes, 1048612 exp"),
        ("int16_512x512/c.3.0.0", lambda p: p.unlink(), True, "No such file"),
        ("frames/0.parquet", lambda p: _flip(p, 50), True, "its SHA-256 is not the one"),
        ("failures/0.parquet", lambda p: p.write_bytes(b""), True, "its SHA-256 is not the one"),
        ("shards/0.parquet", lambda p: p.unlink(), True, "No such file"),
        ("int16_512x512/zarr.json", lambda p: _flip(p, 30), True, "its SHA-256 is not the one"),
        ("zarr.json", lambda p: p.write_text(p.read_text().replace('"files": 12', '"files": 13')),
         True, "its SHA-256 does not match"),
    ],
)  # fmt: skip
def test_verify_finds_damage(
    tmp_path: Path, ct_series_cache: Path, name: str, damage: Any, quick: bool, said: str
) -> None:
    cache = tmp_path / "cache"
    shutil.copytree(ct_series_cache, cache)
    damage(cache / name)
    ran = run_here("verify", cache, *(["--quick"] if quick else []))
    assert ran.returncode == 1
    assert str(cache / name) in ran.stderr
    assert said in ran.stderr
    assert ran.stdout == ""
    if not quick:
        assert run_here("verify", cache, "--quick").returncode == 0  # what --quick does not look at


def test_verify_deep_finds_what_checksums_cannot(tmp_path: Path, series: Path) -> None:
    source = tmp_path / "source"
    shutil.copytree(series, source)
    cache = built(source, tmp_path / "cache")
    assert run_here("verify", cache, "--deep", "1").returncode == 0
    _flip(source / "slice001.dcm", (source / "slice001.dcm").stat().st_size - 100)
    ran = run_here("verify", cache, "--deep", "1")
    assert ran.returncode == 1
    assert "slice001.dcm, frame 0: decoded again it differs" in ran.stderr
    assert run_here("verify", cache).returncode == 0  # the cache itself is whole
    assert run_here("verify", cache, "--deep", "0").returncode == 2


def test_verify_deep_of_stored_values(tmp_path: Path) -> None:
    # A modality LUT and a rescale, both left alone by the recipe: so must --deep.
    cache = built(
        real("mlut_18.dcm"), Path(examples.get_path("ct")), tmp_path / "cache",
        "--intensity", "stored",
    )  # fmt: skip
    assert run_here("verify", cache, "--deep", "1").returncode == 0
    _, pixels = by_path(cache)["CT_small.dcm", 0]
    assert pixels[0, :3].tolist() == [175, 180, 166]  # as in the file


@pytest.mark.parametrize("command", ["verify", "info", "convert", "commit"])
def test_commands_on_what_is_no_cache(tmp_path: Path, command: str) -> None:
    (tmp_path / "zarr").mkdir()
    (tmp_path / "zarr" / "zarr.json").write_text('{"zarr_format": 3, "node_type": "group"}')
    (tmp_path / "file").write_text("precious")
    (tmp_path / "junk").mkdir()
    (tmp_path / "junk" / "zarr.json").write_bytes(b"\xff\xfe")
    for name in ("zarr", "file", "junk", "missing"):
        ran = run_here(command, tmp_path / name)
        if command in ("verify", "info"):
            assert "cache" in ran.stderr
        assert "Traceback" not in ran.stderr, name
        assert ran.returncode == 2 or command == "convert", name


@pytest.mark.parametrize("part", ["3/3", "-1/3", "1", "0/0", "a/b", "1/3/5"])
def test_part_that_is_none(tmp_path: Path, series: Path, part: str) -> None:
    ran = run_here("convert", tmp_path, f"--part={part}")
    assert ran.returncode == 2
    assert "legal: I/N" in ran.stderr


def test_info_json(ct_series_cache: Path) -> None:
    import json

    ran = run_cli("info", ct_series_cache, "--json")
    assert ran.returncode == 0
    assert json.loads(ran.stdout) == attributes(ct_series_cache)
    ran = run_cli("info", ct_series_cache)
    assert "12 frames of 12 files" in ran.stdout
