"""Which frames, and which files that are not stored, someone asks to be removed."""

from __future__ import annotations

import ast
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from pyarrow import dataset

from dicom2cache.arrow import Mask, mask_of
from dicom2cache.errors import CacheError
from dicom2cache.privacy.keys import PatientKey
from dicom2cache.privacy.veil import Veil
from dicom2cache.recipes.columns import own_of
from dicom2cache.recipes.where import parse_where
from dicom2cache.running.own import schema_with
from dicom2cache.running.remove.withheld import OF_COLUMN, Withheld, of_file
from dicom2cache.schema import REJECTS
from dicom2cache.store import seen
from dicom2cache.store.committed import read_table
from dicom2cache.store.root import CONTOURS


@dataclass(frozen=True)
class Asked:
    """Whom, or what, to remove."""

    kind: str
    """`patient`, `study`, `series`: originals, never hashes; or `where`"""
    values: tuple[str, ...]
    """of `where` one expression over the columns of frames/"""

    @property
    def flag(self) -> str:
        """Its flag on the command line."""
        return "--patient-id" if self.kind == "patient" else f"--{self.kind}"


def asked_of(
    patient_id: Sequence[str], study: Sequence[str], series: Sequence[str], where: str | None
) -> Asked:
    """What is asked for. Raises CacheError unless it is of one kind."""
    said = [
        Asked(kind, tuple(dict.fromkeys(values)))
        for kind, values in (
            ("patient", patient_id), ("study", study), ("series", series),
            ("where", [] if where is None else [where]),
        )
        if values
    ]  # fmt: skip
    if len(said) != 1 or not all(value.strip() for value in said[0].values):
        raise CacheError(
            "say what to remove by one of --patient-id, --study, --series (each may be repeated) "
            "or --where"
        )
    return said[0]


@dataclass(frozen=True)
class Found:
    """What goes."""

    frames: Mask
    """(n,) of frames/"""
    failures: Mask
    """(m,) of failures/"""
    contours: Mask
    """(k,) of contours/"""
    files: int
    """of which nothing stays, stored ones"""
    missing: tuple[str, ...]
    """values that nothing is of"""
    unknown: int
    """rows of failures/ that stay since nobody knows whose they are"""


def find(
    cache: Path,
    attributes: dict[str, Any],
    asked: Asked,
    key: bytes,
    veil: Veil | None,
    withheld: Withheld,
) -> Found:
    """What goes; what is to stay out from now on is added to `withheld`."""
    failures = _with_all(read_table(cache, attributes, "failures"))
    columns = ["root", "path", *OF_COLUMN.values()]
    drawn = read_table(cache, attributes, CONTOURS, columns)
    out = np.zeros(drawn.num_rows, bool)
    texts = texts_of(asked, key, veil)
    if asked.kind == "where":
        frames = _where(cache, attributes, asked.values[0])
        gone = np.zeros(failures.num_rows, bool)
        missing: tuple[str, ...] = () if frames.any() else asked.values
    else:
        name = OF_COLUMN[asked.kind]
        column = read_table(cache, attributes, "frames", [name])[name].cast(pa.string())
        wanted = pa.array(list(texts), pa.string())
        every = column, failures[name], drawn[name].cast(pa.string())
        frames, gone, out = (mask_of(pc.is_in(c, value_set=wanted)) for c in every)
        here = {
            said
            for c, mask in zip(every, (frames, gone, out), strict=True)
            for said in c.filter(pa.array(mask)).unique().to_pylist()
        }
        missing = tuple(said for text, said in texts.items() if text not in here)
        withheld.add(asked.kind, (text for text in texts if text in here))
    table = read_table(cache, attributes, "frames", ["root", "path", "sop_uid"])
    table = table.set_column(0, "file", _file_of(table))
    left = table["file"].filter(pa.array(~frames)).unique()
    went = mask_of(pc.invert(pc.is_in(table["file"], value_set=left)))
    whose = _file_of(drawn)
    if asked.kind == "where":  # contours go with the last frame that was drawn of them
        out = mask_of(pc.is_in(whose, value_set=table["file"].filter(pa.array(went)).unique()))
    if asked.kind == "where":
        withheld.add(
            "sop", table["sop_uid"].filter(pa.array(went)).unique().drop_null().to_pylist()
        )
    files = pa.concat_arrays(
        [_plain(table["file"].filter(pa.array(went))), whose.filter(pa.array(out))]
    ).unique()
    left = pa.concat_arrays([_plain(left), whose.filter(pa.array(~out))]).unique()
    files = files.filter(pc.invert(pc.is_in(files, value_set=left)))
    gone |= _beside(failures, files, left, veil is None)
    _withhold_files(cache, attributes, pa.concat_arrays([
        files,
        _file_of(failures.filter(pa.array(gone))),
    ]), withheld)  # fmt: skip
    nobody = ~gone & _of_nobody(failures)
    nobody &= mask_of(pc.not_equal(failures["outcome"], "not-dicom"))
    nobody &= ~mask_of(pc.is_in(_file_of(failures), value_set=left))
    return Found(frames, gone, out, len(files), missing, int(nobody.sum()))


def _plain(column: Any) -> Any:
    return column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column


def texts_of(asked: Asked, key: bytes, veil: Veil | None) -> dict[str, str]:
    """{as the cache has it: as it was asked for}."""
    if asked.kind == "patient":
        hashed = PatientKey(key, veil is not None).hashed
        return {hashed("patient", said.strip(" \0")) or "": said for said in asked.values}
    if veil is not None and asked.kind != "where":
        return {veil.hashed("uid", said.strip()): said for said in asked.values}
    return {said.strip(): said for said in asked.values}


def _where(cache: Path, attributes: dict[str, Any], text: str) -> Mask:
    """(n,) of frames/ where the expression holds."""
    own = {f.name: f for f in schema_with(own_of(tuple(attributes["recipe"].get("columns", ()))))}
    plain = [name for name, f in own.items() if not pa.types.is_nested(f.type)]
    expression = parse_where(text, tuple(plain))
    tree = ast.walk(ast.parse(text.strip(), mode="eval"))
    names = sorted({node.id for node in tree if isinstance(node, ast.Name)} | {"array"})
    table = read_table(cache, attributes, "frames", names)
    for name in set(names) - set(table.column_names):  # of a version before the column
        kind = own[name].type
        table = table.append_column(name, pa.nulls(table.num_rows, kind))
    try:
        found = dataset.dataset(table).to_table(columns={"holds": expression})["holds"]
    except (pa.ArrowException, TypeError) as e:
        raise CacheError(f"--where: cannot compare in {text!r:.400}: {e}") from e
    if not pa.types.is_boolean(found.type):
        raise CacheError(f"--where: {text!r:.400} is no condition: it gives {found.type}")
    return mask_of(found)


def _with_all(failures: pa.Table) -> pa.Table:
    for field in REJECTS:
        if field.name not in failures.column_names:
            failures = failures.append_column(field.name, pa.nulls(failures.num_rows, field.type))
    return failures


def _file_of(table: pa.Table, root: str = "root", path: str = "path") -> Any:
    """One text for root and path of each row."""
    columns = (table[name].cast(pa.string()) for name in (root, path))
    return pc.binary_join_element_wise(*map(_plain, columns), "\0")


def _beside(failures: pa.Table, gone: Any, left: Any, plain: bool) -> NDArray[np.bool_]:
    """(m,) rows of failures/ that go with files: their own, copies of them, and, in folders that
    nothing stored is left in, those of which nobody knows whose they are: the folder's name may say
    it. None of them could be stored; one that changes is looked at again."""
    own = _file_of(failures)
    out = mask_of(pc.is_in(own, value_set=gone))
    copy = _file_of(failures, "same_root", "same_path")
    out |= mask_of(pc.is_in(copy, value_set=gone))
    if not plain:  # paths are hashes there, and so are in no folder
        return out
    folders = {os.path.dirname(file) for file in gone.to_pylist()}
    folders -= {os.path.dirname(file) for file in left.to_pylist()}
    beside = np.array([os.path.dirname(file or "") in folders for file in own.to_pylist()], bool)
    return np.asarray(out | (beside & _of_nobody(failures)))


def _of_nobody(failures: pa.Table) -> Mask:
    """(m,) rows that do not say whose they are."""
    said = pc.or_(failures["patient"].is_valid(), failures["study_uid"].is_valid())
    return ~mask_of(said)


def _withhold_files(
    cache: Path, attributes: dict[str, Any], files: Any, withheld: Withheld
) -> None:
    """Have files stay out as they are now, so that their headers need not be read for it."""
    states = seen.read(cache)
    if states is None:
        return
    folders = {s["root"]: s["path"] for s in attributes["sources"]}
    states = states.filter(pc.is_in(_file_of(states), value_set=files))
    withheld.add("file", (
        of_file(folders.get(row["root"], ""), row["path"], row["state"])
        for row in states.to_pylist()
    ))  # fmt: skip
