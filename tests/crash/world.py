"""Sources, undisturbed caches, and runs in children that are forked, which import nothing."""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import signal
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import imagecodecs
import joblib
import numcodecs.blosc
import numpy as np
import numpy.ma
import pyarrow.parquet
import pydicom

import trainer_adapter
from dicom2cache.cli import app
from dicom2cache.planning import crew
from dicom2cache.running import commit, execute, pool, seed
from tests.crash.disk import Disk
from tests.support.dicom_files import pattern, write_dicom, write_series

# Imported before the forks, but nothing of it run: Arrow's threads must start in the children.
_READY = (joblib, numcodecs.blosc, numpy.ma, pyarrow.parquet, pydicom, commit, imagecodecs)
imagecodecs.version()  # imports every codec
STORED = 1
"""exit status of every build here: one file is truncated"""
AGAIN = "run the same command again"


def write_sources(folder: Path) -> None:
    """Six slices of CT, three shards of two at 1 MiB; a colour image; and a file that is cut."""
    write_series(folder, 6)
    write_dicom(folder / "colour.dcm", pattern("colour", (32, 48, 3), np.uint8))
    cut = write_dicom(folder / "cut.dcm", pattern("cut", (64, 64)))
    cut.write_bytes(cut.read_bytes()[:-2000])


def in_process(jobs: int) -> tuple[Any, ...]:
    """Flags for so many jobs; of one, it works in the process itself."""
    return ("--jobs", jobs, "--backend", "threading" if jobs == 1 else "loky")


def tree(cache: Path) -> dict[str, str]:
    """{path: SHA-256} of every file below the cache, build/ too; folders as empty."""
    found = {}
    for path in sorted(cache.rglob("*")):
        name = path.relative_to(cache).as_posix()
        found[name] = hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else ""
    return found


@dataclass
class Run:
    """A command in a child, in a process group of its own."""

    pid: int
    said: Path

    def wait(self, seconds: float = 300) -> int:
        """Its exit status; whatever else is in its group is killed then."""
        ends = time.monotonic() + seconds
        while True:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                break
            if time.monotonic() > ends:
                self.kill()
                os.waitpid(self.pid, 0)
                raise TimeoutError(f"hangs: {self.output()[-500:]}")
            time.sleep(0.002)
        self.kill()
        return os.waitstatus_to_exitcode(status)

    def kill(self, number: int = signal.SIGKILL) -> None:
        """Send a signal to the group."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, number)

    def output(self) -> str:
        """What it wrote to stdout and stderr."""
        return self.said.read_text(errors="replace")


class World:
    """Sources in a folder, and what undisturbed runs made of them."""

    def __init__(self, folder: Path) -> None:
        # Not where this module is imported: other tests are in that process.
        execute._PAUSE = 0.0  # a fault that stays is not waited for
        crew._FORKED = crew._STARTED = crew._MUCH = 1  # any work is worth two processes
        self.folder, self.source = folder, folder / "source"
        os.environ["XDG_CONFIG_HOME"] = str(folder / "config")
        write_sources(self.source)
        self._number = 0
        self.recipes = {"new": ("--shard-mib", "1"), "old": ("--shard-mib", "2", "--codec", "zstd")}
        self.expected = {name: self._undisturbed(name) for name in self.recipes}
        self.digests = {name: self._in_child(pixels, folder / name) for name in self.recipes}

    def _undisturbed(self, name: str) -> dict[str, str]:
        cache = self.folder / name
        assert self.do(*self.build(cache, name)) == STORED
        return tree(cache)

    def _in_child(self, function: Callable[[Path], str], path: Path) -> str:
        """What a function returns in a child."""
        heard, told = os.pipe()
        pid = os.fork()
        if not pid:
            os.write(told, function(path).encode())
            os._exit(0)
        os.close(told)
        with open(heard) as said:
            found = said.read()
        assert os.waitpid(pid, 0)[1] == 0
        return found

    def build(self, cache: Path, recipe: str = "new", jobs: int = 1) -> tuple[Any, ...]:
        """Arguments of a build; of one job, it works in the process itself."""
        return ("build", self.source, cache, *in_process(jobs), *self.recipes[recipe])

    def fresh(self) -> Path:
        """A path for a cache, in a folder of its own."""
        self._number += 1
        folder = self.folder / f"run{self._number}"
        folder.mkdir()
        return folder / "cache"

    def drop(self, cache: Path) -> None:
        """Remove the folder that a cache was made in."""
        shutil.rmtree(cache.parent)

    def start(self, *arguments: object, disk: Disk | None = None) -> Run:
        """Start `dicom2cache ARGUMENTS` in a child."""
        self._number += 1
        said = self.folder / f"said{self._number}"
        sys.stdout.flush()
        pid = os.fork()
        if pid:
            return Run(pid, said)
        status = 70
        try:
            os.setsid()
            out = os.open(said, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o666)
            os.dup2(out, 1)
            os.dup2(out, 2)
            if disk is not None:
                disk.begin()
            sys.argv = ["dicom2cache", *map(str, arguments)]
            if "loky" in sys.argv:  # as cli/start.py
                seed.fork_early(pool.CONVERT)
            app.main()
        except SystemExit as e:
            status = int(e.code or 0)
        except BaseException as e:
            sys.excepthook(type(e), e, e.__traceback__)
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(status)

    def do(self, *arguments: object, disk: Disk | None = None) -> int:
        """The exit status of `dicom2cache ARGUMENTS`."""
        return self.start(*arguments, disk=disk).wait()

    def wrong(self, cache: Path, recipe: str = "new", build: bool = True) -> str:
        """How a cache differs from the undisturbed one, build/ too; empty: in no byte."""
        found, expected = tree(cache), self.expected[recipe]
        if not build:
            found, expected = _without_build(found), _without_build(expected)
        names = sorted(n for n in found.keys() | expected if found.get(n) != expected.get(n))
        return f"differs from an undisturbed build in {', '.join(names[:5])}" if names else ""


def _without_build(found: dict[str, str]) -> dict[str, str]:
    return {name: digest for name, digest in found.items() if name.split("/")[0] != "build"}


@contextlib.contextmanager
def reader(world: World, cache: Path, whole: set[str], moving: bool = False) -> Iterator[list[str]]:
    """A process that opens the cache and reads all of it, again and again; what it saw wrong.

    It must find no cache, or a whole one: its pixels have a digest of `whole`. While one is removed
    (`moving`) a typed error that names a file is right, too.
    """
    wrong: list[str] = []
    said = world.folder / f"{cache.parent.name}.seen"
    heard, end = os.pipe()
    pid = os.fork()
    if not pid:
        os.close(end)
        os.set_blocking(heard, False)
        with said.open("w") as out:
            looks = 0
            while not _closed(heard):
                looks += 1
                found = _look(cache)
                if not (found is None or found in whole or (moving and found.startswith("typed"))):
                    print(found, file=out, flush=True)
                time.sleep(0.01)
        os._exit(0)
    os.close(heard)
    try:
        yield wrong
    finally:
        os.close(end)
        os.waitpid(pid, 0)
        wrong += [f"a reader saw: {line}" for line in said.read_text().splitlines()[:3]]
        said.unlink()


def _closed(descriptor: int) -> bool:
    try:
        return os.read(descriptor, 1) == b""
    except BlockingIOError:
        return False


def _look(cache: Path) -> str | None:
    try:
        return pixels(cache)
    except trainer_adapter.NotACacheError:
        return None
    except trainer_adapter.CacheError as e:
        return f"typed {e!r}"
    except Exception as e:
        return repr(e)


def pixels(cache: Path) -> str:
    """A digest of all frames, as trainer_adapter reads them."""
    opened = trainer_adapter.open_cache(cache)
    digest = hashlib.sha256()
    for frame in opened:
        digest.update(np.ascontiguousarray(frame).tobytes())
    return f"{len(opened)} {digest.hexdigest()}"
