"""Images of a cache that new masks may lie on, as the plan of an update wants them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from dicom2cache.arrow import Mask
from dicom2cache.planning.masks.stored import COLUMNS, NONE, as_in_files
from dicom2cache.privacy.veil import HASHED, Veil
from dicom2cache.store.committed import read_table

_UIDS = ("sop_uid", "series_uid", "study_uid", "frame_of_reference_uid")


def images_of(
    cache: Path,
    attributes: dict[str, Any],
    files: pa.Table,
    veil: Veil | None,
    gone: Mask | None = None,
) -> pa.Table:
    """The images of the patients of masks among `files` (FILES), as masks.stored has them.

    `gone`: rows of frames/ that are not to be taken. Under a veil what the files name is plain
    again, the rest marked as hashed.
    """
    masks = files.filter(pc.equal(files["kind"], "mask"))
    if not masks.num_rows:
        return NONE
    head = read_table(cache, attributes, "frames", ["kind", "patient"])
    mine = pc.and_(
        pc.not_equal(head["kind"], "mask"),
        pc.is_in(head["patient"], value_set=masks["patient"].unique()),
    )
    if gone is not None:
        mine = pc.and_(mine, pa.array(~gone))
    if not pc.any(mine).as_py():
        return NONE
    table = read_table(cache, attributes, "frames", list(COLUMNS)).filter(mine)
    return as_in_files(_plain(table, masks, veil) if veil else table)


def _plain(table: pa.Table, masks: pa.Table, veil: Veil) -> pa.Table:
    """The table with the UIDs that masks name, where it has their hashes."""
    own = replace(veil, seen=None)
    plain = {own.hashed("uid", uid): uid for uid in _named(masks)}
    for name in _UIDS:
        column = table[name].combine_chunks().cast(pa.string()).dictionary_encode()
        texts = [plain.get(uid, f"{HASHED}{uid}") for uid in column.dictionary.to_pylist()]
        table = table.set_column(
            table.column_names.index(name), name, pa.array(texts, pa.string()).take(column.indices)
        )
    return table


def _named(masks: pa.Table) -> Iterator[str]:
    """Distinct UIDs that masks name."""
    found = [masks[name] for name in (*_UIDS, "referenced_sop_uid")]
    found.append(masks["referenced_series"].combine_chunks().flatten())
    groups = masks["per_frame"].combine_chunks().flatten()
    found.append(pc.struct_field(groups, "referenced_sop_uid"))
    for column in found:
        yield from column.unique().drop_null().to_pylist()
