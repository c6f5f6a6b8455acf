"""FrameDataset in a stock DataLoader, labels, and the pool of batch buffers."""

from __future__ import annotations

import gc
import pickle
import warnings
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from torch.utils.data import DataLoader

from tests.support.caches import built
from tests.support.dicom_files import pattern, write_dicom
from trainer_adapter import (
    FrameDataset,
    GroupedBatchSampler,
    LabelError,
    MixedShapesError,
    Sample,
    WorkersWarning,
    open_cache,
)
from trainer_adapter.batch.pool import BufferPool
from trainer_adapter.order.ranks import distributed_rank

BODY = {k: "CHEST" if k % 3 else "HEAD" for k in range(10)}


@pytest.fixture(scope="module")
def cache_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Ten 32x48 images, two heads to three chests; the file of image k is called k."""
    folder = tmp_path_factory.mktemp("labelled")
    for k, body in BODY.items():
        write_dicom(
            folder / "in" / f"{k}.dcm", pattern(str(k), (32, 48), top=30000), InstanceNumber=k,
            BodyPartExamined=body,
        )  # fmt: skip
    return built(folder / "in", folder / "cache")


def expected(k: int) -> np.ndarray:
    return np.asarray(pattern(str(k), (32, 48), top=30000))


def double(image: torch.Tensor) -> torch.Tensor:
    return image.float() * 2


@pytest.mark.parametrize("context", [None, "fork", "spawn"])  # None: in this process
@pytest.mark.parametrize("transform", [None, double])
def test_every_sample_in_a_stock_loader(
    cache_path: Path, context: str | None, transform: Any
) -> None:
    dataset = FrameDataset(open_cache(cache_path), label="body_part", transform=transform)
    assert dataset.classes == ["CHEST", "HEAD"]
    loader = DataLoader(
        dataset, batch_size=4, num_workers=2 if context else 0, multiprocessing_context=context
    )
    batches = list(loader)  # all held at once: each must have its own memory
    assert [len(b.index) for b in batches] == [4, 4, 2]
    seen = {}
    for batch in batches:
        channels = () if transform is None else (1,)  # a transform has (C, H, W)
        assert batch.image.shape[1:] == (*channels, 32, 48)
        images = batch.image.reshape(-1, 32, 48)
        for pixels, c, i in zip(images, batch.label.tolist(), batch.index.tolist(), strict=True):
            seen[i] = dataset.classes[c]
            factor = 1 if transform is None else 2
            np.testing.assert_array_equal(pixels.numpy(), expected(i) * factor)
    assert seen == BODY


def test_workers_that_only_copy_are_warned_of_once(cache_path: Path) -> None:
    """In the process that loops, whatever the workers: with the remedy."""
    plain = FrameDataset(open_cache(cache_path))
    assert len(plain[0].image) == 32  # so its shard is in memory
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("default")
        for _ in range(2):
            batches = list(DataLoader(plain, batch_size=2, num_workers=2))
    assert [type(b) for b in batches] == [Sample] * 5
    # Python 3.12 and later warn of each fork where there are threads, those of libraries too.
    told = [w for w in told if w.category is not DeprecationWarning]
    assert [w.category for w in told] == [WorkersWarning]
    assert "num_workers=0, or CacheLoader" in str(told[0].message)
    useful = FrameDataset(open_cache(cache_path), transform=double)
    with warnings.catch_warnings():
        warnings.simplefilter("error", WorkersWarning)
        assert len(list(DataLoader(useful, batch_size=2, num_workers=1))) == 5
        assert len(list(DataLoader(plain, batch_size=2))) == 5


def test_a_sample_may_be_written_to(cache_path: Path) -> None:
    dataset = FrameDataset(open_cache(cache_path))
    sample = dataset[3]
    sample.image[:] = -1
    assert sample.label is None
    np.testing.assert_array_equal(dataset[3].image.numpy(), expected(3))
    batch = next(iter(DataLoader(dataset, batch_size=10)))
    batch.image[:] = -1
    np.testing.assert_array_equal(dataset[3].image.numpy(), expected(3))


def test_a_changed_list_is_collated_from_its_samples(cache_path: Path) -> None:
    class Reversed(FrameDataset):
        def __getitems__(self, indices: Any) -> Any:
            samples = super().__getitems__(indices)
            samples.reverse()
            return samples

    (batch,) = DataLoader(Reversed(open_cache(cache_path)), batch_size=10)
    assert batch.index.tolist() == list(range(9, -1, -1))
    np.testing.assert_array_equal(batch.image[0].numpy(), expected(9))


def test_dose_never_slips_into_training(examples_cache: Path) -> None:
    cache = open_cache(examples_cache)
    assert len(FrameDataset(cache)) == 36
    assert len(FrameDataset(cache, kind="dose")) == 15
    assert len(FrameDataset(cache, kind=None)) == 51


def test_pickles_small(cache_path: Path) -> None:
    dataset = FrameDataset(open_cache(cache_path), label="body_part")
    list(DataLoader(dataset, batch_size=4))
    data = pickle.dumps(dataset)
    assert len(data) < 4096
    np.testing.assert_array_equal(pickle.loads(data)[7].image.numpy(), expected(7))


def test_several_shapes(examples_cache: Path) -> None:
    dataset = FrameDataset(open_cache(examples_cache), label="modality")
    with pytest.raises(MixedShapesError, match="GroupedBatchSampler"):
        list(DataLoader(dataset, batch_size=36))
    sampler = GroupedBatchSampler(dataset, 8, shuffle=True, seed=1)
    first, other = ([b.index.tolist() for b in DataLoader(dataset, batch_sampler=sampler)]
                    for _ in range(2))  # fmt: skip
    assert other != first  # each is another epoch
    assert sorted(chain(*first)) == dataset.cache.indices.tolist()
    assert sorted(chain(*other)) == sorted(chain(*first))
    assert len(first) == len(sampler)
    sampler.set_epoch(0)
    assert [b.index.tolist() for b in DataLoader(dataset, batch_sampler=sampler)] == first
    whole = GroupedBatchSampler(dataset, 8, drop_last=True)
    assert [len(b) for b in whole] == [8, 8, 8]  # 31 frames of one shape, 5 shapes of one frame
    assert len(whole) == 3


def test_ranks_share_the_batches(examples_cache: Path) -> None:
    """Of both samplers each sample once, padded to as many batches for each rank."""
    dataset = FrameDataset(open_cache(examples_cache), label="modality")
    samplers = [
        GroupedBatchSampler(dataset, 8, shuffle=True, seed=1, rank=r, ranks=2) for r in (0, 1)
    ]
    first, second = ([list(chain(*sampler)) for sampler in samplers] for _ in range(2))
    assert first != second
    for shares in (first, second):
        assert len(shares[0]) == len(shares[1]) == 21  # 16 of 31 and one of each of 5 others
        assert sorted(set(chain(*shares))) == list(range(36))
    dropped = [GroupedBatchSampler(dataset, 8, rank=r, ranks=2, pad=False) for r in (0, 1)]
    found = [list(chain(*sampler)) for sampler in dropped]
    assert [len(f) for f in found] == [15, 15]  # of 31; a single frame cannot be shared
    assert not set(found[0]) & set(found[1])
    with pytest.raises(ValueError, match="rank 2 of 2; legal: from 0 to 1"):
        GroupedBatchSampler(dataset, 8, rank=2, ranks=2)


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({}, (0, 1)),
        ({"RANK": "3", "WORLD_SIZE": "8"}, (3, 8)),
        ({"SLURM_PROCID": "5", "SLURM_STEP_NUM_TASKS": "16"}, (5, 16)),
        # torchrun under srun: its processes are more than srun's tasks
        (
            {"RANK": "3", "WORLD_SIZE": "8", "SLURM_PROCID": "0", "SLURM_STEP_NUM_TASKS": "2"},
            (3, 8),
        ),
        # one process of a batch script that asks for four tasks
        ({"SLURM_PROCID": "0", "SLURM_NTASKS": "4"}, (0, 1)),
    ],
)
def test_ranks_of_the_environment(environment: dict[str, str], expected: tuple[int, int]) -> None:
    assert distributed_rank(None, None, environment) == expected


TARGETS = {"path": [f"{k}.dcm" for k in range(10)], "grade": [k * 0.5 for k in range(10)]}


@pytest.mark.parametrize("form", ["dict", "table", "csv", "parquet"])
def test_labels_of_a_table(cache_path: Path, tmp_path: Path, form: str) -> None:
    table = pa.table(TARGETS).take([9, 8, 7, 6, 5, 4, 3, 2, 1, 0])  # its order must not matter
    labels: Any = {"dict": TARGETS, "table": table}.get(form)
    if form == "csv":
        labels = tmp_path / "labels.csv"
        lines = [f"{p},{g}" for p, g in zip(TARGETS["path"], TARGETS["grade"], strict=True)]
        labels.write_text("\n".join(["path,grade", *lines]))
    elif form == "parquet":
        labels = str(tmp_path / "labels.parquet")
        pq.write_table(table, labels)
    dataset = FrameDataset(open_cache(cache_path), "grade", labels=labels, on="path")
    assert dataset.classes == []
    assert [dataset[k].label for k in range(10)] == TARGETS["grade"]
    (batch,) = DataLoader(dataset, batch_size=10)
    assert batch.label.tolist() == TARGETS["grade"]


def test_labels_that_do_not_match(cache_path: Path) -> None:
    cache = open_cache(cache_path)
    few = {"path": ["1.dcm", "4.dcm"], "grade": ["a", "b"]}
    with pytest.raises(LabelError, match=r"8 of 10 frames have no label 'grade', such as path 0"):
        FrameDataset(cache, "grade", labels=few, on="path")
    kept = FrameDataset(cache, "grade", labels=few, on="path", missing="drop")
    assert [kept[k].index for k in range(2)] == [1, 4]
    assert [kept.classes[kept[k].label] for k in range(2)] == ["a", "b"]
    twice = {"path": ["1.dcm", "1.dcm"], "grade": ["a", "b"]}
    with pytest.raises(LabelError, match=r"twice in the labels, such as 1\.dcm"):
        FrameDataset(cache, "grade", labels=twice, on="path", missing="drop")
    with pytest.raises(LabelError, match="no column 'grad'"):
        FrameDataset(cache, "grad", labels=few, on="path")
    with pytest.raises(LabelError, match="labels are text"):
        FrameDataset(cache, "windows", missing="drop")


def test_the_pool_reuses_a_buffer_only_when_nothing_holds_it() -> None:
    pool = BufferPool()

    def address(tensor: torch.Tensor) -> int:
        return tensor.data_ptr()

    first, array = pool.lease((4, 8), np.dtype(np.int16))
    place = address(first)
    del array
    second, _ = pool.lease((4, 8), np.dtype(np.int16))
    assert address(second) != place  # the first is held
    row = first[2]
    del first
    assert address(pool.lease((4, 8), np.dtype(np.int16))[0]) != place  # a row of it is held
    kept = row.numpy()
    del row
    gc.collect()
    assert address(pool.lease((4, 8), np.dtype(np.int16))[0]) != place  # its NumPy view is held
    kept_view = kept[1:]
    del kept
    assert address(pool.lease((4, 8), np.dtype(np.int16))[0]) != place  # and a view of that
    del kept_view
    free = {address(t) for t, _ in [pool.lease((4, 8), np.dtype(np.int16)) for _ in range(4)]}
    assert place in free  # now it is free


def test_the_pool_waits_for_autograd() -> None:
    pool = BufferPool()
    leased, array = pool.lease((8,), np.dtype(np.float32))
    array[:] = np.arange(8)
    del array
    weight = torch.ones(8, requires_grad=True)
    loss = (weight * leased).sum()  # backward needs the leased values
    del leased
    for _ in range(5):
        other, values = pool.lease((8,), np.dtype(np.float32))
        values[:] = -1
        del other, values
    loss.backward()
    assert weight.grad is not None
    assert weight.grad.tolist() == list(range(8))


def test_the_pool_keeps_no_more_than_it_may() -> None:
    pool = BufferPool(keep_bytes=100)
    batches = [pool.lease((50,), np.dtype(np.uint8)) for _ in range(5)]
    del batches
    assert [buffer.nbytes for buffer in pool._idle] == [50, 50]
