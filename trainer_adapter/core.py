"""What all selections of one cache share in a process."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from trainer_adapter.format import Places, Root, read_places, read_root
from trainer_adapter.reading import Mapped
from trainer_adapter.shards import ShardStore


class Core:
    """Metadata, places, maps and columns; pickles as its path."""

    def __init__(self, root: Root, places: Places) -> None:
        self.root, self.places = root, places
        self.store = ShardStore(root)
        self.mapped = Mapped(self.store)
        self.per_shard = np.array([a.frames_per_shard for a in root.arrays], np.int64)
        self.columns: dict[str, Any] = {}

    def __reduce__(self) -> tuple[Any, ...]:
        return open_core, (self.root.path,)


def open_core(path: Path) -> Core:
    """Read the metadata of the cache at `path`. Raises as read_root."""
    root = read_root(path)
    return Core(root, read_places(root))
