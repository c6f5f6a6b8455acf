"""Bombs that are no plain images: waveforms, structure sets and segmentations."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from pydicom import dcmread
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset

from dicom2cache.syntaxes import IMPLICIT_LE
from tests.support.dicom_files import pattern, uid, write_dicom
from tests.support.segmentations import item, write_frames, write_segmentation
from tests.support.structures import contour, write_structures
from tests.support.waveforms import write_waveform

_CONTOUR_DATA = 0x30060050


def _images(folder: Path, count: int = 4, size: int = 64) -> list[Path]:
    """A series that structures and segments lie on."""
    return [
        write_dicom(
            folder / f"image{k}.dcm", pattern(f"{folder.name} {k}", (size, size)), InstanceNumber=k,
            SeriesInstanceUID=uid(f"images of {folder.name}"),
            SOPInstanceUID=uid(f"image {k} of {folder.name}"), PatientID=folder.name,
            FrameOfReferenceUID=uid("frame of reference"), ImagePositionPatient=[0, 0, k],
            ImageOrientationPatient=[1, 0, 0, 0, 1, 0], PixelSpacing=[1, 1], SliceThickness=1,
        )
        for k in range(count)
    ]  # fmt: skip


def _group(channels: int, samples: int, data: bytes, **elements: Any) -> Dataset:
    """A multiplex group of bytes, whose channels are not described."""
    ds = Dataset()
    ds.WaveformOriginality = "ORIGINAL"
    ds.NumberOfWaveformChannels, ds.NumberOfWaveformSamples = channels, samples
    ds.SamplingFrequency, ds.WaveformBitsAllocated = "500", 8
    ds.WaveformSampleInterpretation = "UB"
    ds.add_new("WaveformData", "OB", data + bytes(len(data) % 2))
    for keyword, value in elements.items():
        setattr(ds, keyword, value)
    return ds


def channels_times_groups(folder: Path) -> None:
    """60 and 200 groups of 65535 channels with one sample each."""
    one = _group(65535, 1, bytes(65535))
    for count in (60, 200):
        path = folder / f"{count}.dcm"
        write_waveform(path, [one] * count, SeriesInstanceUID=uid(f"channels {count}"))


def groups_without_number(folder: Path) -> None:
    """20,000 groups of one sample."""
    path = write_waveform(folder / "a.dcm", [_group(1, 1, b"\1")])
    data = path.read_bytes()
    at = data.index(b"\xfe\xff\x00\xe0")
    one = data[at:]
    length = len(one) * 20_000
    path.write_bytes(data[: at - 4] + length.to_bytes(4, "little") + one * 20_000)


def samples_that_are_not_there(folder: Path) -> None:
    for k, (channels, samples) in enumerate(((20000, 2**31 - 1), (1, 2**32 - 1), (0, 0))):
        group = _group(channels, samples, bytes(64))
        write_waveform(folder / f"{k}.dcm", [group], SeriesInstanceUID=uid(f"samples {k}"))
    deflated = "1.2.840.10008.1.2.1.99"
    group = _group(1, 1 << 28, bytes(1 << 28))
    write_waveform(folder / "d.dcm", [group], syntax=deflated, SeriesInstanceUID=uid("samples d"))


def _zigzag(count: int) -> bytes:
    """Contour Data of so many points: each edge crosses all rows."""
    return b"\\".join(b"%d\\%d\\1" % (k % 64, 63 * (k & 1)) for k in range(count))


def points_without_number(folder: Path) -> None:
    """A contour of a million points that crosses itself everywhere; and 100,000 in one place."""
    _images(folder)
    for name, data in (("a", _zigzag(1_000_000)), ("b", b"\\".join([b"1\\1\\1"] * 100_000))):
        shape = contour(np.zeros((0, 3)), NumberOfContourPoints=None)
        shape.add(DataElement(_CONTOUR_DATA, "UN", data + b" " * (len(data) % 2)))
        write_structures(
            folder / f"{name}.dcm", [("A", [shape])], syntax=IMPLICIT_LE, PatientID=folder.name,
            SeriesInstanceUID=uid(f"points {name}"),
        )  # fmt: skip


def structures_without_number(folder: Path) -> None:
    """3,000 structures, each of a triangle that stands for a slab of a kilometre; 100 slices."""
    _images(folder, 100, 32)
    triangle = [[1, 1, 1], [20, 1, 1], [1, 20, 1]]
    slab = [contour(triangle, ContourSlabThickness="1000000")]
    write_structures(
        folder / "a.dcm", [(f"S{k}", slab) for k in range(3000)], PatientID=folder.name
    )  # fmt: skip


def spaces_without_number(folder: Path) -> None:
    """5,000 structures, each in a frame of reference of its own."""
    _images(folder)
    path = write_structures(
        folder / "a.dcm", [(f"S{k}", [contour([[1, 1, 1], [9, 1, 1], [1, 9, 1]])])
                           for k in range(5000)], PatientID=folder.name,
    )  # fmt: skip
    ds = dcmread(path)
    for k, roi in enumerate(ds.StructureSetROISequence):
        roi.ReferencedFrameOfReferenceUID = f"1.2.3.{k}"
    ds.save_as(path)


def shapes_without_number(folder: Path) -> None:
    """3,000 contours of one structure on one plane, that overlap."""
    _images(folder)
    shapes = [contour([[k % 50, 1, 1], [k % 50 + 9, 1, 1], [k % 50, 60, 1]]) for k in range(3000)]
    write_structures(folder / "a.dcm", [("A", shapes)], PatientID=folder.name)


def segments_without_number(folder: Path) -> None:
    """A label map of 5,000 segments, all of them claimed to be there."""
    images = _images(folder)
    masks = np.ones((4, 64, 64), np.uint16)
    labels = [f"S{k}" for k in range(5000)]
    write_segmentation(
        folder / "a.dcm", images, masks, labels, kind="LABELMAP", PatientID=folder.name
    )  # fmt: skip


def planes_times_slices(folder: Path) -> None:
    """3,000 segments of a plane each, that says that it stands for a metre; 100 slices."""
    images = _images(folder, 100, 32)
    shared = item(
        PixelMeasuresSequence=[item(PixelSpacing=[8, 8], SpacingBetweenSlices="1000")],
        PlaneOrientationSequence=[item(ImageOrientationPatient=[1, 0, 0, 0, 1, 0])],
    )
    groups = [
        item(
            PlanePositionSequence=[item(ImagePositionPatient=[0, 0, 50])],
            SegmentIdentificationSequence=[item(ReferencedSegmentNumber=k + 1)],
        )
        for k in range(3000)
    ]
    first = dcmread(images[0])
    write_frames(
        folder / "a.dcm", np.ones((3000, 8, 8), np.uint8), groups, shared,
        {k + 1: f"S{k}" for k in range(3000)}, "BINARY", PatientID=folder.name,
        FrameOfReferenceUID=first.FrameOfReferenceUID, StudyInstanceUID=first.StudyInstanceUID,
        SeriesInstanceUID=uid("planes times slices"),
    )  # fmt: skip
