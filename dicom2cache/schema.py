"""The catalogue of columns: one row each, from which every table and the wanted elements follow.

`STORED` has the columns of frames/ in their order, `PLANNED` those that planning and decoding need
beside them. To add a column, add its row here. With a `read` that is all; else headers/ or
planning/ gives it its value, under this name. FORMAT.md's table is made from the rows:
`python -m tests.support.catalogue` writes it anew.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import pyarrow as pa

BOOL, TEXT, TEXTS = pa.bool_(), pa.string(), pa.list_(pa.string())
INT8, INT16, INT32, INT64, UINT32 = pa.int8(), pa.int16(), pa.int32(), pa.int64(), pa.uint32()
FLOAT32, FLOAT64 = pa.float32(), pa.float64()
VECTOR3, VECTOR6 = pa.list_(FLOAT64, 3), pa.list_(FLOAT64, 6)
WINDOW = pa.struct(
    {"center": FLOAT64, "width": FLOAT64, "function": TEXT, "explanation": TEXT}.items()
)
"""one VOI window, in units of the modality values"""
WINDOWS = pa.list_(WINDOW)
SEGMENT = pa.struct(
    {
        "number": INT32, "label": TEXT, "category": TEXT, "type": TEXT, "type_meaning": TEXT
    }.items()
)  # fmt: skip
"""one segment of a segmentation (PS3.3 C.8.20.4)"""

TILE_CHANNEL = pa.struct({"id": TEXT, "label": TEXT}.items())
"""an optical path by its identifier, or a segment by its number"""

DRAWN = pa.struct(
    {"frame": INT32, "number": INT32, "value": INT32, "lead": pa.list_(FLOAT64)}.items()
)
"""what is drawn on an image: of a frame of a mask the pixels that have a number (null: all that are
something) as a value (null: as they are); lead: from its pixels to the mask's (null: the same)"""
CHANNEL = pa.struct(
    {
        "label": TEXT, "source": TEXT, "source_meaning": TEXT, "modifiers": TEXT, "unit": TEXT,
        "sensitivity": FLOAT64, "baseline": FLOAT64, "bits_stored": INT16, "filter_low": FLOAT64,
        "filter_high": FLOAT64, "notch": FLOAT64, "time_skew": FLOAT64, "sample_skew": FLOAT64,
        "offset": FLOAT64,
    }.items()
)  # fmt: skip
"""one channel of a waveform (PS3.3 C.10.9.1.4)"""

MEMBER = pa.struct(
    {
        "kind": TEXT, "offset": INT64, "packed": INT64, "stop": INT64, "crc": INT64,
        "inside": INT32, "archive": INT64,
    }.items()
)  # fmt: skip
"""where a file lies in an archive: records.Member"""
LINE = pa.struct(
    {"sensitivity": FLOAT64, "correction": FLOAT64, "baseline": FLOAT64, "bits": INT16}.items()
)
"""how a sample of a channel becomes its value"""
MULTIPLEX = pa.struct(
    {
        "channels": INT32, "samples": INT32, "bits": INT16, "interpretation": TEXT, "vr": TEXT,
        "offset": INT64, "length": INT64, "padding": INT64, "lines": pa.list_(LINE),
    }.items()
)  # fmt: skip
"""where the samples of a multiplex group lie in a file, and how (PS3.3 C.10.9.1)"""
MEANT = pa.struct(
    {
        "channels": pa.list_(CHANNEL),
        "sampling_rate": FLOAT64,
        "time_offset": FLOAT64,
        "originality": TEXT,
        "group_label": TEXT,
    }.items()
)
"""what they mean, under the names that frames/ has for it"""


@dataclass(frozen=True)
class Column:
    """A row of the catalogue."""

    name: str
    type: pa.DataType
    level: str
    """who says it, words with a blank between: `file` and `frame` (the header of the file, and of
    each of its frames, where that differs), `plan` (for each frame), `result` (of converting it),
    or `commit` (follows from the others)"""
    meaning: str
    """what FORMAT.md says of it"""
    unit: str = ""
    dicom: str = ""
    """keywords of the elements of a dataset that it hangs on, a blank between"""
    read: Literal["", "text", "number", "whole", "vector"] = ""
    """the reader in headers/tags.py that takes it from the first of them that says something;
    without one, it is computed"""
    where: bool = True
    """a `where` may name it, if it is `file` and one value"""
    privacy: Literal["", "kept", "listed", "hashed", "dropped"] = ""
    """what a de-identified cache has of it: all (words of this program), what a standard lists
    (privacy/terms.py), a keyed hash, or null; of a text that says nothing null, of numbers all"""
    domain: str = ""
    """of what is hashed, what stands before it: columns with one domain have one hash for one
    value"""

    @property
    def levels(self) -> frozenset[str]:
        """The words of `level`; what a frame says, its file says for all."""
        words = frozenset(self.level.split())
        return words | {"file"} if "frame" in words else words

    @property
    def keywords(self) -> tuple[str, ...]:
        """The words of `dicom`."""
        return tuple(self.dicom.split())


# fmt: off
STORED = (
    Column("array", INT16, "plan", "index into `arrays`"),
    Column("row", INT64, "plan", "first index in the array"),
    # `file`: Rows and Columns, `plan`: as stored.
    Column("height", INT32, "file plan", "the frame's own rows, as stored", "px", "Rows"),
    Column("width", INT32, "file plan", "the frame's own columns, as stored", "px", "Columns"),
    Column("source_height", INT32, "commit", "Rows of the file; of a mosaic, of one slice", "px"),
    Column("source_width", INT32, "commit", "Columns of the file; of a mosaic, of one slice", "px"),
    Column("scale_y", FLOAT64, "plan",
           "with the next three, where the source lies in the stored frame: its point (y, x) is at "
           "(scale_y * y + offset_y, scale_x * x + offset_x), counted from the outer corner of the "
           "first pixel; 1, 1, 0, 0 unless the recipe resizes"),
    Column("scale_x", FLOAT64, "plan", "stored pixels for one of the source's"),
    Column("offset_y", FLOAT64, "plan", "stored pixels before the source's first", "px"),
    Column("offset_x", FLOAT64, "plan", "stored pixels before the source's first", "px"),
    Column("kind", TEXT, "file",
           "`image`, `dose` (RT Dose), `map` (parametric map), `mask` (segmentation) or `waveform` "
           "(a multiplex group, channels x samples)",
           dicom="SOPClassUID", privacy="kept"),
    Column("root", INT16, "file", "folder of the source file: id in `sources`"),
    Column("path", TEXT, "file", "source file, below that folder, with `/`; `a.zip!/x.dcm` in one",
           privacy="hashed", domain="path"),
    Column("frame", INT32, "plan", "number of the frame in its file, from 0"),
    Column("part_of_frame", INT16, "plan",
           "slice of a frame that a volume was tiled into (Siemens mosaic, UIH VFRAME), from 0 in "
           "the order of the scanner; 0 elsewhere. (root, path, frame, part_of_frame) is unique"),
    Column("study_uid", TEXT, "file", "UID of the study", dicom="StudyInstanceUID", read="text",
           privacy="hashed", domain="uid"),
    Column("series_uid", TEXT, "file", "UID of the series", dicom="SeriesInstanceUID", read="text",
           privacy="hashed", domain="uid"),
    Column("sop_uid", TEXT, "file", "UID of the instance", dicom="SOPInstanceUID", read="text",
           privacy="hashed", domain="uid"),
    Column("frame_of_reference_uid", TEXT, "file", "UID of the space that positions are in",
           dicom="FrameOfReferenceUID", read="text", privacy="hashed", domain="uid"),
    Column("sop_class_uid", TEXT, "file", "UID of the kind of instance",
           dicom="SOPClassUID", read="text", privacy="listed"),
    # The plain text never leaves headers/.
    Column("patient", TEXT, "file",
           "HMAC-SHA-256 of the patient's ID, first 32 hex digits, by the patient key",
           dicom="PatientID", privacy="hashed", domain="patient"),
    Column("accession", TEXT, "file",
           "HMAC-SHA-256 of the accession number, first 32 hex digits, by the patient key",
           dicom="AccessionNumber", privacy="hashed", domain="accession"),
    Column("sex", TEXT, "file", "the patient's", dicom="PatientSex", read="text",
           privacy="listed"),
    Column("age", FLOAT32, "file", "the patient's at the examination", "years", "PatientAge"),
    Column("modality", TEXT, "file", "such as CT", dicom="Modality", read="text",
           privacy="listed"),
    Column("manufacturer", TEXT, "file", "of the machine", dicom="Manufacturer", read="text",
           privacy="dropped"),
    Column("model", TEXT, "file", "of the machine", dicom="ManufacturerModelName", read="text",
           privacy="dropped"),
    Column("body_part", TEXT, "file", "what was examined", dicom="BodyPartExamined", read="text",
           privacy="listed"),
    Column("laterality", TEXT, "file", "the first of the two that is there",
           dicom="ImageLaterality Laterality", read="text", privacy="listed"),
    Column("view_position", TEXT, "file", "such as AP or MLO", dicom="ViewPosition", read="text",
           privacy="listed"),
    Column("image_type", TEXT, "frame", "the values, joined by a backslash",
           dicom="ImageType", read="text", privacy="listed"),
    Column("presentation_intent", TEXT, "file", "FOR PRESENTATION or FOR PROCESSING",
           dicom="PresentationIntentType", read="text", privacy="listed"),
    Column("kvp", FLOAT64, "file", "peak voltage of the X-ray tube", "kV", "KVP", "number"),
    Column("kernel", TEXT, "file", "of the reconstruction", dicom="ConvolutionKernel", read="text",
           privacy="dropped"),
    Column("thickness", FLOAT64, "frame", "of the slice", "mm", "SliceThickness", "number"),
    Column("echo_time", FLOAT64, "frame", "TE", "ms", "EchoTime", "number"),
    Column("repetition_time", FLOAT64, "file", "TR", "ms", "RepetitionTime", "number"),
    Column("b_value", FLOAT64, "frame", "diffusion weighting", "s/mm²",
           "DiffusionBValue", "number"),
    Column("temporal_index", INT32, "frame", "number of the moment, or Temporal Position Index",
           dicom="TemporalPositionIdentifier", read="whole"),
    Column("acquisition", INT32, "frame", "number of the acquisition",
           dicom="AcquisitionNumber", read="whole"),
    Column("detector", INT32, "frame", "of nuclear medicine, from 1", dicom="DetectorVector"),
    Column("energy_window", INT32, "frame", "of nuclear medicine, from 1",
           dicom="EnergyWindowVector"),
    Column("instance", INT32, "file", "number of the instance",
           dicom="InstanceNumber", read="whole"),
    Column("dose_type", TEXT, "file", "such as PHYSICAL", dicom="DoseType", privacy="listed"),
    Column("segment", INT32, "frame", "Referenced Segment Number (0062,000B) of a mask"),
    Column("segment_label", TEXT, "frame",
           "label of that segment; of a `labelmap`, where the stored values are the numbers, see "
           "segments", dicom="SegmentSequence", privacy="dropped"),
    Column("segments", pa.list_(SEGMENT), "file",
           "of a mask those that its frame shows, in a `labelmap` all of the file: number, label, "
           "Segmented Property Category and Type as SCHEME:CODE such as `SCT:10200004`, and the "
           "type's Code Meaning; of masks that are drawn those of the row, by the recipe's classes "
           "if it has some", dicom="SegmentSequence", privacy="listed"),
    Column("referenced_sop_uid", TEXT, "frame", "the one image that a frame was derived from",
           privacy="hashed", domain="uid"),
    Column("referenced_frame", INT32, "frame", "and its frame, from 0"),
    Column("image_sop_uid", TEXT, "plan",
           "of a mask: `sop_uid` of the image of this cache that it lies on; null: none is found",
           privacy="hashed", domain="uid"),
    Column("image_frame", INT32, "plan", "and its `frame`"),
    Column("image_part", INT16, "plan", "and its `part_of_frame`"),
    Column("drawn", pa.list_(DRAWN), "plan",
           "of a mask that is drawn on its image, how: of a frame of its file the pixels that are "
           "`number` (null: all that are something), as `value` (null: as they are), the later "
           "over the earlier; `lead`: 2 x 3 numbers that lead from (column, row, 1) of a pixel of "
           "the image's source to the one of the mask, null where both have the same; of contours "
           "structure, position, orientation, spacing y and x, mm between images; null: the mask "
           "is stored as its file has it"),
    Column("image_by", TEXT, "plan",
           "how that was found: `reference`, by what the mask refers to; `geometry`, by where both "
           "lie; `resampled`, so, and the grids differ", privacy="kept"),
    Column("mask_reach", FLOAT64, "plan",
           "of a mask whose planes are farther apart than the slices of its image, how far its "
           "plane stands for to each side: of a slice so near that has no row of its file it is "
           "not known what is drawn; null: its plane is its image's", "mm"),
    Column("mask_reaches", pa.list_(FLOAT64), "plan",
           "of contours `mask_reach` of each entry of `drawn`: each structure has planes", "mm"),
    Column("contrast", BOOL, "file", "true if a contrast agent is named",
           dicom="ContrastBolusAgent"),
    Column("photometric", TEXT, "file", "that of the file, not of what is stored",
           dicom="PhotometricInterpretation", privacy="listed"),
    Column("bits_stored", INT16, "file", "that of the file, of the index if it has a palette",
           dicom="BitsStored"),
    Column("full_scale", FLOAT64, "commit",
           "of colour, the stored value of full intensity, 0 being none: 2^bits - 1 of the file's "
           "samples, or of its palette's; where the recipe has windows or percentiles, the "
           "greatest of an integer dtype, or 1; of a `fractional` mask Maximum Fractional Value: "
           "stored value / full_scale is the fraction, 0 to 1. null for grey and other masks"),
    Column("transfer_syntax", TEXT, "file", "UID (0002,0010)", privacy="listed"),
    Column("codec", TEXT, "result", "what decoded the frame, with its version", privacy="kept"),
    Column("unit", TEXT, "frame",
           "unit of the stored values: `HU`, `US` (unspecified), `OD`, `Gy`, `relative`, `BQML`, "
           "...; of a parametric map in UCUM, such as `mm2/s`; `SUVbw` (g/ml); `window` for values "
           "through the recipe's windows or percentiles, 0 to the greatest of an integer dtype, or "
           "0 to 1; `stored` for the file's own; for masks `binary`, `fractional` or `labelmap`; "
           "null for colour",
           dicom="RescaleType Units DoseUnits SegmentationType MultienergyCTAcquisition",
           privacy="listed"),
    Column("slope", FLOAT64, "frame",
           "stored value = slope * DICOM's stored value + intercept; null for colour, masks, and "
           "where a LUT or a window was applied",
           dicom="RescaleSlope DoseGridScaling RealWorldValueMappingSequence"),
    Column("intercept", FLOAT64, "frame", "see slope", dicom="RescaleIntercept"),
    Column("windows", WINDOWS, "frame",
           "VOI windows of the file, in the units of the modality values (those of the stored "
           "values, unless `unit` is `window`); null where `unit` is `stored` and no rising "
           "straight line, the same for all frames, leads there",
           dicom="WindowCenter WindowWidth WindowCenterWidthExplanation VOILUTFunction",
           privacy="listed"),
    Column("window_low", FLOAT64, "result",
           "with window_high, modality values that became the ends of the range, where one "
           "straight line between them was applied (a window, or percentiles of the stack)"),
    Column("window_high", FLOAT64, "result", "see window_low"),
    # `file`: place in the recipe's treatments.
    Column("rule", INT16, "file", "which of the recipe's rules was applied, from 1; 0: none",
           where=False),
    Column("polarity", TEXT, "commit",
           "`normal`: larger is brighter; `inverted`: larger is darker; null for colour",
           privacy="kept"),
    # `file`: the two stored values as declared, in no order.
    Column("padding_value", FLOAT64, "file",
           "value that padding has in the stored frame; the least one for a range",
           dicom="PixelPaddingValue FloatPixelPaddingValue DoubleFloatPixelPaddingValue"),
    Column("padding_limit", FLOAT64, "file",
           "the greatest value of a range of padding: all from padding_value to it is padding; "
           "null where there is one value only",
           dicom="PixelPaddingRangeLimit FloatPixelPaddingRangeLimit "
                 "DoubleFloatPixelPaddingRangeLimit"),
    Column("padding_fraction", FLOAT32, "result",
           "share of pixels that are padding, of the file or added by the recipe's `fit` (these "
           "hold its `pad`); null where there is none"),
    Column("lossy", BOOL, "file",
           "the file says, or its transfer syntax implies, that it was compressed with loss",
           dicom="LossyImageCompression"),
    Column("burned_in", BOOL, "file", "YES: there is text in the pixels",
           dicom="BurnedInAnnotation"),
    Column("spacing_y", FLOAT64, "frame", "between rows of the stored frame", "mm",
           "PixelSpacing ImagerPixelSpacing NominalScannedPixelSpacing "
           "SequenceOfUltrasoundRegions"),
    Column("spacing_x", FLOAT64, "frame", "between columns of the stored frame", "mm"),
    Column("spacing_tag", TEXT, "file", "keyword of the element that gave the spacing",
           privacy="kept"),
    Column("pixel_aspect", FLOAT64, "file",
           "height of a stored pixel over its width; where there is a spacing, that holds",
           dicom="PixelAspectRatio"),
    Column("position", VECTOR3, "frame",
           "centre of the first stored pixel, moved with the frame; in a file of several frames "
           "the frame's own, or computed where the standard says how, else null",
           "mm", "ImagePositionPatient", "vector"),
    Column("orientation", VECTOR6, "frame", "direction of a row, then that of a column",
           dicom="ImageOrientationPatient", read="vector"),
    Column("matrix_row", INT32, "frame",
           "of a tile of a whole slide: row of its first pixel in the total pixel matrix, from 0 "
           "(PS3.3 C.7.6.17.3, or Plane Position (Slide))", "px"),
    Column("matrix_column", INT32, "frame", "and column", "px"),
    Column("focal_plane", INT32, "plan",
           "of a TILED_FULL slide: number of the focal plane, from 0, next to the glass"),
    Column("z_offset", FLOAT64, "frame",
           "of a tile: Z Offset in Slide Coordinate System (0040,074A)", "µm"),
    Column("optical_path", TEXT, "frame", "of a tile: Optical Path Identifier (0048,0106)",
           privacy="dropped"),
    Column("stack", INT64, "plan", "number of the stack, from 0, unique in the cache"),
    Column("stack_index", INT32, "plan", "place in the stack, from 0"),
    Column("stack_regular", BOOL, "plan",
           "true: two positions or more, each once, on a straight line, every step within 2% of "
           "the median step or 0.01 mm; false: else, a single frame too; null: nobody knows where "
           "the frames lie"),
    Column("stack_of", INT64, "plan",
           "what the parts share that one acquisition was split into: the least of their numbers; "
           "its own for a stack that was not split"),
    Column("part", INT32, "plan",
           "place of the stack among those parts, in the order of acquisition, from 0"),
    Column("stack_flags", TEXTS, "plan",
           "what is to be known of the stack, see below; null if nothing", privacy="kept"),
    Column("tilt", FLOAT64, "plan",
           "from the normal of the slices to the line that their first pixels lie on, where the "
           "stack is sheared (flag `tilted`); null where it is upright. Positive where the first "
           "pixel moves against the columns (or the rows, if it moves more along those) as the "
           "slices follow one another: the sign that CT scanners give Gantry/Detector Tilt "
           "(0018,1120)", "degrees"),
    Column("time", FLOAT64, "frame",
           "of the frame in its series; or Temporal Position Time Offset (0020,930D)", "ms",
           "FrameReferenceTime", "number"),
    Column("trigger_time", FLOAT64, "frame",
           "in the heart's cycle; or Nominal Cardiac Trigger Delay Time (0020,9153)", "ms",
           "TriggerTime", "number"),
    Column("phase", FLOAT64, "frame", "of the heart's cycle, else of the breath's", "%",
           "NominalPercentageOfCardiacPhase NominalPercentageOfRespiratoryPhase", "number"),
    Column("flip_angle", FLOAT64, "frame", "of the excitation", "degrees", "FlipAngle", "number"),
    Column("inversion_time", FLOAT64, "frame", "TI", "ms", "InversionTime", "number"),
    Column("asl_label", TEXT, "frame", "of arterial spin labeling: LABEL, CONTROL, M_ZERO_SCAN",
           dicom="ASLContext", read="text", privacy="listed"),
    Column("gradient", VECTOR3, "frame",
           "direction of the diffusion gradient, a unit vector in patient coordinates; null where "
           "the header does not say it in such",
           dicom="DiffusionGradientDirectionSequence DiffusionGradientOrientation "
                 "InPlanePhaseEncodingDirection PatientPosition"),
    Column("sampling_rate", FLOAT64, "commit",
           "of a waveform, as is what follows: Sampling Frequency (003A,001A)", "Hz"),
    Column("channels", pa.list_(CHANNEL), "commit",
           "of each row of the stored frame: Channel Label (003A,0203); Channel Source (003A,0208) "
           "as SCHEME:CODE such as `MDC:2:1`, and its Code Meaning; Channel Source Modifiers, "
           "several with a blank between; the unit of its stored values in UCUM; unit by step of a "
           "sample (Channel Sensitivity times Correction Factor), and Channel Baseline, both "
           "applied; Waveform Bits Stored; -3 dB points of filters and frequency of the notch "
           "filter, Hz; Channel Time Skew in seconds, or Sample Skew in samples, and Channel "
           "Offset in seconds, none of them applied", privacy="listed"),
    Column("time_offset", FLOAT64, "commit",
           "Multiplex Group Time Offset (0018,1068), from the acquisition's date and time on",
           "ms"),
    Column("originality", TEXT, "commit", "Waveform Originality (003A,0004)", privacy="listed"),
    Column("group_label", TEXT, "commit", "Multiplex Group Label (003A,0020)", privacy="dropped"),
    Column("min", FLOAT64, "result",
           "of the stored values without padding; null if there are none"),
    Column("max", FLOAT64, "result", "like min"),
    Column("mean", FLOAT64, "result", "like min"),
    Column("std", FLOAT64, "result", "like min"),
    Column("p0_5", FLOAT64, "result",
           "0.5th percentile of a regular sub-grid of about 16,384 pixels, without padding"),
    Column("p1", FLOAT64, "result", "1st, likewise"),
    Column("p50", FLOAT64, "result", "50th, likewise"),
    Column("p99", FLOAT64, "result", "99th, likewise"),
    Column("p99_5", FLOAT64, "result", "99.5th, likewise"),
    Column("mask_counts", pa.list_(INT64), "result",
           "of a mask, pixels of each entry of `segments` in the stored frame, in their order: of "
           "`binary` those that are not 0, of `fractional` from half of full_scale on; what frames "
           "of these show is one segment, listed or not"),
    Column("crc32c", UINT32, "result", "CRC-32C (RFC 3720) of all bytes of the slot, decompressed"),
    Column("flags", TEXTS, "file result",
           "oddities that were met and dealt with, see below; null if none", dicom="ICCProfile",
           privacy="kept"),
)
"""the columns of frames/"""

PLANNED = (
    Column("file", INT32, "plan", "row of the plan's file table"),
    # of a mask that is drawn on an image
    Column("drawn_height", INT32, "plan", "rows of the image's source", "px"),
    Column("drawn_width", INT32, "plan", "columns", "px"),
    Column("reason", TEXT, "result", "why the frame is not stored; null: it is"),
    Column("stage", TEXT, "result", "`stage` of failures/; null: it is stored"),
    Column("size", INT64, "file", "of the file", "bytes"),
    Column("mtime_ns", INT64, "file", "when the file was changed", "ns"),
    Column("member", MEMBER, "file", "where it lies in an archive; null: a file", where=False),
    # where and how the pixels lie
    Column("pixel_keyword", TEXT, "file", "PixelData, FloatPixelData or DoubleFloatPixelData",
           dicom="SpectroscopyData"),  # which has none of the three
    Column("pixel_vr", TEXT, "file", "of that element"),
    Column("pixel_offset", INT64, "file", "of its value in the file", "bytes", where=False),
    Column("pixel_length", INT64, "file", "of its value; null: undefined (encapsulated)", "bytes"),
    Column("frames", INT32, "file", "how many the file has", dicom="NumberOfFrames"),
    Column("samples", INT16, "file", "1, or 3 for colour", dicom="SamplesPerPixel"),
    Column("planar", INT8, "file", "1: colour by plane", dicom="PlanarConfiguration"),
    Column("bits_allocated", INT16, "file", "1, 8, 16, 32 or 64", dicom="BitsAllocated"),
    Column("high_bit", INT16, "file", "the highest stored bit", dicom="HighBit"),
    Column("overlay_bits", INT32, "file", "mask of the stored bits that overlays are declared in",
           where=False),
    Column("signed", BOOL, "file", "two's complement", dicom="PixelRepresentation"),
    Column("palette_bits", INT8, "file", "8 or 16: bits of an RGB sample; null: no palette",
           dicom="RedPaletteColorLookupTableDescriptor GreenPaletteColorLookupTableDescriptor "
                 "BluePaletteColorLookupTableDescriptor RedPaletteColorLookupTableData "
                 "GreenPaletteColorLookupTableData BluePaletteColorLookupTableData "
                 "SegmentedRedPaletteColorLookupTableData "
                 "SegmentedGreenPaletteColorLookupTableData "
                 "SegmentedBluePaletteColorLookupTableData"),
    Column("lut_low", FLOAT64, "file", "least output of the modality LUT; null: there is none",
           dicom="ModalityLUTSequence"),
    Column("lut_high", FLOAT64, "file", "greatest output of the modality LUT"),
    # what the values mean
    Column("inverted", BOOL, "file", "the file's own display turns larger into darker",
           dicom="PhotometricInterpretation PresentationLUTShape"),
    Column("voi_lut", BOOL, "file", "there is a VOI LUT sequence", dicom="VOILUTSequence",
           where=False),
    Column("voi", BOOL, "file", "there is a window or a VOI LUT, for the file or its frames"),
    Column("suv_factor", FLOAT64, "file", "SUV by body weight = factor * value", "g/ml by Bq/ml",
           "Units SUVType CorrectedImage DecayCorrection PatientWeight SeriesDate SeriesTime "
           "AcquisitionDate AcquisitionTime AcquisitionDateTime TimezoneOffsetFromUTC "
           "FrameReferenceTime ActualFrameDuration "
           "RadiopharmaceuticalInformationSequence", where=False),
    Column("suv_flag", TEXT, "file", "whose factor it is, if it is a maker's own", where=False),
    Column("suv_refusal", TEXT, "file", "why there is no factor; null: not PET, or there is one",
           where=False),
    Column("fractional_max", INT32, "file", "that of a fractional segmentation",
           dicom="MaximumFractionalValue"),
    Column("referenced_series", TEXTS, "file", "of a mask, series that it refers to",
           dicom="ReferencedSeriesSequence"),
    Column("mapped_low", FLOAT64, "frame plan",
           "least stored value of a parametric map that has a real world value; null: not said",
           where=False),
    Column("mapped_high", FLOAT64, "frame plan", "and the greatest", where=False),
    # how frames come to stacks
    Column("dimensions", pa.list_(INT32), "frame", "dimension index values of a frame"),
    Column("slice_location", FLOAT64, "file", "along the normal, from anywhere", "mm",
           "SliceLocation", "number"),
    Column("concatenation_uid", TEXT, "file", "UID of the instances that one was cut into",
           dicom="ConcatenationUID", read="text", privacy="hashed", domain="uid"),
    Column("in_concatenation", INT32, "file", "number of the instance among them",
           dicom="InConcatenationNumber", read="whole"),
    # See IN_MEMORY.
    Column("acquired", FLOAT64, "frame", "when, since the year 0", "ms",
           "AcquisitionDateTime AcquisitionDate AcquisitionTime", where=False),
    Column("gradient_said", VECTOR3, "file",
           "as its maker writes it, where the axes are not known: equal ones are one direction",
           where=False),
    Column("person", TEXT, "file", "hash of the patient's name, without its variants",
           dicom="PatientName", where=False),
    Column("born", TEXT, "file", "hash of the birth date", dicom="PatientBirthDate", where=False),
    Column("in_stack", INT32, "frame", "place in the stack that the file names",
           dicom="InStackPositionNumber", read="whole"),
    Column("stack_name", TEXT, "frame", "name of that stack", dicom="StackID", read="text"),
    Column("plane_step", FLOAT64, "frame", "from plane to plane of a multi-frame file", "mm",
           dicom="SpacingBetweenSlices", where=False),
    # slices that were tiled into one frame; null: it is one image
    Column("parts", INT16, "file", "how many", where=False),
    Column("parts_across", INT16, "file", "how many side by side", where=False),
    Column("part_height", INT32, "file", "rows of one", "px", where=False),
    Column("part_width", INT32, "file", "columns of one", "px", where=False),
    Column("part_step", VECTOR3, "file", "from one to the next, in patient coordinates", "mm",
           "SpacingBetweenSlices"),
    Column("own", pa.list_(TEXTS), "file", "values of the recipe's `columns`", where=False),
    # how the frames of a TILED_FULL slide follow each other
    Column("tiles_down", INT32, "file", "rows of tiles", dicom="DimensionOrganizationType "
           "TotalPixelMatrixRows", where=False),
    Column("tiles_across", INT32, "file", "columns of tiles", dicom="TotalPixelMatrixColumns",
           where=False),
    Column("focal_planes", INT32, "file", "how many", dicom="TotalPixelMatrixFocalPlanes",
           where=False),
    Column("first_frame", INT32, "file", "in the whole of a concatenation, from 0",
           dicom="ConcatenationFrameOffsetNumber", where=False),
    Column("z_first", FLOAT64, "file", "of the first focal plane", "µm",
           "TotalPixelMatrixOriginSequence", where=False),
    Column("z_step", FLOAT64, "file", "from plane to plane", "µm", where=False),
    Column("tile_channels", pa.list_(TILE_CHANNEL), "file", "optical paths, or segments of a mask",
           dicom="OpticalPathSequence NumberOfOpticalPaths SegmentSequence"),
    # The elements of a Waveform Sequence (5400,0100) are not among KEYWORDS: it may be most of the
    # file, and headers/multiplex.py reads it.
    Column("waveforms", pa.list_(MULTIPLEX), "file", "multiplex groups, one for each frame"),
    Column("meant", pa.list_(MEANT), "file", "what each of them means"),
)
"""columns that are not in frames/"""

REJECTS = pa.schema(
    [
        ("root", INT16),
        ("path", TEXT),
        ("frame", INT32),  # null: the whole file
        ("outcome", TEXT),
        ("stage", TEXT),
        ("reason", TEXT),
        # of a duplicate: the file that is kept, and its frame if it has but one
        ("same_root", INT16),
        ("same_path", TEXT),
        ("same_frame", INT32),
        # whose it is, where the header could be read: what is removed from a cache goes by that
        ("patient", TEXT),
        ("study_uid", TEXT),
        ("series_uid", TEXT),
    ]
)
"""the rows of failures/"""

REMOVED = pa.schema([("what", TEXT), ("hash", TEXT)])
"""the rows of removed/: keyed hashes of what is not to come back"""

CONTOURS_TABLE = pa.schema(
    [
        ("root", INT16), ("path", TEXT), ("structure", INT32), ("name", TEXT), ("type", TEXT),
        ("algorithm", TEXT), ("colour", pa.list_(INT16, 3)),
        ("contour", INT32),  # null: a structure without contours
        ("geometry", TEXT), ("points", pa.list_(FLOAT64)), ("referenced_sop_uid", TEXT),
        ("referenced_frame", INT32), ("slab_thickness", FLOAT64), ("slab_offset", VECTOR3),
        ("frame_of_reference_uid", TEXT), ("referenced_series_uid", TEXT), ("sop_uid", TEXT),
        ("patient", TEXT), ("study_uid", TEXT), ("series_uid", TEXT), ("flags", TEXTS),
    ]
)
"""the rows of contours/"""

GONE = pa.schema([("kind", TEXT), ("row", INT64)])
"""of the plan of a new numbering, the rows of a kind of table that are not in it"""

WHOSE = ("patient", "study_uid", "series_uid")
"""columns of frames/ and failures/ that say whose a file is"""

SHARDS_TABLE = pa.schema(
    [
        ("array", INT16),
        ("shard", INT32),
        ("bytes", INT64),
        ("index_crc32c", UINT32),
        ("chunks_crc32c", UINT32),
        ("frames", INT32),
        ("slots", INT32),
    ]
)
"""the rows of shards/"""
# fmt: on


COLUMNS = (*STORED, *PLANNED)

# fmt: off
NEVER_NULL = frozenset({
    # of FILES
    "root", "path", "size", "mtime_ns", "transfer_syntax", "pixel_keyword", "pixel_vr",
    "pixel_offset", "frames", "height", "width", "samples", "planar", "photometric",
    "bits_allocated", "bits_stored", "high_bit", "overlay_bits", "signed", "kind", "contrast",
    "lossy", "voi_lut", "voi",
    # of FRAMES
    "file", "frame", "part_of_frame", "array", "row", "stack", "stack_index",
})
# fmt: on
"""columns that have a value in every row; the types in records.py say so"""


def _fields(columns: tuple[Column, ...], *levels: str) -> list[tuple[str, pa.DataType]]:
    return [(c.name, c.type) for c in columns if c.levels & set(levels)]


FRAMES_TABLE = pa.schema([(c.name, c.type) for c in STORED])
"""the rows of frames/"""

FRAMES = pa.schema([*_fields(PLANNED, "plan"), *_fields(STORED, "plan", "frame")])
"""one row for each frame to be stored: the plan"""

RESULTS = pa.schema(_fields(COLUMNS, "result"))
"""one row for each slot of a shard, in order"""

PER_FRAME = pa.struct(_fields(COLUMNS, "frame"))
"""what a multi-frame file says of one frame; null where the file's own value holds"""

PER_FRAME_FIELDS = tuple(field.name for field in PER_FRAME)

FILES = pa.schema([*_fields(COLUMNS, "file"), ("per_frame", pa.list_(PER_FRAME))])
"""one row for each source file: what its header says"""

IN_MEMORY = ("acquired", "gradient_said", "person", "born")
"""columns that only the planning of stacks may see: no table on a disk has them"""
FILE_COLUMNS = tuple(
    c.name for c in COLUMNS if "file" in c.levels and c.where and not pa.types.is_nested(c.type)
)
"""what a `where` may name"""

_BY_FRAME = {
    "SharedFunctionalGroupsSequence",
    "PerFrameFunctionalGroupsSequence",
    *("GridFrameOffsetVector", "SliceLocationVector", "SpacingBetweenSlices"),
    *("FrameIncrementPointer", "FrameTime", "FrameTimeVector"),
    *("CineRate", "RecommendedDisplayFrameRate", "NumberOfTemporalPositions"),
    *("DetectorInformationSequence", "SliceVector", "AngularViewVector", "NumberOfSlices"),
    *("RRIntervalVector", "TimeSlotVector", "PhaseVector", "TimeSliceVector"),
}
"""elements that say what single frames say"""

KEYWORDS = tuple(sorted(_BY_FRAME.union({"SpecificCharacterSet"}, *(c.keywords for c in COLUMNS))))
"""elements of a dataset that the columns hang on: the others are not read"""
