"""Commands that take frames out of committed caches, or join some."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from dicom2cache import pipeline
from dicom2cache.cli import events, report, voice
from dicom2cache.cli.flags import CachePath, Deidentify, Force, PatientKey


def remove(
    cache: CachePath,
    patient_id: Annotated[
        list[str] | None,
        typer.Option(metavar="ID", help="Patient ID (0010,0020), as in the files."),
    ] = None,
    study: Annotated[
        list[str] | None, typer.Option(metavar="UID", help="Study Instance UID, as in the files.")
    ] = None,
    series: Annotated[
        list[str] | None, typer.Option(metavar="UID", help="Series Instance UID, as in the files.")
    ] = None,
    where: Annotated[
        str | None, typer.Option(metavar="EXPRESSION", help="Over the columns of frames/.")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would go.")] = False,
    patient_key: PatientKey = None,
    deidentify: Deidentify = None,
    force: Force = False,
) -> None:
    """Take frames out of CACHE: those of patients, studies or series (each may be repeated), or by
    an expression. They stay out of later updates, and on the disk until `purge`.
    """
    from dicom2cache.running.remove import whole

    done = whole.remove(
        cache, patient_id=patient_id or (), study=study or (), series=series or (), where=where,
        patient_key=patient_key, deidentify=deidentify, dry_run=dry_run, force=force,
    )  # fmt: skip
    voice.say(
        lambda: report.print_removed(cache, done, dry_run),
        lambda: events.of_record("removed", cache, done, dry_run=dry_run),
    )


def purge(
    cache: CachePath,
    mapping: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Take out of this mapping what CACHE has no more."),
    ] = None,
) -> None:
    """Delete what was removed from CACHE, for good: whoever has it open as it was before must open
    it again.
    """
    from dicom2cache.running.remove import whole

    done = whole.purge(cache, mapping=mapping)
    voice.say(
        lambda: report.print_purged(cache, done), lambda: events.of_record("purged", cache, done)
    )


def merge(
    caches: Annotated[
        list[Path],
        typer.Argument(metavar="PART... CACHE", help="Caches, then the folder of the new one."),
    ],
    copy: Annotated[
        bool, typer.Option("--copy", help="Copy shards, as between file systems.")
    ] = False,
    move: Annotated[
        bool, typer.Option("--move", help="Remove the parts once the new cache is there.")
    ] = False,
    patient_key: PatientKey = None,
    deidentify: Deidentify = None,
) -> None:
    """Make one cache of several: of sites or nodes, of one recipe. Nothing is decoded again.

    The key is needed only where frames were removed from one of them.
    """
    pipeline.merge(
        caches[:-1], caches[-1], copy=copy, move=move, patient_key=patient_key,
        deidentify=deidentify,
    )  # fmt: skip
    about = pipeline.info(caches[-1])
    voice.say(
        lambda: report.print_cache(caches[-1], about),
        lambda: events.of_cache(caches[-1], about),
    )
