"""`dicom2cache key`: the secret that patients are hashed with; it is never printed."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from dicom2cache import pipeline
from dicom2cache.cli import files, words
from dicom2cache.cli.examples import added
from dicom2cache.cli.flags import CachePath
from dicom2cache.errors import Dicom2cacheError
from dicom2cache.privacy.keys import fingerprint, own_key, read_key

app = typer.Typer(
    no_args_is_help=True,
    help="The key of the patient hashes: which it is, a copy of it, whether it is a cache's.",
)
KeyFile = Annotated[
    Path | None, typer.Option("--key", metavar="FILE", help="Another one than this user's own.")
]


@app.command(epilog=added("key show"))
def show(key: KeyFile = None) -> None:
    """Say where the key is, and its fingerprint, which a cache has too; not the key itself."""
    path = key or own_key()
    if key is None and not path.exists():
        print(f"{words.one_line(str(path))}: none yet; the first build of this user makes it")
        return
    print(f"{words.one_line(str(path))}: fingerprint {fingerprint(read_key(path), 'patient')}")


@app.command(epilog=added("key export"))
def export(
    out: Annotated[Path, typer.Argument(metavar="FILE", help="A new file, for its owner alone.")],
    key: KeyFile = None,
) -> None:
    """Copy the key, to keep it, or for another machine: labels by PatientID need it there."""
    secret = read_key(key or own_key())
    files.check(out, "FILE")
    try:
        handle = os.open(out, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
    except FileExistsError as e:
        raise Dicom2cacheError(f"{out}: is there already; give a new file") from e
    with open(handle, "wb") as file:
        file.write(secret)
        file.flush()
        os.fsync(handle)
    print(f"{words.one_line(str(out))}: fingerprint {fingerprint(secret, 'patient')}")


@app.command(epilog=added("key check"))
def check(cache: CachePath, key: KeyFile = None) -> None:
    """Say whether the key is the one that CACHE was made with; exit status 1 if it is not."""
    about = pipeline.info(cache)
    kind = "deidentify" if "deidentify_key" in about else "patient"
    if kind == "deidentify" and key is None:
        raise Dicom2cacheError(f"{cache}: de-identified, by a key of its own; give --key FILE")
    path = key or own_key()
    said, wanted = fingerprint(read_key(path), kind), about.get(f"{kind}_key")
    if said != wanted:
        told = f"{path}: fingerprint {said}, and {cache} was made with the key of {wanted}"
        print(words.one_line(told), file=sys.stderr)
        raise typer.Exit(1)
    print(words.one_line(f"{path}: the key of {cache} (fingerprint {said})"))
