"""Canaries in what is no plain image: structures, segments, recordings, and archives of files."""

from __future__ import annotations

import gzip
import io
import tarfile
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from pydicom.dataset import Dataset

from tests.support.dicom_files import CT_IMAGE, pattern, write_dicom
from tests.support.segmentations import item, write_segmentation
from tests.support.structures import box, contour, write_structures
from tests.support.waveforms import channel, group, write_waveform

if TYPE_CHECKING:
    from tests.privacy.canaries import Canaries


def objects(found: Canaries, folder: Path) -> None:
    """Files of these kinds, and of these some in archives, below `folder`."""
    for kind in (_structures, _segments, _recording):
        kind(found, folder / found.word("folder name"))
    _archives(found, folder / found.word("folder name"))


def _all_texts(found: Canaries, ds: Dataset, what: str) -> Dataset:
    """A text in each element of a dataset that is one and has none that is needed."""
    for keyword in ("StructureSetLabel", "StructureSetName", "StructureSetDescription",
                    "SeriesDescription", "ContentLabel", "ContentDescription"):  # fmt: skip
        setattr(ds, keyword, found.word(f"{keyword} of {what}"))
    ds.ContentCreatorName = found.word(f"ContentCreatorName of {what}")
    ds.ApprovalStatus, ds.ReviewerName = "APPROVED", found.word(f"ReviewerName of {what}")
    ds.ReviewDate, ds.ReviewTime = found.number("review", "DA"), found.number("review", "TM")
    return ds


def _said(found: Canaries, what: str) -> dict[str, Any]:
    ds = _all_texts(found, Dataset(), what)
    return {e.keyword: e for e in ds} | {
        "PatientID": found.word("PatientID"), "PatientName": found.word("PatientName"),
    }  # fmt: skip


def _images(found: Canaries, folder: Path) -> list[Path]:
    space, series = found.uid("FrameOfReferenceUID"), found.uid("SeriesInstanceUID")
    owner = found.word("PatientID")
    return [
        write_dicom(
            folder / f"{found.word('file name')}.dcm", pattern(f"{folder.name}{k}", (8, 8)),
            SOPClassUID=CT_IMAGE, Modality="CT", PatientID=owner, FrameOfReferenceUID=space,
            SeriesInstanceUID=series, SOPInstanceUID=found.uid("SOPInstanceUID"),
            ImagePositionPatient=[0, 0, k], ImageOrientationPatient=[1, 0, 0, 0, 1, 0],
            PixelSpacing=[1, 1],
        )
        for k in range(2)
    ]  # fmt: skip


def _structures(found: Canaries, folder: Path) -> None:
    from pydicom import dcmread

    images = _images(found, folder)
    first = dcmread(images[0])
    path = folder / f"{found.word('file name')}.dcm"
    shapes = [contour(box(1, 1, 5, 5, z)) for z in (0, 1, 40)]
    names = [found.word("ROI name") for _ in range(2)]
    said = _said(found, "structures") | {"PatientID": first.PatientID}
    write_structures(path, [(name, shapes) for name in names], **said)
    ds = dcmread(path)
    for roi in ds.StructureSetROISequence:
        roi.ROIDescription = found.word("ROIDescription")
        roi.ReferencedFrameOfReferenceUID = first.FrameOfReferenceUID
        roi.ROIGenerationDescription = found.word("ROIGenerationDescription")
    for one in ds.RTROIObservationsSequence:
        one.ROIInterpreter = found.word("ROIInterpreter")
        one.ROIObservationLabel = found.word("ROIObservationLabel")
        one.RTROIInterpretedType = found.word("ROI type")
    ds.ReferencedFrameOfReferenceSequence[0].FrameOfReferenceUID = first.FrameOfReferenceUID
    ds.save_as(path)


def _segments(found: Canaries, folder: Path) -> None:
    from pydicom import dcmread

    images = _images(found, folder)
    first = dcmread(images[0])
    labels = [found.word("segment label") for _ in range(2)]
    masks = np.ones((2, 2, 8, 8), np.uint8)
    path = folder / f"{found.word('file name')}.dcm"
    said = _said(found, "segments") | {"PatientID": first.PatientID}
    write_segmentation(path, images, masks, labels, **said)
    ds = dcmread(path)
    for segment in ds.SegmentSequence:
        segment.SegmentDescription = found.word("SegmentDescription")
        segment.TrackingID, segment.TrackingUID = found.word("TrackingID"), found.uid("TrackingUID")
        segment.SegmentAlgorithmName = found.word("SegmentAlgorithmName")
        segment.SegmentedPropertyTypeCodeSequence = [
            item(CodeValue=found.word("segment code"), CodingSchemeDesignator="99X",
                 CodeMeaning=found.word("segment code meaning"))
        ]  # fmt: skip
    ds.save_as(path)


def _recording(found: Canaries, folder: Path) -> None:
    data = np.arange(20, dtype="<i2").reshape(10, 2)
    source = (found.word("channel code"), "99X", found.word("channel code meaning"))
    channels = [channel(found.word("channel label"), 2, source=source, unit=found.word("unit"))
                for _ in range(2)]  # fmt: skip
    note = item(UnformattedTextValue=found.word("annotation"), AnnotationGroupNumber=1)
    for k in range(2):
        groups = [group(data, channels, MultiplexGroupLabel=found.word("group label"))]
        if k:  # refused
            groups[0].WaveformSampleInterpretation = found.word("interpretation")
        write_waveform(
            folder / f"{found.word('file name')}.dcm", groups, WaveformAnnotationSequence=[note],
            SeriesInstanceUID=found.uid("SeriesInstanceUID"), **_said(found, "recording"),
        )  # fmt: skip


def _members(found: Canaries, folder: Path) -> Iterator[tuple[str, bytes]]:
    """(name, bytes): an image, one that is refused, and a text."""
    for odd in (None, found.word("PhotometricInterpretation")):
        path = write_dicom(
            folder / "x", pattern("member", (6, 6)), SOPInstanceUID=found.uid("SOPInstanceUID"),
            SeriesInstanceUID=found.uid("SeriesInstanceUID"),
            PhotometricInterpretation=odd or "MONOCHROME2",
        )  # fmt: skip
        yield f"{found.word('member name')}/{found.word('member name')}.dcm", path.read_bytes()
        path.unlink()
    yield f"{found.word('member name')}.txt", found.word("a text file").encode()


def _archives(found: Canaries, folder: Path) -> None:
    folder.mkdir(parents=True)
    with zipfile.ZipFile(folder / f"{found.word('archive name')}.zip", "w") as archive:
        archive.comment = found.word("zip comment").encode()
        for name, data in _members(found, folder):
            info = zipfile.ZipInfo(name)
            info.comment = found.word("member comment").encode()
            archive.writestr(info, data)
        archive.writestr(zipfile.ZipInfo("."), found.word("a text file"))
    with tarfile.open(folder / f"{found.word('archive name')}.tar", "w") as tar:
        for name, data in _members(found, folder):
            member = tarfile.TarInfo(name)
            member.size, member.uname, member.gname = len(data), found.word("u"), found.word("g")
            member.pax_headers = {"comment": found.word("pax comment")}
            tar.addfile(member, io.BytesIO(data))
        link = tarfile.TarInfo(found.word("member name"))
        link.type, link.linkname = tarfile.SYMTYPE, found.word("link of a member")
        tar.addfile(link)
    for name, data in _members(found, folder):
        with (
            open(folder / f"{found.word('archive name')}.gz", "wb") as file,
            gzip.GzipFile(name, "wb", fileobj=file) as packed,
        ):
            packed.write(data)
    (folder / f"{found.word('archive name')}.zip").write_bytes(b"PK\3\4" + bytes(99))
    (folder / f"{found.word('archive name')}.dcm.gz").write_bytes(b"\x1f\x8b\x08\x08" + bytes(99))
