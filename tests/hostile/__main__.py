"""Mutants and bombs through builds: `python -m tests.hostile [--mutants N] [--first N] [--seed N]`.

Each build takes a few hundred mutants beside twenty healthy files, by one recipe after another,
with one job and with two. It must end with status 0 or 1, say nothing that is no sentence of ours,
account for each mutant, and store the healthy files as it does without mutants. Errors of our own
are listed. Then each bomb, with two jobs; `--bombs [NAME...]` for these alone. `--write NUMBER
FOLDER` writes one mutant out. Status 1 if anything is wrong.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
from collections import Counter
from pathlib import Path

from tests.hostile import bombs, runs
from tests.hostile.mutants import made, mutant

_PATIENCE = 1800.0
"""seconds that one build may take"""
_LIMITS = ["--limits", "frame_seconds=20", "--limits", "header_seconds=20"]


def main() -> int:
    """Run, print, and say by the exit status whether all is well."""
    parser = argparse.ArgumentParser(prog="tests.hostile", description=__doc__)
    parser.add_argument("--mutants", type=int, default=10_000)
    parser.add_argument("--first", type=int, default=0, help="number of the first mutant")
    parser.add_argument("--seed", type=int, default=17)
    parser.add_argument("--a-build", type=int, default=200, help="mutants in one build")
    parser.add_argument("--recipe", choices=runs.RECIPES, help="all builds by this one")
    parser.add_argument("--write", nargs=2, metavar=("NUMBER", "FOLDER"))
    parser.add_argument("--bombs", nargs="*", metavar="NAME", help="no mutants")
    said = parser.parse_args()
    work = Path(tempfile.mkdtemp(prefix="dicom2cache-hostile-"))
    try:
        more = tuple(made(work / "made"))
        if said.write:
            number, folder = int(said.write[0]), Path(said.write[1])
            what, data = mutant(said.seed, number, more)
            folder.mkdir(parents=True, exist_ok=True)
            (folder / f"{number:05}.dcm").write_bytes(data)
            print(f"{number}: {what}")
            return 0
        wrong = _mutants(said, work, more) if said.bombs is None else False
        return int(_bombs(said.bombs or [], work) or wrong)
    finally:
        shutil.rmtree(work)


def _bombs(names: list[str], work: Path) -> bool:
    wrong = False
    for bomb in bombs.BOMBS:
        if names and bomb.name not in names:
            continue
        folder = work / bomb.name
        folder.mkdir()
        problems, came = bombs.problems((bomb,), folder, jobs=2)
        wrong |= bool(problems)
        print(
            f"{bomb.name}: status {came.status}, {came.seconds:.0f} s, {came.peak >> 20} MiB, "
            f"{came.counts.get('files_failed', 0)} files failed",
            flush=True,
        )
        for problem in problems:
            print(f"  WRONG: {problem}")
        shutil.rmtree(folder)
    return wrong


def _mutants(said: argparse.Namespace, work: Path, more: tuple[Path, ...]) -> bool:
    source = work / "healthy"
    runs.neighbours(source)
    recipes = [said.recipe] if said.recipe else list(runs.RECIPES)
    totals, wrong, internal, above = Counter[str](), 0, list[str](), 0
    alone: dict[tuple[str, int], tuple[runs.Healthy, int]] = {}
    starts = range(said.first, said.first + said.mutants, said.a_build)
    for k, start in enumerate(starts):
        name, jobs = recipes[k % len(recipes)], 1 + k // len(recipes) % 2
        flags = [*runs.RECIPES[name], *_LIMITS, "--jobs", str(jobs)]
        if (name, jobs) not in alone:
            quiet = runs.run([source, work / "quiet", *flags], _PATIENCE)
            alone[name, jobs] = runs.healthy(work / "quiet", 0), quiet.peak
            shutil.rmtree(work / "quiet")
        numbers = range(start, min(start + said.a_build, starts.stop))
        told = runs.write_mutants(work / "mutants", said.seed, numbers, more)
        cache = work / "cache"
        came = runs.run([source, work / "mutants", cache, *flags], _PATIENCE)
        before, quiet_peak = alone[name, jobs]
        runs.check(came, cache, set(told), before)
        above = max(above, came.peak - quiet_peak)
        totals.update(came.counts)
        totals["aborted"] += came.status not in (0, 1, None)
        totals["hung"] += came.status is None
        wrong += bool(came.problems)
        counts = came.counts
        print(
            f"{numbers.start}-{numbers.stop - 1} {name}, {jobs} jobs: status {came.status}, "
            f"{came.seconds:.0f} s, {came.peak >> 20} MiB ({quiet_peak >> 20} without mutants), "
            f"{counts.get('files_stored', 0)} files stored, {counts.get('files_failed', 0)} "
            f"failed, {counts.get('frames_limited', 0)} for memory or time, "
            f"{len(came.internal)} errors of our own",
            flush=True,
        )
        for problem in came.problems[:20]:
            print(f"  WRONG: {problem}")
        if came.status not in (0, 1):
            print("  " + "\n  ".join(came.said.splitlines()[-20:]))
        for row in came.internal:
            internal.append(row)
            print(f"  OURS: {row} ({told.get(row.partition(':')[0], 'healthy')})")
        shutil.rmtree(work / "mutants")
        shutil.rmtree(cache, ignore_errors=True)
    print(
        f"{said.mutants} mutants, seed {said.seed}: {totals['aborted']} runs aborted, "
        f"{totals['hung']} hung, {wrong} of {len(starts)} wrong, {len(internal)} errors of our "
        f"own; at most {above >> 20} MiB above a run without mutants"
    )
    return bool(wrong or internal)


if __name__ == "__main__":
    sys.exit(main())
