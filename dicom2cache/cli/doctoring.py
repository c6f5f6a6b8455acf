"""`dicom2cache doctor`: is what is installed here fit to make caches?"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from dicom2cache.cli import words
from dicom2cache.syntaxes import SYNTAXES

if TYPE_CHECKING:
    from dicom2cache.running.proof.machine import Fact
    from dicom2cache.running.proof.samples import Proof


def doctor(
    path: Annotated[
        Path, typer.Argument(metavar="[PATH]", help="Where a cache is, or shall be.")
    ] = Path("."),
    as_json: Annotated[bool, typer.Option("--json", help="All of it, as JSON.")] = False,
) -> None:
    """Say what is installed here, what the file system of PATH can do, and prove every decoder.

    Each decodes a sample that another program made: without loss, the pixels are the same; with
    loss, within one grey level. Exit status 1 if something is wrong, with what to do.
    """
    from dicom2cache.running.proof import apart, gate, machine, samples

    facts = {"software": list(machine.software()), "path": list(machine.file_system(path))}
    proofs = list(apart.proved(samples.of_syntaxes(SYNTAXES)))
    every = [fact for part in facts.values() for fact in part]
    wrong = any(proof.wrong for proof in proofs) or any(f.state == machine.WRONG for f in every)
    if as_json:
        said = {name: [asdict(fact) for fact in part] for name, part in facts.items()}
        decoders = [asdict(proof) for proof in proofs]
        print(json.dumps({"whole": not wrong, **said, "decoders": decoders}, indent=1))
    else:
        for part in facts.values():
            _print_facts(part)
        _print_proofs(proofs, gate.REMEDY)
        print("something is wrong: see the lines with !" if wrong else "all is well")
    raise typer.Exit(1 if wrong else 0)


_MARKS = {"ok": " ", "slow": "-", "wrong": "!"}


def _print_facts(facts: Iterable[Fact]) -> None:
    for fact in facts:
        remedy = f"; {fact.remedy}" if fact.remedy else ""
        print(words.one_line(f"{_MARKS[fact.state]} {fact.name:20}{fact.said}{remedy}"))
    print()


def _print_proofs(proofs: list[Proof], remedy: str) -> None:
    for proof in proofs:
        said = proof.wrong or f"{proof.sha256[:16]}  {proof.codec}"
        name = f"{'!' if proof.wrong else ' '} {proof.sample:28} {proof.syntax:26}"
        print(words.one_line(f"{name}{said}"))
    lacking = Counter(proof.syntax for proof in proofs if proof.wrong)
    sound = len({proof.syntax for proof in proofs} - set(lacking))
    print(f"\n{words.counting(sound, 'transfer syntax', 'transfer syntaxes')} proved", end="")
    print(f", {len(lacking)} not: {remedy}" if lacking else "")
