"""Draws the pictures of docs/masks.md: slices and what is drawn on them are written, converted, and
drawn with the masks that the cache has of them.

Run: python -m docs.draw_masks. Writes docs/masks-binary.png and its like.
"""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from dicom2cache import Recipe, build
from tests.support.dicom_files import CT_IMAGE, uid, write_dicom
from tests.support.segmentations import write_segmentation
from tests.support.structures import XOR, contour, write_structures
from trainer_adapter import Cache, open_cache

HERE = Path(__file__).parent
SIZE = 256
PICTURES = ("binary", "fractional", "labelmap", "rtstruct")
COLOURS = np.array([[0, 0, 0], [230, 85, 60], [60, 150, 235], [90, 190, 90]], float)
Mask = NDArray[np.bool_]


def ellipse(x: float, y: float, a: float, b: float) -> Mask:
    """(SIZE, SIZE) bool: an ellipse around (x, y) with half axes a and b."""
    row, column = np.mgrid[:SIZE, :SIZE]
    found: Mask = ((column - x) / a) ** 2 + ((row - y) / b) ** 2 < 1
    return found


BODY = ellipse(128, 128, 112, 86)
LIVER = ellipse(86, 116, 54, 46) & BODY
TUMOUR = ellipse(74, 104, 15, 13)
SPLEEN = ellipse(196, 120, 24, 30)
SPINE = ellipse(128, 178, 17, 15)
KIDNEY = ellipse(160, 140, 18, 20) & ~ellipse(160, 140, 10, 12)


def slice_of(folder: Path, name: str) -> Path:
    """A CT slice of a body, of a series of its own."""
    hu = np.full((SIZE, SIZE), -1000.0)
    for where, value in ((BODY, 0), (LIVER, 70), (SPLEEN, 90), (TUMOUR, 25), (SPINE, 400)):
        hu[where] = value
    hu[KIDNEY] = 50
    return write_dicom(
        folder / f"{name}.dcm", (hu + 1024).astype(np.uint16), SOPClassUID=CT_IMAGE,
        Modality="CT", ImageType=["ORIGINAL", "PRIMARY", "AXIAL"], PatientID=name,
        StudyInstanceUID=uid(name), SeriesInstanceUID=uid(f"{name} ct"),
        FrameOfReferenceUID=uid("frame of reference"), RescaleIntercept=-1024, RescaleSlope=1,
        PixelSpacing=[1, 1], ImageOrientationPatient=[1, 0, 0, 0, 1, 0],
        ImagePositionPatient=[0, 0, 0], SliceThickness=2,
    )  # fmt: skip


def write(folder: Path) -> None:
    """A slice and its masks for each picture."""
    each = {name: [slice_of(folder, name)] for name in PICTURES}
    masks = np.stack([LIVER, TUMOUR])[:, None]
    write_segmentation(folder / "binary-seg.dcm", each["binary"], masks, ["liver", "tumour"])
    row, column = np.mgrid[:SIZE, :SIZE]
    likely = np.exp(-(((column - 74) / 20) ** 2 + ((row - 104) / 17) ** 2))
    likely = np.where(likely > 0.02, likely * 255, 0).astype(np.uint8)
    write_segmentation(
        folder / "fractional-seg.dcm", each["fractional"], likely[None, None], ["tumour"],
        kind="FRACTIONAL",
    )  # fmt: skip
    labels = np.select([TUMOUR, LIVER, SPLEEN, SPINE], [0, 1, 2, 3]).astype(np.uint8)
    write_segmentation(
        folder / "labelmap-seg.dcm", each["labelmap"], labels[None],
        ["liver", "spleen", "spine"], kind="LABELMAP",
    )  # fmt: skip
    kidney = [contour(ring(160, 140, a, b), XOR) for a, b in ((18, 20), (10, 12))]
    island, hole, inner = ((86, 116, a, b) for a, b in ((50, 42), (30, 24), (12, 10)))
    nested = [contour(ring(*one)) for one in (island, hole, inner)]
    two = [contour(ring(190, 110, 20, 14)), contour(ring(204, 126, 18, 16))]
    write_structures(
        folder / "rtstruct-rs.dcm",
        [("kidney", kidney), ("nested", nested), ("overlap", two)],
        PatientID="rtstruct", StudyInstanceUID=uid("rtstruct"),
    )  # fmt: skip


def ring(x: float, y: float, a: float, b: float) -> NDArray[np.float64]:
    """Points of an ellipse in the slice's plane, (60, 3), mm."""
    angle = np.linspace(0, 2 * np.pi, 60, endpoint=False)
    return np.stack([x + a * np.cos(angle), y + b * np.sin(angle), 0 * angle], axis=1)


def overlay(cache: Cache, name: str) -> NDArray[np.uint8]:
    """(SIZE, SIZE, 3): the slice in grey, its masks in colours, their edges full."""
    image = cache.select(path=f"{name}.dcm")
    grey = np.clip((np.asarray(image[0], float) + 160) / 400, 0, 1) * 255
    picture = np.repeat(grey[..., None], 3, axis=2)
    labels = image.labelmap([0])[0]
    numbers = {number: k for k, number in enumerate(np.unique(labels[labels > 0]).tolist(), 1)}
    share = {number: np.full(labels.shape, 0.4) for number in numbers}
    if name == "fractional":
        mask = cache.select(path=f"{name}-seg.dcm")[0]
        picture = mixed(picture, COLOURS[1], np.asarray(mask, float) / 255)
        share = dict.fromkeys(numbers, np.zeros(labels.shape))
    for number, k in numbers.items():
        inside = labels == number
        picture = mixed(picture, COLOURS[k], np.where(inside, share[number], 0))
        picture[edge(inside)] = COLOURS[k]
    return picture.astype(np.uint8)


def mixed(picture: NDArray[Any], colour: NDArray[Any], share: NDArray[Any]) -> NDArray[Any]:
    return np.asarray(picture * (1 - share[..., None]) + colour * share[..., None])


def edge(mask: Mask) -> Mask:
    """Pixels of a mask beside one that is none of it."""
    padded = np.pad(mask, 1)
    inner = padded[:-2, 1:-1] & padded[2:, 1:-1] & padded[1:-1, :-2] & padded[1:-1, 2:]
    return np.asarray(mask & ~inner)


def drawn(folder: Path) -> dict[str, NDArray[np.uint8]]:
    """{name of a picture: its pixels}, by way of a cache in `folder`."""
    write(folder / "in")
    key = folder / "key"
    key.touch(0o600)
    key.write_bytes(bytes(16))  # not the user's own, which would be made here
    build(folder / "in", folder / "cache", Recipe(masks="planes"), jobs=1, patient_key=key)
    cache = open_cache(folder / "cache")
    return {name: overlay(cache, name) for name in PICTURES}


if __name__ == "__main__":
    with TemporaryDirectory() as temporary:
        for name, pixels in drawn(Path(temporary)).items():
            Image.fromarray(pixels).save(HERE / f"masks-{name}.png", optimize=True)
