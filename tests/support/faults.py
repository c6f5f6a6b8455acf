"""Faults of a machine made on purpose, and runs that are slow enough to meet."""

from __future__ import annotations

import contextlib
import ctypes
import hashlib
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import imagecodecs
import numpy as np

from tests.support.caches import command
from tests.support.dicom_files import pattern, write_dicom

_HOOKS = Path(__file__).parent / "hooks"
_JPEG_2000 = "1.2.840.10008.1.2.4.90"


def with_fault(*words: object) -> dict[str, str]:
    """Environment in which tests/support/hooks/sitecustomize.py makes that fault.

    It imports NumPy before the command says that no threads are to begin.
    """
    mine = " ".join(map(str, words))
    all_along = os.environ.get("FAULT", "")  # of `make test-portable`
    fault = {"PYTHONPATH": str(_HOOKS), "FAULT": f"{all_along};{mine}".strip(";")}
    return {**WITHOUT_THREADS, **fault}


WITHOUT_THREADS = {"OPENBLAS_NUM_THREADS": "1", "JE_ARROW_MALLOC_CONF": "background_thread:false"}
"""settings of cli/start.py by which NumPy and Arrow begin no threads, so that it can fork"""


def wavelets(folder: Path) -> tuple[dict[str, np.ndarray], str]:
    """Six JPEG 2000 files, three shards of two at 1 MiB; ({name: pixels}, digest of the fourth)."""
    pixels = {}
    for k in range(6):
        name = f"j{k}.dcm"
        pixels[name] = pattern(name, (512, 512))
        pixels[name][:, 8:] = k  # mostly flat, to encode fast
        stream = imagecodecs.jpeg2k_encode(
            pixels[name], level=0, reversible=True, codecformat="J2K"
        )
        stream += bytes(len(stream) % 2)  # a fragment has even length
        write_dicom(
            folder / name, pixels[name], syntax=_JPEG_2000, encoded=[stream], InstanceNumber=k,
            BitsStored=12, HighBit=11,
        )  # fmt: skip
        if k == 3:
            digest = hashlib.sha256(stream).hexdigest()
    return pixels, digest


@contextlib.contextmanager
def slow_run(*arguments: object) -> Iterator[subprocess.Popen[str]]:
    """A run that waits half a second after each shard, in a session of its own.

    What runs in the background of a shell ignores SIGINT, and its children inherit that.
    """
    process = subprocess.Popen(
        command(*arguments), env={**os.environ, **with_fault("slow-publish;", "all-workers")},
        start_new_session=True, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )  # fmt: skip
    try:
        yield process
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


def wait_for(cache: Path, glob: str, process: subprocess.Popen[str]) -> None:
    """Until the cache has such a file; fails if the process ends before."""
    while not list(cache.glob(glob)):
        assert process.poll() is None, "the run ended too early"
        time.sleep(0.01)


def without_override() -> None:
    """Give up root's right to read everything, so that a permission bites."""
    if os.getuid() == 0:
        libc = ctypes.CDLL(None, use_errno=True)
        for capability in (1, 2):  # CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH
            if libc.prctl(24, capability, 0, 0, 0):  # PR_CAPBSET_DROP
                raise OSError(ctypes.get_errno(), "prctl")


@contextlib.contextmanager
def at_most(seconds: int) -> Iterator[None]:
    """What lasts longer than `seconds` is ended by TimeoutError."""

    def stop(*_: object) -> None:
        raise TimeoutError(f"hangs for {seconds} s")

    before = signal.signal(signal.SIGALRM, stop)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)
