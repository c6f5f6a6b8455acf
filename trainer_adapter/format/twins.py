"""Files that are not stored since others are the same."""

from __future__ import annotations

import pyarrow as pa
import pyarrow.compute as pc

from trainer_adapter.format.root import Root


def read_twins(root: Root) -> pa.Table:
    """Files that are not stored since others are the same: root, path, same_root, same_path.

    Empty for caches that do not say which others.
    """
    columns = ["root", "path", "same_root", "same_path"]
    try:
        table = root.read("failures", [*columns, "outcome"])
    except KeyError:
        table = root.read("failures", ["root", "path"]).slice(0, 0)
        for name, other in (("same_root", "root"), ("same_path", "path")):
            table = table.append_column(name, table[other])
        return table
    held = pc.and_(pc.equal(table["outcome"], "duplicate"), pc.is_valid(table["same_path"]))
    return table.filter(held).select(columns)
