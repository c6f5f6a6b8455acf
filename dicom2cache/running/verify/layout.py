"""What lies in a cache's folder that the format does not name."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from dicom2cache.running.attempts import abandoned
from dicom2cache.running.job import is_growing, update_of
from dicom2cache.running.remains import is_planning
from dicom2cache.running.remove.unnamed import unnamed_files
from dicom2cache.running.remove.withheld import KIND
from dicom2cache.running.verify.findings import Finding, of_error, of_mode
from dicom2cache.running.verify.tables import Said
from dicom2cache.store import names
from dicom2cache.store.committed import spec_of
from dicom2cache.store.layout import (
    NUMBERINGS,
    ROOT,
    SPARE,
    numbering_path,
    shard_path,
    spare_paths,
)
from dicom2cache.store.root import CONTOURS, KINDS

_REPAIR = "build/repair"
_LOOKS, _PAUSE = 5, 0.05
"""how often a folder is looked at in which nobody works, and seconds between"""
_SHARD = re.compile(r"c\.(0|[1-9][0-9]*)(\.0){2,3}")


def _is_repaired(cache: Path) -> bool:
    """Whether a process is at work that repairs the cache: what it makes lies in build/."""
    try:
        return not all(abandoned(name) for name in os.listdir(cache / _REPAIR))
    except OSError:
        return False


def _comes_or_goes(cache: Path, name: str) -> bool:
    """Whether a folder is there only because a repair has just begun, or is about to end."""
    for _ in range(_LOOKS):
        if _is_repaired(cache) or not os.path.lexists(cache / name):
            return True
        time.sleep(_PAUSE)
    return False


def extra(cache: Path, attributes: dict[str, Any], said: Said | None) -> Iterator[Finding]:
    """Files and folders, empty ones too, that are none of this cache's.

    What earlier numberings had is, until it is purged. Without `said`, which names the shards,
    whatever is named like one is taken for one.
    """
    files = {ROOT}
    files |= spare_paths(attributes) if "identity" in attributes else {"build/plan.json"}  # older
    files |= {e["path"] for entries in attributes["tables"].values() for e in entries}
    files |= set(unnamed_files(cache, attributes))
    arrays = {a["name"] for a in attributes["arrays"]}
    files |= {f"{name}/{ROOT}" for name in arrays}
    growing = is_growing(cache, attributes)
    if growing:
        newer = f"{attributes['generation'] + 1}.parquet"
        files |= {f"{kind}/{newer}" for kind in (*KINDS, KIND, CONTOURS)}
        files |= {numbering_path(attributes.get("numbering", 0))}
    folders = {os.path.dirname(f) for f in files} - {""}
    folders |= {NUMBERINGS} if attributes.get("numbering") else set()
    folders |= {"build", _REPAIR} if _is_repaired(cache) else set()
    planned = update_of(cache) is not None or any(map(is_planning, cache.glob("build/*")))
    unnamed = said is None or growing
    if said is not None:
        specs = [spec_of(a) for a in attributes["arrays"]]
        pairs = zip(said.shards["array"].tolist(), said.shards["shard"].tolist(), strict=True)
        files |= {shard_path(specs[a], s) for a, s in pairs if 0 <= a < len(specs)}

    def known(name: str, is_folder: bool) -> bool:
        folder, _, last = name.rpartition("/")
        if _REPAIR in folders and folder.startswith(_REPAIR):
            return True
        if planned and f"{name}/".startswith("build/"):
            return True
        if growing and folder == SPARE and names.is_spare(last):
            return True
        if is_folder:
            return name in folders or (growing and names.is_array(name))
        held = folder in arrays or (growing and names.is_array(folder))
        return name in files or (
            unnamed and held and (_SHARD.fullmatch(last) is not None or last == ROOT)
        )

    waiting = [""]
    while waiting:
        folder = waiting.pop()
        try:
            with os.scandir(cache / folder) as entries:
                inside = sorted(entries, key=lambda e: e.name)
        except OSError as e:
            yield of_error(cache, folder or ".", "extra", e)
            continue
        for entry in inside:
            name = f"{folder}/{entry.name}" if folder else entry.name
            is_folder = entry.is_dir(follow_symlinks=False)
            if not known(name, is_folder):
                if name in files or name in folders:
                    continue  # another kind of thing in its place: who reads it says so
                if name in ("build", _REPAIR) and _comes_or_goes(cache, name):
                    continue
                what = of_mode(entry.stat(follow_symlinks=False).st_mode)
                yield Finding(cache, name, "extra", f"{what} that a cache has not")
            elif is_folder:
                waiting.append(name)
