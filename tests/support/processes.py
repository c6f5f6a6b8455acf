"""Commands that are killed: begun in a session of their own, and what is left of it."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

from tests.support.caches import command


@contextlib.contextmanager
def under_way(
    cache: Path, arguments: tuple[object, ...], faults: dict[str, str]
) -> Iterator[subprocess.Popen[bytes]]:
    """`dicom2cache ARGUMENTS` that has published its first shard; its session ends with the block.

    `faults` are added to the environment.
    """
    process = subprocess.Popen(
        command(*arguments), env={**os.environ, **faults}, start_new_session=True,
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        while not list(cache.glob("build/*/receipts/*.arrow")):
            assert process.poll() is None, "the run ended before it was killed"
            time.sleep(0.01)
        yield process
    finally:
        with contextlib.suppress(ProcessLookupError):  # they have ended by themselves
            os.killpg(process.pid, signal.SIGKILL)


def session(leader: int) -> list[int]:
    """Processes of the session that are no zombies."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            state, _, _, of = path.read_text().rpartition(")")[2].split()[:4]
            if int(of) == leader and state != "Z":
                found.append(int(path.parent.name))
    return found
