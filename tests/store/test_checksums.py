"""CRC-32C where google-crc32c has no compiled part: the same cache, and a word about it."""

from __future__ import annotations

import os
import subprocess
import sys
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
    said = [
        subprocess.run(
            [sys.executable, "-c", _READ, tmp_path / name],
            env={**os.environ, **env},
            capture_output=True,
            text=True,
            check=True,
        )
        for name, env in (("fast", {}), ("slow", with_fault("no-crc32c")))
    ]
    assert said[0].stdout == said[1].stdout
    assert [ran.stderr for ran in said] == ["", ""]


_READ = """
import sys
import numpy as np
from trainer_adapter import open_cache
from trainer_adapter.loading.states import digest_of
print(np.asarray(open_cache(sys.argv[1], check="always")[0]).sum(), digest_of(np.arange(1000)))
"""
