"Files that commands write beside a cache: refused before the work, by the folder that is wrong."

from __future__ import annotations

import os
import threading
from pathlib import Path

import numpy as np
import pytest

from tests.support.caches import built, run_here
from tests.support.dicom_files import write_dicom


@pytest.fixture(scope="module")
def top(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """in/ with two images, cache/ of them, and secret, a key."""
    top = tmp_path_factory.mktemp("files")
    for k in range(2):
        write_dicom(top / "in" / f"{k}.dcm", np.full((8, 8), k, np.uint8), PatientID=f"{k}")
    built(top / "in", top / "cache", "-j1")
    (top / "secret").write_bytes(bytes(range(32)))
    (top / "secret").chmod(0o600)
    return top


_COMMANDS = {
    "report": ("report", "cache", "-o", "OUT"),
    "show": ("show", "cache", "0", "-o", "OUT"),
    "plan": ("plan", "in", "other", "--report", "OUT"),
    "slurm": ("slurm", "in", "other", "--time", "1:00", "-o", "OUT"),
    "split": ("split", "cache", "OUT"),
    "key": ("key", "export", "OUT", "--key", "secret"),
}


def _command(top: Path, verb: str, out: Path) -> list[object]:
    paths = {"OUT": out, **{name: top / name for name in ("in", "cache", "other", "secret")}}
    return [paths.get(word, word) for word in _COMMANDS[verb]]


@pytest.mark.parametrize("verb", _COMMANDS)
def test_a_folder_that_is_not_there_is_named(top: Path, tmp_path: Path, verb: str) -> None:
    out = tmp_path / "none" / "of it.csv"
    ran = run_here(*_command(top, verb, out))
    assert ran.returncode == 2
    assert f"{out}: its folder {out.parent} is not there; make it" in ran.stderr
    assert ran.stdout == ""
    assert not (top / "other").exists()  # refused before the work
    ran = run_here(*_command(top, verb, tmp_path))
    assert ran.returncode == 2
    assert f"{tmp_path}: a folder; name a file in it" in ran.stderr
    (tmp_path / "file").touch()
    ran = run_here(*_command(top, verb, tmp_path / "file" / "x.csv"))
    assert f"its folder {tmp_path / 'file'} is a file" in ran.stderr


@pytest.mark.parametrize(
    ("said", "why"),
    [
        (("split", "cache", "cache/s.csv"), "cache/s.csv: in the cache, where no"),
        (("report", "cache", "-o", "cache/r.html"), "in the cache, where no other file belongs"),
        (("show", "cache", "0", "-o", "x.jpg"), "-o x.jpg: a picture is written as .png"),
        (("show", "cache", "--path", "l.dcm"), "no file l.dcm in frames/; did you mean"),
        (("report", "cache", "--split", "none.csv"), "--split none.csv: no such file"),
        (("split", "cache", "s.csv", "--label", "y", "--labels", "n.csv", "--on", "path"),
         "--labels n.csv: no such file"),
        (("export", "cache", "secret"), "OUT secret: a file; name the folder"),
        (("info", "none"), "none: not a cache: there is no such folder;"),
        (("repair", "none"), "none: not a cache: there is no such folder;"),
        (("build", "in", "other", "--recipe", "n.toml"), "recipe: No such file or directory;"),
        (("slurm", "in", "other", "--time", "soon"), "--time soon; legal: as sbatch has it"),
    ],
    ids=lambda said: " ".join(said) if isinstance(said, tuple) else "",
)  # fmt: skip
def test_what_a_stranger_gets_wrong_is_said(
    top: Path, monkeypatch: pytest.MonkeyPatch, said: tuple[str, ...], why: str
) -> None:
    monkeypatch.chdir(top)
    ran = run_here(*said)
    assert ran.returncode == 2
    assert why in " ".join(ran.stderr.split())
    assert "Traceback" not in ran.stderr
    assert not (top / "other").exists()


def test_what_is_no_file_is_written_to_and_stays(top: Path, tmp_path: Path) -> None:
    """As /dev/null and /dev/stdout are, which a file must not take the place of."""
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    found: list[bytes] = []
    reader = threading.Thread(target=lambda: found.append(fifo.read_bytes()), daemon=True)
    reader.start()
    ran = run_here("show", top / "cache", "0", "-o", fifo)
    reader.join(10)
    assert ran.returncode == 0, ran.stderr
    assert found[0].startswith(b"\x89PNG")
    assert fifo.is_fifo()


def test_a_page_of_a_plan_is_no_event(top: Path, tmp_path: Path) -> None:
    page = tmp_path / "plan.html"
    ran = run_here("plan", top / "in", top / "other2", "--report", page, "--json", "-j1")
    assert ran.returncode == 0, ran.stderr
    assert all(line.startswith('{"event"') for line in ran.stdout.splitlines())
    assert page.read_bytes().startswith(b"<!doctype html>")
    ran = run_here("plan", top / "in", top / "cache", "--report", tmp_path / "late.html", "-j1")
    assert "late.html: not written, all is converted: `dicom2cache report" in ran.stderr


def test_doctor_says_that_a_path_is_not_there(tmp_path: Path) -> None:
    from dicom2cache.running.proof import machine

    def facts(path: Path) -> dict[str, machine.Fact]:
        return {fact.name: fact for fact in machine.file_system(path)}

    absent = facts(tmp_path / "no" / "where")["path"]
    assert absent.said == f"{tmp_path / 'no' / 'where'} is not there"
    assert (absent.state, "a build makes it" in absent.remedy) == (machine.SLOW, True)
    (tmp_path / "file").touch()
    assert facts(tmp_path / "file")["path"].state == machine.WRONG
    assert "path" not in facts(tmp_path)
