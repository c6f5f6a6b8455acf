"""What plans leave in build/: dropped once a cache is committed, or is to be replaced."""

from __future__ import annotations

import json
import os
import secrets
import shutil
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from dicom2cache.running.attempts import abandoned
from dicom2cache.running.job import (
    GONE,
    MAKING,
    NONCE,
    PLANNING,
    about_of,
    build_folder,
    discard,
    drop_if_empty,
    is_onto,
    plan_path,
    planned_arrays,
    planned_identity,
)
from dicom2cache.store.committed import whole_root
from dicom2cache.store.durable import release, write_durably

_REPAIR = "repair"


def attempts_at_repair(cache: Path) -> Path:
    """Where shards of a committed cache are written anew."""
    return build_folder(cache) / _REPAIR


def forget(cache: Path) -> None:
    """Drop all that plans in `cache` keep beside plan.json: nobody can go on with one of them."""
    try:
        inside = list(build_folder(cache).iterdir())
    except FileNotFoundError:
        return
    repair = attempts_at_repair(cache)
    if repair.is_dir() and not repair.is_symlink():  # whoever writes there finds it gone
        gone = build_folder(cache) / f"{GONE}{secrets.token_hex(8)}"
        os.rename(repair, gone)
        inside.append(gone)
    _drop(inside)


def _drop(inside: Iterable[Path], due: Callable[[Path], bool] = lambda _: False) -> None:
    for path in inside:
        if path.is_symlink() or due(path):
            continue
        if path.is_dir():
            if path.name == _REPAIR:
                _drop_abandoned(path)
            elif path.name.startswith(f"{MAKING}."):
                if abandoned(path.name):
                    shutil.rmtree(path, ignore_errors=True)
            elif NONCE.fullmatch(path.name) or path.name.startswith(GONE):
                discard(path)
        elif path.name.startswith(".plan.json."):  # of a writer that died
            path.unlink(missing_ok=True)


def mark_as_replaced(cache: Path) -> None:
    """Leave a plan.json, without a plan, that says which arrays are to be removed."""
    if not plan_path(cache).exists():
        about = {
            "identity": planned_identity(cache) or "lost",
            "arrays": [{"name": name} for name in planned_arrays(cache)],
        }
        build_folder(cache).mkdir(exist_ok=True)
        write_durably(plan_path(cache), json.dumps(about, indent=1).encode())


def unmark(cache: Path) -> None:
    """Remove plan.json, and build/ if nothing else is in there."""
    release(plan_path(cache))
    plan_path(cache).unlink(missing_ok=True)
    drop_if_empty(build_folder(cache))


def tidy(cache: Path) -> None:
    """Drop the state of the plan that a committed cache was made by: whoever comes by ends that.

    What is left alone is the plan of an update of this root, and one that is being made. Plans are
    looked at before the root is: what is dropped belongs to no plan that was made since another
    process has removed the root. Nothing is done where the root is damaged.
    """
    try:
        inside = list(build_folder(cache).iterdir())
    except (FileNotFoundError, NotADirectoryError):
        return
    said = about_of(cache)
    root = whole_root(cache)
    if root is None:
        return
    _drop(inside, lambda path: _is_due(path, root))
    if "identity" in root:
        if about_of(cache) == said and not is_onto(said, root):
            if said:  # else another process is about to name its plan
                release(plan_path(cache))
            plan_path(cache).unlink(missing_ok=True)
    elif said.pop("nonce", None) is not None:  # of an older version, which looks for it there
        write_durably(plan_path(cache), json.dumps(said, indent=1).encode())
    drop_if_empty(build_folder(cache))


def is_planning(folder: Path) -> bool:
    """Whether a process that is not known to be dead makes its plan of an update in this folder."""
    return any(not abandoned(path.name) for path in (folder / "attempts").glob(f"{PLANNING}.*"))


def _is_due(folder: Path, root: dict[str, Any]) -> bool:
    said = about_of(folder.parents[1])
    return is_planning(folder) or (is_onto(said, root) and said.get("nonce") == folder.name)


def _drop_abandoned(folder: Path) -> None:
    """Remove attempts of processes that died; those of others may be at work."""
    for path in folder.iterdir():
        if abandoned(path.name) and path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)
        elif abandoned(path.name):
            path.unlink(missing_ok=True)
    drop_if_empty(folder)
