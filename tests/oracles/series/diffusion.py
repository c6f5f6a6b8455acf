"""Diffusion: b-values and directions, public and private."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from pydicom.dataelem import DataElement
from pydicom.tag import Tag

from tests.oracles.series.written import Series

DIRECTIONS = ((0, (0, 0, 0)), (1000, (1, 0, 0)), (1000, (0, 1, 0)), (1000, (0.6, 0, 0.8)))


def diffusion(s: Series) -> None:
    """One b = 0 and three directions of b = 1000, in the public elements."""
    for n, (b, direction) in enumerate(DIRECTIONS):
        s.volume(
            5, tag=f"d{n}", Manufacturer="Philips Medical Systems", DiffusionBValue=float(b),
            DiffusionGradientOrientation=[float(v) for v in direction],
        )  # fmt: skip


def diffusion_by_acquisition(s: Series) -> None:
    """The same with an Acquisition Number for each volume as well."""
    for n, (b, direction) in enumerate(DIRECTIONS):
        s.volume(
            5, tag=f"d{n}", Manufacturer="SIEMENS", DiffusionBValue=float(b),
            AcquisitionNumber=n + 1, DiffusionGradientOrientation=[float(v) for v in direction],
        )  # fmt: skip


def diffusion_acquisition_tears(s: Series) -> None:
    """Acquisition Number differs in three slices and says nothing."""
    for n, (b, direction) in enumerate(DIRECTIONS):
        s.volume(
            6, lambda k, n=n: {
                "InstanceNumber": k * 4 + n + 1,
                "AcquisitionNumber": 19 if (k, n) in ((4, 1), (4, 2), (5, 1)) else 22,
            },
            tag=f"d{n}", DiffusionBValue=float(b), Manufacturer="Philips Medical Systems",
            DiffusionGradientOrientation=[float(v) for v in direction],
        )  # fmt: skip


def diffusion_repeated(s: Series) -> None:
    """The whole set twice: only with the acquisition are all volumes told apart."""
    s.parts = False
    for repeat in range(2):
        for n, (b, direction) in enumerate(DIRECTIONS):
            s.volume(
                4, tag=f"r{repeat}d{n}", Manufacturer="SIEMENS", DiffusionBValue=float(b),
                DiffusionGradientOrientation=[float(v) for v in direction],
                AcquisitionNumber=repeat + 1,
            )  # fmt: skip


def diffusion_two_b0(s: Series) -> None:
    """b = 0 at the beginning and at the end: only time and instance tell the two apart."""
    _two_b0(s, lambda n: {"AcquisitionTime": f"1010{4 * n:02}"})


def diffusion_two_b0_by_acquisition(s: Series) -> None:
    """The same, and each volume has an Acquisition Number."""
    _two_b0(s, lambda n: {"AcquisitionNumber": n + 1, "AcquisitionTime": f"1010{4 * n:02}"})


def diffusion_two_b0_by_instance(s: Series) -> None:
    """The same, and nothing but Instance Numbers tells."""
    s.maybe = {"repeated"}
    _two_b0(s, lambda n: {})


def _two_b0(s: Series, more: Callable[[int], dict[str, Any]]) -> None:
    for n, (b, direction) in enumerate((*DIRECTIONS, DIRECTIONS[0])):
        s.volume(
            5, tag=f"d{n}", Manufacturer="SIEMENS", DiffusionBValue=float(b),
            DiffusionGradientOrientation=[float(v) for v in direction], **more(n),
        )  # fmt: skip


def diffusion_with_maps(s: Series) -> None:
    """A trace and an ADC map, which were computed, in the series of their images."""
    s.parts = False
    for b in (0, 1000):
        s.volume(
            5, tag=f"b{b}", Manufacturer="SIEMENS", DiffusionBValue=float(b),
            ImageType=["DERIVED", "PRIMARY", "DIFFUSION", "TRACEW"],
        )  # fmt: skip
    s.volume(
        5, tag="adc", Manufacturer="SIEMENS", ImageType=["DERIVED", "PRIMARY", "DIFFUSION", "ADC"]
    )


def diffusion_b_values(s: Series) -> None:
    """Four b-values without a direction."""
    for n, b in enumerate((0, 50, 400, 800)):
        s.volume(
            5, tag=f"b{n}", Manufacturer="Philips Medical Systems", DiffusionBValue=float(b),
            DiffusionDirectionality="ISOTROPIC" if b else "NONE",
        )  # fmt: skip


def private(group: int, creator: str, **elements: tuple[str, Any]) -> dict[str, Any]:
    """Elements of a private block, by the last byte of their tag."""
    made = {f"creator{group:x}{creator}": DataElement(Tag(group, 0x10), "LO", creator)}
    for key, (vr, value) in elements.items():
        tag = Tag(group, 0x1000 + int(key.removeprefix("x"), 16))
        made[f"private{tag}"] = DataElement(tag, vr, value)
    return made


def diffusion_siemens(s: Series) -> None:
    """b-value and direction in Siemens' private elements, none public."""
    for n, (b, direction) in enumerate(DIRECTIONS):
        said = {"x0C": ("IS", b), "x0D": ("CS", "DIRECTIONAL" if b else "NONE")}
        said |= {"x0E": ("FD", [float(v) for v in direction])} if b else {}
        s.volume(
            5,
            tag=f"d{n}",
            Manufacturer="SIEMENS",
            AcquisitionNumber=n + 1,
            **private(0x19, "SIEMENS MR HEADER", **said),
        )


def diffusion_philips(s: Series) -> None:
    """b-value and direction in Philips' private elements, none public."""
    for n, (b, (x, y, z)) in enumerate(DIRECTIONS):
        first = private(
            0x2001, "Philips Imaging DD 001", x03=("FL", float(b)), x04=("CS", "O" if b else "N")
        )
        second = private(
            0x2005,
            "Philips MR Imaging DD 001",
            xB0=("FL", float(x)),
            xB1=("FL", float(y)),
            xB2=("FL", float(z)),
        )
        s.volume(5, tag=f"d{n}", Manufacturer="Philips Medical Systems", **first, **second)


def diffusion_ge(s: Series) -> None:
    """GE: b with 10^9 added, the direction relative to the frequency, phase and slice axes."""
    _ge(s, "COL")


def diffusion_ge_by_row(s: Series) -> None:
    """The same with the phase along the row."""
    _ge(s, "ROW")


def _ge(s: Series, phase: str) -> None:
    for n, (b, (x, y, z)) in enumerate(DIRECTIONS):
        first = private(0x43, "GEMS_PARM_01", x39=("IS", [b + 1_000_000_000 if b else 0, 8, 0, 0]))
        second = private(0x19, "GEMS_ACQU_01", xBB=("DS", x), xBC=("DS", y), xBD=("DS", z))
        s.volume(5, tag=f"d{n}", InPlanePhaseEncodingDirection=phase, **first, **second)
