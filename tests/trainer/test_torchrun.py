"""The training script of examples/slurm, by torchrun on two processes of the CPU."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.support.caches import built
from tests.support.dicom_files import pattern, uid, write_dicom

_SCRIPT = Path(__file__).parents[2] / "examples" / "slurm" / "train.py"
_EPOCHS = 6


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """90 frames of two body parts."""
    folder = tmp_path_factory.mktemp("torchrun")
    for k in range(90):
        write_dicom(
            folder / "files" / f"{k:02}.dcm", pattern(f"{k}", (64, 64)),
            BodyPartExamined=("CHEST", "HEAD")[k % 2], SOPInstanceUID=uid(f"torchrun {k}"),
        )  # fmt: skip
    return built(folder / "files", folder / "cache")


def _training(cache: Path, run: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2",
         str(_SCRIPT), str(cache), str(run), "--label", "body_part", "--epochs", str(_EPOCHS),
         "--batch-size", "4", "--crop", "32"],
        env={**os.environ, "OMP_NUM_THREADS": "1"}, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        text=True,
    )  # fmt: skip


def _weights(run: Path) -> dict[str, Any]:
    state: dict[str, Any] = torch.load(run / "state.pt", weights_only=True)
    return state


def test_it_goes_on_after_sigterm_at_the_next_batch(cache: Path, tmp_path: Path) -> None:
    """The weights in the end are those of a run that was not disturbed, bit for bit."""
    whole = _training(cache, tmp_path / "whole")
    _, said = whole.communicate(timeout=200)
    assert whole.returncode == 0, said
    assert (tmp_path / "whole" / "finished").exists()

    run = tmp_path / "run"
    first = _training(cache, run)
    assert first.stdout is not None
    assert first.stdout.readline().startswith("epoch 0: loss ")
    first.send_signal(signal.SIGTERM)
    first.communicate(timeout=200)
    assert not (run / "finished").exists()
    place = _weights(run)["loader"]
    assert 1 <= place["epoch"] < _EPOCHS

    second = _training(cache, run)
    _, said = second.communicate(timeout=200)
    assert second.returncode == 0, said
    one, other = _weights(tmp_path / "whole"), _weights(run)
    assert one["loader"] == other["loader"]
    assert one["model"].keys() == other["model"].keys()
    assert all(torch.equal(one["model"][name], other["model"][name]) for name in one["model"])
