"""Files that are several volumes, and what tells them apart."""

from __future__ import annotations

from tests.oracles.series.written import AXIAL, CORONAL, CT, PET, SAGITTAL, Series
from tests.support.dicom_files import pattern, uid


def dual_echo(s: Series) -> None:
    """Two echoes of each slice in one series."""
    for number, time in ((1, 10), (2, 80)):
        s.volume(6, EchoTime=time, EchoNumbers=number, tag=f"e{number}")


def magnitude_and_phase(s: Series) -> None:
    """Magnitude and phase images in one series."""
    s.parts = False
    for kind in "MP":
        s.volume(6, ImageType=["ORIGINAL", "PRIMARY", kind, "ND"], tag=kind, Manufacturer="SIEMENS")


def flip_angles(s: Series) -> None:
    """Three flip angles, for a T1 map."""
    for angle in (3, 10, 20):
        s.volume(5, FlipAngle=angle, tag=f"a{angle:02}")


def inversion_times(s: Series) -> None:
    """Three inversion times."""
    for time in (100, 500, 2000):
        s.volume(5, InversionTime=time, tag=f"i{time:04}")


def fmri(s: Series) -> None:
    """A time series with Temporal Position Identifier, volume after volume."""
    for t in range(4):
        s.volume(
            5, lambda k, t=t: {"InstanceNumber": t * 5 + k + 1}, tag=f"t{t}",
            TemporalPositionIdentifier=t + 1, NumberOfTemporalPositions=4,
            AcquisitionTime=f"1010{t * 2:02}",
        )  # fmt: skip


def fmri_slice_first(s: Series) -> None:
    """Philips: all times of a slice, then the next slice."""
    for t in range(4):
        s.volume(
            5, lambda k, t=t: {"InstanceNumber": k * 4 + t + 1}, tag=f"t{t}",
            TemporalPositionIdentifier=t + 1, NumberOfTemporalPositions=4,
            Manufacturer="Philips Medical Systems",
        )  # fmt: skip


def fmri_by_instance(s: Series) -> None:
    """GE: nothing but instance numbers and acquisition times tell the volumes apart."""
    for t in range(4):
        s.volume(
            5, lambda k, t=t: {"InstanceNumber": t * 5 + k + 1}, tag=f"t{t}",
            TriggerTime=t * 2000.0,
        )  # fmt: skip


def fmri_by_acquisition(s: Series) -> None:
    """Siemens, not a mosaic: Acquisition Number and time count the volumes."""
    for t in range(4):
        s.volume(
            5, lambda k, t=t: {"AcquisitionTime": f"1010{t * 2:02}.{k}00000"}, tag=f"t{t}",
            AcquisitionNumber=t + 1, Manufacturer="SIEMENS",
        )  # fmt: skip


def fmri_two_echoes(s: Series) -> None:
    """Three times of two echoes: neither alone tells the volumes apart."""
    s.parts = False
    for t in range(3):
        for echo in (1, 2):
            s.volume(
                5, tag=f"t{t}e{echo}", EchoTime=15 * echo, EchoNumbers=echo,
                TemporalPositionIdentifier=t + 1, NumberOfTemporalPositions=3,
            )  # fmt: skip


def fmri_cut_short(s: Series) -> None:
    """The scan was stopped in the middle of a volume."""
    for t, count in enumerate((6, 6, 6, 4)):
        s.volume(
            count, tag=f"t{t}", TemporalPositionIdentifier=t + 1, NumberOfTemporalPositions=4,
            AcquisitionTime=f"1010{t * 2:02}",
        )  # fmt: skip


def slice_missing_in_one_time(s: Series) -> None:
    """The second of three volumes lost a slice in its middle."""
    for t in range(3):
        s.volume(
            6, tag=f"t{t}", TemporalPositionIdentifier=t + 1, AcquisitionTime=f"1010{t * 2:02}"
        )
    (s.folder / s.put[1].pop(2)[0]).unlink()
    s.regular, s.maybe = (True, False), {"gap", "uneven"}


def gated_pet(s: Series) -> None:
    """Three time slots, told apart by Image Index alone."""
    s.maybe = {"repeated"}
    for t in range(3):
        s.volume(
            5, lambda k, t=t: {"ImageIndex": t * 5 + k + 1}, tag=f"t{t}", **PET, NumberOfSlices=5,
            SeriesType=["GATED", "IMAGE"], NumberOfTimeSlots=3, FrameReferenceTime=60000,
        )  # fmt: skip


def overlapping_helices(s: Series) -> None:
    """Neck and chest, two acquisitions that share two slices."""
    s.volume(8, tag="a", **CT, AcquisitionNumber=1)
    s.volume(8, tag="b", **CT, AcquisitionNumber=2, start=(-30, -30, -12))


def field_map(s: Series) -> None:
    """Two echoes of magnitude, and one difference of phase."""
    s.parts = False
    for echo in (1, 2):
        s.volume(5, tag=f"m{echo}", EchoTime=5.0 * echo, EchoNumbers=echo, Manufacturer="SIEMENS")
    s.volume(
        5, tag="p", EchoTime=10.0, EchoNumbers=2, Manufacturer="SIEMENS",
        ImageType=["ORIGINAL", "PRIMARY", "P", "ND"],
    )  # fmt: skip


def nothing_but_instances(s: Series) -> None:
    """Three volumes, one after another: only Instance Number tells them apart."""
    s.maybe = {"repeated"}
    for t in range(3):
        s.volume(5, tag=f"t{t}")


def gated_ct(s: Series) -> None:
    """Three phases of the heart beat in one CT series."""
    for t in range(3):
        s.volume(
            5, tag=f"t{t}", **CT, NominalPercentageOfCardiacPhase=30.0 * t, AcquisitionNumber=t + 1,
            TriggerTime=t * 250.0,
        )  # fmt: skip


def cardiac_phases(s: Series) -> None:
    """A short axis stack: each place at four trigger times, which differ a little by slice."""
    for t in range(4):
        s.volume(
            5, lambda k, t=t: {
                "InstanceNumber": k * 4 + t + 1, "TriggerTime": t * 40.0 + 0.1 * (k % 2),
            },
            tag=f"t{t}", CardiacNumberOfImages=4,
        )  # fmt: skip


def dynamic_pet(s: Series) -> None:
    """Three time frames, told apart by Frame Reference Time and Acquisition Time only."""
    pet(s, ((15000, "100000", 4), (60000, "100030", 4), (150000, "100130", 4)))


def dynamic_pet_cut_short(s: Series) -> None:
    """The last time frame ended early."""
    pet(s, ((15000, "100000", 6), (60000, "100030", 6), (150000, "100130", 3)))


def pet(s: Series, times: tuple[tuple[int, str, int], ...]) -> None:
    """Volumes of dynamic PET: (reference time in ms, acquisition time, slices)."""
    for t, (reference, clock, count) in enumerate(times):
        s.volume(
            count, lambda k, t=t: {"ImageIndex": t * times[0][2] + k + 1}, tag=f"t{t}", **PET,
            FrameReferenceTime=reference, AcquisitionTime=clock, ActualFrameDuration=30000,
            SeriesType=["DYNAMIC", "IMAGE"], NumberOfSlices=times[0][2],
            NumberOfTimeSlices=len(times), SeriesDate="20240101", SeriesTime="100000",
        )  # fmt: skip


def phases_by_acquisition(s: Series) -> None:
    """Contrast CT: three phases of different extent, told apart by Acquisition Number."""
    s.volume(10, tag="p1", **CT, AcquisitionNumber=1)
    s.volume(5, tag="p2", **CT, AcquisitionNumber=2)
    s.volume(4, tag="p3", **CT, AcquisitionNumber=3, start=(-30, -30, -12))


def phases_side_by_side(s: Series) -> None:
    """Two phases whose tables differ by 0.3 mm."""
    s.volume(10, tag="p1", **CT, AcquisitionNumber=1)
    s.volume(10, tag="p2", **CT, AcquisitionNumber=2, start=(-30, -30, -29.7))


def two_frames_of_reference(s: Series) -> None:
    """The patient was laid down again: two volumes, the second of which happens to go on evenly."""
    s.parts = False
    s.volume(6, tag="a", **CT)
    s.volume(6, tag="b", **CT, start=(-30, -30, -12), FrameOfReferenceUID=uid("laid down again"))


def reformats_behind(s: Series) -> None:
    """Axial slices, and coronal reformats of them in the same series."""
    s.parts = False
    s.volume(8, **CT)
    said = CT | {"ImageType": ["DERIVED", "SECONDARY", "MPR"]}
    s.volume(4, tag="mpr", **said, ImageOrientationPatient=CORONAL, step=(0, 3.0, 0))


def derived_beside_original(s: Series) -> None:
    """Filtered slices at the places of the original ones."""
    s.parts = False
    s.volume(6, **CT)
    s.volume(6, tag="f", **(CT | {"ImageType": ["DERIVED", "SECONDARY", "AXIAL"]}))


def localizer(s: Series) -> None:
    """Three planes of three slices in one series."""
    s.parts = False
    for tag, planes, step in (
        ("a", AXIAL, (0, 0, 10.0)),
        ("c", CORONAL, (0, 10.0, 0)),
        ("s", SAGITTAL, (-10.0, 0, 0)),
    ):
        s.volume(
            3,
            tag=tag,
            step=step,
            ImageOrientationPatient=planes,
            SpacingBetweenSlices=10,
            start=(0, 0, 0),
        )


def coronal_in_axial(s: Series) -> None:
    """One coronal picture at the end of an axial series."""
    s.parts = False
    s.volume(8, **CT)
    s.volume(1, tag="c", **CT, ImageOrientationPatient=CORONAL)


def two_sizes(s: Series) -> None:
    """A scout of another size before the volume."""
    s.parts = False
    s.volume(8, **CT)
    s.put.append(
        [(s.file("scout.dcm", pattern("scout", (30, 20)), **CT, ImagePositionPatient=[0, 0, 0]), 0)]
    )


def two_patients(s: Series) -> None:
    """One tool gave two patients the same UIDs; their slices interleave."""
    s.parts = False
    s.volume(4, tag="a", **CT, PatientID="A", SpacingBetweenSlices=6, step=(0, 0, 6.0))
    s.volume(4, tag="b", **CT, PatientID="B", step=(0, 0, 6.0), start=(-30, -30, -27))
