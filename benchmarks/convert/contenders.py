"""Who takes part in `make bench-convert`, each run in fresh processes; rounds in turn."""

from __future__ import annotations

import ctypes
import json
import os
import shutil
import subprocess
import sys
import threading
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.convert.converters import ours
from benchmarks.convert.sources import SERIES, Kind, paths_of

_PATIENCE = 240.0
"""seconds after which a contender is ended"""
_CHUNK = 1 << 22
_STARTS = 3
"""builds of a few files whose median is what start-up takes"""
CHECKED = 1024
"""files whose pixels are compared, from the first on"""
DISK = "the bytes alone, synced"
TMPFS = "tmpfs"
"""an option: output goes to memory"""
FEW = ", 1,024 files"
_MEMORY = Path("/dev/shm")


@dataclass(frozen=True)
class Contender:
    """A row of the tables."""

    name: str
    converter: str
    """module in benchmarks/convert/converters/"""
    options: dict[str, Any] = field(default_factory=dict)
    share: int = 1
    """it converts one file of so many: all are timed by the file"""
    files: int | None = None
    """or so many, as far as there are"""
    kinds: str = "all"
    """`ct` alone, `compressed` or all"""
    writes: bool = True
    """whether it stores frames, and so is a peer"""
    checked: bool = True
    """whether it has pixels that can be compared with the true ones"""

    def takes_part(self, kind: Kind) -> bool:
        """In files of this kind."""
        if self.kinds == "compressed":
            return kind.name not in ("ct", "cine")
        return self.kinds in ("all", kind.name)

    def count(self, kind: Kind) -> int:
        """Files that it converts: of dcm2niix whole series, since it takes them so."""
        least = 3 if kind.frames > 1 else SERIES if self.converter == "dcm2niix" else 64
        wanted = self.files or kind.files // self.share
        return min(kind.files, max(least, wanted // least * least))


CONTENDERS = (
    Contender("dicom2cache, 1 job", "ours", {"jobs": 1}),
    Contender("dicom2cache, 2 jobs", "ours", {"jobs": 2}),
    Contender("dicom2cache, 1 job, lz4", "ours", {"jobs": 1, "codec": "lz4"}, kinds="ct"),
    Contender("imagecodecs alone", "codec", share=2, kinds="compressed", writes=False),
    Contender("dicom2cache, 2 jobs, tmpfs", "ours", {"jobs": 2, TMPFS: True},
              files=2560, kinds="ct"),
    Contender(f"dicom2cache, 1 job{FEW}", "ours", {"jobs": 1}, files=1024, kinds="ct"),
    Contender(f"dicom2cache, 2 jobs{FEW}", "ours", {"jobs": 2}, files=1024, kinds="ct"),
    Contender(DISK, "disk", {"passes": 5}, kinds="ct", writes=False, checked=False),
    Contender("pydicom, header alone", "pydicom", {"step": "header"}, 5, kinds="ct",
              writes=False, checked=False),
    Contender("pydicom, pixel_array alone", "pydicom", {"step": "decode"}, 5, writes=False),
    Contender("pydicom to .npy", "pydicom", {"step": "npy"}, 8),
    Contender("pydicom to .npy, synced", "pydicom", {"sync": True}, 8, kinds="ct"),
    Contender("pydicom to .npy, 2 processes", "pydicom", {"processes": 2}, 8, kinds="ct"),
    Contender("SimpleITK to .npy", "simpleitk", share=20),
    Contender("SimpleITK to .npy, 2 processes", "simpleitk", {"processes": 2}, 20, kinds="ct"),
    Contender("MONAI PersistentDataset", "monai", share=40),
    Contender("MONAI PersistentDataset, 2 processes", "monai", {"processes": 2}, 40, kinds="ct"),
    Contender("dicomsdl to .npy", "dicomsdl", share=5),
    Contender("dicomsdl to .npy, 2 processes", "dicomsdl", {"processes": 2}, 5, kinds="ct"),
    Contender("dicomsdl to .npy, synced", "dicomsdl", {"sync": True}, 5, kinds="ct"),
    Contender("dcm2niix", "dcm2niix", share=5),
    Contender("dcm2niix, 2 processes", "dcm2niix", {"processes": 2}, 5, kinds="ct"),
    Contender("dcm2niix, 2 processes, tmpfs", "dcm2niix", {"processes": 2, TMPFS: True},
              files=2560, kinds="ct"),
)  # fmt: skip


def adopt() -> None:
    """Have every descendant end up as a child of this process, so that its CPU time is counted.

    Workers may outlive the program that started them; who is not waited for is counted nowhere.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(36, 1, 0, 0, 0)  # PR_SET_CHILD_SUBREAPER


def measured(command: list[str], log: Path) -> dict[str, Any]:
    """{status, wall, cpu, peak_mib, said}: of a command with all that it starts.

    Peak memory is that of its largest process.
    """
    with log.open("ab") as errors:
        start = time.perf_counter()
        process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=errors, start_new_session=True
        )
        assert process.stdout is not None
        timer = threading.Timer(_PATIENCE, lambda: os.killpg(process.pid, 9))
        timer.start()
        said = process.stdout.read()
        _, status, usage = os.wait4(process.pid, 0)
        wall = time.perf_counter() - start
        timer.cancel()
        process.returncode = os.waitstatus_to_exitcode(status)
        process.stdout.close()
    cpu, peak = usage.ru_utime + usage.ru_stime, usage.ru_maxrss
    while True:  # what it left behind
        try:
            _, _, more = os.wait4(-1, 0)
        except ChildProcessError:
            break
        cpu, peak = cpu + more.ru_utime + more.ru_stime, max(peak, more.ru_maxrss)
    scale = 2**20 if sys.platform == "darwin" else 1024
    return {"status": process.returncode, "wall": wall, "cpu": cpu, "peak_mib": peak / scale,
            "said": said.decode(errors="replace")}  # fmt: skip


def claim(path: Path, size: int) -> None:
    """Have the system hold as much memory as is about to be written, at a fresh cost for nobody.

    A virtual machine may hand freed pages back to its host, and pays when it wants them again: who
    wrote after a pause took up to twice the CPU time of who wrote right after another.
    """
    chunk = bytes(_CHUNK)
    with path.open("wb", buffering=0) as file:
        for _ in range(-(-size // _CHUNK)):
            file.write(chunk)
    path.unlink()


class Entry:
    """A contender at work on files of one kind. After an error it says `failed`, and no more."""

    def __init__(self, contender: Contender, kind: Kind, here: Path) -> None:
        self.contender, self.kind, self.here = contender, kind, here
        self.count, self.failed, self.values = contender.count(kind), "", ""
        self.rounds: list[dict[str, float] | None] = []

    def run(self) -> None:
        """One round: converts, and the first time its pixels are checked, untimed."""
        if self.failed:
            self.rounds.append(None)
            return
        out = self._output()
        if out is None:
            self.failed = f"{_MEMORY} has no room for its output"
            self.rounds.append(None)
            return
        claim(self.here / "claimed", self._pixels())
        found = self._ours(out) if self.contender.converter == "ours" else self._peer(out)
        if found and not self.rounds and self.contender.checked:
            self._check(out / "all")
        shutil.rmtree(out, ignore_errors=True)
        self.rounds.append(None if self.failed else found)

    def _pixels(self) -> int:
        return self.kind.frame_bytes * self.kind.frames * self.count

    def _output(self) -> Path | None:
        """A folder that is not there yet; None if memory has too little room for it."""
        if not self.contender.options.get(TMPFS):
            return self.here / "out"
        there = _MEMORY.is_dir() and shutil.disk_usage(_MEMORY).free > 2 * self._pixels()
        return _MEMORY / f"{self.here.parent.name}-out" if there else None

    def _source(self) -> str:
        """The folder that has all of its files, and no others."""
        if self.count == self.kind.files:
            return "all"
        name = f"first-{self.count}"
        for path in paths_of(self.here)[: self.count] if not (self.here / name).exists() else ():
            link = self.here / name / path.relative_to(self.here / "all")
            link.parent.mkdir(parents=True, exist_ok=True)
            os.link(path, link)
        return name

    def _ours(self, out: Path) -> dict[str, float]:
        """The command itself, on all files and on a few: the difference has no start-up in it.

        A few times on the few, of which the first is not counted: what a machine remembers, as that
        its decoders are proved, is there by then.
        """
        out.mkdir()
        few = [self._command_on("few", out / f"few-{k}") for k in range(_STARTS + 1)][1:]
        many = self._command_on(self._source(), out / "all")
        if self.failed:
            return {}
        start = {what: median(run[what] for run in few) for what in ("cpu", "wall")}
        more = self.count - self.kind.few
        return {
            "cpu": (many["cpu"] - start["cpu"]) / more,
            "wall": (many["wall"] - start["wall"]) / more,
            "start_cpu": start["cpu"], "start_wall": start["wall"], "whole_cpu": many["cpu"],
            "whole_wall": many["wall"], "peak_mib": many["peak_mib"],
            "bytes": _bytes(out / "all") / self.count,
        }  # fmt: skip

    def _command_on(self, source: str, cache: Path) -> dict[str, Any]:
        command = ours.command(self.here / source, cache, self.contender.options)
        found = measured(command, self.here / "log.txt")
        if found["status"]:
            self.failed = f"exit status {found['status']}: {self._last_words()}"
        return found

    def _peer(self, out: Path) -> dict[str, float]:
        found = measured(self._command("time", out), self.here / "log.txt")
        answer = _answer(found["said"]) or {"wrong": f"ended: {self._last_words()}"}
        if "wrong" in answer:
            self.failed = answer["wrong"]
            return {}
        return {
            "cpu": answer["cpu"] / self.count, "wall": answer["wall"] / self.count,
            "start_cpu": found["cpu"] - answer["all_cpu"],
            "start_wall": found["wall"] - answer["all_wall"],
            "whole_cpu": found["cpu"], "whole_wall": found["wall"], "peak_mib": found["peak_mib"],
            "bytes": _bytes(out / "all") / self.count,
        }  # fmt: skip

    def _check(self, out: Path) -> None:
        found = measured(self._command("check", out), self.here / "log.txt")
        answer = _answer(found["said"]) or {"wrong": f"check ended: {self._last_words()}"}
        self.failed, self.values = answer["wrong"], answer.get("values", "")

    def _command(self, do: str, out: Path) -> list[str]:
        count = self.count if do == "time" else min(self.count, CHECKED)
        return [
            sys.executable, "-m", "benchmarks.convert.process", do, self.contender.converter,
            json.dumps(asdict(self.kind)), str(self.here), str(out),
            json.dumps(self.contender.options), str(count),
        ]  # fmt: skip

    def _last_words(self) -> str:
        text = (self.here / "log.txt").read_text(errors="replace")
        lines = [s for s in text.splitlines() if s.strip()]
        return (lines[-1] if lines else "")[:200]

    def row(self) -> dict[str, Any]:
        """What is kept of it."""
        c = self.contender
        row = {"name": c.name, "converter": c.converter, "options": c.options, "writes": c.writes,
               "processes": c.options.get("jobs", c.options.get("processes", 1)),
               "files": self.count, "rounds": self.rounds}  # fmt: skip
        return {**row, "failed": self.failed} if self.failed else {**row, "values": self.values}


def compete(kind: Kind, here: Path, rounds: int, chosen: str) -> list[dict[str, Any]]:
    """A row for each contender: its figures in each round, or why there are none."""
    adopt()
    taking = [c for c in CONTENDERS if c.takes_part(kind) and chosen in c.name]
    entries = [Entry(c, kind, here) for c in taking]
    for path in paths_of(here):  # into the page cache
        with path.open("rb", buffering=0) as file:
            while file.read(_CHUNK):
                pass
    for k in range(rounds):
        for entry in entries[::-1] if k % 2 else entries:
            entry.run()
            if not k:
                print(f"  {entry.contender.name}: {entry.failed or 'true'}", file=sys.stderr)
    return [entry.row() for entry in entries]


def middle(row: dict[str, Any], what: str) -> float:
    """The median over rounds."""
    found = [r[what] for r in row["rounds"] if r]
    return median(found) if found else float("nan")


def ratio(one: dict[str, Any], other: dict[str, Any], what: str) -> float:
    """Median of the ratios within each round, so that a drift of the machine drops out."""
    both = zip(one["rounds"], other["rounds"], strict=False)
    found = [a[what] / b[what] for a, b in both if a and b]
    return median(found) if found else float("nan")


def _answer(said: str) -> dict[str, Any]:
    lines = said.strip().splitlines()
    return dict(json.loads(lines[-1])) if lines else {}


def _bytes(folder: Path) -> int:
    return sum(p.stat().st_size for p in folder.rglob("*") if p.is_file())
