"""Use a cache that may be hostile, with bounds on memory and time."""

from __future__ import annotations

import contextlib
import resource
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path

from trainer_adapter import CacheLoader, FrameDataset, open_cache
from trainer_adapter.errors import (
    CacheError,
    DamagedError,
    FormatError,
    MixedShapesError,
    NotACacheError,
    VolumeError,
)
from trainer_adapter.lightly import names
from trainer_adapter.lightly.paths import Names
from trainer_adapter.stage import staged

MIB = 1 << 20
_SECONDS = 60
"""that one use of a cache may take at most, on a machine that is busy"""


def use(path: Path, node: Path) -> None:
    """All that one does with a cache."""
    cache = open_cache(path, check="first-touch")
    cache.attributes["arrays"]
    cache.frames.to_pylist()
    for name in cache.frames.column_names:
        cache.column(name)
    cache.select(kind="image")
    for members in cache.groups().values():
        cache.gather(members)
    for i in range(len(cache)):
        cache[i].max()
    for stack in range(10):
        with contextlib.suppress(VolumeError, MixedShapesError):
            cache.volume(stack, gaps=True)
    for read in ("map", "pread"):
        list(CacheLoader(cache, 4, read=read, threads=0, columns=["kind"]))
    list(CacheLoader(cache.select([0, 1]), 2, crop=4, threads=0, label="modality", missing="drop"))
    dataset = FrameDataset(cache)
    dataset[0]
    names(cache)
    Names(cache)
    with contextlib.suppress(CacheError):
        _ = Names(cache)["/nowhere/0/absent"]
    staged(cache.select([0]), node)[0].max()  # few shards: each is synced to the disk
    shutil.rmtree(node)


@contextlib.contextmanager
def bounded(mib: int = 1024) -> Iterator[None]:
    """No more memory than there is plus so much, and no more than a minute."""

    def late(*_: object) -> None:
        raise AssertionError(f"takes over {_SECONDS} s")

    before = signal.signal(signal.SIGALRM, late)
    signal.alarm(_SECONDS)
    limits = resource.getrlimit(resource.RLIMIT_AS)
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + mib * MIB, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, limits)
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def tried(path: Path, node: Path, what: object) -> bool:
    """Use a cache; True if it works, False for an error of ours. Any other fails the test."""
    try:
        with bounded():
            use(path, node)
    except (DamagedError, FormatError, NotACacheError) as e:
        if str(path) not in str(e) and str(node) not in str(e):
            raise AssertionError(f"{what}: names no file: {e}") from e
        return False
    except CacheError:
        return False
    except Exception as e:
        raise AssertionError(f"{what}: {type(e).__name__}: {e}") from e
    finally:
        shutil.rmtree(node, ignore_errors=True)
    return True
