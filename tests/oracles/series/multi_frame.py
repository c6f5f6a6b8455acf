"""Several frames in a file: enhanced, NM, cone beam, cines."""

from __future__ import annotations

import shutil
from typing import Any

from pydicom.dataset import Dataset
from pydicom.tag import Tag

from tests.oracles.series.diffusion import DIRECTIONS
from tests.oracles.series.written import (
    AXIAL,
    CINE_IMAGE,
    CT,
    ENHANCED_MR,
    NM_IMAGE,
    SIZE,
    Series,
    item,
)
from tests.support.dicom_files import pattern, real, uid


def whole_in_one_file(s: Series) -> None:
    """A cone beam CT: one file, one position, Spacing Between Slices."""
    name = s.file(
        "cbct.dcm", pattern(s.folder.name, (5, *SIZE)), **CT, ImagePositionPatient=[0, 0, 40],
        SpacingBetweenSlices=3,
    )  # fmt: skip
    s.put = [[(name, k) for k in range(5)]]


def nm_recon(s: Series) -> None:
    """Reconstructed SPECT: positions from the detector and Spacing Between Slices."""
    name = s.file(
        "recon.dcm", pattern(s.folder.name, (6, *SIZE)), Modality="NM", SOPClassUID=NM_IMAGE,
        ImageType=["ORIGINAL", "PRIMARY", "RECON TOMO", "EMISSION"], ImageOrientationPatient=None,
        PixelSpacing=[4.4, 4.4], SpacingBetweenSlices=4.4, SliceThickness=4.4, NumberOfSlices=6,
        FrameIncrementPointer=Tag("SliceVector"), SliceVector=[1, 2, 3, 4, 5, 6],
        DetectorInformationSequence=[
            item(ImagePositionPatient=[-280, -280, 500], ImageOrientationPatient=AXIAL)
        ],
    )  # fmt: skip
    s.put = [[(name, k) for k in range(6)]]


def nm_gated(s: Series) -> None:
    """Gated SPECT: two time slots of three slices in one file."""
    name = s.file(
        "gated.dcm", pattern(s.folder.name, (6, *SIZE)), Modality="NM", SOPClassUID=NM_IMAGE,
        ImageType=["ORIGINAL", "PRIMARY", "RECON GATED TOMO", "EMISSION"],
        ImageOrientationPatient=None, PixelSpacing=[4.4, 4.4], SpacingBetweenSlices=4.4,
        SliceThickness=4.4, NumberOfSlices=3, NumberOfTimeSlots=2, NumberOfRRIntervals=1,
        FrameIncrementPointer=[Tag("RRIntervalVector"), Tag("TimeSlotVector"), Tag("SliceVector")],
        RRIntervalVector=[1] * 6, TimeSlotVector=[1, 1, 1, 2, 2, 2], SliceVector=[1, 2, 3, 1, 2, 3],
        DetectorInformationSequence=[
            item(ImagePositionPatient=[-280, -280, 500], ImageOrientationPatient=AXIAL)
        ],
    )  # fmt: skip
    s.put = [[(name, k) for k in range(3)], [(name, k) for k in range(3, 6)]]


def cines(s: Series) -> None:
    """Two clips of four frames in one series: no places at all."""
    s.parts = False
    s.regular = (None, False)
    s.maybe = {"order-by-instance", "one-place"}
    for clip in range(2):
        name = s.file(
            f"clip{clip}.dcm", pattern(f"clip{clip}", (4, *SIZE), "uint8", 256), Modality="US",
            SOPClassUID=CINE_IMAGE, ImageOrientationPatient=None, PixelSpacing=None, BitsStored=8,
            HighBit=7, FrameTime=40, FrameIncrementPointer=Tag("FrameTime"), SliceThickness=None,
            SpacingBetweenSlices=None, ImageType=["ORIGINAL", "PRIMARY"],
        )  # fmt: skip
        s.put.append([(name, k) for k in range(4)])


def group(place: list[float], number: int, indices: list[int], **more: Any) -> Dataset:
    """Per-frame functional groups."""
    content = {"StackID": "1", "InStackPositionNumber": number, "DimensionIndexValues": indices}
    content |= more.pop("content", {})
    return item(
        PlanePositionSequence=[item(ImagePositionPatient=place)],
        FrameContentSequence=[item(**content)], **more,
    )  # fmt: skip


def enhanced(
    s: Series, name: str, groups: list[Dataset], pixels: Any = None, **elements: Any
) -> str:
    """An Enhanced MR of these frames."""
    elements = {
        "SOPClassUID": ENHANCED_MR, "ImageOrientationPatient": None, "PixelSpacing": None,
        "SliceThickness": None, "SpacingBetweenSlices": None, "EchoTime": None,
        "RepetitionTime": None, "Manufacturer": "Philips Medical Systems",
        "ImageType": ["ORIGINAL", "PRIMARY", "M", "NONE"], "VolumetricProperties": "VOLUME",
        "SharedFunctionalGroupsSequence": [item(
            PixelMeasuresSequence=[
                item(PixelSpacing=[1, 1], SliceThickness=3, SpacingBetweenSlices=3)
            ],
            PlaneOrientationSequence=[item(ImageOrientationPatient=AXIAL)],
        )],
        "DimensionIndexSequence": [
            item(
                DimensionIndexPointer=Tag(keyword),
                FunctionalGroupPointer=Tag("FrameContentSequence"),
            )
            for keyword in ("InStackPositionNumber", "TemporalPositionIndex")
        ],
        "PerFrameFunctionalGroupsSequence": groups,
    } | elements  # fmt: skip
    return s.file(
        name,
        pattern(name + s.folder.name, (len(groups), *SIZE)) if pixels is None else pixels,
        **elements,
    )


def enhanced_times(s: Series) -> None:
    """Three times of five slices in one file, time running fastest."""
    order = [(k, t) for k in range(5) for t in range(3)]
    name = enhanced(s, "e.dcm", [
        group([-30, -30, -30 + 3.0 * k], k + 1, [k + 1, t + 1],
              content={"TemporalPositionIndex": t + 1})
        for k, t in order
    ])  # fmt: skip
    s.put = [[(name, order.index((k, t))) for k in range(5)] for t in range(3)]


def enhanced_shuffled(s: Series) -> None:
    """One volume whose frames lie in the file in no order."""
    order = [4, 0, 3, 1, 5, 2]
    name = enhanced(
        s, "e.dcm", [group([-30, -30, -30 + 3.0 * k], k + 1, [k + 1, 1]) for k in order]
    )
    s.put = [[(name, order.index(k)) for k in range(6)]]


def enhanced_diffusion(s: Series) -> None:
    """b-values and directions in the functional groups."""
    order = [(n, k) for n in range(len(DIRECTIONS)) for k in range(4)]
    groups = []
    for n, k in order:
        b, direction = DIRECTIONS[n]
        mr = item(DiffusionBValue=float(b), DiffusionDirectionality="DIRECTIONAL" if b else "NONE")
        if b:
            mr.DiffusionGradientDirectionSequence = [
                item(DiffusionGradientOrientation=[float(v) for v in direction])
            ]
        groups.append(
            group([-30, -30, -30 + 3.0 * k], k + 1, [k + 1, n + 1], MRDiffusionSequence=[mr])
        )
    name = enhanced(s, "e.dcm", groups)
    s.put = [[(name, order.index((n, k))) for k in range(4)] for n in range(len(DIRECTIONS))]


def enhanced_two_stacks(s: Series) -> None:
    """Two stacks in one file, by Stack ID: upper and lower part of the body, one step apart."""
    s.parts = False
    order = [(n, k) for n in range(2) for k in range(4)]
    name = enhanced(s, "e.dcm", [
        group([-30, -30, -30 + 20.0 * n + 3.0 * k], k + 1, [n + 1, k + 1],
              content={"StackID": str(n + 1)})
        for n, k in order
    ])  # fmt: skip
    s.put = [[(name, order.index((n, k))) for k in range(4)] for n in range(2)]


def enhanced_labels(s: Series) -> None:
    """Arterial spin labelling: label and control of each place."""
    order = [(n, k) for n in range(4) for k in range(4)]
    name = enhanced(s, "e.dcm", [
        group(
            [-30, -30, -30 + 3.0 * k], k + 1, [k + 1, n + 1],
            content={"TemporalPositionIndex": n // 2 + 1},
            MRArterialSpinLabelingSequence=[item(ASLContext=("LABEL", "CONTROL")[n % 2])],
        )
        for n, k in order
    ])  # fmt: skip
    s.parts = False
    s.put = [[(name, order.index((n, k))) for k in range(4)] for n in range(4)]


def enhanced_heart(s: Series) -> None:
    """Trigger delay times in the functional groups, time running slowest."""
    order = [(t, k) for t in range(3) for k in range(4)]
    name = enhanced(s, "e.dcm", [
        group(
            [-30, -30, -30 + 3.0 * k], k + 1, [k + 1, t + 1],
            CardiacSynchronizationSequence=[item(NominalCardiacTriggerDelayTime=t * 40.0)],
        )
        for t, k in order
    ])  # fmt: skip
    s.put = [[(name, order.index((t, k))) for k in range(4)] for t in range(3)]


def enhanced_file_per_time(s: Series) -> None:
    """Each time in an enhanced file of its own, in one series."""
    for t in range(3):
        name = enhanced(
            s, f"{9 - t}.dcm", [
                group([-30, -30, -30 + 3.0 * k], k + 1, [k + 1, 1],
                      content={"TemporalPositionIndex": t + 1})
                for k in range(4)
            ],
            AcquisitionNumber=t + 1, InstanceNumber=t + 1,
        )  # fmt: skip
        s.put.append([(name, k) for k in range(4)])


def concatenation(s: Series) -> None:
    """One enhanced image cut into two instances; their names against the order."""
    parts = []
    for part, names in ((1, "z.dcm"), (2, "a.dcm")):
        first = 3 * (part - 1)
        enhanced(s, names, [
            group([-30, -30, -30 + 3.0 * k], k + 1, [k + 1, 1]) for k in range(first, first + 3)
        ], ConcatenationUID=uid("concatenation"), InConcatenationNumber=part, InstanceNumber=1,
            InConcatenationTotalNumber=2, ConcatenationFrameOffsetNumber=first,
            SOPInstanceUIDOfConcatenationSource=uid("whole"))  # fmt: skip
        parts += [(names, k) for k in range(3)]
    s.put = [parts]


def emri_small(s: Series) -> None:
    """A real Enhanced MR: its ten slices in order."""
    shutil.copy(real("emri_small.dcm"), s.folder / "emri_small.dcm")
    s.put, s.regular = [[("emri_small.dcm", k) for k in range(10)]], (None,)
