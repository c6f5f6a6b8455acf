"""What is made from the catalogue of columns: FORMAT.md's table of frames/.

Run: python -m tests.support.catalogue, after a change of dicom2cache/schema.py.
"""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
from pydicom.datadict import tag_for_keyword

from dicom2cache.schema import STORED

PAGE = Path(__file__).parents[2] / "dicom2cache" / "FORMAT.md"
_HEAD = "| column | type | unit | DICOM | meaning |\n| --- | --- | --- | --- | --- |\n"


def table() -> str:
    """FORMAT.md's table of frames/, a line each."""
    lines = [
        f"| {c.name} | {type_name(c.type)} | {c.unit} | {elements(c.keywords)} | {c.meaning} |\n"
        for c in STORED
    ]
    return _HEAD + "".join(lines)


def type_name(kind: pa.DataType) -> str:
    """The type in FORMAT.md's words."""
    if pa.types.is_fixed_size_list(kind):
        return f"fixed list of {kind.list_size} {type_name(kind.value_type)}"
    if pa.types.is_list(kind):
        return f"list of {type_name(kind.value_type)}"
    if pa.types.is_struct(kind):
        return f"struct({', '.join(f'{f.name} {type_name(f.type)}' for f in kind)})"
    return {"float": "float32", "double": "float64"}.get(str(kind), str(kind))


def elements(keywords: tuple[str, ...]) -> str:
    """Keywords with their tags."""
    tags = {keyword: tag_for_keyword(keyword) or 0 for keyword in keywords}
    return ", ".join(f"{k} ({tag >> 16:04X},{tag & 0xFFFF:04X})" for k, tag in tags.items())


def with_table(page: str) -> str:
    """FORMAT.md with the table as it should be."""
    start = page.index("| column |", page.index("\n## frames/\n"))
    return page[:start] + table() + page[page.index("\n\n", start) + 1 :]


if __name__ == "__main__":
    PAGE.write_text(with_table(PAGE.read_text()))
