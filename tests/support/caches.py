"""Run the converter, and read caches with programs that are not ours."""

from __future__ import annotations

import hashlib
import io
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import zarr
from numpy.typing import NDArray

from dicom2cache.cli import app


@dataclass(frozen=True)
class Ran:
    """What a command came to."""

    returncode: int
    stdout: str
    stderr: str


def command(*arguments: object) -> list[str]:
    """The command line of `dicom2cache ARGUMENTS`."""
    return [sys.executable, "-m", "dicom2cache.cli", *map(os.fspath, map(_plain, arguments))]


def _plain(argument: object) -> str | os.PathLike[str]:
    return argument if isinstance(argument, os.PathLike) else str(argument)


def run_cli(*arguments: object, env: dict[str, str] | None = None, **options: Any) -> Ran:
    """`dicom2cache ARGUMENTS` as a process of its own, with `env` added to the environment."""
    done = subprocess.run(
        command(*arguments),
        env={**os.environ, **(env or {})},
        capture_output=True,
        encoding="utf-8",
        errors="surrogateescape",
        timeout=300,
        check=False,
        **options,
    )
    return Ran(done.returncode, done.stdout, done.stderr)


def run_here(*arguments: object) -> Ran:
    """`dicom2cache ARGUMENTS` in this process, without the second that a new one takes to start."""
    out, err, before = io.StringIO(), io.StringIO(), sys.argv
    sys.argv = ["dicom2cache", *command(*arguments)[3:]]
    try:
        with redirect_stdout(out), redirect_stderr(err), pytest.raises(SystemExit) as left:
            app.main()
    finally:
        sys.argv = before
    return Ran(int(left.value.code or 0), out.getvalue(), err.getvalue())


def built(*arguments: object, status: int = 0) -> Path:
    """The cache that `dicom2cache build ARGUMENTS` made; the last path of its arguments."""
    ran = run_here("build", *arguments)
    assert ran.returncode == status, ran.stdout + ran.stderr
    paths = [a for a in arguments if isinstance(a, Path)]
    return paths[-1]


def attributes(cache: Path) -> dict[str, Any]:
    """The root metadata."""
    found: dict[str, Any] = json.loads((cache / "zarr.json").read_bytes())
    return dict(found["attributes"]["dicom2cache"])


def table(cache: Path, name: str) -> list[dict[str, Any]]:
    """The rows of frames/, failures/ or shards/."""
    rows: list[dict[str, Any]] = pq.read_table(cache / name / "0.parquet").to_pylist()
    return rows


def failures(cache: Path) -> dict[tuple[str, int | None], tuple[str, str]]:
    """{(path, frame): (outcome, reason)} of failures/."""
    rows = table(cache, "failures")
    found = {(r["path"], r["frame"]): (r["outcome"], r["reason"]) for r in rows}
    assert len(found) == len(rows), "a row of failures/ is there twice"
    return found


def rows_of(cache: Path) -> list[dict[str, Any]]:
    """The rows of frames/ of all generations."""
    entries = attributes(cache)["tables"]["frames"]
    return [row for entry in entries for row in pq.read_table(cache / entry["path"]).to_pylist()]


def stored(cache: Path) -> Iterator[tuple[dict[str, Any], NDArray[Any]]]:
    """(row of frames/, pixels as zarr-python reads them) of every stored frame."""
    arrays = [
        zarr.open_array(cache / about["name"], mode="r") for about in attributes(cache)["arrays"]
    ]
    for row in rows_of(cache):
        array: Any = arrays[row["array"]]
        yield row, array[row["row"]][: row["height"], : row["width"]]


def by_path(cache: Path) -> dict[tuple[str, int], tuple[dict[str, Any], NDArray[Any]]]:
    """{(path, frame): (row of frames/, pixels)}."""
    return {(row["path"], row["frame"]): (row, pixels) for row, pixels in stored(cache)}


def tree(cache: Path) -> dict[str, str]:
    """{path: SHA-256} of every file below the cache, folders as empty."""
    found = {}
    for path in sorted(cache.rglob("*")):
        name = path.relative_to(cache).as_posix()
        found[name] = hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else ""
    assert "zarr.json" in found, f"{cache} is not committed"
    return found
