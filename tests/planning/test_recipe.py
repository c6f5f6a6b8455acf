"""Recipes: rules, percentiles, SUV, the ones that come by name; values by hand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dicom2cache import Recipe
from dicom2cache.errors import RecipeError
from tests.support.caches import attributes, built, by_path, failures, run_here, table
from tests.support.dicom_files import CT_IMAGE, pattern, uid, write_dicom, write_series


def write(folder: Path, name: str, pixels: Any, **elements: Any) -> None:
    write_dicom(folder / name, pixels, SeriesInstanceUID=uid(name), **elements)


CT = {"SOPClassUID": CT_IMAGE, "Modality": "CT", "ImageType": ["ORIGINAL", "PRIMARY", "AXIAL"],
      "RescaleSlope": 1, "RescaleIntercept": -1024}  # fmt: skip
RULES = """
dtype = "uint8"
[[rules]]
where = 'unit == "HU"'
window = ["lung", "40,400"]
[[rules]]
where = 'modality in ["CR", "DX"] and voi'
window = ["dicom"]
[[rules]]
where = 'modality == "MR"'
percentiles = [0, 100]
dtype = "float32"
"""


def test_rules_the_first_that_holds_decides(tmp_path: Path) -> None:
    folder = tmp_path / "in"
    write(folder, "ct.dcm", np.array([[24, 1064], [1264, 4000]], np.uint16), **CT)
    write(folder, "mr.dcm", np.array([[100, 150], [200, 300]], np.uint16), Modality="MR")
    write(folder, "cr.dcm", np.array([[0, 150], [200, 1000]], np.uint16), Modality="CR",
          WindowCenter=150.5, WindowWidth=101)  # fmt: skip
    write(folder, "ot.dcm", np.array([[1, 2], [3, 255]], np.uint8))
    (tmp_path / "r.toml").write_text(RULES)
    found = by_path(built(folder, tmp_path / "cache", "--recipe", str(tmp_path / "r.toml")))

    row, ct = found["ct.dcm", 0]
    # -1000, 40, 240, 2976 HU in lung (-600, 1500) and soft (40, 400)
    assert ct[..., 0].tolist() == [[60, 236], [255, 255]]
    assert ct[..., 1].tolist() == [[0, 128], [255, 255]]
    assert (row["rule"], row["unit"], row["window_low"], row["slope"]) == (1, "window", None, None)

    row, mr = found["mr.dcm", 0]
    assert (mr.tolist(), mr.dtype) == ([[0.0, 0.25], [0.5, 1.0]], np.float32)
    assert (row["rule"], row["window_low"], row["window_high"]) == (3, 100, 300)

    row, cr = found["cr.dcm", 0]
    assert cr.tolist() == [[0, 128], [255, 255]]  # LINEAR 150.5, 101: from 100 to 200
    assert (row["rule"], row["window_low"], row["window_high"]) == (2, 100, 200)

    row, ot = found["ot.dcm", 0]
    assert (ot.tolist(), row["rule"], row["unit"]) == ([[1, 2], [3, 255]], 0, "US")


def test_percentiles_are_those_of_the_stack_without_padding(tmp_path: Path) -> None:
    folder = tmp_path / "in"
    frames = [np.arange(100, dtype=np.uint16).reshape(10, 10) + 100 * k for k in range(10)]
    for k, pixels in enumerate(frames):
        write_dicom(
            folder / f"{k}.dcm", np.where(pixels < 10, 5000, pixels).astype(np.uint16),
            Modality="MR", PixelPaddingValue=5000, ImagePositionPatient=[0, 0, k],
            ImageOrientationPatient=[1, 0, 0, 0, 1, 0],
        )  # fmt: skip
    cache = built(folder, tmp_path / "cache", "--percentiles", "10,90")
    low, high = np.percentile(np.arange(10, 1000), [10, 90])
    for (path, _), (row, pixels) in by_path(cache).items():
        expected = np.clip((frames[int(path[0])] - low) / (high - low), 0, 1)
        expected[frames[int(path[0])] < 10] = 0
        assert np.array_equal(pixels, np.floor(expected * 255 + 0.5)), path
        assert (row["window_low"], row["window_high"]) == (low, high)
        assert pixels.dtype == np.uint8
    ran = run_here("verify", cache, "--deep", "1")
    assert (ran.returncode, ran.stderr) == (0, "")
    assert not (cache / "build").exists()


def test_percentiles_do_not_depend_on_shards_or_processes(tmp_path: Path) -> None:
    folder = tmp_path / "in"
    write_series(folder, 6, size=700)
    args = ("--percentiles", "0.5,99.5", "--shard-mib", "1")
    one = by_path(built(folder, tmp_path / "one", *args, "--jobs", "1"))
    two = by_path(built(folder, tmp_path / "two", *args, "--jobs", "2"))
    assert {k: r["crc32c"] for k, (r, _) in one.items()} == {
        k: r["crc32c"] for k, (r, _) in two.items()
    }
    assert len({r["window_high"] for r, _ in one.values()}) == 1


def test_a_stack_of_nothing_but_padding_is_a_failure(tmp_path: Path) -> None:
    folder = tmp_path / "in"
    write(folder, "a.dcm", np.full((4, 4), 7, np.uint16), PixelPaddingValue=7)
    write(folder, "b.dcm", pattern("b", (4, 4)))
    cache = built(folder, tmp_path / "cache", "--percentiles", "1,99", status=1)
    assert "all are padding" in failures(cache)["a.dcm", 0][1]


def test_constant_images_have_percentiles_too(tmp_path: Path) -> None:
    write(tmp_path / "in", "a.dcm", np.full((4, 4), 7, np.uint16))
    _, pixels = by_path(built(tmp_path / "in", tmp_path / "c", "--percentiles", "1,99"))["a.dcm", 0]
    assert not pixels.any()


def test_colour_takes_part_in_the_range(tmp_path: Path) -> None:
    folder = tmp_path / "in"
    write(folder, "eight.dcm", np.full((2, 2, 3), 200, np.uint8))
    write(folder, "twelve.dcm", np.full((2, 2, 3), 4095, np.uint16), BitsStored=12, HighBit=11)
    found = by_path(built(folder, tmp_path / "cache", "--percentiles", "1,99"))
    assert (found["eight.dcm", 0][1] == 200).all()
    assert (found["twelve.dcm", 0][1] == 255).all()  # by bit depth, not by container
    floats = by_path(built(folder, tmp_path / "f", "--percentiles", "1,99", "--dtype", "float32"))
    assert (floats["eight.dcm", 0][1] == np.float32(200 / 255)).all()


@pytest.mark.parametrize("name", ["lightlytrain", "mixed"])
def test_recipes_by_name(tmp_path: Path, name: str) -> None:
    folder = tmp_path / "in"
    write(folder, "ct.dcm", pattern("ct", (32, 32)), **CT)
    write(folder, "mr.dcm", pattern("mr", (32, 32)), Modality="MR")
    write(folder, "us.dcm", pattern("us", (32, 32), "uint8", 256), Modality="US")
    write(folder, "rgb.dcm", pattern("rgb", (32, 32, 3), "uint8", 256), Modality="ES")
    cache = built(folder, tmp_path / "cache", "--recipe", name)
    found = by_path(cache)
    assert {pixels.dtype for _, pixels in found.values()} == {np.dtype(np.uint8)}
    channels = {"lightlytrain": 3, "mixed": 1}[name]
    assert found["ct.dcm", 0][1].shape[2:] == ((channels,) if channels > 1 else ())
    assert [found[f"{k}.dcm", 0][0]["rule"] for k in ("ct", "mr", "us")] == [1, 0, 3]
    if name == "lightlytrain":
        us = pattern("us", (32, 32), "uint8", 256)
        assert np.array_equal(found["us.dcm", 0][1], us)  # a picture already
    assert Recipe.from_dict(attributes(cache)["recipe"]) == Recipe.from_toml(name)


@pytest.mark.parametrize("name", ["lightlytrain", "mixed"])
def test_only_pictures_of_a_screen_are_kept_as_they_are(tmp_path: Path, name: str) -> None:
    """8 bits that are rescaled, that are counts, or fewer bits go by percentiles of their stack."""
    folder = tmp_path / "in"
    eight = (np.arange(1024, dtype=np.uint8) % 100).reshape(32, 32)
    others = {
        "small.dcm": {"RescaleSlope": 1 / 256, "RescaleIntercept": 0},
        "large.dcm": {"RescaleSlope": 12.5, "RescaleIntercept": 0},
        "moved.dcm": {"RescaleSlope": 1, "RescaleIntercept": 50},
        "mr.dcm": {"Modality": "MR"},
        "nm.dcm": {"Modality": "NM"},
        "signed.dcm": {"PixelRepresentation": 1},
    }
    write(folder, "us.dcm", eight, Modality="US")
    write(folder, "same.dcm", eight, Modality="US", RescaleSlope=1, RescaleIntercept=0)
    for file, said in others.items():
        write(folder, file, eight, **{"Modality": "US", **said})
    write(folder, "four.dcm", eight % 16, Modality="US", BitsStored=4, HighBit=3)
    bits = np.packbits(eight.ravel() % 2, bitorder="little").tobytes()
    write(
        folder, "one.dcm", eight, Modality="OT", BitsAllocated=1, BitsStored=1, HighBit=0,
        PixelData=bits,
    )  # fmt: skip
    flags = ("--size", "32") if name == "mixed" else ()
    found = by_path(built(folder, tmp_path / "cache", "--recipe", name, *flags))
    for file in ("us.dcm", "same.dcm"):
        assert np.array_equal(found[file, 0][1], eight)
    for file in (*others, "four.dcm", "one.dcm"):
        pixels = found[file, 0][1]
        assert (pixels.min(), pixels.max()) == (0, 255), file
        # brighter or darker, but no two values became one, save at the ends
        assert len(np.unique(pixels)) >= {"four.dcm": 16, "one.dcm": 2}.get(file, 98)


def test_a_series_that_two_rules_share_is_two_stacks(tmp_path: Path) -> None:
    write_series(tmp_path / "in", 4, size=16)
    (tmp_path / "r.toml").write_text('[[rules]]\nwhere = "instance <= 2"\nwindow = ["soft"]\n')
    cache = built(tmp_path / "in", tmp_path / "cache", "--recipe", str(tmp_path / "r.toml"))
    rows = table(cache, "frames")
    assert sorted((r["instance"], r["stack"], r["unit"]) for r in rows) == [
        (1, 1, "window"), (2, 1, "window"), (3, 0, "HU"), (4, 0, "HU")
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("recipe", "said"),
    [
        ({"size": 0}, "size = 0; legal"),
        ({"size": [1, 2, 3]}, "size = \\[1, 2, 3\\]"),
        ({"size": "big"}, "size = 'big'"),
        ({"size": 70000}, "from 1 to 65535"),
        ({"fit": "squash"}, "legal: pad, crop, stretch"),
        ({"spacing": 0}, "spacing = 0; legal: mm"),
        ({"spacing": 1.0, "fit": "stretch"}, "contradict"),
        ({"pad": "black"}, "pad = 'black'"),
        ({"pad": float("inf")}, "pad = inf; legal: a number"),  # JSON has none, nor the next
        ({"pad": 10**400}, "pad = 1000"),
        *(
            ({"window": [pair]}, "legal: CENTER,WIDTH")
            for pair in ("12..5,255", "1.2.3,4", "4,1e999", "1e999,4", ".,4", "4,.", "4,0")
        ),
        ({"percentiles": [99, 1]}, "percentiles = \\[99, 1\\]"),
        ({"percentiles": 5}, "two numbers from 0 to 100"),
        ({"rules": [{"window": ["soft"]}]}, "a rule is a table with `where`"),
        ({"rules": [{"where": "modality == 'CT'", "shard_mib": 5}]}, "unknown shard_mib"),
        ({"rules": [{"where": "modality = 'CT'"}]}, "cannot read"),
        ({"rules": [{"where": "modality == 'CT'", "window": ["odd"]}]}, "in the rule for"),
        ({"rules": {"where": "a"}}, "must be a list"),
    ],
)
def test_what_is_no_recipe_is_refused_by_name(recipe: dict[str, Any], said: str) -> None:
    with pytest.raises(RecipeError, match=said):
        Recipe.from_dict(recipe)


def test_an_unknown_name_says_which_there_are(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=r"or one of lightlytrain, mixed"):
        Recipe.from_toml("lightly")


def test_flags_override_a_file(tmp_path: Path) -> None:
    (tmp_path / "r.toml").write_text("percentiles = [1, 99]\nsize = 64\n")
    assert Recipe.from_toml(tmp_path / "r.toml").intensity == "percentiles"
    own = Recipe.from_toml(tmp_path / "r.toml", window=["soft"])
    assert (own.intensity, own.window, own.size) == ("window", ("soft",), (64, 64))
    (tmp_path / "w.toml").write_text('window = ["soft"]\n')
    assert Recipe.from_toml(tmp_path / "w.toml", intensity="stored").window == ()
