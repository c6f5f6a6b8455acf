"""CacheLoader: every frame once, batches that stay true, memory, resume, columns, ranks."""

from __future__ import annotations

import gc
import json
import os
import pickle
import shutil
import subprocess
import sys
import threading
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch

from tests.support.caches import built
from tests.support.dicom_files import pattern, uid, write_dicom
from trainer_adapter import CacheLoader, DamagedError, LabelError, open_cache
from trainer_adapter.format.root import Root
from trainer_adapter.loading.crew import Crew

N = 150


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """150 frames of 16 x 24, one file and patient for each ten; frame k is `frame(k)`."""
    folder = tmp_path_factory.mktemp("frames")
    for k in range(N // 10):
        write_dicom(
            folder / "in" / f"{k:02}.dcm",
            np.stack([frame(10 * k + j) for j in range(10)]),
            PatientID=f"P{k}",
            SeriesInstanceUID=uid(f"series {k:02}"),
            BodyPartExamined="CHEST" if k % 2 else "HEAD",
            Modality="MR",
        )
    return built(folder / "in", folder / "cache")


def frame(k: int) -> np.ndarray:
    return np.asarray(pattern(str(k), (16, 24), top=30000))


@pytest.fixture(scope="module")
def frame_of(path: Path) -> dict[int, np.ndarray]:
    """{sample index: pixels}, by the paths in frames/: the order of the rows is by UID."""
    table = open_cache(path).frames
    names, frames = table["path"].to_pylist(), table["frame"].to_pylist()
    return {
        i: frame(10 * int(name[:2]) + f)
        for i, (name, f) in enumerate(zip(names, frames, strict=True))
    }


def test_what_all_loaders_ask_for_is_read_at_once(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a million frames each table that is opened again takes time, and memory for a while."""
    asked: list[tuple[str, Any]] = []
    read = Root.read

    def noted(root: Root, kind: str, columns: Any = None) -> pa.Table:
        asked.append((kind, columns))
        return read(root, kind, columns)

    cache = open_cache(path)
    monkeypatch.setattr(Root, "read", noted)
    for _ in range(2):
        next(iter(CacheLoader(cache, 16, shuffle=True, threads=0)))
    tables = [columns for kind, columns in asked if kind == "frames"]
    assert tables == [["kind", "unit"], ["crc32c"]]


def order_of(loader: CacheLoader) -> list[int]:
    return [i for batch in loader for i in batch.index.tolist()]


@pytest.mark.parametrize("threads", [0, 1, 3])
@pytest.mark.parametrize("read", ["auto", "map", "advise", "pread"])
@pytest.mark.parametrize("shuffle", [False, True, "windowed"])
def test_every_frame_once_and_true(
    path: Path, frame_of: dict[int, np.ndarray], threads: int, read: str, shuffle: bool | str
) -> None:
    loader = CacheLoader(open_cache(path), 16, shuffle=shuffle, threads=threads, read=read, seed=3)
    batches = list(loader)  # all held at once
    assert [len(b.index) for b in batches] == [16] * 9 + [6]
    assert len(loader) == 10
    assert len({b.image.data_ptr() for b in batches}) == 10
    for batch in batches:
        assert batch.image.dtype == torch.uint16
        assert batch.label is None
        for pixels, i in zip(batch.image.numpy(), batch.index.tolist(), strict=True):
            np.testing.assert_array_equal(pixels, frame_of[i])
    seen = [i for b in batches for i in b.index.tolist()]
    assert sorted(seen) == list(range(N))
    assert (seen == list(range(N))) is (shuffle is False)


def test_the_order_is_that_of_seed_and_epoch_alone(path: Path) -> None:
    cache = open_cache(path)
    loader = CacheLoader(cache, 16, shuffle=True, seed=1)
    epochs = [order_of(loader) for _ in range(3)]
    assert len({tuple(e) for e in epochs}) == 3
    for threads in (0, 1, 4):
        other = CacheLoader(cache, 16, shuffle=True, seed=1, threads=threads, prefetch=threads + 1)
        other.set_epoch(2)
        assert order_of(other) == epochs[2]
    assert order_of(CacheLoader(cache, 16, shuffle=True, seed=2)) != epochs[0]


def test_two_iterators_at_once(path: Path, frame_of: dict[int, np.ndarray]) -> None:
    loader = CacheLoader(open_cache(path), 16, shuffle=True)
    assert len(loader) > 1
    for a, b in zip(loader, loader, strict=True):
        assert (a.epoch, b.epoch) == (0, 1)
        for batch in (a, b):
            np.testing.assert_array_equal(batch.image[0].numpy(), frame_of[int(batch.index[0])])


def test_an_iterator_that_is_left_early_ends_its_threads(path: Path) -> None:
    before = set(threading.enumerate())  # some of them may end meanwhile
    loader = CacheLoader(open_cache(path), 4, threads=3)
    for _ in loader:
        break
    gc.collect()
    assert not set(threading.enumerate()) - before


def test_threads_stay_for_the_next_epoch_and_end_with_their_loader(path: Path) -> None:
    before = set(threading.enumerate())
    loader = CacheLoader(open_cache(path), 4, threads=2)
    for _ in loader:
        pass
    first = set(threading.enumerate()) - before
    for _ in loader:
        pass
    assert first
    assert first <= set(threading.enumerate())
    del loader, _
    assert not set(threading.enumerate()) - before


def test_the_loop_makes_a_batch_rather_than_wait_for_one() -> None:
    """In order, and what nobody has begun with only; an error comes when its batch is due."""
    crew, begun, may_end = Crew(2), threading.Event(), threading.Event()

    def first() -> int:
        begun.set()
        assert may_end.wait(30)
        return threading.get_ident()

    def second() -> int:
        may_end.set()  # else the first would never end
        return threading.get_ident()

    def failing() -> int:
        raise OSError("gone")

    def interrupted() -> int:
        raise KeyboardInterrupt

    coming = [crew.send(makes) for makes in (first, second)]
    assert begun.wait(30)
    crew.help(coming)
    results = [one.result() for one in coming]
    assert results[1] == threading.get_ident() != results[0]
    begun.clear()
    may_end.clear()
    coming = [crew.send(makes) for makes in (first, failing, interrupted)]
    assert begun.wait(30)
    with pytest.raises(KeyboardInterrupt):
        crew.help(coming)
    may_end.set()
    assert coming[0].result() != threading.get_ident()
    with pytest.raises(OSError, match="gone"):
        coming[1].result()


def test_what_autograd_keeps_is_not_overwritten(tmp_path: Path) -> None:
    for k in range(40):
        write_dicom(tmp_path / "in" / f"{k:02}.dcm", np.full((8, 8), k, np.uint8), Modality="OT")
    cache = open_cache(built(tmp_path / "in", tmp_path / "cache", "--dtype", "float32"))
    names = [int(p[:2]) for p in cache.column("path").to_pylist()]
    weight = torch.ones(8, 8, requires_grad=True)
    losses = []
    for batch in CacheLoader(cache, 4):  # only autograd holds the images until the end
        losses.append((weight * batch.image).sum())
        del batch
    torch.stack(losses).sum().backward()
    assert weight.grad is not None
    assert weight.grad.tolist() == [[float(sum(names))] * 8] * 8


def test_a_view_a_numpy_array_and_a_kept_row_hold_their_batch(
    path: Path, frame_of: dict[int, np.ndarray]
) -> None:
    kept = []
    for epoch in range(3):
        for batch in CacheLoader(open_cache(path), 16, shuffle=True, seed=epoch):
            kept.append((int(batch.index[3]), batch.image[3, 4:8]))
            kept.append((int(batch.index[5]), batch.image.numpy()[5, 4:8]))
    for i, rows in kept:
        np.testing.assert_array_equal(np.asarray(rows), frame_of[i][4:8])


def test_memory_is_used_again_and_capped(path: Path) -> None:
    loader = CacheLoader(open_cache(path), 10, threads=2, prefetch=3)
    places = Counter()
    for _ in range(20):
        for batch in loader:
            places[batch.image.data_ptr()] += 1
    assert sum(places.values()) == 300
    assert len(places) <= 3 + 2 + 2  # ahead, in work, in the hands of the loop
    size = 10 * 16 * 24 * 2
    held = list(loader)
    assert len({b.image.data_ptr() for b in held}) == 15  # fresh ones beyond the pool
    del held, batch
    gc.collect()
    assert sum(b.nbytes for b in loader._pool._idle) <= (3 + 2) * size


@pytest.mark.parametrize("threads", [0, 2])
@pytest.mark.parametrize("shuffle", [True, "windowed", False])
def test_resume_in_the_middle_of_an_epoch(path: Path, threads: int, shuffle: bool | str) -> None:
    def fresh() -> CacheLoader:
        return CacheLoader(open_cache(path), 16, shuffle=shuffle, seed=4, threads=threads)

    whole = fresh()
    epochs = [[b.index.tolist() for b in whole] for _ in range(3)]
    first = fresh()
    order_of(first)
    part = iter(first)
    seen = [next(part).index.tolist() for _ in range(4)]
    state = json.loads(json.dumps(first.state_dict()))  # plain numbers and texts
    resumed = fresh()
    resumed.load_state_dict(state)
    resumed.set_epoch(1)  # as a trainer does before it goes on
    assert resumed.state_dict() == state
    rest = [b.index.tolist() for b in resumed]
    assert seen + rest == epochs[1]
    assert [b.index.tolist() for b in resumed] == epochs[2]


def test_the_state_at_the_end_of_an_epoch_is_the_next(path: Path) -> None:
    loader = CacheLoader(open_cache(path), 16, shuffle=True)
    order_of(loader)
    state = loader.state_dict()
    assert (state["epoch"], state["batch"]) == (1, 0)
    assert len(order_of(loader)) == N


@pytest.mark.parametrize(
    "other",
    [
        {"batch_size": 8},
        {"seed": 1},
        {"shuffle": False},
        {"rank": 0, "ranks": 2},
        {"drop_last": True},
        {"weights": np.arange(N), "shuffle": False},
    ],
)
def test_a_state_of_another_order_is_refused(path: Path, other: dict[str, object]) -> None:
    given = {"batch_size": 16, "shuffle": True}
    state = CacheLoader(open_cache(path), **given).state_dict()
    with pytest.raises(ValueError, match="another order"):
        CacheLoader(open_cache(path), **{**given, **other}).load_state_dict(state)
    fewer = CacheLoader(open_cache(path)[::-1], **given)
    with pytest.raises(ValueError, match="frames"):
        fewer.load_state_dict(state)


def test_labels_columns_and_kinds(path: Path) -> None:
    cache = open_cache(path)
    columns = ("path", "frame", "slope", "position", "b_value")
    loader = CacheLoader(cache, 7, shuffle=True, label="body_part", columns=columns)
    assert loader.classes == ["CHEST", "HEAD"]
    names = cache.column("path").to_pylist()
    for batch in loader:
        index = batch.index.tolist()
        assert batch.columns["path"] == [names[i] for i in index]
        assert batch.columns["frame"].dtype == torch.int32
        assert batch.columns["slope"].tolist() == [1.0] * len(index)
        assert batch.columns["position"] == [None] * len(index)
        assert batch.columns["b_value"].isnan().all()
        heads = [int(names[i][:2]) % 2 == 0 for i in index]
        assert batch.label.tolist() == [int(h) for h in heads]
    scores = pa.table({"path": names, "score": [float(n[:2]) for n in names]})
    table = scores.group_by("path").aggregate([("score", "mean")])
    table = table.rename_columns(["path", "score"])
    for batch in CacheLoader(cache, label="score", labels=table, on="path"):
        assert batch.label.tolist() == [float(names[i][:2]) for i in batch.index.tolist()]
    with pytest.raises(LabelError, match="no label 'score'"):
        CacheLoader(cache, label="score", labels=table.slice(1), on="path")
    few = CacheLoader(cache, label="score", labels=table.slice(1), on="path", missing="drop")
    assert len(order_of(few)) == N - 10
    assert len(CacheLoader(cache, kind="dose")) == 0
    assert list(CacheLoader(cache, kind="dose")) == []
    with pytest.raises(KeyError, match="no column pancreas"):
        CacheLoader(cache, columns=["pancreas"])


def test_weights_go_with_the_frames_that_are_left(path: Path) -> None:
    cache = open_cache(path)
    names = cache.column("path").to_pylist()
    weights = np.array([1.0 if n.startswith("03") else 0.0 for n in names])
    weights[0] = 0.0
    loader = CacheLoader(cache, 16, weights=weights, samples=64, label="body_part")
    drawn = order_of(loader)
    assert len(drawn) == 64
    assert {names[i][:2] for i in drawn} == {"03"}


def test_patients_of_a_batch_are_counted(path: Path) -> None:
    cache = open_cache(path)
    assert CacheLoader(cache, 10).patients_per_batch() == 1.0  # each patient has ten frames
    assert CacheLoader(cache, 10, shuffle=True).patients_per_batch() > 6
    assert CacheLoader(cache, N).patients_per_batch() == 15.0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"shuffle": "shards"}, "windowed"),
        ({"batch_size": 0}, "batch_size 0"),
        ({"read": "fast"}, "auto, map, advise, pread"),
        ({"bucket": "shape"}, "size, array"),
        ({"rank": 1}, "give both"),
        ({"rank": 2, "ranks": 2}, "legal: from 0 to 1"),
        ({"weights": [1.0]}, "for 150 frames"),
        ({"weights": np.ones(N), "shuffle": True}, "leave shuffle off"),
        ({"samples": 5}, "drawn by weights"),
        ({"weights": np.ones(N), "samples": 0}, "samples 0"),
        ({"columns": "path"}, "a list of names"),
        ({"shuffle": "windowed", "window": 0}, "window 0"),
        ({"crop": (0, 5)}, "from 1 x 1"),
        ({"threads": -1}, "threads -1"),
        ({"prefetch": 0}, "prefetch 0"),
    ],
)
def test_nonsense_is_refused(path: Path, options: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        CacheLoader(open_cache(path), **options)


@pytest.mark.parametrize("threads", [0, 2])
@pytest.mark.parametrize("read", ["auto", "pread"])
def test_a_damaged_shard_is_an_error_in_the_loop(
    ct_series_cache: Path, tmp_path: Path, threads: int, read: str
) -> None:
    cache = Path(shutil.copytree(ct_series_cache, tmp_path / "cache"))  # six shards of two frames
    shard = cache / "int16_512x512" / "c.2.0.0"
    shard.write_bytes(shard.read_bytes()[:-1])
    batches = iter(CacheLoader(open_cache(cache), 2, threads=threads, read=read))
    assert len([next(batches), next(batches)]) == 2
    with pytest.raises(DamagedError, match=r"c\.2\.0\.0"):
        next(batches)


def test_an_iterator_does_not_outlive_a_fork(path: Path) -> None:
    code = f"""
import os
import pickle
from trainer_adapter import CacheLoader, open_cache
loader = CacheLoader(open_cache({str(path)!r}), 4, threads=2)
batches = iter(loader)
first = next(batches)
if os.fork() == 0:
    try:
        next(batches)
    except RuntimeError as e:
        ok = "does not outlive a fork" in str(e)
    again = [i for b in loader for i in b.index.tolist()]
    os._exit(0 if ok and sorted(again) == list(range({N})) else 1)
_, status = os.wait()
assert status == 0, status
assert len([first, *batches]) == {-(-N // 4)}
"""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr


RANKS = """
import json, sys
import torch.distributed as dist
from trainer_adapter import CacheLoader, open_cache
if sys.argv[2] == "group":
    dist.init_process_group("gloo", init_method="file://" + sys.argv[3],
                            rank=int(sys.argv[4]), world_size=2)
found = {}
for pad in (True, False):
    loader = CacheLoader(open_cache(sys.argv[1]), 16, shuffle=True, seed=8, pad=pad)
    found[str(pad)] = [[b.index.tolist() for b in loader] for _ in range(2)]
if sys.argv[2] == "group":
    gathered = [None, None]
    dist.all_gather_object(gathered, found)
    assert gathered[dist.get_rank()] == found
    dist.barrier()
    dist.destroy_process_group()
print(json.dumps(found))
"""


@pytest.mark.parametrize("how", ["group", "environment"])
def test_ranks_of_torch_distributed(path: Path, tmp_path: Path, how: str) -> None:
    environment = {k: v for k, v in os.environ.items() if k not in ("RANK", "WORLD_SIZE")}
    if how == "environment":
        environment["WORLD_SIZE"] = "2"
    ran = []
    for rank in range(2):
        own = {**environment, "GLOO_SOCKET_IFNAME": "lo"}
        if how == "environment":
            own["RANK"] = str(rank)
        command = [sys.executable, "-c", RANKS, path, how, tmp_path / "meet", str(rank)]
        ran.append(
            subprocess.Popen(command, env=own, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        )
    said = [process.communicate(timeout=120) for process in ran]
    assert [p.returncode for p in ran] == [0, 0], [e.decode() for _, e in said]
    ranks = [json.loads(out.splitlines()[-1]) for out, _ in said]
    for pad in ("True", "False"):
        for epoch in range(2):
            shares = [ranks[r][pad][epoch] for r in range(2)]
            assert [len(b) for b in shares[0]] == [len(b) for b in shares[1]]
            flat = [[i for batch in share for i in batch] for share in shares]
            assert sorted(flat[0] + flat[1]) == list(range(N))  # 150 = 2 * 75
        assert ranks[0][pad][0] != ranks[0][pad][1]


class FailsOnce:
    """A way to read that fails at one batch, as a disk may."""

    def __init__(self, reading: Any, at: int) -> None:
        self.reading, self.left = reading, at

    def whole(self, out: np.ndarray, spots: Any) -> None:
        self.left -= 1
        if self.left == 0:
            raise OSError(5, "Input/output error")
        self.reading.whole(out, spots)


@pytest.mark.parametrize("threads", [0, 1])
def test_a_batch_that_failed_is_not_counted_as_done(path: Path, threads: int) -> None:
    loader = CacheLoader(open_cache(path), 16, shuffle=True, threads=threads)
    loader._reading = FailsOnce(loader._reading, 3)  # type: ignore[assignment]
    batches = iter(loader)
    seen = [i for _ in range(2) for i in next(batches).index.tolist()]
    with pytest.raises(OSError, match="Input/output"):
        next(batches)
    resumed = CacheLoader(open_cache(path), 16, shuffle=True)
    resumed.load_state_dict(loader.state_dict())
    assert sorted(seen + order_of(resumed)) == list(range(N))


def test_numbers_of_numpy(path: Path) -> None:
    plain = CacheLoader(open_cache(path), 16, shuffle=True, seed=3, rank=0, ranks=2, crop=8)
    given = CacheLoader(
        open_cache(path), np.int64(16), shuffle=np.bool_(True), seed=np.int32(3),
        rank=np.int64(0), ranks=np.int64(2), crop=np.int64(8),
    )  # fmt: skip
    for loader in (plain, given):
        loader.set_epoch(np.int64(2) if loader is given else 2)
    assert order_of(given) == order_of(plain)
    given.load_state_dict(json.loads(json.dumps(given.state_dict())))


@pytest.mark.parametrize("read", ["auto", "map", "advise", "pread"])
def test_a_loader_travels_to_another_process(path: Path, read: str) -> None:
    loader = CacheLoader(open_cache(path), 16, shuffle=True, seed=2, read=read, label="body_part")
    again = pickle.loads(pickle.dumps(loader))
    assert len(loader) > 1
    for a, b in zip(loader, again, strict=True):
        assert torch.equal(a.image, b.image)
        assert torch.equal(a.label, b.label)


def test_a_null_key_is_no_key(path: Path) -> None:
    cache = open_cache(path)  # no frame has a b-value
    labels = pa.table({"b_value": pa.array([None, 1.0], pa.float64()), "y": [11, 12]})
    with pytest.raises(LabelError, match="150 of 150 frames have no label"):
        CacheLoader(cache, label="y", labels=labels, on="b_value")


@pytest.mark.parametrize("read", ["map", "pread"])
def test_a_cache_that_is_built_anew_under_a_loader(tmp_path: Path, read: str) -> None:
    def build(text: str) -> Path:
        shutil.rmtree(tmp_path / "in", ignore_errors=True)
        for k in range(2):
            write_dicom(tmp_path / "in" / f"{k}", pattern(f"{text}{k}", (8, 8)), Modality="OT")
        return built(tmp_path / "in", tmp_path / "cache", "--overwrite")

    cache = open_cache(build("old"))
    build("new")  # shards of the same name, size and index
    with pytest.raises(DamagedError, match="another cache was built here"):
        next(iter(CacheLoader(cache, 2, read=read)))
    (batch,) = CacheLoader(open_cache(tmp_path / "cache"), 2, read=read)
    np.testing.assert_array_equal(batch.image[0].numpy(), pattern("new0", (8, 8)))


def test_frames_of_rare_sizes_are_drawn_by_their_weight(tmp_path: Path) -> None:
    for k in range(21):
        size = (8, 8) if k else (9, 9)
        write_dicom(tmp_path / "in" / f"{k:02}", pattern(str(k), size), Modality="OT")
    cache = open_cache(built(tmp_path / "in", tmp_path / "cache"))
    for samples in (10, 11):
        loader = CacheLoader(cache, 4, weights=np.ones(21), samples=samples, threads=0)
        drawn: Counter[int] = Counter()
        for _ in range(1500):
            drawn.update(order_of(loader))
        assert sum(drawn.values()) == 1500 * samples
        expected = 1500 * samples / 21
        # A batch is of one size: its 4 (or fewer) samples come together.
        assert all(abs(n - expected) < 5 * (4 * expected) ** 0.5 for n in drawn.values())
        assert len(drawn) == 21
