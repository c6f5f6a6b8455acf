"""CRC-32C where google-crc32c has no compiled part: the same cache, and a word about it."""

from __future__ import annotations

from pathlib import Path

from tests.support.caches import run_cli, tree
from tests.support.dicom_files import real
from tests.support.faults import with_fault


def test_without_a_compiled_part_it_is_slow_and_said_once(
    tmp_path: Path, config_home: Path
) -> None:
    folder = tmp_path / "source"
    folder.mkdir()
    (folder / "ct.dcm").symlink_to(real("CT_small.dcm"))
    made = {}
    for name, env in (("fast", {}), ("slow", with_fault("no-crc32c"))):
        ran = run_cli("build", folder, tmp_path / name, env=env)
        assert ran.returncode == 0, ran.stderr
        made[name] = tree(tmp_path / name)
        assert ran.stderr.count("google-crc32c") == (name == "slow"), ran.stderr
    assert made["fast"] == made["slow"]
