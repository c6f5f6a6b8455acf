"""Samples decoded in a process of their own: a library may kill the one that it runs in."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator, Sequence
from dataclasses import asdict

from dicom2cache.running.proof.samples import Proof, proved_here, samples

START, EACH = 300.0, 120.0
"""seconds: from the cold file system of a cluster imports take minutes; a sample, milliseconds"""
_CODE = (
    "import json, sys; sys.path[:] = json.loads(sys.argv[1]); "
    "from dicom2cache.running.proof.apart import serve; serve(sys.argv[2:])"
)


def proved(names: Sequence[str]) -> Iterator[Proof]:
    """Decode samples by name, each as it ends; after one that kills its process, in another.

    Where no process can be started they are decoded in this one.
    """
    left = list(names)
    while left:
        try:
            child = _Child(left)
        except OSError:
            yield from proved_here(left)
            return
        with child:
            for proof in child.proofs():
                left.remove(proof.sample)
                yield proof
        if left:
            yield Proof(left[0], samples()[left[0]].syntax, wrong=child.death())
            del left[0]
            if not child.started:  # the others would fare alike
                for name in left:
                    yield Proof(name, samples()[name].syntax, wrong=child.death())
                return


class _Child:
    """A Python process that decodes, with a limit of time."""

    def __init__(self, names: Sequence[str]) -> None:
        self.started = False
        self._late = 0.0
        self._said = tempfile.TemporaryFile()  # noqa: SIM115
        command = [sys.executable, "-P", "-c", _CODE, json.dumps(sys.path), *names]
        try:
            self._process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=self._said
            )
        except BaseException:
            self._said.close()
            raise

    def __enter__(self) -> _Child:
        return self

    def __exit__(self, *_: object) -> None:
        if self._process.poll() is None:
            self._process.kill()
        self._process.wait()
        if self._process.stdout is not None:
            self._process.stdout.close()
        self._said.seek(max(0, self._said.seek(0, 2) - 4096))
        self._words = self._said.read().decode(errors="replace").strip().splitlines()
        self._said.close()

    def proofs(self) -> Iterator[Proof]:
        """What it makes of the samples, until it ends."""
        while line := self._line(EACH if self.started else START):
            found = json.loads(line)
            if found is None:
                self.started = True
            else:
                yield Proof(**found)
        if not self._late:
            self._process.wait()

    def _line(self, seconds: float) -> bytes:
        pipe = self._process.stdout
        assert pipe is not None
        timer = threading.Timer(seconds, self._kill, (seconds,))
        timer.start()
        try:
            return pipe.readline()
        finally:
            timer.cancel()

    def _kill(self, seconds: float) -> None:
        self._late = seconds
        self._process.kill()

    def death(self) -> str:
        """What it died of; once it is left."""
        code = self._process.returncode
        if self._late:
            why = f"does not end within {self._late:g} s"
        elif code < 0:
            names = {number.value: number.name for number in signal.Signals}
            why = f"kills its process: {names.get(-code, -code)}"
        else:
            why = f"ends its process, with exit status {code}"
        if not self.started:
            why = f"no process could begin with it ({why})"
        return f"{why}: {self._words[-1][:300]}" if self._words else why


def serve(names: Sequence[str]) -> None:
    """Decode samples, a line of JSON for each: in the process that was started for it."""
    from dicom2cache.frames import decode  # noqa: F401  # before it is timed
    from dicom2cache.headers import read  # noqa: F401

    with os.fdopen(os.dup(1), "w") as out:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # libraries print what is no answer
        print("null", file=out, flush=True)
        for proof in proved_here(names):
            print(json.dumps(asdict(proof)), file=out, flush=True)
