"""What is made from the catalogue of columns: a table in FORMAT.md, typed rows in records.py.

Run: python -m tests.support.catalogue, after a change of dicom2cache/schema.py.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import pyarrow as pa
from pydicom.datadict import tag_for_keyword

from dicom2cache.schema import FILES, FRAMES, NEVER_NULL, PER_FRAME, STORED, WINDOW

PAGE = Path(__file__).parents[2] / "dicom2cache" / "FORMAT.md"
RECORDS = PAGE.with_name("records.py")
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


_MADE = "# Rows as objects, made from the catalogue by tests.support.catalogue.\n"


def row_classes() -> str:
    """The TypedDicts of records.py."""
    header = _class("Header", "A row of FILES: what the header of a file says.", FILES)
    return "\n\n".join(
        (
            _class("VoiWindow", "One VOI window, in units of the modality values.", WINDOW),
            _class(
                "FrameHeader",
                "What a multi-frame file says of one frame: a key for each thing that it says.",
                PER_FRAME,
                total=False,
            ),
            header.replace("per_frame: list", "per_frame: NotRequired[list").replace(
                "[FrameHeader] | None", "[FrameHeader] | None]"
            ),
            _class("FrameRow", "A row of FRAMES, or some columns of one.", FRAMES),
        )
    )


def _class(name: str, meaning: str, fields: Iterable[pa.Field], total: bool = True) -> str:
    base = "TypedDict" if total else "TypedDict, total=False"
    lines = [f"    {f.name}: {_python(f.type)}{_or_none(f.name, name)}\n" for f in fields]
    return f'class {name}({base}):\n    """{meaning}"""\n\n{"".join(lines)}'


def _or_none(name: str, of: str) -> str:
    never = name != "explanation" if of == "VoiWindow" else name in NEVER_NULL
    return "" if never else " | None"


def _python(kind: pa.DataType) -> str:
    if kind in (WINDOW, PER_FRAME):
        return "VoiWindow" if kind == WINDOW else "FrameHeader"
    if pa.types.is_list(kind) or pa.types.is_fixed_size_list(kind):
        return f"list[{_python(kind.value_type)}]"
    for name, holds in (("str", pa.types.is_string), ("bool", pa.types.is_boolean),
                        ("int", pa.types.is_integer), ("float", pa.types.is_floating)):  # fmt: skip
        if holds(kind):
            return name
    raise TypeError(f"no Python type for {kind}")


def with_row_classes(module: str) -> str:
    """records.py with the classes as they should be, at its end."""
    return module[: module.index(_MADE)] + _MADE + "\n\n" + row_classes()


if __name__ == "__main__":
    PAGE.write_text(with_table(PAGE.read_text()))
    RECORDS.write_text(with_row_classes(RECORDS.read_text()))
