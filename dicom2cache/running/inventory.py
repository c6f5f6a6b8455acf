"""What the sources hold: all headers, and digests of the pixels of copies."""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import BrokenExecutor
from functools import partial
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from dicom2cache.arrow import canonical, rows_of
from dicom2cache.errors import Fault, OutOfTime, Unfinished
from dicom2cache.frames.decode import Room, Source
from dicom2cache.frames.isolate import Allowance, Child
from dicom2cache.headers.read import Elsewhere, Headers, Reading, read_headers
from dicom2cache.pixels.intensity import apply_lut
from dicom2cache.planning import select
from dicom2cache.planning.apart import apart
from dicom2cache.privacy.keys import PatientKey
from dicom2cache.recipes.limits import Limits
from dicom2cache.recipes.recipe import Recipe
from dicom2cache.records import Candidate, FrameRow, Header
from dicom2cache.running import pool, seed
from dicom2cache.running.contours import Waiting
from dicom2cache.running.each_frame import Failure, Worker
from dicom2cache.running.engines import ELSEWHERE
from dicom2cache.running.pool import call, parallel
from dicom2cache.running.progress import Work
from dicom2cache.schema import FILES, REJECTS


def pixel_digest(
    roots: Sequence[str], header: Header, limits: Limits
) -> tuple[str, tuple[Fault, ...]]:
    """(SHA-256 of all stored frames of a file, errors of our own).

    To compare copies. A file that cannot be decoded is like no other: it is kept, and fails by its
    own reason.
    """
    with Worker(limits=limits) as worker:
        return _digest(roots, header, worker), tuple(worker.faults)


def _digest(roots: Sequence[str], header: Header, worker: Worker) -> str:
    digest = hashlib.sha256()
    with worker.frames(roots, {0: header}) as frames:
        for frame in range(header["frames"]):
            pixels = frames.do({"file": 0, "frame": frame}, _pixels)
            if isinstance(pixels, Failure):
                return f"not decoded: {os.path.join(roots[header['root']], header['path'])}"
            digest.update(f"{pixels.shape} {pixels.dtype}".encode())
            digest.update(pixels.data)
    return digest.hexdigest()


def _pixels(source: Source, row: FrameRow, _: Room) -> NDArray[Any]:
    pixels = source.read(row["frame"]).pixels
    if source.header["lut_low"] is not None:  # tables of the same range may differ
        pixels = apply_lut(pixels, source.modality_lut)
    return np.ascontiguousarray(pixels)


_HEADERS_AT_ONCE = 256
_MOST_MEMORY = 2 << 30
"""bytes that a child may have for a header, at its first try"""


def read_all_headers(
    roots: Sequence[str],
    candidates: Sequence[Candidate],
    patient_key: PatientKey,
    limits: Limits,
    jobs: int,
    backend: str,
    seen: Callable[[Work], None],
    tell: Callable[[Sequence[Fault]], None],
) -> tuple[pa.Table, pa.Table, pa.Table]:
    """Headers of all candidates: (FILES, REJECTS, CONTOURS_TABLE), in their order.

    `seen` is told what is done, and `tell` what errors of our own there were.
    """
    there = backend in ELSEWHERE  # another machine does not see the marks
    rest = iter(sorted(candidates, key=_on_disk))
    chunks = dict(enumerate(iter(lambda: list(islice(rest, _HEADERS_AT_ONCE)), [])))
    files, rejects = [FILES.empty_table()], [REJECTS.empty_table()]
    contours = Waiting()
    suspects: set[int] = set()
    with TemporaryDirectory(prefix="dicom2cache-") as marks:

        def mark(k: int) -> Path | None:
            return None if there else Path(marks, str(k))

        while chunks:
            calls = [
                call(_read, roots, chunk, patient_key, limits, mark(k), k in suspects)
                for k, chunk in chunks.items()
            ]
            try:
                for k, found in zip(list(chunks), _headers(jobs, backend, calls), strict=True):
                    files.append(found.files)
                    rejects.append(found.rejects)
                    contours.add(found.contours)
                    tell(found.faults)
                    seen(header_work(chunks.pop(k), found.rejects))
            except BrokenExecutor as e:  # of what was begun, each file is read by itself
                begun = {int(path.name) for path in Path(marks).iterdir()} & chunks.keys()
                if there:  # results come in order
                    begun = {min(chunks)}
                if not begun - suspects:
                    raise Unfinished(
                        "processes that read headers die, perhaps for memory; use fewer --jobs"
                    ) from e
                suspects |= begun
    order = [("root", "ascending"), ("path", "ascending")]
    both = canonical(pa.concat_tables(files)), pa.concat_tables(rejects).sort_by(order)
    return *both, contours.take()


def _read(
    roots: Sequence[str],
    chunk: Sequence[Candidate],
    patient_key: PatientKey,
    limits: Limits,
    mark: Path | None,
    isolated: bool,
) -> Headers:
    """Headers of a few files; `mark` is there meanwhile, and stays if the process dies."""
    if mark is not None:
        mark.touch()
    found = read_few(roots, chunk, patient_key, limits, isolated)
    if mark is not None:
        mark.unlink(missing_ok=True)
    return found


def read_few(
    roots: Sequence[str],
    chunk: Sequence[Candidate],
    patient_key: PatientKey,
    limits: Limits,
    isolated: bool,
) -> Headers:
    """Headers of a few files; `isolated`: all in a child process."""
    with Child() as child, pool.handling():
        elsewhere = Elsewhere(
            partial(_alone, child, limits.header_seconds),
            partial(_in_time, limits.header_seconds),
            isolated,
        )
        return read_headers(roots, chunk, patient_key, elsewhere, limits)


def _alone(
    child: Child, seconds: float, reading: Reading, size: int, tries: int
) -> Header | pa.Table:
    memory = min((512 << 20) + 32 * size, _MOST_MEMORY)
    allowance = Allowance(seconds, memory, "header_seconds")
    return child.call(reading, allowance=allowance, tries=tries)


def _in_time(seconds: float, reading: Reading) -> Header | pa.Table:
    try:
        with pool.within(seconds):
            return reading()
    except pool.Overdue:
        raise OutOfTime(f"not done after {seconds:g} seconds") from None


def _headers(jobs: int, backend: str, calls: Sequence[Any]) -> Iterator[Headers]:
    """Results of the calls, in order: here while workers are not up, or would not be worth it."""
    start, left = time.perf_counter(), list(calls)
    jobs, patience = _crew(jobs, backend, len(left))
    while left and backend == "loky" and pool.can_interrupt():
        if len(left) >= 2 * jobs and time.perf_counter() - start > patience:
            break
        function, arguments, _ = left.pop(0)
        yield function(*arguments)
    if left:
        yield from parallel(jobs, backend, iter(left), ordered=True)


def _crew(jobs: int, backend: str, calls: int) -> tuple[int, float]:
    """(how many workers, in how many seconds they are up) for so many calls."""
    if not pool.are_forked(backend):
        return jobs, pool.STARTING
    some = max(1, min(jobs, calls // 2))
    if some == 1:
        return 1, pool.STARTING
    seed.have(__name__)
    return some, -1.0


def _on_disk(candidate: Candidate) -> tuple[int, str, int]:
    """Folder by folder and by inode: a disk that must seek for each file then seeks little."""
    folder = candidate.path
    if candidate.member is not None:  # of an archive, in the order that they have there
        folder = folder[: len(folder) - candidate.member.inside]
    return candidate.root, folder.rpartition("/")[0], candidate.inode


def header_work(candidates: Sequence[Candidate], rejects: pa.Table | None = None) -> Work:
    """What reading these headers is: each costs about the same, whatever its file's size."""
    failed = 0 if rejects is None else rejects["outcome"].to_pylist().count("failed")
    return Work(len(candidates), 0, float(len(candidates)), failed)


def without_copies(
    roots: Sequence[str],
    files: pa.Table,
    recipe: Recipe,
    jobs: int,
    backend: str,
    tell: Callable[[Sequence[Fault]], None],
) -> tuple[pa.Table, pa.Table]:
    """(files without repeated ones, REJECTS of those and of what fails).

    Files are copies that share SOP Instance UID, pixels and meaning; pixels are read where all else
    is equal. A series whose instances all bear one UID is so told apart by its positions alone.
    """
    meant, odd, faults = apart(files, lambda some: select.meant(some, recipe))
    tell(faults)
    if meant is None:
        return files.slice(0, 0), odd
    files, rows, meanings, alike = meant
    if not len(rows):
        return files, odd
    digest: NDArray[np.object_] = np.full(files.num_rows, None, object)
    pixels = iter(pixel_digests(roots, files, rows[alike], recipe.limits, jobs, backend, tell))
    digest[rows] = [
        f"{m} {next(pixels) if same else ''}" for m, same in zip(meanings, alike, strict=True)
    ]
    known = files.append_column(_DIGEST, pa.array(digest, pa.string()))
    made, worse, faults = apart(known, _deduplicated)
    tell(faults)
    kept, repeated = made or (files.slice(0, 0), REJECTS.empty_table())
    return kept, pa.concat_tables([odd, worse, repeated])


_DIGEST = "digest"


def _deduplicated(files: pa.Table) -> tuple[pa.Table, pa.Table]:
    digests = files[_DIGEST]
    rows = np.flatnonzero(digests.is_valid().to_numpy())
    found: list[str] = digests.drop_null().to_pylist()
    return select.drop_duplicates(files.drop_columns([_DIGEST]), rows, found)


def pixel_digests(
    roots: Sequence[str],
    files: pa.Table,
    rows: NDArray[np.int64],
    limits: Limits,
    jobs: int,
    backend: str,
    tell: Callable[[Sequence[Fault]], None],
) -> list[str]:
    """`pixel_digest` of some rows of FILES; a decoder that aborts costs its own file only."""
    digests = []
    for digest, faults in _digests(roots, files, rows, limits, jobs, backend):
        tell(faults)
        digests.append(digest)
    return digests


def _digests(
    roots: Sequence[str],
    files: pa.Table,
    rows: NDArray[np.int64],
    limits: Limits,
    jobs: int,
    backend: str,
) -> list[tuple[str, tuple[Fault, ...]]]:
    if jobs > 1 and (len(rows) >= 2 * jobs or backend != "loky"):
        calls = (call(pixel_digest, roots, header, limits) for header in _objects(files, rows))
        try:
            return list(parallel(jobs, backend, calls, ordered=True))
        except BrokenExecutor:
            pass  # which file it was is not known: once more, one by one
    found = []
    with Worker(isolated=True, limits=limits) as worker:
        for header in _objects(files, rows):
            digest = _digest(roots, header, worker)
            found.append((digest, tuple(worker.faults)))
            worker.faults.clear()
    return found


def _objects(files: pa.Table, rows: NDArray[np.int64]) -> Iterator[Header]:
    """Rows of FILES as objects, a few at a time: each is some kilobytes."""
    files = files.drop_columns(["per_frame"])
    for start in range(0, len(rows), _HEADERS_AT_ONCE):
        yield from rows_of(files, rows[start : start + _HEADERS_AT_ONCE]).to_pylist()
