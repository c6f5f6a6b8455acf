"""Kills of a removal and of its purge, before each call that makes something durable."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from tests.crash.world import World
from tests.support.caches import command
from tests.support.dicom_files import pattern, uid, write_dicom

_STEPS = 120
"""about as many as both have"""


def removals(world: World, count: int) -> Iterator[str]:
    """What was wrong after each of about `count` kills, "" where nothing was."""
    source, cache = world.folder / "patients", world.folder / "of patients"
    for k in range(8):
        name = "Anna" if k < 3 else "Bert"
        write_dicom(source / f"{k}.dcm", pattern(f"{k}", (64, 64)), PatientID=name,
                    SeriesInstanceUID=uid(name), InstanceNumber=k)  # fmt: skip
    env = {**os.environ, "XDG_CONFIG_HOME": str(world.folder / "config")}
    here = Path(__file__).parents[2]
    subprocess.run(
        command("build", source, cache, "--jobs", "1"),
        env=env,
        check=True,
        cwd=here,
        stdout=subprocess.DEVNULL,
    )
    for what in ("remove", "purge"):
        folder = world.folder / what
        folder.mkdir()
        stride = max(1, _STEPS // count)
        ran = subprocess.run(
            [sys.executable, "-m", "tests.support.kill_remove", what, "Anna", cache, folder, "0",
             str(stride)],
            env=env, cwd=here, check=True, capture_output=True, text=True,
        )  # fmt: skip
        trees = set()
        for line in ran.stdout.splitlines():
            number, name, problems, has, status, found = json.loads(line)
            trees.add(json.dumps(found))
            right = has in ([0, 8], [1, 5]) and len(trees) == 1
            where = f"{what}, killed before step {number}, {name}"
            yield "" if right and not problems and not status else f"{where}: {problems} {has}"
        subprocess.run(
            command("remove", cache, "--patient-id", "Anna"),
            env=env,
            check=True,
            stdout=subprocess.DEVNULL,
        )
