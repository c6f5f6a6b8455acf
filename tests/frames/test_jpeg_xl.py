"""JPEG XL (PS3.5 8.2.15): precision, sign, loss, and what of a codestream is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import pytest

from dicom2cache.errors import FrameError
from dicom2cache.frames.coded import Coded
from dicom2cache.frames.decoders import decode
from dicom2cache.frames.jpeg_xl import JpegXl, parse
from tests.support.caches import built, by_path, failures, run_here
from tests.support.dicom_files import write_dicom

LOSSLESS, EITHER = "1.2.840.10008.1.2.4.110", "1.2.840.10008.1.2.4.112"
_Y, _X = np.mgrid[:120, :100]
WAVES = (2048 + 2047 * np.sin(_X / 9) * np.cos(_Y / 7)).astype(np.uint16)
COLOUR = np.stack([WAVES >> 4, WAVES >> 5, 255 - (WAVES >> 4)], axis=-1).astype(np.uint8)


def _packed(pixels: Any, **options: Any) -> bytes:
    said = {"lossless": True, "effort": 1, **options}
    return bytes(imagecodecs.jpegxl_encode(pixels, **said))


@pytest.mark.parametrize("boxed", [False, True])
@pytest.mark.parametrize(
    ("pixels", "options", "head"),
    [
        (WAVES, {"bitspersample": 12}, (12, False)),
        (WAVES, {"bitspersample": 16}, (16, False)),
        (COLOUR, {}, (8, False)),
        (COLOUR, {"lossless": None, "distance": 1.0}, (8, True)),
        (WAVES[:96, :96], {"bitspersample": 12}, (12, False)),  # a ratio of 1, in eighths
        (WAVES[:60], {"bitspersample": 12}, (12, False)),  # no ratio
    ],
)
def test_what_a_codestream_says(
    boxed: bool, pixels: Any, options: dict[str, Any], head: tuple[int, bool]
) -> None:
    rows, columns = pixels.shape[:2]
    found = parse(_packed(pixels, usecontainer=boxed, **options))
    assert found == JpegXl(rows, columns, head[0], False, head[1], False)


def test_hounsfield_units_of_two_complements(tmp_path: Path) -> None:
    """The codestream has no sign: the header's holds, as in JPEG-LS."""
    stored = WAVES.astype(np.int16) - 2048
    source = write_dicom(
        tmp_path / "a.dcm", stored, syntax=LOSSLESS, encoded=[_packed(stored.view(np.uint16))],
        Modality="CT", RescaleSlope=2, RescaleIntercept=-1024, RescaleType="HU",
    )  # fmt: skip
    row, found = by_path(built(source, tmp_path / "cache"))["a.dcm", 0]
    assert found.dtype == np.int16
    assert np.array_equal(found, 2 * stored - 1024)
    assert (row["unit"], row["lossy"], row["flags"]) == ("HU", False, None)
    assert row["codec"].startswith("imagecodecs ")


def test_colour_with_loss_is_rgb(tmp_path: Path) -> None:
    stream = _packed(COLOUR, lossless=None, distance=0.1)
    source = write_dicom(
        tmp_path / "a.dcm", COLOUR, syntax=EITHER, encoded=[stream],
        PhotometricInterpretation="XYB", LossyImageCompression="01",
    )  # fmt: skip
    row, found = by_path(built(source, tmp_path / "cache"))["a.dcm", 0]
    assert np.abs(found.astype(int) - COLOUR).mean() < 2
    assert (row["lossy"], row["flags"], row["photometric"]) == (True, None, "XYB")


def test_a_cut_codestream_is_refused_at_every_length() -> None:
    coded = Coded(120, 100, 1, 16, "MONOCHROME2")
    for boxed in (False, True):
        stream = _packed(WAVES, bitspersample=12, usecontainer=boxed)
        assert np.array_equal(decode(stream + b"\0", LOSSLESS, coded).pixels, WAVES)
        for length in range(0, len(stream), max(1, len(stream) // 40)):
            with pytest.raises(FrameError, match=r"cut|damaged|no signature"):
                decode(stream[:length], LOSSLESS, coded)


@pytest.mark.parametrize(
    ("stream", "said"),
    [
        (_packed(WAVES[:60], bitspersample=12), r"holds \(60, 100\), the header says \(120, 100\)"),
        (_packed((WAVES / 4096).astype(np.float32)), "holds floating point, legal: integers"),
        (_packed(np.dstack([COLOUR, COLOUR[..., :1]])), "channels besides grey or colour"),
    ],
)
def test_what_dicom_does_not_know_is_refused_by_name(
    tmp_path: Path, stream: bytes, said: str
) -> None:
    write_dicom(tmp_path / "in" / "a.dcm", WAVES, syntax=LOSSLESS, encoded=[stream])
    write_dicom(tmp_path / "in" / "b.dcm", WAVES)
    ran = run_here("build", tmp_path / "in", tmp_path / "cache")
    assert ran.returncode == 1
    outcome, reason = failures(tmp_path / "cache")["a.dcm", 0]
    assert outcome == "failed"
    with pytest.raises(AssertionError, match=said):
        raise AssertionError(reason)
