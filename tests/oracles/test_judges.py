"""The judges know what they judge; their excuses are as narrow as their reasons."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from pydicom.dataset import Dataset, FileMetaDataset

from tests.oracles import judges
from tests.pixels.cases import item


def header(**elements: Any) -> Dataset:
    ds = item(Rows=3, Columns=3, BitsAllocated=16, BitsStored=16, HighBit=15, **elements)
    ds.file_meta = FileMetaDataset()
    return ds


@pytest.mark.parametrize(
    ("elements", "given", "shape"),
    [
        ({}, (3, 3), (1, 3, 3)),  # ACR-NEMA: neither samples nor photometric interpretation
        ({"SamplesPerPixel": 1, "PhotometricInterpretation": "MONOCHROME2"}, (3, 3), (1, 3, 3)),
        ({"SamplesPerPixel": 1, "PhotometricInterpretation": "MONOCHROME2"}, (4, 3, 3), (4, 3, 3)),
        ({"SamplesPerPixel": 3, "PhotometricInterpretation": "RGB"}, (3, 3, 3), (1, 3, 3, 3)),
        ({"PhotometricInterpretation": "PALETTE COLOR"}, (3, 3, 3), (1, 3, 3, 3)),
    ],
)
def test_frames_of_three_by_three(elements: Any, given: Any, shape: Any) -> None:
    assert judges._as_frames(np.zeros(given), header(**elements)).shape == shape


def groups(*slopes: float | None) -> dict[str, Any]:
    made = []
    for slope in slopes:
        transform = item(RescaleSlope=slope, RescaleIntercept=0)
        made.append(item(PixelValueTransformationSequence=[transform]) if slope else item())
    return {"PerFrameFunctionalGroupsSequence": made}


@pytest.mark.parametrize(
    ("elements", "excused"),
    [
        ({}, False),
        (groups(2, 2), False),
        (groups(None, None), False),
        (groups(2, 3), True),
        (groups(2, None), True),
        ({"ModalityLUTSequence": [item()]}, False),  # empty: there is nothing to ignore
        ({"ModalityLUTSequence": [item(LUTData=bytes(2))]}, True),
    ],
)
def test_simpleitk_is_excused_for_what_it_cannot(elements: Any, excused: bool) -> None:
    assert bool(judges.ORACLES[0].excuse(header(**elements))) == excused


def test_every_excuse_can_be_asked_for_a_bare_header() -> None:
    for oracle in judges.ORACLES:
        oracle.excuse(header())


def test_real_world_values_of_a_map() -> None:
    mapped = item(
        RealWorldValueMappingSequence=[item(RealWorldValueSlope=0.5, RealWorldValueIntercept=1.0)],
        PixelValueTransformationSequence=[item(RescaleSlope=1, RescaleIntercept=0)],
    )
    ds = header(SOPClassUID=judges.MAP, SharedFunctionalGroupsSequence=[mapped])
    assert judges.modality(np.full((1, 1, 1), 8), ds).tolist() == [[[5.0]]]
