"""The command line: `dicom2cache build|plan|convert|commit|update|verify|repair|info|...`.

Exit status: 0 all is stored, or no more failed than --max-failures allows, 1 finished but some
files failed, 2 could not run or finish, 130 interrupted, 141 instead of 0 and 1 where nobody read
all that stdout was told; of `convert`, for the frames of its part.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable
from importlib import import_module
from typing import Annotated, Any

import typer

from dicom2cache import __version__
from dicom2cache.cli import interrupts, voice, words
from dicom2cache.cli.examples import added
from dicom2cache.cli.plain import without_pydantic
from dicom2cache.errors import Dicom2cacheError, disk_error

_VOICED = {
    **dict.fromkeys(("build", "plan", "convert", "commit", "update"), "converting"),
    **dict.fromkeys(("remove", "purge", "merge"), "changing"),
    **dict.fromkeys(("verify", "repair"), "checking"),
}  # fmt: skip
"""modules of commands that may be quiet, verbose or speak in events"""
_MODULES = {
    **_VOICED, "info": "checking", "slurm": "sbatch", "compare": "checking", "split": "dividing",
    "export": "exporting", "labels": "predicting", "doctor": "doctoring", "report": "looking",
    "show": "looking", "failures": "looking", "key": "keys",
}  # fmt: skip
"""module of each command, in the order of the help"""


def app_of(commands: Iterable[str]) -> typer.Typer:
    """The program with these commands, each with an example and its page under its help."""
    without_pydantic()
    made = typer.Typer(
        no_args_is_help=True,
        help="Decode DICOM once, true to the standard, into a Zarr v3 cache to train from.",
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    made.callback(invoke_without_command=True)(_main)
    for name in commands:
        module = import_module(f"dicom2cache.cli.{_MODULES[name]}")
        if name == "key":
            made.add_typer(module.app, name=name)
            continue
        function = getattr(module, name)
        voiced = voice.voiced(function) if name in _VOICED else function
        made.command(epilog=added(name))(voiced)
    return made


def _asked() -> Iterable[str]:
    """The command that is asked for, without the imports of the others; all for help, shells that
    complete one, and what is none."""
    name = sys.argv[1] if len(sys.argv) > 1 else ""
    return [name] if name in _MODULES and "_DICOM2CACHE_COMPLETE" not in os.environ else _MODULES


def _main(
    version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
) -> None:
    if version:
        print(__version__)
        raise typer.Exit()


def main() -> None:
    """Run the command line; errors that are foreseen print a sentence, not a traceback."""
    words.plain_warnings()
    with voice.heard():
        with interrupts.raised():
            code = _guarded(lambda: app_of(_asked())(standalone_mode=False))
        if code == interrupts.INTERRUPTED:
            print(interrupts.SAID, file=sys.stderr)
        voice.ended(code)
    if voice.is_cut():
        code = voice.cut(code)
    sys.exit(code)


def _guarded(run: Callable[[], Any]) -> int:
    out = sys.stdout
    try:
        return int(run() or 0)
    except SystemExit:
        if sys.stdout is out:
            raise
        sys.stdout = out  # Typer has put another in its place, and would leave by 1
        return voice.cut()
    except typer.Exit as e:
        return int(e.exit_code)
    except (typer.Abort, KeyboardInterrupt):
        return interrupts.INTERRUPTED
    except Exception as e:
        if interrupts.asked():  # as worker processes that were ended with this one
            return interrupts.INTERRUPTED
        if hasattr(e, "show"):  # a usage error, whose class is not the same in all typer versions
            e.show()
            return 2
        said = _said(e)
        if said is None:
            raise
        voice.failed(said)
        return 2


def _said(error: Exception) -> str | None:
    """The sentence for an error that is foreseen; None for one that is not."""
    if isinstance(error, (Dicom2cacheError, ValueError)):
        return f"dicom2cache: {words.lines(str(error))}"
    if isinstance(error, MemoryError):
        what = f"out of memory: {error}" if str(error) else "out of memory"
        return f"dicom2cache: {words.one_line(what)}; use fewer --jobs"
    if isinstance(error, OSError):
        return f"dicom2cache: {words.lines(str(disk_error(error)))}"
    return None
