"""What this machine has: versions, compiled parts, and what the file system of a folder can do."""

from __future__ import annotations

import os
import platform
import shutil
import statistics
import tempfile
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from dicom2cache import __version__
from dicom2cache.errors import what_failed
from dicom2cache.pixels import kernel
from dicom2cache.running.processors import cpu_count
from dicom2cache.sources import system
from dicom2cache.store import direct, durable, late
from dicom2cache.store.shards import without_compiled_crc32c

OK, SLOW, WRONG = "ok", "slow", "wrong"
_PACKAGES = (
    "numpy", "pydicom", "imagecodecs", "simplejpeg", "zarr", "numcodecs", "pyarrow", "pillow",
    "joblib", "google-crc32c", "torch",
)  # fmt: skip
_SYNCED, _TIMES, _MOST_SECONDS = 4 << 20, 5, 1.5
_SLOW_SYNC = 0.2
"""seconds for 4 MiB: a build is then long for its disk alone"""


@dataclass(frozen=True)
class Fact:
    """One thing that was looked at."""

    name: str
    said: str
    state: str = OK
    """ok, slow: it works, but for its speed or comfort; wrong"""
    remedy: str = ""
    """what to do where it is not ok"""


def software() -> Iterator[Fact]:
    """Versions, and whether they are those that this version asks for; compiled parts."""
    yield Fact("dicom2cache", __version__)
    kind = f"{platform.python_implementation()} on {platform.system()} {platform.machine()}"
    yield Fact("python", f"{platform.python_version()} ({kind})")
    asked = _asked()
    for name in _PACKAGES:
        yield from _package(name, asked.get(name))
    yield _kernel()
    slow = without_compiled_crc32c()
    if slow is None:
        yield Fact("CRC-32C", "compiled")
    else:
        yield Fact("CRC-32C", "pure Python, a hundred times as slow", SLOW, slow.split(". ")[-1])
    yield Fact("processors", f"{cpu_count()} for this process")


def _asked() -> dict[str, str]:
    """Versions that the installed package asks for: such as {"numpy": ">=2.0"}."""
    try:
        from packaging.requirements import InvalidRequirement, Requirement

        lines = metadata.requires("dicom2cache") or []
    except (ImportError, metadata.PackageNotFoundError):
        return {}  # run from a folder, or nothing can read them
    asked = {}
    for line in lines:
        with suppress(InvalidRequirement):
            one = Requirement(line)
            if one.marker is None or one.marker.evaluate({"extra": ""}):
                asked[one.name] = str(one.specifier)
    return asked


def _package(name: str, asked: str | None) -> Iterator[Fact]:
    remedy = f"`python -m pip install '{name}{asked or ''}'`"
    try:
        version = metadata.version(name)
    except metadata.PackageNotFoundError:
        if asked is not None:
            yield Fact(name, "not installed", WRONG, remedy)
        return
    if asked:
        from packaging.specifiers import SpecifierSet

        if not SpecifierSet(asked).contains(version, prereleases=True):
            yield Fact(name, f"{version}, needed: {asked}", WRONG, remedy)
            return
    yield Fact(name, version)


def _kernel() -> Fact:
    if kernel.compiled is None:
        return Fact(
            "compiled loops", "not there: NumPy does the same, more slowly", SLOW,
            "install a wheel for this system, or a C compiler, and reinstall dicom2cache",
        )  # fmt: skip
    sets = ("for any processor", "for AVX2", "for AVX-512")
    return Fact("compiled loops", sets[kernel.compiled.use(len(sets) - 1)])


def file_system(path: Path) -> Iterator[Fact]:
    """What a cache at `path` would meet: tried out in a folder there, which is removed again."""
    folder = path.absolute()
    if not os.path.lexists(folder):
        yield Fact(
            "path", f"{folder} is not there", SLOW,
            "a build makes it; what follows is of the folder above it. If it is misspelt, give it "
            "again",
        )  # fmt: skip
    elif not folder.is_dir():
        yield Fact(
            "path", f"{folder} is no folder", WRONG, "give the folder of a cache, or one for it"
        )
    while not folder.is_dir():
        folder = folder.parent
    kind = direct.file_system(folder)
    # Of "" nothing is known; late.py waits as for a file system of this machine.
    far = "" if late.is_local(kind) else ": waited for up to a minute, as a network's"
    yield Fact("file system", f"{kind or 'not known'}{far}, of {folder}")
    free = shutil.disk_usage(folder).free
    full = free < 1 << 28
    yield Fact(
        "free room", f"{free / 2**30:.1f} GiB", WRONG if full else OK,
        "free some space there, or give a path on another disk" if full else "",
    )  # fmt: skip
    try:
        with tempfile.TemporaryDirectory(prefix=".dicom2cache-doctor-", dir=folder) as name:
            yield from _tried(Path(name))
    except OSError as e:
        e.filename = os.fspath(folder)
        said, _, remedy = what_failed(e).rpartition("; ")
        yield Fact("written to", said, WRONG, remedy)


def _tried(folder: Path) -> Iterator[Fact]:
    spent = _sync_times(folder)
    median = statistics.median(spent)
    yield Fact(
        "4 MiB made durable", f"{median * 1e3:.1f} ms, median of {len(spent)}",
        SLOW if median > _SLOW_SYNC else OK,
        "give a path on a faster disk" if median > _SLOW_SYNC else "",
    )  # fmt: skip
    yield Fact("direct I/O", direct.tried(folder))
    inner = folder / "inner"
    inner.mkdir()
    try:
        linked = durable.has_links(folder, inner, quiet=True)
    except OSError as e:
        yield Fact("hard links", str(e.strerror), WRONG, "give a path on another file system")
    else:
        yield Fact("hard links", "yes" if linked else "no: folders are renamed in their place")
    if not system.HAS_LOCKS:
        yield Fact("locks", "none on this system: copies and exports are not held apart", SLOW)
        return
    with open(folder / "lock", "wb") as file:
        try:
            system.lock(file.fileno(), wait=False)
        except OSError as e:
            yield Fact(
                "locks", f"no: {e.strerror}", SLOW,
                "stage and export to another file system; caches are made without locks",
            )  # fmt: skip
        else:
            yield Fact("locks", "yes")


def _sync_times(folder: Path) -> list[float]:
    """Seconds for each of a few writes of 4 MiB, as shards are written."""
    data, spent = memoryview(os.urandom(_SYNCED)), list[float]()
    while len(spent) < _TIMES and sum(spent) < _MOST_SECONDS:
        path, start = folder / f"sync{len(spent)}", time.perf_counter()
        file = direct.DirectFile(path)
        try:
            file.write(data)
            file.finish()
        finally:
            file.close()
        spent.append(time.perf_counter() - start)
        path.unlink()
    return spent
