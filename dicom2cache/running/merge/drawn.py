"""contours/ of a merged cache: with other numbers, each structure set once."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from dicom2cache.arrow import by_file, ints
from dicom2cache.privacy.veil import KEY
from dicom2cache.running import contours
from dicom2cache.running.merge.parts import Part
from dicom2cache.schema import REJECTS
from dicom2cache.store.committed import read_table

_FILE = ["root", "path"]
_Roots = Sequence[NDArray[np.int64]]
"""of each part, the new number of each root"""


class Copy(NamedTuple):
    """A structure set that an earlier part has, too."""

    table: str
    """name of the table that it is in, such as 0.parquet"""
    root: int
    path: str
    same: tuple[int, int, str]
    """(part, root, path) of the one that is kept"""
    whose: dict[str, Any]
    """patient, study_uid and series_uid"""


class Drawn:
    """The contours of the parts."""

    def __init__(self, parts: Sequence[Part]) -> None:
        self._parts = parts
        self._copies = _copies(parts)

    @property
    def count(self) -> int:
        """Structure sets that are not stored."""
        return sum(map(len, self._copies))

    def kept(self, k: int, failures: str, root_of: _Roots) -> Iterator[pa.Table]:
        """What is kept of a part's rows of the generation of this table of failures/."""
        gone = {(copy.root, copy.path) for copy in self._copies[k]}
        for entry in self._parts[k].attributes["tables"].get(contours.KIND, ()):
            if Path(entry["path"]).name != Path(failures).name:
                continue
            for table in contours.stored(self._parts[k].cache, entry):
                said = zip(table["root"].to_pylist(), table["path"].to_pylist(), strict=True)
                rows = table.filter(pa.array([file not in gone for file in said], pa.bool_()))
                place, field = rows.schema.get_field_index("root"), rows.schema.field("root")
                new = pa.array(root_of[k][ints(rows["root"], 0)], field.type)
                yield rows.set_column(place, field, new)

    def rejects(self, k: int, failures: str, root_of: _Roots) -> pa.Table:
        """REJECTS of what is not stored of that generation."""
        veiled = self._parts[0].attributes.get(KEY) is not None
        rows = []
        for copy in self._copies[k]:
            if copy.table == Path(failures).name:
                part, root, path = copy.same
                kept = int(root_of[part][root])
                why = f"duplicate of {'...' if veiled else path} of source {kept}: same SOP "
                rows.append({
                    "root": int(root_of[k][copy.root]), "path": copy.path, "outcome": "duplicate",
                    "stage": "plan", "reason": f"{why}Instance UID, same contours",
                    "same_root": kept, "same_path": path, **copy.whose,
                })  # fmt: skip
        return pa.Table.from_pylist(rows, REJECTS)


def _copies(parts: Sequence[Part]) -> list[list[Copy]]:
    """Of each part the structure sets that an earlier one has, too: same instance, same contours.

    One that has frames that were drawn of it is none: these may lie on other images.
    """
    found: list[list[Copy]] = [[] for _ in parts]
    said = [
        read_table(p.cache, p.attributes, contours.KIND, ["sop_uid"])["sop_uid"]
        .drop_null()
        .unique()
        for p in parts
    ]
    counts = pa.chunked_array(said, pa.string()).value_counts()
    shared = pc.filter(counts.field("values"), pc.greater(counts.field("counts"), 1))
    first: dict[tuple[str, str], tuple[int, int, str]] = {}
    for k, part in enumerate(parts if len(shared) else ()):
        frames = contours.files_of(read_table(part.cache, part.attributes, "frames", _FILE))
        drawn = set(zip(frames["root"].to_pylist(), frames["path"].to_pylist(), strict=True))
        for entry in part.attributes["tables"].get(contours.KIND, ()):
            whole = pa.concat_tables([
                table.filter(pc.is_in(table["sop_uid"], value_set=shared))
                for table in contours.stored(part.cache, entry)
            ])  # fmt: skip
            for (root, path), rows in by_file(whole):
                row = rows.slice(0, 1).drop_columns(["points"]).to_pylist()[0]
                key = row["sop_uid"], contours.said_of(rows, False)
                kept = first.setdefault(key, (k, root, path))
                if kept[0] < k and (root, path) not in drawn:
                    whose = {name: row[name] for name in ("patient", "study_uid", "series_uid")}
                    found[k].append(
                        Copy(Path(entry["path"]).name, root, path, same=kept, whose=whose)
                    )
    return found
