"""How commands speak: quiet, verbose, in events; how many files may fail; what is refused."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import typer

from dicom2cache.cli import app, examples
from tests.support.caches import Ran, command, run_cli, run_here
from tests.support.dicom_files import write_dicom


@pytest.fixture
def scans(tmp_path: Path) -> Path:
    """Two images, three files that are cut short, and one that is not DICOM."""
    folder = tmp_path / "scans"
    for k in range(5):
        write_dicom(folder / f"{k}.dcm", np.full((8, 8), k, np.uint8))
    for k in range(2, 5):
        whole = (folder / f"{k}.dcm").read_bytes()
        (folder / f"{k}.dcm").write_bytes(whole[:-40])
    (folder / "brain.nii").write_bytes(b"no image of ours")
    return folder


def _events(ran: Ran) -> list[dict[str, Any]]:
    return [json.loads(line) for line in ran.stdout.splitlines()]


def _one(events: list[dict[str, Any]], name: str) -> dict[str, Any]:
    (found,) = (event for event in events if event["event"] == name)
    return found


def test_events_of_a_build(scans: Path, tmp_path: Path) -> None:
    ran = run_here("build", scans, tmp_path / "cache", "-j1", "--json")
    events = _events(ran)
    assert ran.returncode == 1
    assert [events[0][key] for key in ("event", "command")] == ["begin", "build"]
    assert (events[-1]["event"], events[-1]["status"]) == ("end", 1)
    phases = [event["what"] for event in events if event["event"] == "phase"]
    assert phases == ["listing", "reading headers", "converting"]
    told = _one(events, "cache")
    assert (told["files_stored"], told["files_failed"], told["files_not_dicom"]) == (2, 3, 1)
    assert [(a["name"], a["frames"], a["slot"]) for a in told["arrays"]] == [
        ("uint8_8x8", 2, [8, 8])
    ]
    failed, other = (event for event in events if event["event"] == "unstored")
    assert (failed["outcome"], failed["files"], failed["example"]["path"]) == ("failed", 3, "2.dcm")
    assert (other["outcome"], other["suffixes"]) == ("not-dicom", {".nii": 1})
    assert ran.stderr == ""


def test_an_error_is_an_event_and_a_sentence(tmp_path: Path) -> None:
    ran = run_here("build", tmp_path / "none", tmp_path / "cache", "--json")
    events = _events(ran)
    assert ran.returncode == 2
    assert "none" in _one(events, "error")["message"]
    assert events[-1]["status"] == 2
    assert ran.stderr.startswith("dicom2cache: ")


def test_quietly_only_what_is_wrong_is_said(scans: Path, tmp_path: Path) -> None:
    ran = run_here("build", scans, tmp_path / "cache", "-j1", "--quiet")
    assert (ran.returncode, ran.stdout) == (1, "")
    assert ran.stderr == f"3 files failed: `dicom2cache failures {tmp_path / 'cache'}`\n"
    (scans / "brain.nii").unlink()
    for k in range(2, 5):
        (scans / f"{k}.dcm").unlink()
    ran = run_here("build", scans, tmp_path / "whole", "-j1", "-q")
    assert (ran.returncode, ran.stdout, ran.stderr) == (0, "", "")
    ran = run_here("verify", tmp_path / "whole", "--quiet")
    assert (ran.returncode, ran.stdout, ran.stderr) == (0, "", "")


def test_verbosely_each_file_has_a_line(tmp_path: Path) -> None:
    write_dicom(tmp_path / "in" / "a.dcm", np.zeros((8, 8), np.uint8))
    for k in range(30):
        (tmp_path / "in" / f"{k}.txt").write_bytes(b"words")
    brief = run_here("plan", tmp_path / "in", tmp_path / "one", "-j1").stdout
    ran = run_here("plan", tmp_path / "in", tmp_path / "two", "-j1", "--verbose")
    assert brief.count("not-dicom: ") == 1
    assert "and 29 files like it (.txt 30)" in brief
    assert ran.stdout.count("not-dicom: ") == 30
    assert "reading headers: begins" in ran.stderr
    assert "reading headers: took" in ran.stderr


@pytest.mark.parametrize(
    ("most", "status"), [("3", 0), ("2", 1), ("0", 1), ("60%", 0), ("59.9%", 1), ("100%", 0)]
)  # 3 of 5 that were to be stored; what is not DICOM does not count
def test_so_many_files_may_fail(scans: Path, tmp_path: Path, most: str, status: int) -> None:
    for verb in ("plan", "build", "commit"):
        where = [tmp_path / "cache"] if verb == "commit" else [scans, tmp_path / "cache"]
        ran = run_here(verb, *where, "--max-failures", most, "--quiet")
        assert ran.returncode == status, (verb, ran.stderr)


def test_so_many_new_files_may_fail(scans: Path, tmp_path: Path) -> None:
    write_dicom(tmp_path / "first" / "a.dcm", np.full((8, 8), 9, np.uint8))
    run_here("build", tmp_path / "first", tmp_path / "cache", "-j1")
    ran = run_here("update", scans, tmp_path / "cache", "-j1", "--max-failures", "60%")
    assert ran.returncode == 0, ran.stderr


@pytest.mark.parametrize("said", ["x", "-1", "101%", "5 %", "1e3", "5%%", ""])
def test_what_is_no_such_number_is_refused(scans: Path, tmp_path: Path, said: str) -> None:
    ran = run_here("build", scans, tmp_path / "cache", f"--max-failures={said}")
    assert ran.returncode == 2
    assert "legal: a number of files, such as 10, or a share" in ran.stderr
    assert not (tmp_path / "cache").exists()


def test_a_dry_run_writes_nothing(scans: Path, tmp_path: Path) -> None:
    ran = run_here("build", scans, tmp_path / "cache", "--dry-run", "-j1")
    assert ran.returncode == 1  # as `plan`: three will fail
    assert ran.stdout.startswith("2 frames of 2 files, 128 bytes in 1 shard")
    assert sorted(os.listdir(tmp_path)) == ["scans"]
    run_here("build", scans, tmp_path / "cache", "-j1", "--window", "0,10")  # another recipe
    before = sorted(tmp_path.rglob("*"))
    write_dicom(scans / "new.dcm", np.full((8, 8), 77, np.uint8))
    ran = run_here("update", scans, tmp_path / "cache", "--dry-run", "-j1")
    assert (ran.returncode, ran.stdout.splitlines()[0][:17]) == (0, "1 frame of 1 file")
    assert sorted(tmp_path.rglob("*")) == sorted([*before, scans / "new.dcm"])


@pytest.mark.parametrize(
    ("arguments", "names"),
    [
        (("--window", "lung", "--intensity", "modality"), ("window", "intensity")),
        (("--window", "lung", "--percentiles", "1,99"), ("percentiles", "intensity")),
        (("--intensity", "stored", "--percentiles", "1,99"), ("percentiles", "intensity")),
        (("--fit", "crop"), ("fit", "size")),
        (("--pad", "-5"), ("pad", "size")),
        (("--mask-grid", "image"), ("mask_grid", "masks none")),
        (("--on-error", "raise", "--max-failures", "3"), ("--on-error", "--max-failures")),
        (("--quiet", "--json"), ("--quiet", "--json")),
        (("--scheduler", "a:1"), ("scheduler", "--backend dask")),
        (("--mapping", "m.csv"), ("--mapping", "--deidentify")),
    ],
)
def test_what_contradicts_is_refused_by_name(
    scans: Path, tmp_path: Path, arguments: tuple[str, ...], names: tuple[str, ...]
) -> None:
    ran = run_here("build", scans, tmp_path / "cache", *arguments)
    assert ran.returncode == 2
    assert all(name in ran.stderr for name in names), ran.stderr
    assert not (tmp_path / "cache").exists()


@pytest.mark.parametrize(
    ("arguments", "meant"),
    [
        (("build", "SRC", "C", "--window", "lng"), "did you mean lung?"),
        (("build", "SRC", "C", "--exclude", "localiser"), "did you mean localizer?"),
        (("build", "SRC", "C", "--recipe", "mixd"), "did you mean mixed?"),
        (("build", "SRC", "C", "--dtype", "unit16"), "did you mean uint16"),
        (("build", "SRC", "C", "--codec", "zst"), "did you mean zstd?"),
        (("build", "SRC", "C", "--limits", "frame_pixel=9"), "did you mean frame_pixels"),
        (("build", "SRC", "C", "--backend", "treading"), "did you mean threading?"),
        (("build", "SRC", "C", "--where", 'modalty == "CT"'), "did you mean modality"),
        (("build", "SRC", "C", "--recipe", "odd.toml"), "did you mean exclude?"),
        (("build", "SRC", "C", "--windw", "lung"), "--window"),
        (("buidl", "SRC", "C"), "build"),
        (("failures", "C", "--outcome", "fialed"), "did you mean failed?"),
    ],
)
def test_a_misspelt_name_is_guessed(
    scans: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    arguments: tuple[str, ...],
    meant: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "odd.toml").write_text('exlcude = ["dose"]\n')
    ran = run_here(*(str(scans) if word == "SRC" else word for word in arguments))
    assert ran.returncode == 2
    assert meant in ran.stderr


def test_windows_that_are_in_vain_are_foreseen(tmp_path: Path) -> None:
    write_dicom(tmp_path / "in" / "a.dcm", np.zeros((8, 8), np.uint8), Modality="MR")
    recipe = tmp_path / "r.toml"
    recipe.write_text(
        """[[rules]]\nwhere = 'modality == "ct"'\nwindow = ["bone"]\n
        [[rules]]\nwhere = 'modality == "MR"'\nwindow = ["lung"]"""
    )
    ran = run_here("plan", tmp_path / "in", tmp_path / "c", "--recipe", recipe, "-j1")
    assert [line for line in ran.stdout.splitlines() if line.startswith("note: ")] == [
        'note: rule 1 (modality == "ct") decides for no file',
        "note: window lung is in HU, and is applied to files whose values are none: 1 of MR; give "
        "them a rule of their own",
    ]


@pytest.mark.parametrize("flags", [(), ("--json",)])
def test_words_that_cannot_be_written(scans: Path, tmp_path: Path, flags: tuple[str, ...]) -> None:
    """A full disk is named; where there is no stdout at all, nothing is missed."""
    build = command("build", scans, tmp_path / "cache", "-j1", *flags)
    with open("/dev/full", "w") as full:
        ran = subprocess.run(build, stdout=full, stderr=subprocess.PIPE, text=True, timeout=60)
    assert ran.returncode == 2
    assert "No space left on device" in ran.stderr
    assert "Traceback" not in ran.stderr
    closed = ["sh", "-c", 'exec "$@" >&-', "sh", *build]
    ran = subprocess.run(closed, stderr=subprocess.PIPE, text=True, timeout=60)
    assert ran.returncode == 1  # one file is bad
    assert "Traceback" not in ran.stderr
    assert (tmp_path / "cache" / "zarr.json").exists()


def test_an_interrupt_ends_the_events(scans: Path, tmp_path: Path) -> None:
    fifo = tmp_path / "never"  # the sources are listed, and the recipe waits for its writer
    os.mkfifo(fifo)
    arguments = command("build", scans, tmp_path / "cache", "--json", "--recipe", fifo)
    with subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as run:
        assert run.stdout is not None
        assert json.loads(run.stdout.readline())["event"] == "begin"
        time.sleep(0.1)
        run.send_signal(signal.SIGTERM)  # SIGINT is ignored where tests run in the background
        try:
            out, err = run.communicate(timeout=30)
        finally:
            run.kill()
    assert run.returncode == 130
    assert json.loads(out.splitlines()[-1])["status"] == 130
    assert b"Traceback" not in err


@pytest.mark.parametrize(
    ("line", "words"),
    [("dicom2cache upd", ["update"]), ("dicom2cache build --window sub", ["subdural"])],
)
def test_a_shell_can_complete(line: str, words: list[str]) -> None:
    env = {
        "_DICOM2CACHE_COMPLETE": "complete_bash",
        "COMP_WORDS": line,
        "COMP_CWORD": str(line.count(" ")),
    }
    code = "import sys; sys.argv = ['dicom2cache']; from dicom2cache.cli.app import main; main()"
    ran = subprocess.run(
        [sys.executable, "-c", code], env={**os.environ, **env}, capture_output=True, text=True,
        check=False, timeout=60,
    )  # fmt: skip
    assert ran.stdout.split() == words


def test_help_has_an_example_that_is_legal_and_a_page_that_is_there() -> None:
    root: Any = typer.main.get_command(app.app)
    names = {
        name if not hasattr(one, "commands") else f"{name} {inner}"
        for name, one in root.commands.items()
        for inner in getattr(one, "commands", {"": None})
    }
    assert names == set(examples.EXAMPLES)
    here = Path(__file__).parents[2]
    for name, (example, page) in examples.EXAMPLES.items():
        found, words = root, example.split()
        while hasattr(found, "commands"):
            found = found.commands[words.pop(0)]
        found.make_context(name, words)  # raises where it is not legal
        assert f"Example: dicom2cache {example}" in found.epilog
        file, _, anchor = page.partition("#")
        heads = re.findall(r"^#+ (.*)$", (here / file).read_text().lower(), re.MULTILINE)
        anchors = {re.sub(r"[^a-z0-9-]", "", head.replace(" ", "-")) for head in heads}
        assert not anchor or anchor in anchors, page


def test_a_narrow_terminal_without_colours(scans: Path, tmp_path: Path) -> None:
    ran = run_cli("build", "--help", env={"COLUMNS": "50", "NO_COLOR": "1"})
    assert ran.returncode == 0
    assert "\x1b" not in ran.stdout
    assert max(map(len, ran.stdout.splitlines())) <= 50
