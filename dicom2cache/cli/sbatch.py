"""A batch script for Slurm: plan, an array that converts, and commit, one after the other."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from dicom2cache.cli import files
from dicom2cache.cli.failing import MaxFailures, allowed
from dicom2cache.cli.flags import (
    Deidentify,
    Force,
    Overwrite,
    Paths,
    PatientKey,
    Update,
    parts_of,
    plan_flags,
)
from dicom2cache.recipes.recipe import Recipe

_SCRIPT = """\
#!/bin/bash
# Converts DICOM files on many nodes. Submit it from a login node:
#     bash {name}
# That submits three jobs: plan; an array of {array} that converts; commit. A task that was killed
# or cancelled is done by submitting it again, or what is left by a smaller array:
#     sbatch --array=0-3 {name} rest
#     sbatch {name} commit
# How far it is:
#     {dicom2cache} info {cache} --watch
#
# Slurm signals the steps that srun starts, not this script: 60 s before the time is over they end
# what they do, and what is done is kept.
#SBATCH --job-name=dicom2cache
#SBATCH --nodes=1
#SBATCH --ntasks=1
#SBATCH --cpus-per-task={cpus}
#SBATCH --time={time}
#SBATCH --signal=TERM@60
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --output=%x-%A_%a.log
{options}set -u
dicom2cache=({dicom2cache})
sources=({sources})
cache={cache}
jobs=${{SLURM_CPUS_PER_TASK:-{cpus}}}

case "${{1:-submit}}" in
submit)
    plan=$(sbatch --parsable --output=%x-%j.log "$0" plan) &&
    # afterany, not afterok: a file that cannot be stored is status 1, and shall stop nothing
    array=$(sbatch --parsable --dependency="afterany:$plan" --array=0-{last}%{nodes} \\
        "$0" convert) &&
    commit=$(sbatch --parsable --output=%x-%j.log --dependency="afterany:$array" "$0" commit) &&
    echo "plan $plan, convert $array, commit $commit"
    ;;
plan)
    srun "${{dicom2cache[@]}}" plan "${{sources[@]}}" "$cache"{flags} --jobs "$jobs"
    ;;
convert)
    srun "${{dicom2cache[@]}}" convert "$cache" --part slurm/{array} --jobs "$jobs"{most}
    ;;
rest)
    srun "${{dicom2cache[@]}}" convert "$cache" --jobs "$jobs"{most}
    ;;
commit)
    srun "${{dicom2cache[@]}}" commit "$cache"{commit_flags}
    ;;
*)
    echo "$1: legal: plan, convert, rest, commit" >&2
    exit 2
    ;;
esac
"""


@dataclass(frozen=True)
class Batch:
    """What a script is to ask Slurm for."""

    nodes: int
    """that convert at once"""
    time: str
    """of each job, as sbatch takes it"""
    array: int
    """tasks that the work is shared out to"""
    cpus: int
    """processors of a task"""
    options: Sequence[str] = ()
    """further options of sbatch"""


def script(
    dicom2cache: Sequence[str],
    sources: Sequence[Path],
    cache: Path,
    flags: Sequence[str],
    commit_flags: Sequence[str],
    most: Sequence[str],
    batch: Batch,
    name: str,
) -> str:
    """The script; `flags` are those of `plan`, `commit_flags` those of `commit`, `most` of each
    `convert`, `name` is what it will be called."""
    return _SCRIPT.format(
        name=shlex.quote(name),
        nodes=batch.nodes,
        array=batch.array,
        last=batch.array - 1,
        time=batch.time,
        cpus=batch.cpus,
        options="".join(f"#SBATCH {option}\n" for option in batch.options),
        dicom2cache=shlex.join(dicom2cache),
        sources=shlex.join(str(source.absolute()) for source in sources),
        cache=shlex.quote(str(cache.absolute())),
        flags="".join(f" {shlex.quote(flag)}" for flag in flags),
        commit_flags="".join(f" {shlex.quote(flag)}" for flag in commit_flags),
        most="".join(f" {shlex.quote(flag)}" for flag in most),
    )


def slurm(
    context: typer.Context,
    paths: Paths,
    time: Annotated[str, typer.Option(help="Most time of each job, such as 4:00:00.")],
    recipe: Recipe,
    nodes: Annotated[int, typer.Option(min=1, help="Nodes that convert at once.")] = 1,
    array: Annotated[
        int | None, typer.Option(min=1, help="Tasks that share the work (4 for each node).")
    ] = None,
    cpus: Annotated[int, typer.Option(min=1, help="Processors of a task.")] = 8,
    account: Annotated[str | None, typer.Option(help="As sbatch has it.")] = None,
    partition: Annotated[str | None, typer.Option(help="As sbatch has it.")] = None,
    mem: Annotated[str | None, typer.Option(help="As sbatch has it, such as 32G.")] = None,
    sbatch: Annotated[
        list[str] | None, typer.Option(help="Another option, such as --qos=low (may be repeated).")
    ] = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="The script's file (printed).")
    ] = None,
    overwrite: Overwrite = False,
    force: Force = False,
    patient_key: PatientKey = None,
    deidentify: Deidentify = None,
    update: Update = False,
    max_failures: MaxFailures = None,
) -> None:
    """Write a batch script for Slurm that converts SRC... to CACHE on many nodes."""
    sources, cache = parts_of(paths)
    own = {"--account": account, "--partition": partition, "--mem": mem}
    options = [f"{name}={value}" for name, value in own.items() if value is not None]
    batch = Batch(nodes, time, array or 4 * nodes, cpus, [*options, *(sbatch or ())])
    for text in (time, *batch.options, str(cache.absolute()), str(output or "")):
        if any(c < " " for c in text):  # in a comment of the script: what follows would be run
            raise typer.BadParameter(f"{text!r}: a line end or the like cannot be in a script")
    here = [sys.executable, "-m", "dicom2cache"]
    allowed(max_failures)
    if output is not None:
        files.check(output)
    if update and overwrite:
        raise typer.BadParameter("--update adds to CACHE, and --overwrite replaces it; leave one")
    ends = ["--deidentify", str(deidentify.absolute())] if deidentify else []
    most = ["--max-failures", max_failures] if max_failures else []
    ends += most
    said = script(
        here, sources, cache, [*plan_flags(context), *ends], ends, most, batch,
        str(output or "dicom2cache.sbatch"),
    )  # fmt: skip
    if output is None:
        print(said, end="")
    else:
        files.write(output, said.encode())
