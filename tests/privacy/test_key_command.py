"""`dicom2cache key`: which key it is, a copy of it, whether it is a cache's."""

from __future__ import annotations

import hashlib
import stat
from pathlib import Path

import pytest

from tests.support.caches import attributes, built, run_cli, run_here
from tests.support.dicom_files import pattern, write_dicom

pytestmark = pytest.mark.filterwarnings("ignore::dicom2cache.privacy.keys.KeyMadeWarning")
MADE = "made, the key that patients and accession numbers are hashed with. Keep a copy"


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A user without a key."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    return tmp_path / "config" / "dicom2cache" / "patient.key"


def test_a_key_is_told_of_when_it_is_made_and_once(home: Path, tmp_path: Path) -> None:
    assert (
        run_here("key", "show").stdout
        == f"{home}: none yet; the first build of this user makes it\n"
    )
    write_dicom(tmp_path / "in" / "a", pattern("a", (8, 8)))
    first = run_cli("build", tmp_path / "in", tmp_path / "cache", "-j1")
    assert first.stderr.count(f"{home}: {MADE} (`dicom2cache key export FILE`)") == 1
    assert "patient.key" not in run_here("build", tmp_path / "in", tmp_path / "other", "-j1").stderr
    said = hashlib.sha256(b"dicom2cache patient key" + home.read_bytes()).hexdigest()[:16]
    assert run_here("key", "show").stdout == f"{home}: fingerprint {said}\n"
    assert attributes(tmp_path / "cache")["patient_key"] == said
    done = run_here("key", "check", tmp_path / "cache")
    assert (done.returncode, said in done.stdout) == (0, True)


def test_a_copy_of_a_key(home: Path, tmp_path: Path) -> None:
    write_dicom(tmp_path / "in" / "a", pattern("a", (8, 8)))
    cache = built(tmp_path / "in", tmp_path / "cache", "-j1")
    copy = tmp_path / "copy.key"
    done = run_here("key", "export", copy)
    assert done.returncode == 0
    assert copy.read_bytes() == home.read_bytes()
    assert stat.S_IMODE(copy.stat().st_mode) == 0o600
    secret = home.read_bytes().hex()
    assert secret not in done.stdout + run_here("key", "show").stdout
    again = run_here("key", "export", copy)
    assert (again.returncode, "is there already; give a new file" in again.stderr) == (2, True)
    home.unlink()  # lost
    assert run_here("key", "check", cache, "--key", copy).returncode == 0
    lost = run_here("key", "check", cache)
    assert (lost.returncode, "no such key file" in lost.stderr) == (2, True)
    assert run_here("key", "export", tmp_path / "x.key").returncode == 2
    assert not (tmp_path / "x.key").exists()


def test_another_key(home: Path, tmp_path: Path) -> None:
    write_dicom(tmp_path / "in" / "a", pattern("a", (8, 8)))
    other = tmp_path / "other.key"
    other.touch(0o600)
    other.write_bytes(bytes(32))
    cache = built(tmp_path / "in", tmp_path / "cache", "-j1")
    wrong = run_here("key", "check", cache, "--key", other)
    assert wrong.returncode == 1
    assert f"{cache} was made with the key of {attributes(cache)['patient_key']}" in wrong.stderr
    other.chmod(0o644)
    public = run_here("key", "check", cache, "--key", other)
    assert (public.returncode, "run `chmod 600" in public.stderr) == (2, True)
    other.chmod(0o600)
    veiled = tmp_path / "veiled"
    run_here("build", tmp_path / "in", veiled, "-j1", "--deidentify", other)
    assert run_here("key", "check", veiled, "--key", other).returncode == 0
    assert run_here("key", "check", veiled, "--key", home).returncode == 1
    without = run_here("key", "check", veiled)
    assert (without.returncode, "give --key FILE" in without.stderr) == (2, True)
