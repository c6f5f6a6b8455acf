"""Caches of several generations with part-filled shards, made by hand: read in every way."""

from __future__ import annotations

import json
import pickle
import shutil
import tempfile
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import google_crc32c
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from torch.utils.data import DataLoader

from dicom2cache import verify
from tests.support import hand_made
from trainer_adapter import (
    Cache,
    CacheLoader,
    DamagedError,
    FrameDataset,
    GroupedBatchSampler,
    open_cache,
)
from trainer_adapter.errors import NotServedError
from trainer_adapter.lightly.paths import Names
from trainer_adapter.reading.choose import reading_of
from trainer_adapter.reading.spots import Corners
from trainer_adapter.stage import staged

WAYS = ("map", "advise", "pread", "auto")
CODECS = ("none", "lz4", "zstd")
FRAMES = [("grey", r, 6, 5) for r in (0, 1, 3, 4, 5)] + [("colour", r, 4, 7) for r in (0, 1)]
FRAMES += [("grey", r, 6, 5) for r in (8, 9, 10, 12)] + [("colour", 3, 4, 7), ("colour", 5, 1, 2)]
FRAMES += [("grey", r, 3, 4) for r in (16, 17)]
"""(array, row, height, width) by sample index"""


@pytest.fixture(scope="module", params=CODECS)
def made(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Path:
    """The cache of three generations, of one codec."""
    folder = tmp_path_factory.mktemp("generations") / "cache"
    assert len(hand_made.write(folder, request.param)) == len(FRAMES) == 15
    return folder


@pytest.fixture
def cache(made: Path, tmp_path: Path) -> Path:
    """A copy that may be damaged."""
    return Path(shutil.copytree(made, tmp_path / "cache"))


def pixels(sample: int) -> NDArray[Any]:
    return hand_made.pixels(*FRAMES[sample])


def every_way(cache: Cache, frames: list[int] | None = None) -> int:
    """Hold all frames to what was written, by each way to read; how many comparisons."""
    compared = 0
    for k in range(len(cache)) if frames is None else frames:
        np.testing.assert_array_equal(cache[k], pixels(int(cache.indices[k])))
        assert cache[k].dtype == pixels(int(cache.indices[k])).dtype
        assert not cache[k].flags.writeable
        compared += 1
    for how in WAYS:
        reading = reading_of(cache.core.store, how, 1 << 40)
        for members in cache.groups().values():
            wanted = members[::-1] if frames is None else np.intersect1d(members, frames)
            for k, got in zip(wanted, cache.gather(wanted, None, reading), strict=True):
                np.testing.assert_array_equal(got, pixels(int(cache.indices[k])))
                compared += 1
    return compared


def test_every_frame_in_every_way(made: Path) -> None:
    assert every_way(open_cache(made)) == 15 * (1 + len(WAYS))


@st.composite
def layouts(draw: st.DrawFn) -> list[list[tuple[str, int, int, list[tuple[int, int] | None]]]]:
    """Shards of one to four generations: any may be part-filled, hold nothing, or be missing."""
    following, stacks, generations = {"grey": 0, "colour": 0}, 0, []
    for generation in range(draw(st.integers(1, 4))):
        shards = []
        for array, (_, slot, per_shard) in hand_made.ARRAYS.items():
            for _ in range(draw(st.integers(0 if generation else 1, 2))):
                number = following[array] + draw(st.integers(0, 1))  # a shard is not there
                following[array], stacks = number + 1, stacks + 1
                corner = st.tuples(st.integers(1, slot[0]), st.integers(1, slot[1]))
                sizes = draw(st.lists(st.none() | corner, min_size=1, max_size=per_shard))
                shards.append((array, number, stacks, sizes))
        generations.append(shards)
    return generations


@settings(max_examples=40, deadline=None)
@given(layout=layouts(), codec=st.sampled_from(CODECS), order=st.randoms())
def test_any_layout(layout: Any, codec: str, order: Any) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "cache"
        frames = hand_made.write(path, codec, len(layout), layout)
        assert not verify(path)
        opened = open_cache(path)
        wanted = list(range(len(frames)))
        order.shuffle(wanted)
        for cache in (opened, staged(opened, Path(folder) / "node")):
            assert len(cache) == len(frames)
            for how in WAYS[:3]:
                reading = reading_of(cache.core.store, how, 1 << 40)
                for k in wanted:
                    np.testing.assert_array_equal(cache[k], frames[k])
                    np.testing.assert_array_equal(cache.gather([k], None, reading)[0], frames[k])
                for members in cache.groups().values():
                    for k, got in zip(members, cache.gather(members, None, reading), strict=True):
                        np.testing.assert_array_equal(got, frames[k])


def test_rows_are_where_the_page_says(made: Path) -> None:
    frames = open_cache(made).frames
    assert frames["row"].to_pylist() == hand_made.ROWS
    assert frames["array"].to_pylist() == [0] * 5 + [1] * 2 + [0] * 4 + [1] * 2 + [0] * 2


@pytest.mark.parametrize("how", WAYS)
def test_crops(made: Path, how: str) -> None:
    cache = open_cache(made)
    reading = reading_of(cache.core.store, how, 1)
    grey = [k for k in range(15) if FRAMES[k][0] == "grey"]
    out = np.empty((len(grey), 3, 3), np.int16)
    places = np.full(len(grey), 1), np.full(len(grey), 2)
    cache.gather_crops(grey, Corners(*places, 9), out, reading)
    for k, got in zip(grey, out, strict=True):
        expected = np.full((3, 3), 9, np.int16)
        part = pixels(k)[1:4, 2:5]
        expected[: part.shape[0], : part.shape[1]] = part
        np.testing.assert_array_equal(got, expected)


@pytest.mark.parametrize("read", WAYS)
@pytest.mark.parametrize("shuffle", [False, True, "windowed"])
def test_loader(made: Path, tmp_path: Path, read: str, shuffle: bool | str) -> None:
    for stage in (None, tmp_path / "node"):
        loader = CacheLoader(
            open_cache(made), 3, shuffle=shuffle, window=2, seed=5, read=read, stage=stage
        )
        seen = []
        for batch in loader:
            for image, k in zip(batch.image.numpy(), batch.index.tolist(), strict=True):
                np.testing.assert_array_equal(image, pixels(k))
                seen.append(k)
        assert sorted(seen) == list(range(15))


def test_a_window_is_shards_of_all_generations(made: Path) -> None:
    loader = CacheLoader(
        open_cache(made), 1, shuffle="windowed", window=1, bucket="array", threads=0
    )
    shards: dict[str, list[int]] = {"grey": [], "colour": []}
    for batch in loader:
        array, row, *_ = FRAMES[int(batch.index[0])]
        shards[array].append(row // hand_made.ARRAYS[array][2])
    for array, numbers in shards.items():  # the frames of a shard come together
        changes = sum(a != b for a, b in pairwise(numbers))
        assert changes == len(set(numbers)) - 1, array


def test_staged(cache: Path, tmp_path: Path) -> None:
    opened = open_cache(cache)
    few = staged(opened.select([3, 9, 12]), tmp_path / "node")
    found = sorted(f"{p.parent.name}/{p.name}" for p in (tmp_path / "node").glob("*/*/c.*.0"))
    assert found == ["colour/c.1.0.0.0", "grey/c.1.0.0", "grey/c.2.0.0"]
    whole = staged(opened, tmp_path / "node")
    shutil.rmtree(cache)
    assert every_way(few) == 3 * (1 + len(WAYS))
    assert every_way(whole) == 15 * (1 + len(WAYS))


def test_volumes(made: Path) -> None:
    cache = open_cache(made)
    plain = cache.arrays[0].codec == "none"
    for stack, samples in {7: [3, 4], 8: [7, 8, 9, 10], 9: [13, 14], 2: [5, 6]}.items():
        volume = cache.volume(stack)
        np.testing.assert_array_equal(volume, np.stack([pixels(k) for k in samples]))
        # Stack 8 goes on behind a shard that is not full: no view can have it.
        assert volume.flags.owndata == (stack == 8 or not plain)


def test_columns_and_selections(made: Path) -> None:
    cache = open_cache(made)
    assert cache.column("later").to_pylist() == [None] * 7 + [1] * 6 + [2] * 2
    assert cache.column("modality").to_pylist() == ["M0"] * 7 + ["M1"] * 6 + ["M2"] * 2
    assert cache.column("modality").type == pa.string()
    assert cache.select(modality="M1").indices.tolist() == list(range(7, 13))
    assert cache.select(modality=["M0", "M2"], later=[2]).indices.tolist() == [13, 14]
    assert cache.frames.num_rows == 15
    with pytest.raises(KeyError, match="no column sooner"):
        cache.column("sooner")


def test_paths_of_all_generations(made: Path) -> None:
    names = Names(open_cache(made))
    for k, (array, row, *_) in enumerate(FRAMES):
        generation = 0 if k < 7 else 1 if k < 13 else 2
        assert names[f"/nowhere/{generation}/{array}/{row}.dcm"] == k
    with pytest.raises(NotServedError, match="failed: made so"):
        names["/nowhere/1/colour/4.dcm"]


def test_dataset(made: Path) -> None:
    dataset = FrameDataset(open_cache(made), label="modality")
    assert dataset.classes == ["M0", "M1", "M2"]
    seen = {}
    for batch in DataLoader(dataset, batch_sampler=GroupedBatchSampler(dataset, 4, shuffle=True)):
        for image, label, k in zip(batch.image.numpy(), batch.label, batch.index, strict=True):
            np.testing.assert_array_equal(image, pixels(int(k)))
            seen[int(k)] = int(label)
    assert [seen[k] for k in range(15)] == [0] * 7 + [1] * 6 + [2] * 2


def _append(cache: Path, whole: Path) -> list[Callable[[], Any]]:
    """The steps by which a run that appends makes `cache` the cache `whole`, one after another."""
    grown = [a["metadata"]["path"] for a in hand_made.read_root(whole)["arrays"]]

    def add() -> None:
        for path in sorted(p for p in whole.rglob("*") if p.is_file()):
            target = cache / path.relative_to(whole)
            if not target.exists():
                shutil.copyfile(path, target)

    def replace(name: str) -> None:
        shutil.copyfile(whole / name, cache / "new")
        (cache / "new").replace(cache / name)

    return [add, *(lambda n=n: replace(n) for n in (*grown, "zarr.json"))]


def test_a_generation_comes_while_the_cache_is_open(made: Path, tmp_path: Path) -> None:
    path = tmp_path / "cache"
    codec = hand_made.read_root(made)["arrays"][0]["codec"]
    hand_made.write(path, codec, generations=2)
    opened = open_cache(path)
    pickled = pickle.dumps(opened)
    assert len(opened) == 13
    np.testing.assert_array_equal(opened[0], pixels(0))
    for step in _append(path, made):  # at any moment one root holds, and so does the open cache
        step()
        assert not verify(path)
        again: Cache = pickle.loads(pickled)  # as a worker has it that starts now
        assert len(opened) == len(again) == 13
        assert every_way(again) == 13 * (1 + len(WAYS))
    assert every_way(opened) == 13 * (1 + len(WAYS))
    copied = staged(pickle.loads(pickled), tmp_path / "node")
    assert every_way(copied) == 13 * (1 + len(WAYS))
    assert every_way(staged(opened, tmp_path / "other")) == 13 * (1 + len(WAYS))
    assert every_way(open_cache(path)) == 15 * (1 + len(WAYS))
    assert opened.column("later").to_pylist() == [None] * 7 + [1] * 6


def test_another_cache_is_not_taken_for_a_later_generation(cache: Path) -> None:
    opened = open_cache(cache)
    pickled = pickle.dumps(opened)
    codec = "lz4" if opened.arrays[0].codec == "none" else "none"
    shutil.rmtree(cache)
    hand_made.write(cache, codec)
    with pytest.raises(DamagedError, match="another cache was built here"):
        opened[0]
    with pytest.raises(DamagedError, match="another cache was built here"):
        pickle.loads(pickled)


def _rewrite(cache: Path, table: str, change: Callable[[list[dict[str, Any]]], Any]) -> None:
    """Change the rows of a table such as `frames/1`, and sign what came out."""
    path = cache / f"{table}.parquet"
    rows = pq.read_table(path).to_pylist()
    change(rows)
    pq.write_table(pa.Table.from_pylist(rows, pq.read_schema(path)), path)
    about = hand_made.read_root(cache)
    kind, generation = table.split("/")
    about["tables"][kind][int(generation)] = hand_made.entry(cache, path) | {"rows": len(rows)}
    hand_made.write_root(cache, about)


def _set(column: str, row: int, value: int) -> Callable[[list[dict[str, Any]]], None]:
    return lambda rows: rows[row].update({column: value})


@pytest.mark.parametrize(
    ("table", "change", "said", "by_verify"),
    [
        ("frames/1", _set("row", 0, 5), "not in order", "not in order"),  # a row of before
        ("frames/1", _set("row", 0, 2), "not in order", "not in order"),
        ("frames/2", _set("row", 1, 18), "outside of grey", "in no shard"),
        ("frames/1", _set("array", 5, 2), "not in zarr.json", "not in zarr.json"),
        ("frames/1", _set("width", 5, 8), "does not fit", None),
    ],
)
def test_tables_that_contradict_each_other(
    cache: Path, table: str, change: Any, said: str, by_verify: str | None
) -> None:
    _rewrite(cache, table, change)
    with pytest.raises(DamagedError, match=said):
        open_cache(cache)
    found = verify(cache, quick=True)
    assert by_verify is None or any(by_verify in problem for problem in found)


def test_rows_of_a_later_numbering(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They lead back where a frame was moved; each is there once."""
    _rewrite(cache, "frames/0", lambda rows: rows.reverse())
    with pytest.raises(DamagedError, match="not in order"):
        open_cache(cache)
    about = hand_made.read_root(cache)
    hand_made.write_root(cache, about | {"numbering": 1, "origin": "0" * 64})
    monkeypatch.setitem(globals(), "FRAMES", [*FRAMES[6::-1], *FRAMES[7:]])
    assert not verify(cache)
    opened = open_cache(cache)
    assert opened.numbering == 1
    assert every_way(opened) == 15 * (1 + len(WAYS))
    assert every_way(staged(opened, tmp_path / "node")) == 15 * (1 + len(WAYS))
    _rewrite(cache, "frames/1", _set("row", 0, 5))
    with pytest.raises(DamagedError, match="not in order"):
        open_cache(cache)
    assert any("there twice" in problem for problem in verify(cache, quick=True))


def _reindex(cache: Path, shard: str, slot: int, entry: tuple[int, int]) -> None:
    """Another entry in the index of a shard, with a checksum and a row of shards/ that fit."""
    path, per_shard = cache / shard, 4
    data = bytearray(path.read_bytes())
    start = len(data) - 16 * per_shard - 4
    data[start + 16 * slot : start + 16 * slot + 16] = np.array(entry, "<u8").tobytes()
    crc = google_crc32c.value(bytes(data[start:-4]))
    data[-4:] = crc.to_bytes(4, "little")
    path.write_bytes(data)
    used = int((np.frombuffer(data[start:-4], "<u8")[::2] != 2**64 - 1).sum())
    number = int(path.name.split(".")[1])
    generation = 0 if number < 2 else 1

    def change(rows: list[dict[str, Any]]) -> None:
        for row in rows:
            if (row["array"], row["shard"]) == (0, number):
                row.update(index_crc32c=crc, frames=used)

    _rewrite(cache, f"shards/{generation}", change)


def _flip(path: Path, place: int) -> None:
    data = bytearray(path.read_bytes())
    data[place] ^= 4
    path.write_bytes(data)


def _in_gap(cache: Path) -> None:
    _rewrite(cache, "frames/0", _set("row", 4, 6))  # shard 1 has the rows 4 and 5, and no more


def _lost(cache: Path) -> None:
    _reindex(cache, "grey/c.1.0.0", 1, (2**64 - 1, 2**64 - 1))


def _surplus(cache: Path) -> None:
    _reindex(cache, "grey/c.1.0.0", 3, (0, 60))


def _too_many_slots(cache: Path) -> None:
    _rewrite(cache, "shards/0", _set("slots", 1, 4))


def _unlisted(cache: Path) -> None:
    _rewrite(cache, "shards/0", lambda rows: rows.pop(1))


def _twice(cache: Path) -> None:
    _rewrite(cache, "shards/1", lambda rows: rows.append({**rows[0], "shard": 1, "slots": 2}))


@pytest.mark.parametrize(
    ("damage", "by_verify"),
    [
        (_in_gap, "row 6 is in frames/, and in no shard"),
        (_lost, "c.1.0.0: its index does not match"),
        (_surplus, "c.1.0.0: its index does not match"),
        (_too_many_slots, "c.1.0.0: its index does not match"),
        (_unlisted, "row 4 is in frames/, and in no shard"),
        (_twice, "names one of its shards twice"),
        (lambda cache: _flip(cache / "grey/c.1.0.0", -9), "c.1.0.0: the CRC-32C of its index"),
        (lambda cache: (cache / "grey/c.1.0.0").unlink(), "c.1.0.0: No such file"),
    ],
)
def test_damage_is_found_at_first_touch(cache: Path, damage: Any, by_verify: str) -> None:
    damage(cache)
    opened = open_cache(cache)
    if damage is not _twice:
        assert every_way(opened.select([0, 7, 8, 13]), [0, 1, 2, 3]) > 4  # other shards are whole
    plain = opened.arrays[0].codec == "none"
    if not (plain is False and damage is _too_many_slots):  # of compressed slots none has a place
        with pytest.raises(DamagedError):
            opened[4]
        for how in WAYS:
            with pytest.raises(DamagedError):
                opened.gather([4], None, reading_of(opened.core.store, how, 1 << 40))
        with pytest.raises(DamagedError):
            staged(opened, cache.parent / "node")
        found = verify(cache, quick=True)
        assert len(found) == 1
        assert by_verify in found[0]


def test_damaged_pixels_of_a_later_generation(cache: Path) -> None:
    _flip(cache / "grey" / "c.3.0.0", 40)
    with pytest.raises(DamagedError, match=r"c\.3\.0\.0"):
        staged(open_cache(cache), cache.parent / "node")
    (found,) = verify(cache)
    assert "grey/c.3.0.0: slot 0 is damaged" in found


@pytest.mark.parametrize("table", ["frames/1", "failures/2", "shards/1"])
def test_a_damaged_table_of_a_later_generation(cache: Path, table: str) -> None:
    _flip(cache / f"{table}.parquet", 9)
    (found,) = verify(cache)
    assert f"{table}.parquet: its SHA-256" in found


@pytest.mark.parametrize(
    ("shape", "whole"),
    [([18, 6, 5], True), ([19, 6, 5], True), ([1000, 6, 5], True), ([17, 6, 5], False),
     ([18, 6, 6], False), ([17, 5, 6], False)],
)  # fmt: skip
def test_an_array_may_be_longer_than_its_root_says(
    cache: Path, shape: list[int], whole: bool
) -> None:
    path = cache / "grey" / "zarr.json"
    about = json.loads(path.read_text()) | {"shape": shape}
    path.write_text(json.dumps(about, indent=1))
    if shape[0] > 18:
        assert "grey/zarr.json: the array is longer than the root says" in verify(cache)[0]
        shutil.copy(cache / "frames/2.parquet", cache / "frames/3.parquet")  # a run appends
    found = verify(cache)
    assert (found == []) == whole
    if whole:
        assert every_way(open_cache(cache)) == 15 * (1 + len(WAYS))
    else:
        assert "grey/zarr.json: its SHA-256" in found[0]


@pytest.mark.parametrize(("generation", "count"), [(0, 7), (1, 13), (2, 15)])
def test_a_generation_that_is_asked_for(made: Path, generation: int, count: int) -> None:
    cache = open_cache(made, generation=generation)
    assert len(cache) == count
    assert cache.attributes["generation"] == generation
    assert cache.newer() == 15 - count
    assert every_way(cache) == count * (1 + len(WAYS))
    assert len(pickle.loads(pickle.dumps(cache))) == count


@pytest.mark.parametrize("generation", [-1, 3, True, "0"])
def test_a_generation_that_is_none(made: Path, generation: Any) -> None:
    with pytest.raises(ValueError, match="legal: 0 to 2"):
        open_cache(made, generation=generation)


def _loader(cache: Cache) -> CacheLoader:
    return CacheLoader(cache, batch_size=2, shuffle=True, seed=0, bucket="array")


@pytest.mark.filterwarnings("ignore::trainer_adapter.NewerWarning")
def test_a_run_goes_on_in_the_generation_that_it_began_with(made: Path) -> None:
    """The state is of generation 1; by now the cache has generation 2."""
    whole = [batch.index.tolist() for batch in _loader(open_cache(made, generation=1))]
    loader = _loader(open_cache(made, generation=1))
    batches = iter(loader)
    for _ in range(2):
        next(batches)
    state = json.loads(json.dumps(loader.state_dict()))
    newest = _loader(open_cache(made))
    with pytest.raises(ValueError, match=r"open_cache\(path, generation=1\)"):
        newest.load_state_dict(state)
    again = _loader(open_cache(made, generation=state["generation"]))
    again.load_state_dict(state)
    assert [batch.index.tolist() for batch in again] == whole[2:]
    # And back: of the newest, where an earlier one is open.
    with pytest.raises(ValueError, match=r"open_cache\(path, generation=2\)"):
        again.load_state_dict(newest.state_dict())


def test_a_state_of_an_earlier_version(made: Path) -> None:
    """It has the digest of the whole root, and no generation."""
    loader = _loader(open_cache(made))
    state = loader.state_dict()
    del state["generation"]
    loader.load_state_dict({**state, "cache": open_cache(made).attributes["sha256"]})
    with pytest.raises(ValueError, match="another order: cache"):
        loader.load_state_dict({**state, "cache": "0" * 64})
