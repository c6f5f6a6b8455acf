"""Every element that the code reads is one that it asks for: what is not wanted is None for every
file, and nobody would notice."""

from __future__ import annotations

import ast
import re
from itertools import product
from pathlib import Path
from typing import Any

import pytest
from pydicom.datadict import DicomDictionary, keyword_for_tag, tag_for_keyword
from pydicom.dataset import Dataset

import dicom2cache.headers
from dicom2cache.headers import describe as module
from dicom2cache.headers import structures
from dicom2cache.headers.by_pydicom import by_pydicom
from dicom2cache.headers.describe import wanted_tags
from dicom2cache.schema import COLUMNS, KEYWORDS
from dicom2cache.sources.find import scan
from tests.support.caches import built, stored
from tests.support.dicom_files import DATA_STORE, WHEEL, pattern, uid, write_dicom

HEADERS = sorted(Path(dicom2cache.headers.__file__).parent.rglob("*.py"))
STANDARD = {keyword for *_, keyword in DicomDictionary.values() if keyword}
NOT_ELEMENTS = {"Date", "Time", "DateTime"}
"""words that are keywords too (of report items), and here the ends of others"""

# fmt: off
INSIDE = {
    # functional groups, shared and of a frame
    "PixelValueTransformationSequence", "PlanePositionSequence", "PlaneOrientationSequence",
    "PixelMeasuresSequence", "FrameContentSequence", "MREchoSequence", "MRDiffusionSequence",
    "CardiacSynchronizationSequence", "CTImageFrameTypeSequence", "MRImageFrameTypeSequence",
    "PETFrameTypeSequence", "FrameVOILUTSequence", "SegmentIdentificationSequence",
    "DerivationImageSequence", "TemporalPositionSequence", "MRTimingAndRelatedParametersSequence",
    "MRModifierSequence", "MRArterialSpinLabelingSequence", "RespiratorySynchronizationSequence",
    "PlanePositionSlideSequence", "OpticalPathIdentificationSequence",
    # their items
    "DimensionIndexValues", "FrameAcquisitionDateTime", "FrameReferenceDateTime",
    "TemporalPositionTimeOffset", "InversionTimes",
    "TemporalPositionIndex", "FrameAcquisitionNumber", "EffectiveEchoTime",
    "NominalCardiacTriggerDelayTime", "FrameType", "ReferencedSegmentNumber",
    "SourceImageSequence", "ReferencedSOPInstanceUID", "ReferencedFrameNumber",
    "RowPositionInTotalImagePixelMatrix", "ColumnPositionInTotalImagePixelMatrix",
    "ZOffsetInSlideCoordinateSystem", "OpticalPathIdentifier",
    # items of Referenced Series Sequence
    "ReferencedInstanceSequence",
    # items of Segment Sequence
    "SegmentNumber", "SegmentLabel", "SegmentedPropertyCategoryCodeSequence",
    "SegmentedPropertyTypeCodeSequence",
    # of code sequences
    "CodeValue", "LongCodeValue", "URNCodeValue", "CodingSchemeDesignator", "CodeMeaning",
    # of Modality LUT Sequence, VOI LUT Sequence
    "LUTDescriptor", "LUTData", "ModalityLUTType",
    # of Real World Value Mapping Sequence
    "RealWorldValueSlope", "RealWorldValueIntercept", "RealWorldValueLUTData",
    "RealWorldValueFirstValueMapped", "RealWorldValueLastValueMapped",
    "DoubleFloatRealWorldValueFirstValueMapped", "DoubleFloatRealWorldValueLastValueMapped",
    "MeasurementUnitsCodeSequence",
    # of Sequence of Ultrasound Regions
    "PhysicalUnitsXDirection", "PhysicalUnitsYDirection", "PhysicalDeltaX", "PhysicalDeltaY",
    # of Radiopharmaceutical Information Sequence
    "RadionuclideTotalDose", "RadionuclideHalfLife", "RadiopharmaceuticalStartTime",
    "RadiopharmaceuticalStartDateTime",
    # of Waveform Sequence
    "ChannelBaseline", "ChannelDefinitionSequence", "ChannelLabel", "ChannelOffset",
    "ChannelSampleSkew", "ChannelSensitivity", "ChannelSensitivityCorrectionFactor",
    "ChannelSensitivityUnitsSequence", "ChannelSourceModifiersSequence", "ChannelSourceSequence",
    "ChannelTimeSkew", "FilterHighFrequency", "FilterLowFrequency", "MultiplexGroupLabel",
    "MultiplexGroupTimeOffset", "NotchFilterFrequency", "NumberOfWaveformChannels",
    "NumberOfWaveformSamples", "SamplingFrequency", "WaveformBitsAllocated", "WaveformBitsStored",
    "WaveformData", "WaveformOriginality", "WaveformPaddingValue", "WaveformSampleInterpretation",
}
"""elements that stand in items of sequences only: these are read with the sequence"""
OF_STRUCTURES = {
    # structure sets are read by themselves (headers/structures.py): what is asked for,
    *structures._TAGS,
    # and the items of these sequences
    "RTReferencedStudySequence", "RTReferencedSeriesSequence", "ROINumber", "ROIName",
    "ROIGenerationAlgorithm", "ReferencedFrameOfReferenceUID", "ReferencedROINumber",
    "RTROIInterpretedType", "ROIDisplayColor", "ContourSequence", "ContourGeometricType",
    "NumberOfContourPoints", "ContourData", "ContourImageSequence", "ContourSlabThickness",
    "ContourOffsetVector",
}
# fmt: on


def _keywords(code: str) -> set[str]:
    """Keywords of the standard that a module spells, or puts together of what it spells."""
    tree = ast.parse(code)
    texts = {n.value for n in ast.walk(tree) if isinstance(n, ast.Constant)}
    words = sorted(w for w in texts if isinstance(w, str) and re.fullmatch(r"[A-Za-z]*", w))
    found = set(words) & STANDARD
    for node in ast.walk(tree):
        if not isinstance(node, ast.JoinedStr):
            continue
        parts = [v.value if isinstance(v, ast.Constant) else None for v in node.values]
        if not any(parts) or not re.fullmatch(r"[A-Za-z]*", "".join(map(str, filter(None, parts)))):
            continue
        made = {
            "".join(p) for p in product(*(words if part is None else [str(part)] for part in parts))
        }
        could = "".join("[A-Za-z]+" if part is None else str(part) for part in parts)
        if any(re.fullmatch(could, keyword) for keyword in STANDARD):
            assert made & STANDARD, f"{ast.unparse(node)}: of what words? Spell them in the module"
        found |= made & STANDARD
    beside = {0x0002, 0x7FE0}  # file meta information, and the pixels themselves
    return {k for k in found if (tag_for_keyword(k) or 0) >> 16 not in beside} - NOT_ELEMENTS


SPELLED = {path.name: _keywords(path.read_text()) for path in HEADERS}


def test_keywords_are_found_however_they_are_spelled() -> None:
    code = (
        'for c in ("Red", "Blue"): f"{c}PaletteColorLookupTableData"; {"KVP": 1}; text(ds, "Rows")'
    )
    assert _keywords(code) == {
        "RedPaletteColorLookupTableData", "BluePaletteColorLookupTableData", "KVP", "Rows",
    }  # fmt: skip
    with pytest.raises(AssertionError, match="of what words"):
        _keywords('value(ds, f"{colour}PaletteColorLookupTableData")')


def test_what_the_code_reads_is_wanted() -> None:
    assert len(set().union(*SPELLED.values())) > 90
    for name, spelled in SPELLED.items():
        more = OF_STRUCTURES if name == "structures.py" else set()
        unknown = sorted(spelled - set(KEYWORDS) - INSIDE - more)
        assert not unknown, f"{name} reads what no row of schema.py names"


def test_what_is_wanted_is_read() -> None:
    by_word = {keyword for c in COLUMNS if c.read for keyword in c.keywords}
    assert set(KEYWORDS) <= by_word | set().union(*SPELLED.values())
    assert set().union(*SPELLED.values()) >= INSIDE | OF_STRUCTURES


def test_keywords_are_the_standards() -> None:
    assert set(KEYWORDS) <= STANDARD
    of_the_standard = [tag for tag in wanted_tags() if tag >> 24 != 0x60 and not tag >> 16 & 1]
    assert {keyword_for_tag(tag) for tag in of_the_standard} == set(KEYWORDS)


class _Asked(Dataset):
    """A dataset that remembers what it was asked for; items of its sequences do not."""

    asked: set[str]

    def get(self, key: Any, default: Any = None) -> Any:
        self.asked.add(key)
        return super().get(key, default)

    def __contains__(self, key: Any) -> bool:
        self.asked.add(key)
        return super().__contains__(key)


def test_real_files_are_asked_for_what_is_wanted(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = set[str]()
    monkeypatch.setattr(_Asked, "asked", asked, raising=False)
    describe = module.describe

    def listening(ds: Dataset, *rest: Any) -> Any:
        ds.__class__ = _Asked
        return describe(ds, *rest)

    monkeypatch.setattr("dicom2cache.headers.by_pydicom.describe", listening)
    roots, candidates, _ = scan([WHEEL, DATA_STORE], Path("/nowhere"))
    described = 0
    for candidate in candidates:
        try:
            by_pydicom(str(Path(roots[candidate.root], candidate.path)), candidate)
            described += 1
        except Exception:  # what is refused was asked too
            pass
    assert described > 150
    keywords = {k for k in asked if isinstance(k, str)}
    assert len(keywords) > 80
    assert keywords <= set(KEYWORDS)


def test_a_gradient_that_the_file_itself_says(tmp_path: Path) -> None:
    """Diffusion Gradient Direction Sequence (0018,9076) beside the others, as single slices have
    it: two directions at one place are two stacks."""
    for direction in ([1.0, 0.0, 0.0], [0.0, 0.6, -0.8]):
        item = Dataset()
        item.DiffusionGradientOrientation = direction
        for z in range(2):
            name = f"{direction[0]:g}-{z}.dcm"
            write_dicom(
                tmp_path / "in" / name, pattern(name, (4, 4)), Modality="MR",
                DiffusionBValue=1000.0, DiffusionGradientDirectionSequence=[item],
                FrameOfReferenceUID=uid("space"), PixelSpacing=[1, 1], InstanceNumber=1,
                ImagePositionPatient=[0, 0, z], ImageOrientationPatient=[1, 0, 0, 0, 1, 0],
            )  # fmt: skip
    rows = [row for row, _ in stored(built(tmp_path / "in", tmp_path / "cache"))]
    stacks = {(row["path"], row["stack"], row["stack_index"]) for row in rows}
    assert stacks == {
        ("0-0.dcm", 0, 0), ("0-1.dcm", 0, 1), ("1-0.dcm", 1, 0), ("1-1.dcm", 1, 1),
    }  # fmt: skip
    assert [row["stack_regular"] for row in rows] == [True] * 4
