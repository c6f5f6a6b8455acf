"""The order in which a build makes things durable, by the log of disk.c: what is wrong with it."""

from __future__ import annotations

import re
from collections.abc import Iterator

from tests.crash.disk import Disk
from tests.crash.world import STORED, World

_NO_NAME = re.compile(r"/build/removed-\w+$|/\.links\.\w+$")
"""what is on its way out, or tries whether there are links"""


def order(world: World) -> Iterator[str]:
    """What one build named before it was durable; "" where all is well.

    A file is fsynced before it is renamed or linked, and the folder of the new name after; all else
    is durable, with its name, before the root gets its own; the folder above a cache is synced.
    """
    cache, log = world.fresh(), world.folder / "log"
    disk = Disk(cache.parent, world.folder / "counters", log=log)
    assert world.do(*world.build(cache), disk=disk) == STORED
    yield "; ".join(wrong([line.split("\t") for line in log.read_text().splitlines()]))
    world.drop(cache)


def wrong(calls: list[list[str]]) -> Iterator[str]:
    """What is wrong with calls (kind, path, second path), paths below the folder above CACHE."""
    synced, named = set[str](), dict[str, str]()
    for kind, path, other in calls:
        if kind == "fsync":
            synced.add(path)
            named = {name: folder for name, folder in named.items() if folder != path}
        elif kind == "mkdir":
            named[path] = path.rpartition("/")[0]
        elif kind in ("write", "pwrite", "truncate"):
            synced.discard(path)
        elif kind in ("rename", "link") and not _NO_NAME.search(other):
            if path not in synced:
                yield f"{path} was not durable when it was named {other}"
            if other == "/cache/zarr.json":
                open_names = sorted(n for n in named if "/build/" not in n)
                yield from (f"the name of {n} was not durable before the root" for n in open_names)
            synced.add(other)
            named[other] = other.rpartition("/")[0]
    yield from (f"the name of {n} is not durable at the end" for n in named if "/build" not in n)
    if "" not in synced:
        yield "the folder above the cache was not synced"
