"""How far a conversion is, in words, once or again and again."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from dicom2cache import pipeline
from dicom2cache.cli.bars import clock
from dicom2cache.cli.words import counting, one_line
from dicom2cache.errors import Unfinished
from dicom2cache.store.durable import NO_LINKS

if TYPE_CHECKING:
    from dicom2cache.running.standing import Standing

_EVERY = 5.0  # seconds
_SHOWN = 8  # most shards of a host


def follow(cache: Path, watch: bool = False, as_json: bool = False) -> bool:
    """Print how far the conversion of `cache` is; with `watch` until it is committed.

    False if it is committed and nothing is added to it: nothing is under way.
    """
    watched = pipeline.standing(cache)
    if watched is None:
        return False
    clear = watch and sys.stdout.isatty()
    while True:
        try:
            now = watched.look()
        except (FileNotFoundError, Unfinished):  # committed meanwhile
            return pipeline.standing(cache) is not None
        said = _json(now) if as_json else "\n".join(words(cache, now))
        print(f"\x1b[H\x1b[J{said}" if clear else said, flush=True)
        if not watch:
            return True
        time.sleep(_EVERY)
        if pipeline.standing(cache) is None:
            return False


def words(cache: Path, now: Standing) -> list[str]:
    """Lines such as `converting: 3 of 8 shards, 300 of 900 frames, 2 failed, about 0:58 left`."""
    if now.is_removal:
        remedy = f"if nobody works on it any more, run `dicom2cache commit {cache}`"
        return [one_line(f"{cache}: frames are being taken out; {remedy}")]
    parts = [
        f"{now.shards_done} of {counting(now.shards, 'shard')}",
        f"{now.done.units} of {counting(now.total.units, 'frame')}",
    ]
    if now.done.failed:
        parts.append(f"{now.done.failed} failed")
    if now.shards_done == now.shards:
        parts.append(f"run `dicom2cache commit {cache}`")
    elif now.left is not None:
        parts.append(f"about {clock(now.left)} left")
    what = "adding files" if now.is_update else "converting"
    lines = [one_line(f"{cache}: {what}: {', '.join(parts)}")]
    for host, shards in sorted(now.holders.items()):
        shown = ", ".join(shards[:_SHOWN]) + (", ..." if len(shards) > _SHOWN else "")
        who = {"": "left behind by processes that died", "?": "under way"}.get(host, f"on {host}")
        lines.append(one_line(f"  {who}: {len(shards)} ({shown})"))
    if not now.links:
        lines.append(f"  {NO_LINKS}")
    if not now.holders and now.shards_done < now.shards:
        lines.append("  nobody works on it")
    return lines


def _json(now: Standing) -> str:
    return json.dumps(
        {
            "shards": now.shards,
            "shards_done": now.shards_done,
            "frames": now.total.units,
            "frames_done": now.done.units,
            "frames_failed": now.done.failed,
            "holders": now.holders,
            "hard_links": now.links,
            "seconds_left": now.left,
        }
    )
