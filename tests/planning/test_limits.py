"""What files ask for is weighed before anything is allocated; what is too much is a failure."""

from __future__ import annotations

import shutil
import zlib
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRLittleEndian,
    JPEG2000Lossless,
    RLELossless,
)

from dicom2cache import Recipe
from dicom2cache.errors import RecipeError
from dicom2cache.planning.arrays import fit_slots
from dicom2cache.planning.select import select_files
from dicom2cache.recipes.limits import Limits
from tests.support.caches import attributes, by_path, failures, run_cli, run_here
from tests.support.dicom_files import uid, write_dicom
from tests.support.plans import files, header

_J2K = str(JPEG2000Lossless)
_J2K_DATA: dict[str, Any] = {"transfer_syntax": _J2K}
_MIB = 1 << 20
_WINDOW = {"center": 1.0, "width": 2.0, "function": "LINEAR", "explanation": None}
_DEFLATED: dict[str, Any] = {"transfer_syntax": str(DeflatedExplicitVRLittleEndian)}


@pytest.mark.parametrize(
    ("said", "limit", "words"),
    [
        (  # 65535 x 65535 in 6.6 KB
            {"height": 65535, "width": 65535, "samples": 3, "size": 6600, "transfer_syntax": _J2K},
            "frame_pixels=268435456", "is 4294836225 pixels a frame",
        ),
        ({"height": 16385, "width": 16384}, "frame_pixels=268435456", "is 268451840 pixels"),
        ({"frames": 1_000_001, "size": 1 << 40}, "frames=1000000", "(0028,0008) is 1000001"),
        (  # 1,000 frames of 4096 x 4096 in 82 KB
            {"height": 4096, "width": 4096, "frames": 1000, "size": 82_000} | _J2K_DATA,
            "expansion=2000", "claims 409200 bytes of pixels for each byte",
        ),
        (  # 4.1 MB that inflate to 8.5 GB
            {**_DEFLATED, "pixel_length": 8_500_000_000, "size": 4_100_000},
            "inflate=200", "would inflate to 2073",
        ),
        (
            {**_DEFLATED, "pixel_length": 4097 * _MIB, "size": 1 << 30},
            "inflate_mib=4096", "would inflate to 4097 MiB",
        ),
        ({"pixel_offset": 257 * _MIB}, "header_mib=256", "257 MiB lie before the pixel data"),
        (  # 60 KB of windows, borne by each frame
            {"frames": 1000, "size": 1 << 40, "windows": [_WINDOW] * 4001},
            "frames=1000000", "each frame would bear all 4001 windows or segments of the file",
        ),
    ],
)  # fmt: skip
def test_what_is_above_a_limit_is_refused_by_its_name(
    said: dict[str, Any], limit: str, words: str
) -> None:
    table = files([header("large", **said), header("sound")])
    kept, rejects = select_files(table, Recipe())
    assert kept["path"].to_pylist() == ["sound"]
    ((reason, stage),) = zip(*(rejects[c].to_pylist() for c in ("reason", "stage")), strict=True)
    assert stage == "plan"
    assert words in reason
    name, most = limit.split("=")
    assert f"limits.{name} is {most}: if the file is right, give --limits {name}=NUMBER" in reason
    raised = Recipe(limits=[f"{limit}={1 << 48}" for limit in asdict(Limits())])
    assert "large" in select_files(table, raised)[0]["path"].to_pylist()


@pytest.mark.parametrize(
    ("said", "words"),
    [
        (  # 90,000 in 0.9 MB
            {"frames": 90_000, "height": 8, "width": 8, "size": 900_000 + 1000, **_J2K_DATA},
            "900000 bytes of pixel data cannot hold 90000 frames, of which each takes 32",
        ),
        (
            {"frames": 10, "size": 1700, "transfer_syntax": str(RLELossless)},
            "700 bytes of pixel data cannot hold 10 frames, of which each takes 74",
        ),
        (
            {"height": 100, "width": 129, "size": 1100, "transfer_syntax": str(RLELossless)},
            "100 bytes of RLE cannot hold the 12900 that the header says",
        ),
    ],
)  # fmt: skip
def test_what_the_bytes_cannot_hold_is_refused(said: dict[str, Any], words: str) -> None:
    what = {"pixel_offset": 1000, "samples": 1, "bits_allocated": 8, **said}
    kept, rejects = select_files(files([header("large", **what), header("sound")]), Recipe())
    assert kept["path"].to_pylist() == ["sound"]
    assert words in rejects["reason"][0].as_py()


@pytest.mark.parametrize(
    "said",
    [
        {"height": 16384, "width": 16384},  # 2^28
        {"frames": 1_000_000, "size": 1 << 40},
        # a black frame of 32 MiB in 300 bytes
        {"height": 4096, "width": 4096, "size": 300, "transfer_syntax": _J2K},
        {**_DEFLATED, "pixel_length": 200 * _MIB, "size": 10_000},
        {**_DEFLATED, "pixel_length": 4000 * _MIB, "size": 21 * _MIB},
        {"pixel_offset": 255 * _MIB},
    ],
)
def test_what_is_below_is_not(said: dict[str, Any]) -> None:
    kept, _ = select_files(files([header("large", **said)]), Recipe())
    assert kept.num_rows == 1


@pytest.mark.parametrize(
    ("recipe", "said", "words"),
    [
        # one file of a spacing that no image has
        ({"spacing": 1.0}, {"spacing_y": 100000.0, "spacing_x": 1.0}, "make 400000 x 4 pixels"),
        ({"spacing": 1.0}, {"spacing_y": 1e300, "spacing_x": 1e300}, "make 1000000000 x"),
        (
            {"spacing": 1.0},
            {
                "per_frame": [{"spacing_y": 1e5, "spacing_x": 1.0}],
                "spacing_y": 1.0,
                "spacing_x": 1.0,
            },
            "make 400000 x 4 pixels",
        ),
        # a line of pixels that fills a square of 512 is 65535 times as long on the way
        ({"size": 512, "fit": "crop"}, {"height": 1, "width": 65535}, "make 512 x 33553920 pixels"),
    ],
)
def test_a_file_that_a_recipe_makes_too_large_costs_itself_only(
    recipe: dict[str, Any], said: dict[str, Any], words: str
) -> None:
    sound = header("sound", spacing_y=1.0, spacing_x=1.0)
    kept, rejects = select_files(files([header("large", **said), sound]), Recipe(**recipe))
    assert kept["path"].to_pylist() == ["sound"]
    assert words in rejects["reason"][0].as_py()


def test_limits_in_a_recipe_file_and_flags(tmp_path: Path) -> None:
    path = tmp_path / "recipe.toml"
    path.write_text("[limits]\nframes = 7\nheader_mib = 9\n")
    assert Recipe.from_toml(path).limits == Limits(frames=7, header_mib=9)
    given = Recipe.from_toml(path, limits=["frames=8"])
    assert given.limits == Limits(frames=8, header_mib=9)
    assert Recipe.from_dict(given.to_dict()) == given
    assert Recipe().to_dict()["limits"]["frame_pixels"] == 1 << 28


@pytest.mark.parametrize(
    ("limits", "said"),
    [
        ({"frame": 1}, "unknown frame in limits; legal: frame_pixels, frames, "),
        ({"frames": 0}, "limits.frames = 0; legal: a whole number from 1"),
        (["frames=many"], "limits.frames = 'many'; legal"),
        (["frames"], "limits.frames = ''; legal"),
        (7, "limits = 7 must be a table"),
    ],
)
def test_limits_that_make_no_sense(limits: Any, said: str) -> None:
    with pytest.raises(RecipeError, match="recipe: ") as raised:
        Recipe(limits=limits)
    assert said in str(raised.value)


def test_bombs_cost_themselves_only(tmp_path: Path) -> None:
    source, sound = tmp_path / "source", np.arange(64, dtype=np.uint16).reshape(8, 8)
    write_dicom(source / "sound.dcm", sound)
    stream = b"\xff\x4f\xff\x51" + bytes(100) + b"\xff\xd9"
    write_dicom(
        source / "wide.dcm", sound, syntax=_J2K, encoded=[stream], Rows=65535, Columns=65535
    )
    write_dicom(
        source / "long.dcm", sound, syntax=str(RLELossless), encoded=[stream] * 1000, Rows=4096,
        Columns=4096, NumberOfFrames=1000,
    )  # fmt: skip
    write_dicom(source / "nm.dcm", sound, SOPClassUID="1.2.840.10008.5.1.4.1.1.20",
                NumberOfFrames=2_000_000_000, SeriesInstanceUID=uid("nm"))  # fmt: skip
    ran = run_cli("build", source, tmp_path / "cache", "--jobs", "1")
    assert ran.returncode == 1, ran.stderr
    assert {path for path, _ in by_path(tmp_path / "cache")} == {"sound.dcm"}
    reasons = {path: why for (path, _), (_, why) in failures(tmp_path / "cache").items()}
    assert set(reasons) == {"wide.dcm", "long.dcm", "nm.dcm"}
    assert "limits.frame_pixels" in reasons["wide.dcm"]
    assert "limits.expansion" in reasons["long.dcm"]
    assert "is 2000000000, but the file has" in reasons["nm.dcm"]
    assert attributes(tmp_path / "cache")["recipe"]["limits"]["expansion"] == 2000


def test_a_header_that_inflates_for_ever(tmp_path: Path) -> None:
    """Two MiB of a private element, deflated to 2 KB, where one is the most."""
    path = write_dicom(tmp_path / "in" / "a.dcm", np.zeros((4, 4), np.uint16))
    data = path.read_bytes()
    start = 144 + int.from_bytes(data[140:144], "little")
    syntax = str(DeflatedExplicitVRLittleEndian)
    write_dicom(path, np.zeros((4, 4), np.uint16), syntax=syntax)
    meta = path.read_bytes()[: 144 + int.from_bytes(path.read_bytes()[140:144], "little")]
    plain = data[start:]
    at = plain.index(b"\x10\0\x20\0")
    private = b"\x09\0\x10\x10UN\0\0" + (2 * _MIB).to_bytes(4, "little") + bytes(2 * _MIB)
    pack = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    body = pack.compress(plain[:at] + private + plain[at:]) + pack.flush()
    path.write_bytes(meta + body)
    cache = tmp_path / "cache"
    assert run_here("build", path, cache, "--jobs", "1").returncode == 0
    ran = run_here("build", path, tmp_path / "other", "--jobs", "1", "--limits", "header_mib=1")
    assert ran.returncode == 2
    assert (
        "inflate to more than 1 MiB; if the file is right, give --limits header_mib=" in ran.stderr
    )


def _with_groups(path: Path, items: int, syntax: str) -> Path:
    """One frame, and so many items of functional groups with a position in each."""
    ds = Dataset()
    ds.PlanePositionSequence = [Dataset()]
    ds.PlanePositionSequence[0].ImagePositionPatient = [1, 2, 3]
    groups = [ds] * items
    return write_dicom(
        path, np.zeros((4, 4), np.uint16), syntax=syntax, PerFrameFunctionalGroupsSequence=groups
    )


@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, DeflatedExplicitVRLittleEndian])
def test_a_header_of_many_items(tmp_path: Path, syntax: str) -> None:
    """200 items with one in each, by the scan and by pydicom."""
    path = _with_groups(tmp_path / "in" / "a.dcm", 200, syntax)
    build = ("build", path, "--jobs", "1", "--limits")
    assert run_here(*build, "header_items=400", tmp_path / "cache").returncode == 0
    ran = run_here(*build, "header_items=399", tmp_path / "other")
    assert ran.returncode == 2
    assert "a.dcm: its header has more than limits.header_items=399 items" in ran.stderr
    assert "give --limits header_items=NUMBER" in ran.stderr


def test_a_deflated_header_of_many_empty_items(tmp_path: Path) -> None:
    """Amid one of these pydicom takes whatever is raised for the end of the file."""
    many = DataElement("ReferencedImageSequence", "SQ", [Dataset() for _ in range(3000)])
    many.is_undefined_length = True
    path = write_dicom(
        tmp_path / "a.dcm", np.zeros((4, 4), np.uint16), syntax=DeflatedExplicitVRLittleEndian,
        ReferencedImageSequence=many,
    )  # fmt: skip
    build = ("build", path, "--jobs", "1", "--limits")
    assert run_here(*build, "header_items=3000", tmp_path / "cache").returncode == 0
    ran = run_here(*build, "header_items=2999", tmp_path / "other")
    assert ran.returncode == 2
    assert "a.dcm: its header has more than limits.header_items=2999 items" in ran.stderr


def test_sequences_in_each_other(tmp_path: Path) -> None:
    path = write_dicom(tmp_path / "in" / "a.dcm", np.zeros((4, 4), np.uint16))
    data, undefined = path.read_bytes(), b"\xff\xff\xff\xff"
    at = data.index(b"\x10\0\x20\0")
    deep = b"\x08\0\x40\x11SQ\0\0" + undefined + b"\xfe\xff\x00\xe0" + undefined
    path.write_bytes(data[:at] + deep * 2000 + data[at:])
    ran = run_here("build", path, tmp_path / "cache", "--jobs", "1")
    assert ran.returncode == 2
    assert "it has sequences in each other, hundreds deep; the file is damaged" in ran.stderr


def test_a_cache_that_the_disk_has_no_room_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, cache = tmp_path / "source", tmp_path / "cache"
    write_dicom(source / "a.dcm", np.zeros((64, 64), np.uint16))
    usage = shutil.disk_usage(tmp_path)._replace(free=8191)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
    ran = run_here("build", source, cache, "--jobs", "1")
    assert ran.returncode == 2
    assert "frames of 8192 bytes would be written, and 8191 are free there" in ran.stderr
    assert not cache.exists()
    assert run_here("build", source, cache, "--jobs", "1", "--codec", "zstd").returncode == 0
    assert run_here("build", source, cache, "--jobs", "1", "--overwrite").returncode == 0
    # what is there makes room for what replaces it
    again = ("build", source, cache, "--jobs", "1", "--overwrite")
    assert run_here(*again).returncode == 0
    assert run_here("build", source, tmp_path / "other", "--jobs", "1", "--force").returncode == 0


def test_sizes_that_few_frames_have_make_no_slots_of_many_others_large() -> None:
    """Two arrays for three sizes: by multiples of 8192 all would share one."""
    small, large, largest = (100, 100), (1000, 1000), (5000, 5000)
    sizes = [("uint8", small, 1000), ("uint8", large, 1), ("uint8", largest, 1)]
    assert fit_slots(sizes, 2, 1 << 30) == {
        ("uint8", small): small, ("uint8", large): largest, ("uint8", largest): largest,
    }  # fmt: skip
    with pytest.raises(ValueError, match="max_arrays 1 is too few"):
        fit_slots([*sizes, ("int16", small, 1)], 1, 1 << 30)
