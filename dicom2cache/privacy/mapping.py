"""What hashes stand for, in a file of its own: only on request, and never in a cache."""

from __future__ import annotations

import csv
import os
import secrets
from pathlib import Path

from dicom2cache.errors import CacheError

_HEAD = ("of", "hash", "original")


def check_mapping(mapping: str | os.PathLike[str] | None, key: object, cache: Path) -> None:
    """Raises CacheError for a path in the cache, or of a file that is no mapping; ValueError
    without a key."""
    if mapping is None:
        return
    if key is None:
        raise ValueError("--mapping says what hashes stand for; it goes with --deidentify")
    path = Path(mapping)
    if Path(os.path.realpath(path)).is_relative_to(os.path.realpath(cache)):
        raise CacheError(f"{path}: a mapping does not belong in the cache; give another path")
    if not path.parent.is_dir():
        raise CacheError(f"{path}: its folder is not there; make it, or give another path")
    if path.exists():
        with open(path, "rb") as file:
            head = file.readline(80)
        if head.strip() != ",".join(_HEAD).encode():
            raise CacheError(f"{path}: exists, and is no mapping; give another path")


def write_mapping(path: Path, seen: dict[tuple[str, str], str]) -> None:
    """A CSV file that only its owner can read: uid, path or source; hash; what it stands for."""
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    descriptor = os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
    try:
        with open(descriptor, "w", encoding="utf-8", newline="") as file:
            rows = csv.writer(file, lineterminator="\n")
            rows.writerow(_HEAD)
            rows.writerows((*key, seen[key]) for key in sorted(seen))
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException as e:
        temporary.unlink(missing_ok=True)
        if isinstance(e, OSError):
            e.filename = os.fspath(path)
        raise


def read_mapping(path: Path) -> dict[tuple[str, str], str]:
    """What `write_mapping` wrote. Raises CacheError for a file that is no mapping."""
    try:
        with open(path, encoding="utf-8", newline="") as file:
            rows = csv.reader(file)
            if tuple(next(rows, ())) != _HEAD:
                raise ValueError
            return {(of, hashed): original for of, hashed, original in rows}
    except (ValueError, csv.Error):
        raise CacheError(f"{path}: no mapping; give the file that --mapping wrote") from None
