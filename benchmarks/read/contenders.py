"""Who takes part in `make bench-read`, each in a process of its own; rounds in turn."""

from __future__ import annotations

import json
import os
import select
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.read.workloads import Workload

_PATIENCE = 180.0
"""seconds after which an answer is no longer waited for"""
_SPRINTS = 3
"""rounds of memcpy and CacheLoader to one of all: the closest race is run most often"""
_LEAST = 0.3
"""seconds that a round of a contender takes at least, in whole epochs"""
_SLOW = 10.0
"""seconds after which a contender that has run 3 rounds is let off"""


@dataclass(frozen=True)
class Contender:
    """A row of the table."""

    name: str
    peer: str
    """module in benchmarks/read/peers/"""
    options: dict[str, Any] = field(default_factory=dict)
    share: int = 1
    """it serves one frame of so many: slow ones fewer, all timed by the frame"""
    only: str = ""
    """the workload that it takes part in, if not in all"""
    checked: bool = True
    """whether it serves the frames; else so many bytes of them"""

    @property
    def sprints(self) -> bool:
        """Whether it takes part in the rounds between those of all."""
        return self.peer == "memcpy" or (self.peer == "ours" and "workers" not in self.options)


CONTENDERS = (
    Contender("memcpy", "memcpy"),
    Contender("memcpy, from memory", "memcpy", {"ram": True}),
    Contender("memcpy, in one piece", "memcpy", {"whole": True}, checked=False),
    Contender("CacheLoader", "ours"),
    Contender("CacheLoader, threads=1", "ours", {"threads": 1}),
    Contender("CacheLoader, threads=2", "ours", {"threads": 2}),
    Contender("CacheLoader, whole then crop", "ours", {"whole": True}, only="radiographs"),
    Contender("FrameDataset, DataLoader", "ours", {"workers": 0}),
    Contender("FrameDataset, DataLoader, 2 workers", "ours", {"workers": 2}),
    Contender("one .npy map, DataLoader", "npy", {"workers": 0}, 2),
    Contender("one .npy map, DataLoader, 2 workers", "npy", {"workers": 2}, 2),
    Contender("zarr-python, threads", "zarr", share=4),
    Contender("zarr-python, DataLoader, 2 workers", "zarr", {"workers": 2}, 4),
    Contender("zarrs, threads", "zarr", {"pipeline": "zarrs"}, 4),
    Contender("zarrs, gather", "zarr", {"pipeline": "zarrs", "gather": True}, 4),
    Contender("tensorstore, batched", "tensorstore", share=4),
    Contender("MosaicML streaming", "mds", {"workers": 0}, 4),
    Contender("MosaicML streaming, 2 workers", "mds", {"workers": 2}, 4),
    Contender("LitData", "litdata", {"workers": 0}, 4),
    Contender("LitData, 2 workers", "litdata", {"workers": 2}, 4),
    Contender("WebDataset", "webdataset", {"workers": 0}, 4),
    Contender("WebDataset, 2 workers", "webdataset", {"workers": 2}, 4),
    Contender("MONAI PersistentDataset", "monai", {"workers": 0}, 4),
    Contender("MONAI PersistentDataset, 2 workers", "monai", {"workers": 2}, 4),
    Contender("pydicom, uncompressed", "pydicom", {"workers": 0}, 8),
    Contender("pydicom, uncompressed, 2 workers", "pydicom", {"workers": 2}, 8),
    Contender("pydicom, JPEG 2000", "pydicom", {"files": "j2k", "workers": 0}, 32),
    Contender("pydicom, JPEG 2000, 2 workers", "pydicom", {"files": "j2k", "workers": 2}, 32),
)


class Process:
    """A contender at work on frames of one kind. After an error it says `failed`, and no more."""

    def __init__(self, contender: Contender, work: Workload, here: Path) -> None:
        frames = max(2 * work.batch, work.frames // contender.share // work.batch * work.batch)
        self.contender, self.work = contender, replace(work, frames=frames)
        self.folder = here / f"{contender.peer}-{frames}"
        self.failed, self.private_mib, self.spent = "", 0.0, 0.0
        self.speeds: list[float | None] = []
        command = [
            sys.executable, "-m", "benchmarks.read.process", contender.peer, str(self.folder),
            json.dumps(asdict(self.work)), json.dumps(contender.options),
        ]  # fmt: skip
        self.log = here / "log.txt"
        with self.log.open("a") as log:
            self._process = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log
            )

    def ask(self, do: str, **more: float) -> dict[str, Any]:
        """What it answers; nothing if it failed, now or before."""
        if self.failed:
            return {}
        answer = self._answer(json.dumps({"do": do, "seed": 0, **more}) + "\n")
        self.failed = answer.get("error") or answer.get("wrong") or ""
        self.private_mib = max(self.private_mib, answer.get("private_mib", 0.0))
        return {} if self.failed else answer

    def _answer(self, line: str) -> dict[str, Any]:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        try:
            self._process.stdin.write(line.encode())
            self._process.stdin.flush()
        except BrokenPipeError:
            return {"error": self._last_words()}
        ready, _, _ = select.select([self._process.stdout], [], [], _PATIENCE)
        if not ready:
            return {"error": f"no answer within {_PATIENCE:.0f} s"}
        answer = self._process.stdout.readline()
        return dict(json.loads(answer)) if answer else {"error": self._last_words()}

    def _last_words(self) -> str:
        lines = [s for s in self.log.read_text(errors="replace").splitlines() if s.strip()]
        return f"ended: {lines[-1] if lines else self._process.wait()}"[:300]

    def close(self) -> None:
        """End it, with its workers."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        assert self._process.stdout is not None
        self._process.stdout.close()


def chosen(names: str) -> tuple[Contender, ...]:
    """Those whose peer, or whose own name, is one of `names` (a,b), and memcpy; "": all.

    Raises ValueError for a name that none has.
    """
    wanted = {name.strip() for name in names.split(",")} - {""}
    known = {c.peer for c in CONTENDERS} | {c.name for c in CONTENDERS}
    if wanted - known:
        raise ValueError(f"no contender {', '.join(wanted - known)}; there are {', '.join(known)}")
    if not wanted:
        return CONTENDERS
    return tuple(c for c in CONTENDERS if {c.peer, c.name} & {*wanted, "memcpy"})


def compete(
    work: Workload, here: Path, rounds: int, contenders: Sequence[Contender]
) -> list[dict[str, Any]]:
    """A row for each contender: frames per second in each round, or why there are none.

    All are built and checked first; then each of `rounds` times all of them, in turn.
    """
    taking = [c for c in contenders if c.only in ("", work.name)]
    entries = [Process(c, work, here) for c in taking]
    try:
        for entry in entries:
            if not entry.folder.exists():
                entry.ask("build")
            if entry.contender.checked:
                entry.ask("check")  # which warms it up, too
            print(f"  {entry.contender.name}: {entry.failed or 'true'}", file=sys.stderr)
        os.sync()  # else writing back what was built would go on beside the rounds
        for k in range(rounds * _SPRINTS):
            for entry in entries if k % 2 else entries[::-1]:
                done = k >= 3 * _SPRINTS and entry.spent > _SLOW
                done = done or (k % _SPRINTS > 0 and not entry.contender.sprints)
                answer = {} if done else entry.ask("epoch", seed=k + 1, least=_LEAST)
                entry.spent += answer.get("seconds", 0.0)
                entry.speeds.append(answer["frames"] / answer["seconds"] if answer else None)
    finally:
        for entry in entries:
            entry.close()
    return [_row(entry) for entry in entries]


def _row(entry: Process) -> dict[str, Any]:
    row = {"name": entry.contender.name, "peer": entry.contender.peer, "options":
           entry.contender.options, "frames": entry.work.frames}  # fmt: skip
    speeds = [s for s in entry.speeds if s is not None]
    if entry.failed or not speeds:
        return {**row, "failed": entry.failed or "no round"}
    return {
        **row, "median": median(speeds), "min": min(speeds), "max": max(speeds),
        "rounds": entry.speeds, "private_mib": entry.private_mib,
    }  # fmt: skip


def ratio(one: dict[str, Any], other: dict[str, Any]) -> float:
    """How many times as fast: the median over rounds, so that a drift of the machine drops out."""
    both = zip(one.get("rounds", []), other.get("rounds", []), strict=False)
    found = [a / b for a, b in both if a is not None and b is not None]
    return median(found) if found else float("nan")
