"""The batch script for Slurm, as text; tests/slurm submits it."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.caches import run_here


def _script(*arguments: object) -> str:
    ran = run_here("slurm", *arguments)
    assert ran.returncode == 0, ran.stderr
    subprocess.run(["bash", "-n"], input=ran.stdout, text=True, check=True)
    return ran.stdout


def test_what_slurm_is_asked_for(tmp_path: Path) -> None:
    said = _script(
        tmp_path, tmp_path / "cache", "--time", "4:00:00", "--nodes", 3, "--array", 64,
        "--cpus", 16, "--account", "lab", "--partition", "long", "--mem", "32G",
        "--sbatch=--qos=low",
    )  # fmt: skip
    asked = re.findall(r"^#SBATCH (.*)", said, re.MULTILINE)
    assert {
        "--time=4:00:00", "--cpus-per-task=16", "--account=lab", "--partition=long", "--mem=32G",
        "--qos=low", "--requeue", "--signal=TERM@60",
    } <= set(asked)  # fmt: skip
    assert "--array=0-63%3" in said
    assert "--part slurm/64" in said
    assert " --update" not in said
    again = _script(tmp_path, tmp_path / "cache", "--time", "1:00:00", "--update")
    (plan,) = re.findall(r"^    srun .* plan (.*)$", again, re.MULTILINE)
    assert "--update" in shlex.split(plan)


def test_names_and_flags_are_quoted(tmp_path: Path) -> None:
    """The names and flags that the shell makes of the script are those that were given."""
    odd = tmp_path / "it's $HOME {x} %a"
    said = _script(
        odd, "second", tmp_path / "a cache", "--time", "1:00:00", "--where", "modality == 'CT'",
        "--window", "40,400", "--window", "lung", "--limits", "frames=7", "--overwrite",
        "--recipe", "mixed",
    )  # fmt: skip
    (sources,) = re.findall(r"^sources=\((.*)\)$", said, re.MULTILINE)
    assert shlex.split(sources) == [str(odd), str(Path("second").absolute())]
    (plan,) = re.findall(r"^    srun .* plan (.*)$", said, re.MULTILINE)
    words = ["--where", "modality == 'CT'", "--window", "40,400", "--window", "lung"]
    words += ["--limits", "frames=7", "--overwrite", "--recipe", "mixed"]
    assert sorted(shlex.split(plan)[2:-2]) == sorted(words)
    (program,) = re.findall(r"^dicom2cache=\((.*)\)$", said, re.MULTILINE)
    assert shlex.split(program) == [sys.executable, "-m", "dicom2cache"]


def test_what_would_be_a_line_of_its_own_is_refused(tmp_path: Path) -> None:
    """In a comment of the script the second line of a name would be run by the shell."""
    cache, odd, script = tmp_path / "cache", tmp_path / "a\ntouch there", tmp_path / "script"
    for given in (
        (odd, "--time", "1:00:00", "-o", script),
        (cache, "--time", "1:00:00\ntouch there", "-o", script),
        (cache, "--time", "1:00:00", "--account", "lab\ntouch there", "-o", script),
        (cache, "--time", "1:00:00", "-o", odd),
    ):
        ran = run_here("slurm", tmp_path, *given)
        assert (ran.returncode, "touch there': a line end" in ran.stderr) == (2, True)
    assert list(tmp_path.iterdir()) == []


def test_a_recipe_file_is_named_from_the_root(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "my.toml").write_text("size = 64\n")
    said = _script("scans", "cache", "--time", "1:00:00", "--recipe", "my.toml")
    assert f"--recipe {tmp_path / 'my.toml'} --jobs" in said


def test_plan_and_commit_get_the_key(tmp_path: Path) -> None:
    said = _script("scans", "cache", "--time", "1:00:00", "--deidentify", tmp_path / "a key")
    runs = dict(re.findall(r"^    srun \S+ (\w+) (.*)$", said, re.MULTILINE))
    key = ["--deidentify", str(tmp_path / "a key")]
    assert shlex.split(runs["plan"])[2:4] == key
    assert shlex.split(runs["commit"])[1:] == key
    assert said.count("--deidentify") == 2


def test_what_the_recipe_refuses_is_refused_before_the_night(tmp_path: Path) -> None:
    ran = run_here("slurm", tmp_path, tmp_path / "c", "--time", "1:00:00", "--window", "nose")
    assert ran.returncode == 2
    assert "nose" in ran.stderr
