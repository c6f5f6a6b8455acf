"""The catalogue of columns: its rows make sense, and what is made from them is current."""

from __future__ import annotations

from pathlib import Path
from typing import get_type_hints

import pyarrow as pa
import pytest

from dicom2cache import records
from dicom2cache.headers.read import read_headers
from dicom2cache.privacy.keys import PatientKey
from dicom2cache.privacy.terms import LISTED
from dicom2cache.schema import (
    COLUMNS,
    FILE_COLUMNS,
    FILES,
    FRAMES,
    NEVER_NULL,
    PER_FRAME,
    STORED,
    Column,
)
from dicom2cache.sources.find import scan
from tests.support import catalogue
from tests.support.dicom_files import DATA_STORE, WHEEL

LEVELS = {"file", "frame", "plan", "result", "commit"}


def test_the_format_page_has_the_catalogue() -> None:
    page = catalogue.PAGE.read_text()
    assert page == catalogue.with_table(page), "run: python -m tests.support.catalogue"
    assert "\n| kvp | float64 | kV | KVP (0018,0060) | peak voltage of the X-ray tube |\n" in page
    assert (
        "\n| orientation | fixed list of 6 float64 |  | ImageOrientationPatient (0020,0037)" in page
    )


def test_the_privacy_page_has_the_catalogue() -> None:
    page = catalogue.PRIVACY.read_text()
    assert page == catalogue.with_privacy_table(page), "run: python -m tests.support.catalogue"


def test_the_dictionary_has_the_elements_of_the_catalogue() -> None:
    module = catalogue.DICTIONARY.read_text()
    assert module == catalogue.dictionary(), "run: python -m tests.support.catalogue"
    assert '    0x00280030: ("DS", "PixelSpacing"),\n' in module


def test_every_text_of_a_cache_says_what_becomes_of_it() -> None:
    for column in STORED:
        text = "string" in str(column.type)
        assert bool(column.privacy) == text, f"{column.name}: {column.privacy!r}"
        assert bool(column.domain) == (column.privacy == "hashed"), column.name
        if column.privacy == "listed":
            nested = {"windows", "segments", "channels"}
            assert column.name in {*LISTED, "image_type", "sop_class_uid", *nested}


def test_the_types_of_rows_are_the_catalogues() -> None:
    module = catalogue.RECORDS.read_text()
    assert module == catalogue.with_row_classes(module), "run: python -m tests.support.catalogue"
    hints = get_type_hints(records.Header)
    assert hints["height"] is int
    assert hints["kvp"] == float | None
    assert hints["windows"] == list[records.VoiWindow] | None
    assert list(hints) == FILES.names
    assert list(get_type_hints(records.FrameRow)) == FRAMES.names
    assert list(get_type_hints(records.FrameHeader)) == [f.name for f in PER_FRAME]


def test_what_is_never_null_has_a_value_in_every_header() -> None:
    roots, candidates, _ = scan([WHEEL, DATA_STORE], Path("/nowhere"))
    files = read_headers([str(root) for root in roots], candidates, PatientKey(bytes(16)))[0]
    assert files.num_rows > 150
    assert {n for n in NEVER_NULL & set(FILES.names) if files[n].null_count} == set()
    assert set(FILES.names) | set(FRAMES.names) >= NEVER_NULL


def test_a_name_stands_once() -> None:
    names = [c.name for c in COLUMNS]
    assert len(names) == len(set(names)) > 90


@pytest.mark.parametrize("column", COLUMNS, ids=lambda c: c.name)
def test_a_row_makes_sense(column: Column) -> None:
    assert column.levels
    assert column.levels <= LEVELS
    assert column.meaning
    assert "|" not in column.meaning + column.unit  # it would end a cell of FORMAT.md's table
    assert not column.meaning.endswith(".")
    if "commit" in column.levels:
        assert column in STORED  # or it would be in no table
    if column.read:
        assert column.keywords
        assert column.levels <= {"file", "frame"}
        of = {"text": pa.types.is_string, "whole": pa.types.is_integer,
              "number": pa.types.is_floating, "vector": pa.types.is_fixed_size_list}  # fmt: skip
        assert of[column.read](column.type)


def test_tables_follow_from_the_levels() -> None:
    assert {"b_value", "gradient", "slope"} <= set(FILES.names) & {f.name for f in PER_FRAME}
    assert "in_stack" not in FRAMES.names  # stacks are ordered by it, and it is not stored
    assert {"b_value", "file", "stack", "row"} <= set(FRAMES.names)
    assert FILES.names[-1] == "per_frame"
    assert FILES.field("per_frame").type == pa.list_(PER_FRAME)


def test_what_a_where_may_name() -> None:
    assert {"modality", "b_value", "frames", "voi"} <= set(FILE_COLUMNS)
    not_one_value = {"position", "windows", "flags", "per_frame", "gradient"}
    ours = {"rule", "pixel_offset", "overlay_bits", "voi_lut", "suv_factor", "suv_refusal"}
    assert not (not_one_value | ours | {"row", "stack", "mean"}) & set(FILE_COLUMNS)
