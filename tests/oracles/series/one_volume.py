"""Files that are one volume, however they say it."""

from __future__ import annotations

import shutil
from typing import Any

import numpy as np
from pydicom import dcmread

from tests.oracles.series.written import CT, PET, SAGITTAL, SIZE, Series
from tests.support.dicom_files import uid


def ct(s: Series) -> None:
    """Instance numbers against the positions; a name order that is neither."""
    s.volume(
        11, lambda k: {"InstanceNumber": 100 - 7 * k % 11}, **CT, PixelSpacing=[0.8, 0.7],
    )  # fmt: skip


def sagittal(s: Series) -> None:
    """Another plane, upwards along its normal."""
    s.volume(7, step=(-3.0, 0, 0), ImageOrientationPatient=SAGITTAL)


def oblique(s: Series) -> None:
    """A double oblique plane and its own normal."""
    row, column = np.array([0.9, 0.3, -0.31622777]), np.array([-0.28, 0.9539392, 0.10807])
    row /= np.linalg.norm(row)
    column -= row * (row @ column)
    column /= np.linalg.norm(column)
    step = tuple(3 * np.cross(row, column))
    s.volume(7, step=step, ImageOrientationPatient=[round(float(v), 9) for v in (*row, *column)])


def tilted_axial(degrees: float) -> list[float]:
    """Axial planes that lean by `degrees` about the patient's left-right axis."""
    turn = np.radians(degrees)
    return [1, 0, 0, 0, round(float(np.cos(turn)), 8), round(float(-np.sin(turn)), 8)]


def tilted(s: Series) -> None:
    """CT with a gantry tilt: positions go straight up, the normal does not."""
    s.flags = {"tilted"}
    s.volume(8, **CT, ImageOrientationPatient=tilted_axial(12), GantryDetectorTilt=12)


def tilted_tag_zero(s: Series) -> None:
    """The same, and the tag says 0."""
    s.flags = {"tilted"}
    s.volume(8, **CT, ImageOrientationPatient=tilted_axial(-14), GantryDetectorTilt=0)


def hardly_tilted(s: Series) -> None:
    """A third of a degree: no tilt to speak of."""
    s.volume(8, **CT, ImageOrientationPatient=tilted_axial(0.3))


def coronal_tilted(s: Series) -> None:
    """Coronal planes that lean by 10 degrees, stacked from front to back."""
    turn = np.radians(10)
    s.flags = {"tilted"}
    s.volume(
        8, **CT, step=(0, 3.0, 0),
        ImageOrientationPatient=[
            1, 0, 0, 0, round(float(np.sin(turn)), 8), round(float(-np.cos(turn)), 8),
        ],
    )  # fmt: skip


def beds(s: Series) -> None:
    """Whole body PET in two bed positions: times differ, and it is one volume."""
    s.volume(
        8, lambda k: {"AcquisitionTime": f"10{10 + 3 * (k // 4)}00",
                      "FrameReferenceTime": 90000 + 180000 * (k // 4)},
        **PET, SeriesType=["WHOLE BODY", "IMAGE"], NumberOfSlices=8,
    )  # fmt: skip


def slopes(s: Series) -> None:
    """Another rescale slope in each slice, as PET has."""
    s.volume(6, lambda k: {"RescaleSlope": f"{0.5 + k / 4}"}, **PET)


def frame_of_reference_per_slice(s: Series) -> None:
    """A lung archive gives each slice a Frame of Reference of its own."""
    s.flags = {"joined"}
    s.volume(8, lambda k: {"FrameOfReferenceUID": uid(f"frame {k}")}, **CT)


def study_per_slice(s: Series) -> None:
    """A tool that gave each slice a study of its own."""
    s.flags = {"joined"}
    s.volume(8, lambda k: {"StudyInstanceUID": uid(f"study {k}")}, **CT)


def orientation_jitter(s: Series) -> None:
    """Cosines that differ in the seventh place, on both sides of 0.0125."""

    def change(k: int) -> dict[str, Any]:
        turn = 0.0125 + (1e-7 if k % 2 else -1e-7)
        along = (1 - turn * turn) ** 0.5
        text = [f"{along:.9f}", f"{turn:.9f}", "0", f"{-turn:.9f}", f"{along:.9f}", "0"]
        return {"ImageOrientationPatient": text}

    s.volume(6, change, **CT)


def position_jitter(s: Series) -> None:
    """Places that differ from an even step by 2e-5 mm, in the plane too."""

    def change(k: int) -> dict[str, Any]:
        off = 2e-5 * (-1) ** k
        return {"ImagePositionPatient": [-30 + off, -30, -30 + 3 * k + off]}

    s.volume(9, change, **CT)


def spacing_jitter(s: Series) -> None:
    """The same spacing written with other digits."""
    s.volume(6, lambda k: {"PixelSpacing": ["0.976562", "0.9765625"][k % 2 :][:1] * 2}, **CT)


def derived_in_the_middle(s: Series) -> None:
    """One slice of a volume was sent again by an archive that calls it DERIVED and lossy."""

    def change(k: int) -> dict[str, Any]:
        derived = {"ImageType": ["DERIVED", "PRIMARY", "AXIAL"], "LossyImageCompression": "01"}
        return derived if k == 3 else {}

    s.flags = {"joined"}
    s.volume(8, change, **CT)


def lossy_in_the_middle(s: Series) -> None:
    """An archive compressed two slices with loss, and says so in these alone."""
    s.maybe = {"joined"}
    s.volume(8, lambda k: {"LossyImageCompression": "01"} if k in (3, 4) else {}, **CT)


def image_type_value_4(s: Series) -> None:
    """AXIAL for some slices, AXIAL\\ADD for others."""
    added = ["ORIGINAL", "PRIMARY", "AXIAL", "ADD"]
    s.flags = {"joined"}
    s.volume(8, lambda k: {"ImageType": added} if k in (2, 3, 6) else {}, **CT)


def image_type_alternates(s: Series) -> None:
    """The same for every other slice: each half is even too, and has half of the slices."""
    added = ["ORIGINAL", "PRIMARY", "AXIAL", "ADD"]
    s.flags = {"joined"}
    s.volume(8, lambda k: {"ImageType": added} if k % 2 else {}, **CT)


def acquisition_per_shot(s: Series) -> None:
    """Axial shots, each with its own Acquisition Number, time and slightly other exposure."""
    s.volume(
        8, lambda k: {"AcquisitionNumber": k + 1, "AcquisitionTime": f"1010{k:02}"}, **CT,
        KVP=120,
    )  # fmt: skip


def slice_location_only(s: Series) -> None:
    """No position, no orientation, no instance number: Slice Location alone orders."""
    order = [3, 0, 5, 1, 4, 2]
    names = []
    for k in range(6):
        names.append((f"{order[k]}.dcm", 0))
        s.file(
            names[-1][0], **CT, SliceLocation=10 + 2.5 * k, ImageOrientationPatient=None,
            InstanceNumber=None,
        )  # fmt: skip
    s.put, s.regular = [names], (True, None)
    s.maybe = {"order-unknown"}


def instance_only(s: Series) -> None:
    """Nothing but instance numbers, against the order of the names."""
    names = [
        (s.file(f"{9 - k}.dcm", **CT, InstanceNumber=k + 1, ImageOrientationPatient=None), 0)
        for k in range(6)
    ]
    s.put, s.flags, s.regular = [names], {"order-by-instance"}, (None,)


def sent_twice(s: Series) -> None:
    """One file lies in the folder twice."""
    s.volume(6, **CT)
    shutil.copy(s.folder / "v002.dcm", s.folder / "v002-copy.dcm")
    s.twins = {"v002-copy.dcm": "v002.dcm"}


def sent_again(s: Series) -> None:
    """One slice was sent a second time, under another SOP Instance UID."""
    s.volume(6, **CT)
    s.twins, s.spare, s.maybe = {"v004-again.dcm": "v004.dcm"}, True, {"repeated"}
    ds = dcmread(s.folder / "v004.dcm")
    ds.SOPInstanceUID = ds.file_meta.MediaStorageSOPInstanceUID = uid("sent again")
    ds.save_as(s.folder / "v004-again.dcm")


def one_sop_uid(s: Series) -> None:
    """A tool gave all slices one SOP Instance UID; the ends are blank."""

    def change(k: int) -> dict[str, Any]:
        blank = {"pixels": np.zeros(SIZE, np.uint16)} if k in (0, 1, 5) else {}
        return {"SOPInstanceUID": uid("one for all"), **blank}

    s.volume(6, change, **CT)


def nearly_even(s: Series) -> None:
    """Steps that differ by 1.3 percent."""
    s.volume(8, lambda k: {"ImagePositionPatient": [-30, -30, -30 + 3 * k + 0.02 * (k % 2)]}, **CT)


def one_place(s: Series) -> None:
    """A slice at six times: no volume."""
    s.volume(
        6, lambda k: {"TemporalPositionIdentifier": k + 1, "NumberOfTemporalPositions": 6},
        step=(0, 0, 0),
    )  # fmt: skip
    s.regular, s.flags = (False,), {"one-place"}


def gap(s: Series) -> None:
    """A slice is missing."""
    s.volume(9, **CT)
    (s.folder / s.put[0].pop(4)[0]).unlink()
    s.regular, s.flags, s.maybe = (False,), {"gap"}, {"uneven"}


def uneven(s: Series) -> None:
    """Thin slices below, thick ones above."""
    places = [0, 2, 4, 6, 8, 13, 18, 23]
    s.volume(8, lambda k: {"ImagePositionPatient": [-30, -30, places[k]]}, **CT)
    s.regular, s.flags, s.maybe = (False,), {"uneven"}, {"gap"}
