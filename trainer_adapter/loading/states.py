"""Where loaders are: states, what they say of their order, and whether it is that of another."""

from __future__ import annotations

from collections.abc import Mapping
from operator import index
from pathlib import Path
from typing import Any

import numpy as np

from trainer_adapter.cache import Cache
from trainer_adapter.errors import CacheError
from trainer_adapter.format.checksum import crc32c
from trainer_adapter.format.root import read_root
from trainer_adapter.order.crop import Crop
from trainer_adapter.reading.opened import as_of


def digest_of(values: Any) -> int | None:
    """CRC-32C of an array's bytes, to tell one order of samples from another."""
    return None if values is None else crc32c(np.ascontiguousarray(values))


def stamp_of(path: Path) -> tuple[int, ...] | None:
    """What tells a file from one that took its place; None where it cannot be looked at."""
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns


def said_of(crop: Crop | None) -> str | None:
    """What the pixels of a crop depend on."""
    if crop is None:
        return None
    return f"{crop.height}x{crop.width} {crop.at} {crop.seed} {crop.fill} {digest_of(crop.boxes)}"


def refuse_other(state: Mapping[str, Any], order: Mapping[str, Any], cache: Cache) -> None:
    """Raises ValueError if a state is not of this order of frames of the cache.

    It names the numbering, or the generation by which the cache is to be opened.
    """
    state = {"numbering": 0, "generation": order["generation"], **state}
    if state.get("cache") == str(cache.attributes["sha256"]):  # as earlier versions say
        state["cache"] = order["cache"]
    was, numbering = state["numbering"], order["numbering"]
    if was != numbering:
        raise ValueError(
            f"the state is of numbering {was} of the cache, and this is numbering {numbering}: "
            "frames were removed or restacked between, so that sample indices are others; "
            "begin anew, without the state"
        )
    if _is_of_another_generation(state, order, cache):
        raise ValueError(
            f"the state is of generation {state['generation']} of the cache, and this is "
            f"generation {order['generation']}: frames were added between; open it by "
            f"open_cache(path, generation={state['generation']}), or begin anew"
        )
    other = {k: (state.get(k), v) for k, v in order.items() if state.get(k) != v}
    if other:
        told = ", ".join(f"{k} {was!r}, here {now!r}" for k, (was, now) in other.items())
        raise ValueError(f"the state is that of another order: {told}")


class Resumable:
    """Where a loop over batches is, in which epoch: handed out as a state, and gone on from."""

    def __init__(self, order: Mapping[str, Any], opened: Cache) -> None:
        """`order`: what the order of batches follows from; `opened`: the cache as it was opened."""
        self._order, self._opened = order, opened
        self._next, self._now = (0, 0), (0, 0)
        self._begun = False

    def __len__(self) -> int:
        """Batches of an epoch, for this rank."""
        raise NotImplementedError

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch that the next `iter()` begins, or goes on with after a resume."""
        if epoch != self._next[0]:
            self._next = index(epoch), 0
        self._begun = False

    def state_dict(self) -> dict[str, Any]:
        """Where the loop is: after the batch that was handed out last."""
        epoch, batch = self._now if self._begun else self._next
        if batch >= len(self) > 0:
            epoch, batch = epoch + 1, 0
        return {"epoch": epoch, "batch": batch, **self._order}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from `state`, at once; the next `iter()` gives the batches that were left.

        Raises ValueError if the state is that of another order, or numbering of the cache.
        """
        refuse_other(state, self._order, self._opened)
        self._next, self._begun = (int(state["epoch"]), int(state["batch"])), False

    def _begin(self) -> tuple[int, int]:
        """(epoch, first batch) of an `iter()` that begins."""
        (epoch, start), self._begun = self._next, True
        self._next, self._now = (epoch + 1, 0), (epoch, start)
        return epoch, start


def _is_of_another_generation(
    state: Mapping[str, Any], order: Mapping[str, Any], cache: Cache
) -> bool:
    """Whether the cache was, or is by now, the one that the state is of."""
    if state.get("cache") == order["cache"]:
        return False
    try:
        then = as_of(read_root(cache.path), state["generation"])
    except (CacheError, ValueError):
        return False
    return then.digest == state.get("cache")
