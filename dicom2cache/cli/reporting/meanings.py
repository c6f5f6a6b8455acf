"""What flags mean: FORMAT.md's own words, which come along with the program."""

from __future__ import annotations

import re
from functools import cache
from importlib.resources import files

_FLAG = re.compile(r"^- `([a-z0-9-]+)`: (.*(?:\n  .*)*)", re.MULTILINE)


@cache
def meanings() -> dict[str, str]:
    """{flag: what it means} of frames and of stacks."""
    page = files("dicom2cache").joinpath("FORMAT.md").read_text("utf-8")
    return {flag: " ".join(said.replace("`", "").split()) for flag, said in _FLAG.findall(page)}
