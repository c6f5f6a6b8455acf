"""Stacks to files: in parallel, each file whole or absent, and a second run does what is missing.

A file is made of the stack's frames, what their headers say, and the options; a digest of all three
stands in its sidecar, so that a second run, of a cache that grew or by other options too, makes
what is not there in this way, and nothing else.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from trainer_adapter.errors import CacheError, ExportError, VolumeError
from trainer_adapter.format import system
from trainer_adapter.volumes import convert, nnunet
from trainer_adapter.volumes.files import PART, as_text, write_whole
from trainer_adapter.volumes.items import Item, Options, item_of
from trainer_adapter.volumes.methods import Conversions
from trainer_adapter.volumes.pieces import Piece, pieces_of
from trainer_adapter.volumes.placed import has_place, hold, is_mask
from trainer_adapter.volumes.resample import checked_spacing
from trainer_adapter.volumes.stacks import Stacks

FORMATS = ("nifti", "nnunet", "npy")
_TABLE = "export.tsv"


@dataclass(frozen=True)
class Row:
    """What became of a stack."""

    stack: int
    outcome: str
    """`made`, `there` (of an earlier run), `no-volume` (single images, and what has no place in
    space) or `failed`"""
    file: str
    reason: str


@dataclass(frozen=True)
class Exported:
    """What an export came to; the same is in export.tsv."""

    rows: tuple[Row, ...]
    others: tuple[str, ...]
    """volumes in the folder that are of none of these stacks: of an earlier run, whose cache or
    selection had more"""

    def count(self, outcome: str) -> int:
        """Stacks with this outcome."""
        return sum(row.outcome == outcome for row in self.rows)


def export(
    cache: Conversions,
    out: str | os.PathLike[str],
    to: str = "nifti",
    *,
    spacing: Sequence[float] | None = None,
    upright: bool = False,
    gaps: bool = False,
    jobs: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Exported:
    """The stacks of a cache, or of a selection, as files below `out`: `nifti`, `nnunet` or `npy`.

    A sidecar (JSON) lies beside each; volumes over time, phase or b-value of one acquisition are
    one 4-D file, of others each has its own. `spacing` (z, y, x) in mm, `upright` (of tilted
    stacks) and `gaps` (of uneven ones) as in Cache.resample. What fails costs its own stack only.
    Threads (`jobs`) share the work; `progress(done, all)` is told. A second run makes what is
    missing. Raises ValueError for options that are none, ExportError for a folder that is not ours
    or another process's, OSError if it cannot be written.
    """
    if to not in FORMATS:
        raise ValueError(f"to={to!r}; legal: {', '.join(FORMATS)}")
    options = Options(to, None if spacing is None else checked_spacing(spacing), upright, gaps)
    if to != "npy":
        convert.library("nibabel", "NIfTI files")
    stacks, folder = cache.by_stack(), Path(out)
    rows: list[Row] = []
    held: list[Piece] = []
    for piece in pieces_of(stacks):
        refused = list(_refused(stacks, piece, options))
        rows += refused
        if not refused:
            held.append(piece)
    if to == "nnunet":
        items, about, spare = nnunet.items_of(cache, stacks, held, options)
        rows += [Row(stack, "failed", "", why) for stack, why in spare]
    else:
        items = [item_of(cache, stacks, piece, options) for piece in held]
    inside = stacks.core.root.path.resolve()
    if inside == folder.resolve() or inside in folder.resolve().parents:
        raise ExportError(f"{folder}: lies in the cache {inside}; export to another folder")
    with _mine(folder):
        rows += _made(folder, items, jobs, progress)
        rows.sort(key=lambda row: row.stack)
        files = {row.file for row in rows}
        if to == "nnunet":
            write_whole(folder / nnunet.TOLD, as_text(nnunet.told(about, files)))
        write_whole(folder / _TABLE, as_text(_table(rows)))
        others = _others(folder, files | {item.image for item in items})
    return Exported(tuple(rows), others)


def _others(folder: Path, known: set[str]) -> tuple[str, ...]:
    there = (p.relative_to(folder).as_posix() for p in folder.glob("*/*") if p.suffix != ".json")
    volumes = {name for name in there if name.endswith((".nii.gz", ".npy"))}
    return tuple(sorted(volumes - known))


def _refused(stacks: Stacks, piece: Piece, options: Options) -> Iterator[Row]:
    """Why none of the stacks of a piece can be written; nothing where they can."""
    for k in piece.parts:
        alone = _no_volume(stacks, k)
        try:
            hold(stacks, k, options.gaps and not alone, options.upright)
        except VolumeError as e:
            for j in piece.parts:
                outcome = "no-volume" if alone or not has_place(stacks, k) else "failed"
                yield Row(int(stacks.number[j]), outcome, "", str(e))
            return


def _no_volume(stacks: Stacks, k: int) -> bool:
    """Whether nobody would expect one: single images, cines, tiles, what has no order."""
    single = int(stacks.count[k]) == 1 and not is_mask(stacks, k)
    flags = set(stacks.flags[k].as_py() or ())
    if is_mask(stacks, k) and int(stacks.count[k]) == 1:
        flags.discard("one-place")
    return bool(single or stacks.tiles[k] or flags & {"one-place", "order-unknown"})


def _made(
    folder: Path,
    items: Sequence[Item],
    jobs: int | None,
    progress: Callable[[int, int], None] | None,
) -> Iterator[Row]:
    """The items, in threads: NumPy, scipy and zlib let each other work."""
    pool = ThreadPoolExecutor(jobs or system.processors())
    try:
        asked = {pool.submit(_one, folder, item): item for item in items}
        for done, future in enumerate(as_completed(asked), 1):
            outcome, why = future.result()
            item = asked[future]
            file = item.file if outcome != "failed" else ""
            yield from (Row(stack, outcome, file, why) for stack in item.stacks)
            if progress is not None:
                progress(done, len(items))
    finally:
        pool.shutdown(cancel_futures=True)


def _one(folder: Path, item: Item) -> tuple[str, str]:
    """(outcome, reason) of one item. Raises OSError where the folder cannot be written to."""
    if (folder / item.file).exists() and _said(folder / item.sidecar) == item.digest:
        return "there", ""
    for name in (item.file, item.image, item.sidecar):  # by other options, or of other frames
        (folder / name).unlink(missing_ok=True)
    try:
        made = item.make()
        about = json.dumps(made.about | {"Digest": item.digest}, indent=1, allow_nan=False) + "\n"
    except Exception as e:
        return "failed", _why(e)
    try:
        for name, write in {item.sidecar: as_text(about), **made.files}.items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            write_whole(folder / name, write)
    except OSError:
        raise
    except Exception as e:
        return "failed", _why(e)
    return "made", ""


def _why(error: Exception) -> str:
    """The sentence of an error that is foreseen; another one costs its own stack only, too."""
    if isinstance(error, MemoryError):
        return "out of memory; use fewer jobs"
    foreseen = isinstance(error, (CacheError, ValueError))
    return str(error) if foreseen else f"{type(error).__name__}: {error}"


def _said(path: Path) -> str | None:
    """The digest in a sidecar; None if there is none that can be read."""
    try:
        return str(json.loads(path.read_bytes())["Digest"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


@contextmanager
def _mine(folder: Path) -> Iterator[None]:
    """The folder, for this process alone, without files that a killed one has begun."""
    if (folder / "zarr.json").exists():
        raise ExportError(f"{folder}: a cache lies here; export to another folder")
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / ".lock", "w") as lock:
        try:
            system.lock(lock.fileno(), wait=False)
        except BlockingIOError:
            raise ExportError(f"{folder}: another process exports to it; wait for it") from None
        for part in folder.rglob(f".*{PART}"):
            part.unlink(missing_ok=True)
        yield


def _table(rows: Iterable[Row]) -> str:
    lines = ["stack\toutcome\tfile\treason"]
    for row in rows:
        reason = " ".join(row.reason.split())
        lines.append(f"{row.stack}\t{row.outcome}\t{row.file}\t{reason}")
    return "\n".join(lines) + "\n"
