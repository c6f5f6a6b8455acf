"""The frozen records and columnar schemas that the stages hand on to each other.

A million headers are a million rows of an Arrow table, not a million objects: `FILES` has a row for
each source file, `FRAMES` (the plan) a row for each frame to be stored, in the order of the cache.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import NamedTuple, NotRequired, TypedDict

import numpy as np
import pyarrow as pa


class Member(NamedTuple):
    """Where a file lies in an archive, and how; or how a file is packed by itself."""

    kind: str
    """`stored`, `deflated` (both of a zip), `tar` or `gzip`"""
    offset: int
    """of its local header in a zip, else of its bytes"""
    packed: int
    """bytes that it takes there"""
    stop: int
    """where they end at the latest: what follows is not its own"""
    crc: int | None
    """CRC-32 of its content, as the archive says it"""
    inside: int
    """length of its name in the archive: what is before that, and !/, is the archive's path"""
    archive: int
    """bytes of the archive"""


@dataclass(frozen=True, slots=True)
class Candidate:
    """A file that may be DICOM: of a folder, or a member of an archive."""

    root: int
    """id of the source folder"""
    path: str
    """below that folder, with /; of a member that of the archive, !/ and its name"""
    size: int
    """in bytes; of a member without compression"""
    mtime_ns: int
    """in nanoseconds; of a member that of the archive"""
    inode: int = 0
    """in its folder, files of neighbouring inodes lie close on a disk"""
    member: Member | None = None


@dataclass(frozen=True)
class ArraySpec:
    """One Zarr array of the cache."""

    name: str
    """its folder, such as int16_512x512"""
    dtype: str
    """NumPy name"""
    slot: tuple[int, ...]
    """(H, W) or (H, W, C)"""
    slots: int
    """length of the first axis"""
    frames_per_shard: int
    codec: str = "none"
    """`none`, `lz4` or `zstd`; in a plan `auto` too"""
    first: int = 0
    """shards that are there already, of a plan that adds to a cache; `slots` counts none of them"""

    @property
    def slot_bytes(self) -> int:
        """Size of a slot in bytes."""
        return np.dtype(self.dtype).itemsize * math.prod(self.slot)

    @property
    def shards(self) -> int:
        """Number of shard files."""
        return -(-self.slots // self.frames_per_shard)

    @property
    def first_row(self) -> int:
        """Row of the array that is the first of `slots`."""
        return self.first * self.frames_per_shard


@dataclass(frozen=True)
class ShardTask:
    """One shard to be written: the unit of work."""

    array: int
    shard: int
    start: int
    """first row of the plan's frame table"""
    stop: int
    """row after the last"""
    cost: float
    """in uncompressed bytes, compressed ones weighted by their codec"""
    abreast: int = 1
    """frames that one process is at its best with side by side"""

    @property
    def name(self) -> str:
        """Name of its receipt, such as 3.17."""
        return f"{self.array}.{self.shard}"


@dataclass(frozen=True)
class Plan:
    """What is to be stored and where.

    The law: every frame of every file in `files`, of a mosaic every slice, is in exactly one row of
    `frames`, and every (array, row) with 0 <= row - first_row < slots is taken exactly once,
    whatever the order of the files.
    """

    arrays: tuple[ArraySpec, ...]
    files: pa.Table
    """FILES, only those that are stored"""
    frames: pa.Table
    """FRAMES, in the order of the cache"""
    rejects: pa.Table
    """REJECTS"""
    wasted_bytes: int
    """bytes of slots that no frame covers"""
    contours: pa.Table = field(default_factory=lambda: pa.table({}))
    """CONTOURS_TABLE, by root and path; without columns where there are none"""


COMPRESSED = ("lz4", "zstd")
CODECS = ("none", *COMPRESSED, "auto")
LARGEST = 2**31 - 1 - 16
"""bytes of a slot that Blosc can hold"""


def codec_of(wanted: str, slot_bytes: int) -> str:
    """The codec that an array gets: none where Blosc could not hold a slot."""
    return "none" if slot_bytes > LARGEST else wanted


# Rows as objects, made from the catalogue by tests.support.catalogue.


class VoiWindow(TypedDict):
    """One VOI window, in units of the modality values."""

    center: float
    width: float
    function: str
    explanation: str | None


class Segment(TypedDict):
    """One segment of a segmentation (PS3.3 C.8.20.4)."""

    number: int | None
    label: str | None
    category: str | None
    type: str | None
    type_meaning: str | None


class TileChannel(TypedDict):
    """An optical path, or a segment of a mask."""

    id: str
    label: str | None


class Channel(TypedDict):
    """One channel of a waveform (PS3.3 C.10.9.1.4)."""

    label: str | None
    source: str | None
    source_meaning: str | None
    modifiers: str | None
    unit: str | None
    sensitivity: float | None
    baseline: float | None
    bits_stored: int | None
    filter_low: float | None
    filter_high: float | None
    notch: float | None
    time_skew: float | None
    sample_skew: float | None
    offset: float | None


class Line(TypedDict):
    """How a sample becomes a value."""

    sensitivity: float
    correction: float
    baseline: float
    bits: int


class Multiplex(TypedDict):
    """Where samples lie in a file."""

    channels: int
    samples: int
    bits: int
    interpretation: str
    vr: str
    offset: int
    length: int
    padding: int | None
    lines: list[Line]


class Meant(TypedDict):
    """What they mean."""

    channels: list[Channel]
    sampling_rate: float | None
    time_offset: float | None
    originality: str | None
    group_label: str | None


class MemberRow(TypedDict):
    """Where a file lies in an archive."""

    kind: str
    offset: int
    packed: int
    stop: int
    crc: int | None
    inside: int
    archive: int


class Drawn(TypedDict):
    """What of a mask is drawn on an image."""

    frame: int
    number: int | None
    value: int | None
    lead: list[float] | None


class FrameHeader(TypedDict, total=False):
    """What a multi-frame file says of one frame: a key for each thing that it says."""

    image_type: str | None
    thickness: float | None
    echo_time: float | None
    b_value: float | None
    temporal_index: int | None
    acquisition: int | None
    detector: int | None
    energy_window: int | None
    segment: int | None
    segment_label: str | None
    referenced_sop_uid: str | None
    referenced_frame: int | None
    unit: str | None
    slope: float | None
    intercept: float | None
    windows: list[VoiWindow] | None
    spacing_y: float | None
    spacing_x: float | None
    position: list[float] | None
    orientation: list[float] | None
    matrix_row: int | None
    matrix_column: int | None
    z_offset: float | None
    optical_path: str | None
    time: float | None
    trigger_time: float | None
    phase: float | None
    flip_angle: float | None
    inversion_time: float | None
    asl_label: str | None
    gradient: list[float] | None
    mapped_low: float | None
    mapped_high: float | None
    dimensions: list[int] | None
    acquired: float | None
    in_stack: int | None
    stack_name: str | None
    plane_step: float | None


class Header(TypedDict):
    """A row of FILES: what the header of a file says; a plan's has no `per_frame`."""

    height: int
    width: int
    kind: str
    root: int
    path: str
    study_uid: str | None
    series_uid: str | None
    sop_uid: str | None
    frame_of_reference_uid: str | None
    sop_class_uid: str | None
    patient: str | None
    accession: str | None
    sex: str | None
    age: float | None
    modality: str | None
    manufacturer: str | None
    model: str | None
    body_part: str | None
    laterality: str | None
    view_position: str | None
    image_type: str | None
    presentation_intent: str | None
    kvp: float | None
    kernel: str | None
    thickness: float | None
    echo_time: float | None
    repetition_time: float | None
    b_value: float | None
    temporal_index: int | None
    acquisition: int | None
    detector: int | None
    energy_window: int | None
    instance: int | None
    dose_type: str | None
    segment: int | None
    segment_label: str | None
    segments: list[Segment] | None
    referenced_sop_uid: str | None
    referenced_frame: int | None
    contrast: bool
    photometric: str
    bits_stored: int
    transfer_syntax: str
    unit: str | None
    slope: float | None
    intercept: float | None
    windows: list[VoiWindow] | None
    rule: int | None
    padding_value: float | None
    padding_limit: float | None
    lossy: bool
    burned_in: bool | None
    spacing_y: float | None
    spacing_x: float | None
    spacing_tag: str | None
    pixel_aspect: float | None
    position: list[float] | None
    orientation: list[float] | None
    matrix_row: int | None
    matrix_column: int | None
    z_offset: float | None
    optical_path: str | None
    time: float | None
    trigger_time: float | None
    phase: float | None
    flip_angle: float | None
    inversion_time: float | None
    asl_label: str | None
    gradient: list[float] | None
    flags: list[str] | None
    size: int
    mtime_ns: int
    member: MemberRow | None
    pixel_keyword: str
    pixel_vr: str
    pixel_offset: int
    pixel_length: int | None
    frames: int
    samples: int
    planar: int
    bits_allocated: int
    high_bit: int
    overlay_bits: int
    signed: bool
    palette_bits: int | None
    lut_low: float | None
    lut_high: float | None
    inverted: bool | None
    voi_lut: bool
    voi: bool
    suv_factor: float | None
    suv_flag: str | None
    suv_refusal: str | None
    fractional_max: int | None
    referenced_series: list[str] | None
    mapped_low: float | None
    mapped_high: float | None
    dimensions: list[int] | None
    slice_location: float | None
    concatenation_uid: str | None
    in_concatenation: int | None
    acquired: float | None
    gradient_said: list[float] | None
    person: str | None
    born: str | None
    in_stack: int | None
    stack_name: str | None
    plane_step: float | None
    parts: int | None
    parts_across: int | None
    part_height: int | None
    part_width: int | None
    part_step: list[float] | None
    own: list[list[str]] | None
    tiles_down: int | None
    tiles_across: int | None
    focal_planes: int | None
    first_frame: int | None
    z_first: float | None
    z_step: float | None
    tile_channels: list[TileChannel] | None
    waveforms: list[Multiplex] | None
    meant: list[Meant] | None
    per_frame: NotRequired[list[FrameHeader] | None]


class FrameRow(TypedDict, total=False):
    """A row of FRAMES, the plan, or some columns of one."""

    file: int
    drawn_height: int | None
    drawn_width: int | None
    mapped_low: float | None
    mapped_high: float | None
    array: int
    row: int
    height: int
    width: int
    scale_y: float | None
    scale_x: float | None
    offset_y: float | None
    offset_x: float | None
    frame: int
    part_of_frame: int
    image_type: str | None
    thickness: float | None
    echo_time: float | None
    b_value: float | None
    temporal_index: int | None
    acquisition: int | None
    detector: int | None
    energy_window: int | None
    segment: int | None
    segment_label: str | None
    referenced_sop_uid: str | None
    referenced_frame: int | None
    image_sop_uid: str | None
    image_frame: int | None
    image_part: int | None
    drawn: list[Drawn] | None
    image_by: str | None
    mask_reach: float | None
    mask_reaches: list[float] | None
    unit: str | None
    slope: float | None
    intercept: float | None
    windows: list[VoiWindow] | None
    spacing_y: float | None
    spacing_x: float | None
    position: list[float] | None
    orientation: list[float] | None
    matrix_row: int | None
    matrix_column: int | None
    focal_plane: int | None
    z_offset: float | None
    optical_path: str | None
    stack: int
    stack_index: int
    stack_regular: bool | None
    stack_of: int | None
    part: int | None
    stack_flags: list[str] | None
    tilt: float | None
    time: float | None
    trigger_time: float | None
    phase: float | None
    flip_angle: float | None
    inversion_time: float | None
    asl_label: str | None
    gradient: list[float] | None
