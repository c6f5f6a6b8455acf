"""Draws the pictures of docs/stacks.md: two series are written, converted, and drawn as the columns
of their caches say.

Run: python -m docs.draw_stacks. Writes docs/stacks-tilted.svg and docs/stacks-4d.svg.
"""

from __future__ import annotations

from collections.abc import Iterator
from math import cos, radians, sin
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian

from dicom2cache import build
from trainer_adapter import open_cache

HERE = Path(__file__).parent
COLOURS = ("#1b6ca8", "#c8553d", "#588157")
PIXELS, MM = 64, 3.0  # of a slice: on a side, and mm between them
ROOT = "1.2.826.0.1.3680043.8.498.1"


def write(path: Path, number: int, position: list[float], **elements: Any) -> None:
    """A CT slice of 64 x 64 pixels."""
    ds = Dataset()
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    ds.SOPClassUID = ds.file_meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.2"
    ds.SOPInstanceUID = ds.file_meta.MediaStorageSOPInstanceUID = f"{ROOT}.{number + 1}"
    ds.PatientID, ds.StudyInstanceUID, ds.SeriesInstanceUID = "drawn", f"{ROOT}.0.1", f"{ROOT}.0.2"
    ds.Modality, ds.InstanceNumber = "CT", number + 1
    ds.Rows = ds.Columns = PIXELS
    ds.SamplesPerPixel, ds.PhotometricInterpretation = 1, "MONOCHROME2"
    ds.BitsAllocated, ds.BitsStored, ds.HighBit, ds.PixelRepresentation = 16, 12, 11, 0
    ds.PixelSpacing, ds.ImagePositionPatient = [MM, MM], [round(v, 6) for v in position]
    ds.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
    for keyword, value in elements.items():
        setattr(ds, keyword, value)
    ds.PixelData = np.full((PIXELS, PIXELS), number, np.uint16).tobytes()
    path.parent.mkdir(exist_ok=True)
    ds.save_as(path, enforce_file_format=True)


def frames_of(folder: Path) -> list[dict[str, Any]]:
    """Rows of frames/ of the cache of what lies in `folder`/in."""
    key = folder / "key"
    key.touch(0o600)
    key.write_bytes(bytes(16))  # not the user's own, which would be made here
    build(folder / "in", folder / "cache", jobs=1, patient_key=key)
    return list(open_cache(folder / "cache").frames.to_pylist())


def svg(width: int, height: int, *parts: str) -> str:
    """A drawing."""
    return "\n".join([
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" '
        f'width="{width}" height="{height}" font-family="sans-serif" font-size="13">',
        f'<rect width="{width}" height="{height}" fill="white"/>', *parts, "</svg>", "",
    ])  # fmt: skip


def line(ax: float, ay: float, bx: float, by: float, colour: str, more: str = "") -> str:
    return (
        f'<line x1="{ax:.1f}" y1="{ay:.1f}" x2="{bx:.1f}" y2="{by:.1f}" stroke="{colour}" {more}/>'
    )


def words(x: float, y: float, text: str, more: str = "") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" {more}>{text}</text>'


def tilted(folder: Path) -> str:
    """Seen from the side: slices one above the other, each turned by the gantry's 20 degrees."""
    c, s = cos(radians(20)), sin(radians(20))
    for k in range(8):
        turned = [1, 0, 0, 0, round(c, 6), round(-s, 6)]
        write(folder / "in" / f"{k}.dcm", k, [0, 0, 12.0 * k], ImageOrientationPatient=turned)
    rows = frames_of(folder)

    def place(row: dict[str, Any], along: float = 0.0) -> tuple[float, float]:
        """Where the point `along` mm down the columns is drawn."""
        y, z = (row["position"][k] + along * row["orientation"][3 + k] for k in (1, 2))
        return 60 + 1.6 * y, 190 - 1.6 * z

    parts = [line(*place(row), *place(row, PIXELS * MM), COLOURS[0], 'stroke-width="3"')
             for row in rows]  # fmt: skip
    first, last = place(rows[0]), place(rows[-1])
    parts.append(line(*first, *last, COLOURS[1], 'stroke-width="2" stroke-dasharray="5 4"'))
    length = first[1] - last[1]
    normal = first[0] + length * s, first[1] - length * c
    parts.append(line(*first, *normal, "#666", 'stroke-width="2" stroke-dasharray="2 3"'))
    parts += [f'<circle cx="{x:.1f}" cy="{y:.1f}" r="4" fill="{COLOURS[1]}"/>'
              for x, y in map(place, rows)]  # fmt: skip
    row = rows[0]
    said = [
        f"{len(rows)} slices, seen from the side (blue)",
        "red: the line of first pixels",
        "grey: the normal of the slices",
        f"stack_regular {str(row['stack_regular']).lower()}",
        f"stack_flags [{', '.join(row['stack_flags'])}]",
        f"tilt {row['tilt']:.1f} degrees",
        "volume(0) refuses it, volume(0, sheared=True) does not",
    ]
    parts += [words(400, 40 + 24 * k, text) for k, text in enumerate(said)]
    return svg(760, 330, *parts)


def over_time(folder: Path) -> str:
    """Places by instance number: three times, the last cut short, one line for each part."""
    number = 0
    for t, slices in enumerate((6, 6, 4)):
        for k in range(slices):
            path = folder / "in" / f"{number:02}.dcm"
            write(path, number, [0, 0, 5.0 * k], FrameReferenceTime=30000 * t)
            number += 1
    rows = frames_of(folder)
    return svg(760, 260, *_axes(number), *_parts(rows))


def _at(row: dict[str, Any]) -> tuple[float, float]:
    return 50 + 20 * row["instance"], 200 - 6 * row["position"][2]


def _axes(count: int) -> Iterator[str]:
    yield line(50, 215, 50 + 20 * (count + 1), 215, "#666")
    yield line(50, 215, 50, 35, "#666")
    yield words(50, 240, "instance number", 'fill="#666"')
    yield words(12, 28, "mm along the normal", 'fill="#666"')


def _parts(rows: list[dict[str, Any]]) -> Iterator[str]:
    for part in sorted({row["part"] for row in rows}):
        mine, colour = [row for row in rows if row["part"] == part], COLOURS[part]
        points = " ".join(f"{x:.1f},{y:.1f}" for x, y in map(_at, mine))
        yield f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="2"/>'
        for row in mine:
            x, y = _at(row)
            yield f'<circle cx="{x:.1f}" cy="{y:.1f}" r="5" fill="{colour}"/>'
        row = mine[0]
        said = (
            f"stack {row['stack']}, stack_of {row['stack_of']}, part {row['part']}: "
            f"{len(mine)} slices, time {row['time'] / 1000:g} s,"
        )
        regular = f"stack_regular {str(row['stack_regular']).lower()}"
        for k, text in enumerate((said, regular)):
            yield words(400, 60 + 54 * part + 20 * k, text, f'fill="{colour}"')


PICTURES = {"stacks-tilted.svg": tilted, "stacks-4d.svg": over_time}


def main() -> None:
    """Draw all, beside this file."""
    for name, draw in PICTURES.items():
        with TemporaryDirectory() as folder:
            (HERE / name).write_text(draw(Path(folder)))
        print(HERE / name)


if __name__ == "__main__":
    main()
