"""Series to stacks, held against dcm2niix: the same volumes, their slices in the same order.

`python -m tests.oracles.volumes` writes series as scanners do and compares; also usable on a folder
of one's own series. Exit status 1 if a volume differs.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nibabel
import numpy as np

from dicom2cache import Recipe, build
from tests.support.dicom_files import CT_IMAGE, pattern, real, uid, write_dicom
from trainer_adapter import open_cache

MR_IMAGE, ENHANCED_MR = "1.2.840.10008.5.1.4.1.1.4", "1.2.840.10008.5.1.4.1.1.4.1"
AXIAL = [1, 0, 0, 0, 1, 0]
TILT = [1, 0, 0, 0, float(np.cos(np.radians(12))), float(-np.sin(np.radians(12)))]


def slices(folder: Path, count: int, step: Any = (0, 0, 3.0), **elements: Any) -> Iterator[Any]:
    """Write the frames of one volume; (name, elements) may be changed before each is written."""
    series = elements.pop("series", folder.name)
    tag = elements.pop("tag", "")
    for k in range(count):
        name = f"{tag}{k:03}.dcm"
        said: dict[str, Any] = {
            "SeriesInstanceUID": uid(series), "SOPInstanceUID": uid(f"{series}{name}"),
            "SeriesNumber": 3, "StudyDate": "20240101", "StudyTime": "101010", "Modality": "MR",
            "SOPClassUID": MR_IMAGE, "ImageType": ["ORIGINAL", "PRIMARY", "M", "ND"],
            "Manufacturer": "GE MEDICAL SYSTEMS", "PatientPosition": "HFS", "SliceThickness": 3,
            "SpacingBetweenSlices": 3, "FrameOfReferenceUID": uid("frame"),
            "ImagePositionPatient": [round(s * k - 30, 4) for s in step],
            "ImageOrientationPatient": AXIAL, "PixelSpacing": [1, 1], "InstanceNumber": k + 1,
            "ProtocolName": "p", "SeriesDescription": "d", "BitsStored": 12, "HighBit": 11,
            "RepetitionTime": 2000, "EchoTime": 30, "AcquisitionNumber": 1,
        }  # fmt: skip
        said.update(elements)
        pixels = said.pop("pixels", pattern(f"{series}{name}", (24, 20)))
        if callable(pixels):
            pixels = pixels(k)
        yield name, said, pixels


def write(folder: Path, count: int, change: Any = None, **elements: Any) -> None:
    """A volume; `change(k, said)` sets what differs between its slices."""
    for k, (name, said, pixels) in enumerate(slices(folder, count, **elements)):
        if change:
            change(k, said)
        write_dicom(folder / name, pixels, **said)


def ct(folder: Path) -> None:
    """Instance numbers against the positions; a name order that is neither."""

    def change(k: int, said: dict[str, Any]) -> None:
        said["InstanceNumber"] = 100 - 7 * k % 11

    write(folder, 11, change, Modality="CT", SOPClassUID=CT_IMAGE, RescaleSlope=1,
          RescaleIntercept=-1024, ImageType=["ORIGINAL", "PRIMARY", "AXIAL"])  # fmt: skip


def sagittal(folder: Path) -> None:
    """Another plane."""
    write(folder, 7, step=(3.0, 0, 0), ImageOrientationPatient=[0, 1, 0, 0, 0, -1])


def tilted(folder: Path) -> None:
    """CT with a gantry tilt: positions go straight up, the normal does not."""
    write(folder, 8, Modality="CT", SOPClassUID=CT_IMAGE, RescaleSlope=1, RescaleIntercept=-1024,
          ImageType=["ORIGINAL", "PRIMARY", "AXIAL"], ImageOrientationPatient=TILT,
          GantryDetectorTilt=12)  # fmt: skip


def slopes(folder: Path) -> None:
    """Another rescale slope in each slice, as PET has."""

    def change(k: int, said: dict[str, Any]) -> None:
        said["RescaleSlope"], said["RescaleIntercept"] = f"{0.5 + k / 4}", "0"

    write(folder, 6, change, Modality="PT", SOPClassUID="1.2.840.10008.5.1.4.1.1.128",
          Units="BQML", Manufacturer="SIEMENS")  # fmt: skip


def dual_echo(folder: Path) -> None:
    """Two echoes of each slice in one series."""
    for number, time in ((1, 10), (2, 80)):
        write(folder, 6, EchoTime=time, EchoNumbers=number, tag=f"e{number}")


def fmri(folder: Path) -> None:
    """A time series: the positions repeat in every volume."""
    for t in range(4):

        def change(k: int, said: dict[str, Any], t: int = t) -> None:
            said["InstanceNumber"] = t * 5 + k + 1
            said["TemporalPositionIdentifier"] = t + 1
            said["NumberOfTemporalPositions"] = 4
            said["AcquisitionTime"] = f"1010{t * 2:02}"

        write(folder, 5, change, tag=f"t{t}")


def diffusion(folder: Path) -> None:
    """One b = 0 and two directions of b = 1000."""
    directions = [(0, [0, 0, 0]), (1000, [1, 0, 0]), (1000, [0, 1, 0])]
    for n, (b, direction) in enumerate(directions):

        def change(
            k: int, said: dict[str, Any], n: int = n, b: int = b, direction: Any = direction
        ) -> None:
            said["InstanceNumber"] = n * 5 + k + 1
            said["DiffusionBValue"] = float(b)
            said["DiffusionGradientOrientation"] = [float(v) for v in direction]

        write(folder, 5, change, tag=f"d{n}", Manufacturer="Philips Medical Systems")


SERIES = {f.__name__: f for f in (ct, sagittal, tilted, slopes, dual_echo, fmri, diffusion)}


def by_dcm2niix(folder: Path, out: Path) -> list[Any]:
    """Volumes as (slice, row, column) in DICOM's order of rows."""
    out.mkdir()
    program = Path(sys.executable).parent / "dcm2niix"
    flags = ["-z", "n", "-b", "n", "-m", "n", "-f", "%s_%e_%p", "-o"]
    done = subprocess.run(
        [program, *flags, out, folder], capture_output=True, text=True, check=False,
    )  # fmt: skip
    found = []
    for path in sorted(out.glob("*.nii")):
        if "_Tilt" in path.name or "_Eq" in path.name:  # resampled by it
            continue
        data = np.asarray(nibabel.load(path).dataobj, np.float64)
        volumes = data[..., None] if data.ndim == 3 else data
        if data.ndim < 3 or data.shape[2] < 2:
            continue
        found += [volumes[..., t].transpose(2, 1, 0)[:, ::-1] for t in range(volumes.shape[3])]
    if done.returncode:
        raise SystemExit(f"dcm2niix made nothing of {folder}: {done.stdout}{done.stderr}")
    return found


def by_us(folder: Path, cache: Path) -> list[Any]:
    """Volumes of the stacks of more than one frame."""
    build(folder, cache, Recipe(monochrome1="keep"), jobs=1)
    opened = open_cache(cache)
    stacks = opened.column("stack").to_numpy()
    found = []
    for stack in np.unique(stacks):
        if (stacks == stack).sum() > 1:
            found.append(np.asarray(opened.volume(int(stack), gaps=True), np.float64))
    return found


def compare(folder: Path) -> tuple[int, list[str]]:
    """(volumes that are equal, what is wrong)."""
    with tempfile.TemporaryDirectory() as temporary:
        theirs = by_dcm2niix(folder, Path(temporary, "nii"))
        ours = by_us(folder, Path(temporary, "cache"))
    wrong, equal = [], 0
    for volume in theirs:
        # dcm2niix goes up or down along the normal, as its coordinates want; we go up.
        match = [
            k for k, mine in enumerate(ours)
            if mine.shape == volume.shape
            # Without positions it leaves the rows as they are.
            and any(_same(m, v) for m in (mine, mine[::-1]) for v in (volume, volume[:, ::-1]))
        ]  # fmt: skip
        if match:
            ours.pop(match[0])
            equal += 1
        else:
            wrong.append(f"dcm2niix has a volume of {volume.shape} that we have not")
    wrong += [f"we have a volume of {mine.shape} that dcm2niix has not" for mine in ours]
    return equal, wrong


def _same(mine: Any, theirs: Any) -> bool:
    return bool(np.allclose(mine, theirs, rtol=1e-6, atol=1e-4))


def main() -> int:
    """Compare, print a line for each series."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", nargs="*", type=Path, help="a folder for each series")
    given = parser.parse_args()
    warnings.simplefilter("ignore")
    bad = 0
    with tempfile.TemporaryDirectory() as temporary:
        folders = given.folder
        if not folders:
            folders = [Path(temporary, name) for name in SERIES]
            for folder in folders:
                SERIES[folder.name](folder)
            folders.append(Path(temporary, "emri_small"))
            folders[-1].mkdir()
            shutil.copy(real("emri_small.dcm"), folders[-1])
        for folder in folders:
            equal, wrong = compare(folder)
            bad += len(wrong)
            print(f"{folder.name}: {equal} volumes as dcm2niix has them", *wrong, sep="; ")
    return int(bad > 0)


if __name__ == "__main__":
    sys.exit(main())
