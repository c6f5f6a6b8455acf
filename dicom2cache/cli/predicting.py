"""`dicom2cache labels`: what a network said of stacks, as files for other programs."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

from dicom2cache.cli import words
from dicom2cache.cli.flags import CachePath, Deidentify, Sources
from dicom2cache.errors import Dicom2cacheError, meant, remedy

_NUMBER = re.compile(r"(\d+)\.npy$")
_SUFFIXES = {"seg": ".dcm", "nifti": ".nii.gz"}


def labels(
    cache: CachePath,
    given: Annotated[
        Path, typer.Argument(metavar="LABELS", help="A folder of .npy files, one for each stack.")
    ],
    out: Annotated[Path, typer.Argument(metavar="OUT", help="The folder of the files.")],
    classes: Annotated[
        str | None,
        typer.Option(metavar="A,B,...", help="Names of labels 1, 2, ... (those of CACHE's masks)."),
    ] = None,
    to: Annotated[str, typer.Option(help="seg (DICOM segmentations) or nifti.")] = "seg",
    kind: Annotated[str, typer.Option(help="Of segmentations: binary, or labelmap.")] = "binary",
    algorithm: Annotated[
        str, typer.Option(metavar="NAME[,VERSION]", help="Who says so, for segmentations.")
    ] = "unnamed",
    source: Sources = None,
    deidentify: Deidentify = None,
) -> None:
    """Write LABELS of the stacks of CACHE as DICOM segmentations of their sources, or as NIfTI.

    Each file NAME12.npy has the class number of each stored pixel of stack 12, (d, H, W).
    Segmentations have the patient's data of the sources again. Exit status 1 if some failed.
    """
    if to not in _SUFFIXES:
        raise Dicom2cacheError(f"--to {to}; legal: {', '.join(_SUFFIXES)}{meant(to, _SUFFIXES)}")
    if to != "seg" and (kind != "binary" or algorithm != "unnamed"):
        raise Dicom2cacheError(f"--kind and --algorithm are of segmentations, not of --to {to}")
    if out.exists() and not out.is_dir():
        raise Dicom2cacheError(f"OUT {out}: a file; name the folder of the files")
    named = (p for p in sorted(given.glob("*.npy")) if p.is_file())  # a pipe is not waited for
    files = {p: int(n[1]) for p in named if (n := _NUMBER.search(p.name))}
    if not files:
        raise Dicom2cacheError(f"{given}: no files there such as stack12.npy, labels of stack 12")
    try:
        from trainer_adapter import CacheError, open_cache
    except ImportError as e:
        raise Dicom2cacheError(f"{e}; {remedy()}") from e
    names = None if classes is None else [name.strip() for name in classes.split(",")]
    name, _, version = algorithm.partition(",")
    told: dict[str, Any] = {
        "classes": names, "kind": kind, "algorithm": (name, version or "unknown"),
        "sources": source, "key": deidentify,
    }  # fmt: skip
    out.mkdir(parents=True, exist_ok=True)
    failed = 0
    try:
        opened = open_cache(cache)
    except CacheError as e:
        raise Dicom2cacheError(str(e)) from e
    for path, stack in files.items():
        target = out / f"stack_{stack:06}{_SUFFIXES[to]}"
        try:
            found = np.load(path, mmap_mode="r", allow_pickle=False)
            if to == "seg":
                opened.to_seg(stack, found, target, **told)
            else:
                opened.prediction(stack, found).to_nifti(target)
        except MemoryError:
            raise
        except Exception as e:  # of NumPy, pydicom or highdicom too: it costs this file
            foreseen = isinstance(e, CacheError | ValueError | OSError | EOFError)
            said = str(e) if foreseen else f"{type(e).__name__}: {e}"
            print(words.one_line(f"{path}: {said}"), file=sys.stderr)
            failed += 1
    said = f"{out}: {words.counting(len(files) - failed, 'file')}"
    print(words.one_line(f"{said}; {failed} failed" if failed else said))
    if failed:
        raise typer.Exit(1)
