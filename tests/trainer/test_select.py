"""Selections by text, names that are nearly right, sources, and what a notebook shows."""

from __future__ import annotations

import base64
import io
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from trainer_adapter import Cache, CacheLoader, FrameDataset, open_cache


@pytest.fixture(scope="module")
def cache(examples_cache: Path) -> Cache:
    return open_cache(examples_cache)


@pytest.mark.parametrize(
    ("text", "holds"),
    [
        ("modality == 'CT'", lambda r: r["modality"] == "CT"),
        ("kind != 'dose' and height <= 128", lambda r: r["kind"] != "dose" and r["height"] <= 128),
        ("thickness is None or not thickness < 4",
         lambda r: r["thickness"] is None or not r["thickness"] < 4),
        ("modality not in ['CT', 'US'] and lossy",
         lambda r: r["modality"] not in ("CT", "US") and r["lossy"]),
        ("0 < frame <= 3", lambda r: 0 < r["frame"] <= 3),
        ("stack == 99", lambda r: False),
    ],
)  # fmt: skip
def test_a_text_selects_as_plain_python_does(cache: Cache, text: str, holds: object) -> None:
    rows = cache.frames.to_pylist()
    expected = [k for k, row in enumerate(rows) if holds(row)]  # type: ignore[operator]
    assert cache.select(text).indices.tolist() == expected
    odd = cache.select(np.arange(1, len(cache), 2))
    assert odd.select(text, kind="image").indices.tolist() == [
        k for k in expected if k % 2 and rows[k]["kind"] == "image"
    ]


def test_only_the_columns_of_a_text_are_read(examples_cache: Path) -> None:
    fresh = open_cache(examples_cache)
    fresh.select("modality == 'CT' or height > 5")
    assert set(fresh.core.columns) == {"modality", "height"}


@pytest.mark.parametrize(
    ("text", "error", "said"),
    [
        ("modalty == 'CT'", KeyError, r"no such column: .*modalty.*; did you mean modality"),
        ("Modality == 'CT'", KeyError, "did you mean modality"),
        ("PatientID == 'x'", KeyError, r"did you mean patient\?"),
        ("modality == ", ValueError, "where: cannot read"),
        ("flags == 'x'", ValueError, "where: cannot compare so"),
        ("thickness == 'x'", ValueError, "where: cannot compare so"),
        ("height", ValueError, "where: cannot compare so"),
    ],
)
def test_a_text_that_is_not_legal(cache: Cache, text: str, error: type, said: str) -> None:
    with pytest.raises(error, match=said):
        cache.select(text)


def test_names_that_are_nearly_right(cache: Cache) -> None:
    with pytest.raises(KeyError, match=r"no column modalty; did you mean modality.*it has array"):
        cache.select(modalty="CT")
    with pytest.raises(KeyError, match=r"no column bodypart; did you mean body_part"):
        FrameDataset(cache, "bodypart")
    with pytest.raises(KeyError, match="did you mean height"):
        CacheLoader(cache, columns=["heigth"])


def test_home(examples_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(examples_cache.parent))
    assert len(open_cache("~/cache")) == 51


def test_frames_of_a_selection_are_taken_once(cache: Cache) -> None:
    part = cache.select(kind="dose")
    assert part.frames is part.frames
    assert part.frames["kind"].to_pylist() == ["dose"] * 15


def test_the_source_of_a_frame(cache: Cache) -> None:
    dose = cache.select(kind="dose")
    path, frame = dose.source(4)
    assert (path.is_file(), path.name, frame) == (True, "rtdose.dcm", 4)
    assert dose.source(-1) == dose.source(14)
    with pytest.raises(IndexError, match="frame 15 of 15"):
        dose.source(15)


def test_reprs(cache: Cache, examples_cache: Path) -> None:
    dose = cache.select(kind="dose")
    assert repr(dose) == f"<Cache {examples_cache}: 15 frames: 15 of float32 10 x 10>"
    assert "51 frames: 31 of uint8 240 x 320 x 3, 15 of float32 10 x 10, 1 of " in repr(cache)
    assert "more shapes" in repr(cache)
    assert repr(cache.select([])) == f"<Cache {examples_cache}: 0 frames>"
    data = FrameDataset(cache, "modality")
    assert repr(data).startswith(f"<FrameDataset of <Cache {examples_cache}: 36 frames: ")
    assert "1 of CT" in repr(data)
    loader = CacheLoader(dose, 4, kind="dose")
    assert repr(loader).startswith("<CacheLoader: 4 batches of 4 of <Cache ")


def test_a_notebook_shows_a_table_and_pictures(cache: Cache) -> None:
    for shown in (cache, FrameDataset(cache, "modality"), CacheLoader(cache, label="modality")):
        page = shown._repr_html_()
        pictures = re.findall(r'src="data:image/png;base64,([^"]+)"', page)
        assert len(pictures) == 8
        for data in pictures:
            image = Image.open(io.BytesIO(base64.b64decode(data)))
            image.load()
            assert max(image.size) <= 96
            assert image.mode in ("L", "RGB")
        assert "<th>modality</th>" in page
        assert len(page) < 300_000
    assert "<th>class</th>" in page
    assert cache.select([])._repr_html_().count("<img") == 0
    one = cache.select(modality="CT")
    frame = one[0].astype(float)
    low, high = np.percentile(frame[::2, ::2], [1, 99])
    (data,) = re.findall(r"base64,([^\"]+)\"", one._repr_html_())
    seen = np.asarray(Image.open(io.BytesIO(base64.b64decode(data))))
    expected = np.rint(np.clip((frame[::2, ::2] - low) / (high - low), 0, 1) * 255)
    np.testing.assert_array_equal(seen, expected)


def test_names_in_a_page_are_no_tags(cache: Cache, examples_cache: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(examples_cache, tmp_path / "<b>")
    page = open_cache(copy)._repr_html_()
    assert "&lt;b&gt;" in page
    assert "<b>" not in page


def test_a_damaged_shard_is_said_and_the_rest_shown(examples_cache: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(examples_cache, tmp_path / "cache")
    dose = open_cache(copy).select(kind="dose")
    (shard,) = copy.glob("float32_10x10/c.*")
    shard.write_bytes(shard.read_bytes()[:-9])
    assert "dicom2cache" in dose._repr_html_()
    assert "<th>modality</th>" in dose._repr_html_()
