"""What a page tells: counted facts, pictures and words, without a path to where they come from."""

from __future__ import annotations

from dataclasses import dataclass

from dicom2cache.cli.reporting.facts import Facts, Part
from dicom2cache.cli.reporting.unstored import Unstored


@dataclass(frozen=True)
class Array:
    """A row of the table of arrays."""

    name: str
    dtype: str
    slot: str
    frames: int
    shards: int
    bytes: int
    plain: int
    """bytes without compression"""
    codec: str
    values: str


@dataclass(frozen=True)
class OwnColumn:
    """A column that the user named by its element."""

    name: str
    element: str
    kind: str
    """VR and type"""
    values: int
    """frames that have one"""
    consent: str


@dataclass(frozen=True)
class Picture:
    """Some frames of a stack."""

    png: bytes
    """empty where there are traces"""
    alt: str
    title: str
    lines: tuple[str, ...]
    flags: tuple[str, ...]
    traces: tuple[str, ...] = ()
    """of a waveform: of each channel an SVG path, 288 by 288"""


@dataclass(frozen=True)
class Contents:
    """All that is on a page."""

    title: str
    lead: str
    facts: Facts
    unstored: list[Unstored]
    arrays: tuple[Array, ...]
    bytes: int
    """of all shards"""
    made: tuple[str, ...]
    """how it was made, a sentence each"""
    recipe: str
    versions: tuple[tuple[str, str], ...]
    pictures: tuple[Picture, ...] = ()
    stacks_in_all: int = 0
    """of those that pictures were chosen from"""
    left_out: tuple[str, ...] = ()
    """why some have no picture"""
    seed: int = 0
    sides: tuple[Part, ...] = ()
    errata: tuple[tuple[str, int, str], ...] = ()
    """(name, rows, what may be wrong)"""
    identifying: bool = False
    is_plan: bool = False
    own: tuple[OwnColumn, ...] = ()
