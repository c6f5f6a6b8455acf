"""Batches of a stock DataLoader's workers: in shared memory that is used again, and stays true."""

from __future__ import annotations

import gc
import os
import signal
import subprocess
import sys
import time
from collections import deque
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, default_collate

from tests.support.caches import built
from tests.support.dicom_files import pattern, write_dicom
from trainer_adapter import FrameDataset, Sample, open_cache
from trainer_adapter.batch.shared import arrivals

N = 40
pytestmark = pytest.mark.filterwarnings("ignore::trainer_adapter.WorkersWarning")


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> FrameDataset:
    """40 frames of 16 x 24 in one file; frame k is `pattern(str(k))`."""
    folder = tmp_path_factory.mktemp("workers")
    frames = np.stack([pattern(str(k), (16, 24), top=30000) for k in range(N)])
    write_dicom(folder / "in" / "0.dcm", frames, Modality="MR")
    return FrameDataset(open_cache(built(folder / "in", folder / "cache")), columns=["frame"])


def hold(batch: Sample) -> None:
    """That a batch has the frames that it says."""
    assert batch.columns["frame"].tolist() == batch.index.tolist()
    for image, k in zip(batch.image.numpy(), batch.index.tolist(), strict=True):
        np.testing.assert_array_equal(image, pattern(str(k), (16, 24), top=30000))


@pytest.mark.parametrize("context", ["fork", "spawn"])
def test_memory_is_used_again_and_never_while_it_is_held(
    dataset: FrameDataset, context: str
) -> None:
    """A row that is kept holds its batch, over epochs of workers that stay."""
    loader = DataLoader(
        dataset, 4, shuffle=True, num_workers=1, persistent_workers=True, prefetch_factor=3,
        multiprocessing_context=context,
    )  # fmt: skip
    kept: list[tuple[torch.Tensor, int]] = []
    places = set()
    for epoch in range(4):
        for number, batch in enumerate(loader):
            hold(batch)
            places.add(batch.image.data_ptr())
            if epoch < 2 and number == 5:
                kept.append((batch.image[1], int(batch.index[1])))
    # 3 on their way, 1 in the loop, 1 that is being made, 2 that are kept.
    assert len(places) <= 7
    for row, k in kept:
        np.testing.assert_array_equal(row.numpy(), pattern(str(k), (16, 24), top=30000))


def test_more_batches_than_a_worker_keeps_memory_for(dataset: FrameDataset) -> None:
    batches = list(DataLoader(dataset, 2, num_workers=1))
    assert len({batch.image.data_ptr() for batch in batches}) == N // 2
    for batch in batches:
        hold(batch)


def test_an_epoch_that_is_left_early(dataset: FrameDataset) -> None:
    loader = DataLoader(dataset, 2, num_workers=2, persistent_workers=True, prefetch_factor=4)
    places = set()
    for _ in range(8):
        for number, batch in enumerate(loader):
            hold(batch)
            places.add(batch.image.data_ptr())
            if number == 2:
                break
    # What was on its way came back each time: 2 workers, at most 4 ahead, and one in the loop each.
    assert len(places) <= 12


def killed(path: str) -> None:
    """In a process of its own: torch raises by a signal, at any place, that a worker ended."""
    loader = iter(DataLoader(FrameDataset(open_cache(path), columns=["frame"]), 2, num_workers=1))
    kept = [next(loader), next(loader)]
    (worker,) = loader._workers  # type: ignore[union-attr]
    said: Exception | None = None
    try:
        os.kill(worker.pid, signal.SIGKILL)
        deque(map(hold, loader), 0)
    except (RuntimeError, EOFError, ConnectionError) as error:  # others where the pipe ends first
        said = error
    worker.join()
    assert worker.exitcode == -signal.SIGKILL
    words = "killed by signal" in str(said) or "exited unexpectedly" in str(said)
    assert words or isinstance(said, EOFError | ConnectionError)
    deque(map(hold, kept), 0)
    print("true")
    sys.stdout.flush()
    os._exit(0)


def test_a_worker_that_is_killed_costs_no_batch_that_came(dataset: FrameDataset) -> None:
    code = f"from tests.trainer.test_workers import killed; killed({str(dataset.cache.path)!r})"
    ran = subprocess.run([sys.executable, "-W", "ignore", "-c", code], capture_output=True)
    assert ran.stdout.endswith(b"true\n"), ran.stderr.decode()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="Windows has none")
def test_a_fork_keeps_the_batch_that_it_saw(dataset: FrameDataset) -> None:
    """The parent lets it go, and its workers go on: the child has the same pixels for good."""
    loader = DataLoader(dataset, 4, shuffle=True, num_workers=1, persistent_workers=True)
    batch = next(iter(loader))
    ends, done = os.pipe()
    child = os.fork()
    if not child:
        try:
            os.close(done)
            os.read(ends, 1)  # until the parent closes it
            hold(batch)
            os._exit(0)
        finally:
            os._exit(1)
    os.close(ends)
    del batch
    gc.collect()
    for _ in range(3):
        for batch in loader:
            hold(batch)
    os.close(done)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def test_pieces_of_workers_that_ended_are_let_go(dataset: FrameDataset) -> None:
    for _ in range(3):
        for batch in DataLoader(dataset, 4, num_workers=2):
            hold(batch)
    assert len({worker for worker, _ in arrivals._known}) <= 2


def twice(samples: Sequence[Sample]) -> tuple[Any, Any]:
    batch = default_collate(samples)
    return batch, batch


def stacked(samples: Sequence[Sample]) -> tuple[Any, Any]:
    whole = default_collate(samples)
    return Sample({**whole, "image": whole.image[:2]}), Sample({**whole, "image": whole.image})


@pytest.mark.parametrize("collate", [twice, stacked])
def test_what_else_a_worker_may_make_of_a_batch(dataset: FrameDataset, collate: Any) -> None:
    """The same batch sent by two names; a part of it, and all of it in another."""
    for one, other in DataLoader(dataset, 4, num_workers=1, collate_fn=collate):
        hold(other)
        np.testing.assert_array_equal(one.image, other.image[: len(one.image)])


def test_a_batch_that_is_late_in_its_worker(dataset: FrameDataset) -> None:
    """A slow loop, with all pieces on their way: none is written to meanwhile."""
    loader = DataLoader(dataset, 4, num_workers=2, prefetch_factor=8)
    for batch in loader:
        time.sleep(0.02)
        hold(batch)
