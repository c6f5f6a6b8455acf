"""Convert every file of a folder and hold each frame against programs that are not pydicom.

Without a folder: pydicom's wheel and pydicom-data. Exit status 1 if any value differs without a
reason that is written down.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
import warnings
from collections import Counter
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
from numpy.typing import NDArray
from pydicom import dcmread

from dicom2cache import Recipe, build
from dicom2cache.errors import SourceError
from tests.oracles.judges import ORACLES, CannotJudge
from trainer_adapter import Cache, open_cache

LOSSY_LEVELS = 3  # grey levels: two right decoders of a lossy stream may differ by rounding


@dataclass
class Verdict:
    """What the oracles say of one file."""

    path: str
    lossy: bool
    exact: list[str] = field(default_factory=list)
    within: dict[str, float] = field(default_factory=dict)
    """oracle: greatest difference, within LOSSY_LEVELS of a lossy file"""
    excused: dict[str, str] = field(default_factory=dict)
    differs: dict[str, float] = field(default_factory=dict)


# Cut short in its last codestream: all four refuse it, and OpenJPEG gives what is there.
_NO_ORACLE_READS = {"emri_small_jpeg_2k_lossless_too_short.dcm"}


def judge(cache: Cache, path: Path, name: str) -> Verdict:
    """Compare all stored frames of one file with every oracle."""
    mine = cache.select(path=name)
    frames = mine.column("frame").to_pylist()
    ds = dcmread(path, force=True, stop_before_pixels=True)
    parts = mine.column("part_of_frame").to_numpy()
    verdict = Verdict(name, bool(mine.column("lossy")[0].as_py()))
    for oracle in ORACLES:
        reason = oracle.excuse(ds)
        if reason is None:
            try:
                theirs = oracle.read(path, ds)
            except CannotJudge as e:
                reason = f"cannot judge: {_short(e)}"
        if reason is not None:
            verdict.excused[oracle.name] = reason
            continue
        worst = 0.0
        for sample, k in enumerate(frames):  # one that failed has no sample
            ours = mine[sample]
            their = theirs[k] if k < len(theirs) else None
            if their is not None and parts.max() > 0:
                their = tile(their, ours.shape, int(parts[sample]))
            if their is None or their.shape != ours.shape:
                worst = np.inf
                break
            # float32 is what is stored: the oracle's float64 is rounded once, as ours was.
            other = their.astype(ours.dtype) if ours.dtype.kind == "f" else their
            off = np.abs(ours.astype(np.float64) - np.asarray(other, np.float64))
            worst = max(worst, float(np.nanmax(off)) if off.size else 0.0)
        if worst == 0:
            verdict.exact.append(oracle.name)
        elif verdict.lossy and worst <= LOSSY_LEVELS:
            verdict.within[oracle.name] = worst
        else:
            verdict.differs[oracle.name] = worst
    return verdict


def tile(frame: NDArray[Any], size: tuple[int, ...], number: int) -> NDArray[Any]:
    """The slice of that number in a mosaic, which has them row by row."""
    down, across = divmod(number, max(1, frame.shape[1] // size[1]))
    top, left = down * size[0], across * size[1]
    return frame[top : top + size[0], left : left + size[1]]


def _short(error: Exception) -> str:
    """The message without the path of the file, so that the same reasons count as one."""
    return str(error).split(": reading file")[0].removeprefix("F: ")


def need_dcmtk() -> None:
    """Install Debian's dcmtk if it is missing and this is root; say so."""
    if shutil.which("dcmdjpeg"):
        return
    if (
        shutil.which("apt-get")
        and subprocess.run(["id", "-u"], capture_output=True).stdout == b"0\n"
    ):
        print("DCMTK is missing: installing Debian's package dcmtk", flush=True)
        subprocess.run(["apt-get", "update", "-qq"], check=True)
        subprocess.run(["apt-get", "install", "-y", "-qq", "dcmtk"], check=True)
        return
    sys.exit("DCMTK is missing: install the package dcmtk (dcmdjpeg, dcmdjpls, dcmdrle, dcmconv)")


def default_folders() -> list[Path]:
    """The files of pydicom's wheel and of pydicom-data."""
    import data_store
    import pydicom.data

    return [
        Path(pydicom.data.__file__).parent / "test_files",
        Path(data_store.__file__).parent / "data",
    ]


def _files(folder: Path) -> list[Path]:
    return [p for p in folder.rglob("*") if p.is_file()] if folder.is_dir() else [folder]


def main() -> int:
    """Convert, judge, print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", nargs="*", type=Path)
    parser.add_argument("--json", type=Path, help="write all verdicts")
    given = parser.parse_args()
    need_dcmtk()
    warnings.simplefilter("ignore")
    verdicts: list[Verdict] = []
    refused: list[dict[str, Any]] = []
    folders = given.folder or default_folders()
    for path in sorted(p for folder in folders for p in _files(folder)):
        with tempfile.TemporaryDirectory() as temporary:
            target = Path(temporary, "cache")
            try:
                # A cache of its own, so that copies of one image are judged too. Inversion is the
                # recipe's; what the oracles can judge is the values before it.
                build(path, target, Recipe(monochrome1="keep"), jobs=1)
            except SourceError as e:
                refused.append({"path": path.name, "reason": str(e).splitlines()[-1].strip()})
                continue
            if len(cache := open_cache(target)):
                verdicts.append(judge(cache, path, path.name))
            rows = pq.read_table(target / "failures" / "0.parquet").to_pylist()
            refused += [{"path": r["path"], "reason": r["reason"]} for r in rows]
    print_table(verdicts, refused)
    if given.json:
        report = {"files": [asdict(v) for v in verdicts], "not stored": refused}
        given.json.write_text(json.dumps(report, indent=1, default=str) + "\n")
    unjudged = {v.path for v in verdicts if not (v.exact or v.within)} - _NO_ORACLE_READS
    return 1 if unjudged or any(v.differs for v in verdicts) else 0


def print_table(verdicts: list[Verdict], refused: list[dict[str, Any]]) -> None:
    """Files by number of oracles, differences, excuses, and what was not stored."""
    judged = Counter(len(v.exact) + len(v.within) + len(v.differs) for v in verdicts)
    print(f"{len(verdicts)} files with stored frames")
    for n in sorted(judged, reverse=True):
        print(f"  {judged[n]:>4} compared with {n} oracles")
    exact = sum(not v.within and not v.differs and bool(v.exact) for v in verdicts)
    within = sum(bool(v.within) and not v.differs for v in verdicts)
    print(f"  {exact:>4} exact, {within} lossy within {LOSSY_LEVELS} grey levels")
    print(f"  {sum(bool(v.differs) for v in verdicts):>4} with a difference")
    for v in verdicts:
        for oracle, worst in v.differs.items():
            others = ", ".join(v.exact + list(v.within)) or "nobody else"
            print(f"    {v.path}: {oracle} differs by {worst:g} ({others} agree)")
        if not (v.exact or v.within or v.differs):
            print(f"    {v.path}: no oracle could judge it")
    for oracle in ORACLES:
        reasons = Counter(v.excused[oracle.name] for v in verdicts if oracle.name in v.excused)
        print(f"{oracle.name}: {sum(reasons.values())} files excused")
        for reason, n in reasons.most_common():
            print(f"  {n:>4} {reason}")
    plain = [r for r in refused if "has no pixel data" in r["reason"]]
    other = [r for r in refused if "no DICM at byte 128" in r["reason"]]
    print(f"{len(plain)} files without pixels, {len(other)} that are not DICOM")
    rest = [r for r in refused if r not in plain and r not in other]
    print(f"{len(rest)} files refused, or frames of them:")
    for row in rest:
        print(f"  {row['path']}: {row['reason']}")


if __name__ == "__main__":
    sys.exit(main())
