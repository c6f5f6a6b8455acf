"""What is not stored, grouped by reason: columnar, for millions of rows of failures/."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from dicom2cache.arrow import appearance, combine, ints
from dicom2cache.cli.reporting.shapes import counted, distinct
from dicom2cache.privacy.own_words import LEFT_OUT, own_words

OUTCOMES = {
    "failed": "failed",
    "no-pixels": "without pixels",
    "not-dicom": "not DICOM",
    "duplicate": "duplicates",
    "excluded": "excluded",
}
"""in the order of what matters"""
_REMEDIES = {
    "no-pixels": "nothing to do: such objects are no images",
    "not-dicom": "nothing to do, unless it was made from DICOM: then convert the originals",
    "duplicate": "nothing to do: the first copy is stored",
    "excluded": "as the recipe says; another recipe makes another cache",
}
_IMAGE = "an image, but the file has no pixels; if they were to be there, ask for it again"
_LIMIT = "build again, or `update`, on a machine with more memory or time; limits are in the recipe"
_FAILED = {
    "header": "the header is not as the standard says: ask for another export of the file",
    "decode": "the pixels cannot be decoded: copy the file again, or ask for another export",
}
_SAYS_IT = re.compile(r"[;:] [a-z]+ (it|the|this|that|a|again|by|another)\b")
_MOST = 256
"""sentences; what is like none of them is one group"""
_LEAST = 12
"""letters of a sentence of our own: fewer could fit anything"""
OTHER = "other reasons"
_SUFFIX = r"(?i)\.(?P<s>[a-z][a-z0-9]{0,7}(?:\.(?:gz|bz2|xz|zip))?|7z)$"
_FORMATS = """
    7z avi bin bmp bval bvec cfg csv dat db dcm dicom doc docx exe gif gz gzip hdr html img inf
    ini jpeg jpg js json log md mha mhd mov mp4 mpg mrc nhdr nii nii.gz npy npz nrrd par pdf png
    ppt py raw rec rtf sh tar tar.gz tgz tif tiff tsv txt xls xlsx xml yaml yml zip
"""
_KNOWN = frozenset(_FORMATS.split())
"""suffixes that name a format, and nobody"""


@dataclass(frozen=True)
class Unstored:
    """Files, or frames of some, that are not stored for one reason."""

    outcome: str
    stage: str
    reason: str
    """the sentence; `...` where its values differ, or are not to be shown"""
    rows: int
    files: int
    suffixes: tuple[tuple[str, int], ...]
    """(suffix, files) of what is not DICOM, most first"""
    root: int
    path: str
    frame: int | None
    said: str
    """an example: where it is, and all of its reason"""

    @property
    def remedy(self) -> str:
        """What to do; empty where the reason says it."""
        if self.stage == "limit":
            return _LIMIT
        if self.outcome == "failed":
            return "" if _SAYS_IT.search(self.reason) else _FAILED.get(self.stage, "")
        if self.outcome == "no-pixels" and " Image Storage" in f" {self.reason}":
            return _IMAGE
        return _REMEDIES.get(self.outcome, "")


def grouped(rejects: pa.Table, own_only: bool = False) -> list[Unstored]:
    """Groups of rows of failures/: by outcome, failures first, then most rows first, then path.

    With `own_only` no reason has a value of a header or a path, and no suffix but well-known ones.
    """
    found: list[Unstored] = []
    outcome = rejects["outcome"].cast(pa.string())
    known = [*OUTCOMES, *sorted(set(pc.unique(outcome.drop_null()).to_pylist()) - set(OUTCOMES))]
    for name in known:
        rows = rejects.filter(pc.equal(outcome, name)).combine_chunks()
        mine: list[Unstored] = []
        for stage in sorted(str(s or "") for s in pc.unique(rows["stage"]).to_pylist()):
            part = rows.filter(pc.equal(rows["stage"].fill_null(""), stage)).combine_chunks()
            mine += _of_stage(name, stage, part, own_only)
        found += sorted(mine, key=lambda group: (-group.rows, group.path))
    return found


def _of_stage(outcome: str, stage: str, rows: pa.Table, own_only: bool) -> Iterable[Unstored]:
    reason = rows["reason"].cast(pa.string()).fill_null("").combine_chunks().dictionary_encode()
    if isinstance(reason, pa.ChunkedArray):
        reason = reason.combine_chunks()
    code, names = _sentences(reason.dictionary, outcome, own_only)
    group = code[ints(reason.indices, 0)]
    files = combine([ints(rows["root"], -1), appearance(rows["path"].cast(pa.string()))])
    order = np.argsort(group, kind="stable")
    ends = np.cumsum(np.bincount(group, minlength=len(names)))
    many = distinct(group, files, len(names))
    for k, name in enumerate(names):
        mine = order[ends[k - 1] if k else 0 : ends[k]]
        example = rows.slice(int(mine[0]), 1).to_pylist()[0]
        said = str(example["reason"] or "")
        alike = len(np.unique(reason.indices.take(pa.array(mine)).to_numpy())) == 1
        shown = said if alike and not own_only else name
        suffixes = _suffixes(rows["path"].take(pa.array(mine)), own_only)
        yield Unstored(
            outcome, stage, shown, len(mine), int(many[k]),
            suffixes if outcome == "not-dicom" else (), int(example["root"] or 0),
            str(example["path"]), example["frame"], said,
        )  # fmt: skip


def _sentences(reasons: Any, outcome: str, own_only: bool) -> tuple[NDArray[np.int64], list[str]]:
    """(number of its sentence for each of the distinct reasons, the sentences).

    A sentence is what of a reason is this program's own; the first one is found by taking it apart,
    and all others like it by a pattern.
    """
    code = np.full(len(reasons), -1, np.int64)
    names: list[str] = []
    for i in pc.sort_indices(reasons).to_numpy():
        if code[i] >= 0:
            continue
        if len(names) >= _MOST:
            break
        reason = reasons[int(i)].as_py()
        sentence = _sentence(reason, outcome)
        pattern = ".*".join(map(_literal, sentence.split(LEFT_OUT)))
        if len(re.sub(r"[^A-Za-z]", "", sentence)) < _LEAST:
            if own_only:
                continue
            sentence, pattern = reason, _literal(reason)
        left = np.flatnonzero(code < 0)
        like = pc.match_substring_regex(reasons.take(pa.array(left)), f"(?s)^{pattern}$")
        code[left[like.to_numpy(zero_copy_only=False)]] = len(names)
        code[i] = len(names)
        names.append(sentence)
    if (code < 0).any():
        code[code < 0] = len(names)
        names.append(OTHER)
    return code, names


def _literal(text: str) -> str:
    """The text as a pattern of RE2, which takes no escape of what is not ASCII."""
    return re.sub(r"([^A-Za-z0-9 _\u0080-\U0010ffff])", r"\\\1", text)


_PIXELS = " has no pixel data"


def _sentence(reason: str, outcome: str) -> str:
    kind, found, _ = reason.partition(_PIXELS)
    if outcome == "no-pixels" and found and kind.rpartition(": ")[2] in _kinds():
        return reason  # what kinds there are is what one wants to know
    return own_words(reason)


def _kinds() -> frozenset[str]:
    from pydicom.uid import UID_dictionary

    return frozenset(row[0] for row in UID_dictionary.values())


def _suffixes(paths: Any, known_only: bool) -> tuple[tuple[str, int], ...]:
    found = pc.struct_field(pc.extract_regex(paths.cast(pa.string()), _SUFFIX), "s")
    lower = pc.utf8_lower(found)
    keep: Callable[[str], bool] = _KNOWN.__contains__ if known_only else bool
    rows = counted(lower, 1_000_000)
    shown = [(name, n) for name, n in rows if name is not None and keep(name)]
    other = sum(n for _, n in rows) - sum(n for _, n in shown)
    listed = [(f".{name}", n) for name, n in shown[:8]]
    if rest := sum(n for _, n in shown[8:]):
        listed.append(("other suffixes", rest))
    return tuple(
        [*listed, *([("no known suffix" if known_only else "no suffix", other)] * (other > 0))]
    )
