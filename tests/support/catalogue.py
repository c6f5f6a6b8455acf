"""What is made from the catalogue of columns: a table in FORMAT.md, typed rows in records.py, and
the elements that are read in headers/dictionary.py.

Run: python -m tests.support.catalogue, after a change of dicom2cache/schema.py.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from pathlib import Path

import pyarrow as pa
from pydicom.datadict import dictionary_VR, tag_for_keyword

from dicom2cache.schema import (
    CHANNEL,
    DRAWN,
    FILES,
    FRAMES,
    KEYWORDS,
    LINE,
    MEANT,
    MEMBER,
    MULTIPLEX,
    NEVER_NULL,
    PER_FRAME,
    SEGMENT,
    STORED,
    TILE_CHANNEL,
    WINDOW,
)

PRIVACY = Path(__file__).parents[2] / "docs" / "privacy.md"
PAGE = Path(__file__).parents[2] / "dicom2cache" / "FORMAT.md"
RECORDS = PAGE.with_name("records.py")
DICTIONARY = PAGE.parent / "headers" / "dictionary.py"
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


_KINDS = {
    "hashed": "a keyed hash, domain `{}`",
    "listed": "what a standard lists, else null",
    "dropped": "null",
    "kept": "as it is",
}
_EXCEPTIONS = {
    "unit": "what a standard lists, else `US`, unspecified",
    "image_type": "the values that a standard lists, the others empty",
    "windows": "numbers and function, without the explanation",
    "channels": "numbers, the codes that PS3.16 lists, units that are listed, and labels of leads",
    "segments": "numbers, the codes that PS3.16 lists, and of labels the recipe's classes",
    "age": "as it is, and 90 for all above",
}


def privacy_table() -> str:
    """docs/privacy.md's table of what becomes of each column."""
    groups: dict[str, list[str]] = {}
    for c in STORED:
        kind = _EXCEPTIONS.get(c.name) or _KINDS[c.privacy or "kept"].format(c.domain)
        groups.setdefault(kind, []).append(f"`{c.name}`")
    lines = [f"| {kind} | {', '.join(names)} |\n" for kind, names in groups.items()]
    return "| with `--deidentify` | columns of frames/ |\n| --- | --- |\n" + "".join(lines)


def with_privacy_table(page: str) -> str:
    """docs/privacy.md with the table as it should be."""
    start = page.index("| with `--deidentify` |")
    return page[:start] + privacy_table() + page[page.index("\n\n", start) + 1 :]


_MADE = "# Rows as objects, made from the catalogue by tests.support.catalogue.\n"


_STRUCTS = {
    "VoiWindow": WINDOW, "Segment": SEGMENT, "TileChannel": TILE_CHANNEL, "Drawn": DRAWN,
    "Channel": CHANNEL, "Line": LINE, "Multiplex": MULTIPLEX, "Meant": MEANT,
    "FrameHeader": PER_FRAME, "MemberRow": MEMBER,
}  # fmt: skip
"""values of columns that have parts: a name for each"""
_PARTS = {"center", "width", "function"}
_OF_MEMBER = {"kind", "offset", "packed", "stop", "inside", "archive"}
_OF_MULTIPLEX = {
    "channels", "samples", "bits", "interpretation", "vr", "offset", "length", "lines",
}  # fmt: skip
"""parts that are never null"""


def row_classes() -> str:
    """The TypedDicts of records.py."""
    window = "One VOI window, in units of the modality values."
    frame = "What a multi-frame file says of one frame: a key for each thing that it says."
    row = "A row of FRAMES, the plan, or some columns of one."
    header = "A row of FILES: what the header of a file says; a plan's has no `per_frame`."
    return "\n\n".join(
        (
            _class("VoiWindow", window, WINDOW, _PARTS),
            _class("Segment", "One segment of a segmentation (PS3.3 C.8.20.4).", SEGMENT, _PARTS),
            _class("TileChannel", "An optical path, or a segment of a mask.", TILE_CHANNEL, {"id"}),
            _class("Channel", "One channel of a waveform (PS3.3 C.10.9.1.4).", CHANNEL, _PARTS),
            _class("Line", "How a sample becomes a value.", LINE, set(LINE.names)),
            _class("Multiplex", "Where samples lie in a file.", MULTIPLEX, _OF_MULTIPLEX),
            _class("Meant", "What they mean.", MEANT, {"channels"}),
            _class(
                "MemberRow", "Where a file lies in an archive.", MEMBER, {*MEMBER.names} - {"crc"}
            ),
            _class("Drawn", "What of a mask is drawn on an image.", DRAWN, {"frame"}),
            _class("FrameHeader", frame, PER_FRAME, set(), "TypedDict, total=False"),
            _class("Header", header, FILES, NEVER_NULL),
            _class("FrameRow", row, FRAMES, NEVER_NULL, "TypedDict, total=False"),
        )
    )


def _class(
    name: str,
    meaning: str,
    fields: Iterable[pa.Field],
    never_null: Collection[str],
    base: str = "TypedDict",
) -> str:
    lines = []
    for field in fields:
        kind = _python(field.type) + ("" if field.name in never_null else " | None")
        kind = f"NotRequired[{kind}]" if field.name == "per_frame" else kind
        lines.append(f"    {field.name}: {kind}\n")
    return f'class {name}({base}):\n    """{meaning}"""\n\n{"".join(lines)}'


def _python(kind: pa.DataType) -> str:
    if pa.types.is_list(kind) or pa.types.is_fixed_size_list(kind):
        return f"list[{_python(kind.value_type)}]"
    if pa.types.is_struct(kind):
        for name, struct in _STRUCTS.items():
            if struct == kind:
                return name
    for name, holds in (("str", pa.types.is_string), ("bool", pa.types.is_boolean),
                        ("int", pa.types.is_integer), ("float", pa.types.is_floating)):  # fmt: skip
        if holds(kind):
            return name
    raise TypeError(f"no Python type for {kind}")


def with_row_classes(module: str) -> str:
    """records.py with the classes as they should be, at its end."""
    return module[: module.index(_MADE)] + _MADE + "\n\n" + row_classes()


def dictionary() -> str:
    """headers/dictionary.py as it should be."""
    tags = sorted((tag_for_keyword(keyword) or 0, keyword) for keyword in KEYWORDS)
    lines = [f'    0x{tag:08X}: ("{dictionary_VR(tag)}", "{keyword}"),\n' for tag, keyword in tags]
    return _DICTIONARY + "".join(lines) + "}\n"


_DICTIONARY = '''"""Elements that columns hang on, as in pydicom's dictionary, without its import.

Made from the catalogue by tests.support.catalogue.
"""

from __future__ import annotations

DICTIONARY = {  # tag: (VR, keyword)
'''


if __name__ == "__main__":
    PAGE.write_text(with_table(PAGE.read_text()))
    PRIVACY.write_text(with_privacy_table(PRIVACY.read_text()))
    RECORDS.write_text(with_row_classes(RECORDS.read_text()))
    DICTIONARY.write_text(dictionary())
