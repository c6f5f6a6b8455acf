from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.slurm.cluster import install, running
from tests.support.faults import with_fault


@pytest.fixture(scope="session")
def slurm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """The environment in which sbatch finds two nodes; converting takes half a second a shard."""
    why = install()
    assert why is None, why
    if os.geteuid():
        pytest.fail("Slurm's daemons need root here; run `make test-slurm` as root")
    folder = Path(tmp_path_factory.mktemp("slurm"))
    with running(folder) as environment:
        yield {**environment, **with_fault("slow-publish")}
