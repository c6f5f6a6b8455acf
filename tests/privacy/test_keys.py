"""Key files that anybody can read are refused; what is made is as the umask says, but for keys."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.caches import run_cli, run_here
from tests.support.dicom_files import pattern, uid, write_dicom


def _sources(folder: Path) -> Path:
    for name in ("a", "b"):
        path = folder / name / f"{name}.dcm"
        write_dicom(path, pattern(name, (16, 16)), SOPInstanceUID=uid(name))
    (folder / "text.dcm").write_text("no image\n" * 100)
    return folder


def _key(path: Path, mode: int, count: int = 32) -> Path:
    path.touch(0o600)
    path.write_bytes(bytes(range(count)))
    path.chmod(mode)
    return path


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o644, 0o660, 0o601])
def test_a_key_that_others_have_access_to_is_refused(tmp_path: Path, mode: int) -> None:
    key = _key(tmp_path / "its.key", mode)
    ran = run_here(
        "build", _sources(tmp_path / "in"), tmp_path / "cache", "--jobs", "1", "--patient-key", key
    )
    assert ran.returncode == 2
    assert ran.stderr == (
        f"dicom2cache: {key}: a key that others than its owner have access to (mode {mode:04o}), "
        f"and who has it can find whom a hash stands for; run `chmod 600 {key}`\n"
    )
    assert not (tmp_path / "cache").exists()


@pytest.mark.parametrize("count", [0, 15])
def test_a_key_that_can_be_guessed_is_refused(tmp_path: Path, count: int) -> None:
    key = _key(tmp_path / "its.key", 0o600, count)
    ran = run_here(
        "build", _sources(tmp_path / "in"), tmp_path / "cache", "--jobs", "1", "--patient-key", key
    )
    assert ran.returncode == 2
    assert f"{key}: a key has at least 16 bytes, this has {count}; make one" in ran.stderr


def test_a_key_file_that_is_not_there(tmp_path: Path) -> None:
    """It is not the cache that lost something."""
    write_dicom(tmp_path / "in" / "a.dcm", pattern("a", (8, 8)))
    for flag in ("--deidentify", "--patient-key"):
        ran = run_here("build", tmp_path / "in", tmp_path / "cache", flag, tmp_path / "no.key")
        assert ran.returncode == 2
        assert f"{tmp_path / 'no.key'}: there is no such key file; give the one" in ran.stderr


@pytest.mark.parametrize("mode", [0o600, 0o400])
def test_a_key_of_the_owner_alone_is_taken(tmp_path: Path, mode: int) -> None:
    key = _key(tmp_path / "its.key", mode, 16)
    ran = run_here(
        "build", _sources(tmp_path / "in"), tmp_path / "cache", "--jobs", "1", "--patient-key", key
    )
    assert ran.returncode == 1, ran.stderr  # text.dcm


@pytest.mark.parametrize(("umask", "codec"), [(0o077, "lz4"), (0o002, "none")])
def test_a_cache_has_the_modes_of_the_umask(tmp_path: Path, umask: int, codec: str) -> None:
    """A cache that only its maker can read is of no use to a group; one that all can read leaks."""
    source, cache, home = _sources(tmp_path / "in"), tmp_path / "cache", tmp_path / "home"
    env = {"XDG_CONFIG_HOME": str(home)}
    options = ("--jobs", "2", "--codec", codec)
    assert run_cli("plan", source, cache, *options, env=env, umask=umask).returncode == 1
    seen = _check(cache, umask)
    assert {"plan.json", "files.arrow", "frames.arrow"} <= seen
    assert run_cli("convert", cache, "--jobs", "2", env=env, umask=umask).returncode == 0
    seen = _check(cache, umask)
    assert {"0.0.arrow", "c.0.0.0"} <= seen
    assert run_cli("commit", cache, env=env, umask=umask).returncode == 1
    assert {"zarr.json", "0.parquet", "c.0.0.0"} <= _check(cache, umask)
    (key,) = home.rglob("*.key")
    assert key.stat().st_mode & 0o777 == 0o600


def _check(cache: Path, umask: int) -> set[str]:
    """Names of all files of a cache, whose modes are those of the umask."""
    for path in (cache, *cache.rglob("*")):
        whole = 0o777 if path.is_dir() else 0o666
        assert path.stat().st_mode & 0o777 == whole & ~umask, path
    return {path.name for path in cache.rglob("*")}
