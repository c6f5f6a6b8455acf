"""Files of a cache that are none: pipes, links, sockets, and those that shrink or are exchanged."""

from __future__ import annotations

import os
import shutil
import socket
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.support import hand_made
from tests.support.hostile import bounded, tried
from trainer_adapter import CacheLoader, DamagedError, open_cache
from trainer_adapter.reading import shards
from trainer_adapter.reading.mounts import is_remote

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="RLIMIT_AS holds on Linux only")


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    hand_made.write(tmp_path / "cache", "lz4")
    return tmp_path / "cache"


def test_a_pipe_a_link_and_other_things_in_the_place_of_a_file(cache: Path, tmp_path: Path) -> None:
    """Never waited for, never followed: a typed error at once."""
    for name in ("zarr.json", "frames/0.parquet", "shards/1.parquet", "failures/0.parquet",
                 "grey/c.1.0.0"):  # fmt: skip
        file, kept = cache / name, tmp_path / "kept"
        file.rename(kept)
        for put in (
            os.mkfifo, os.mkdir, lambda p: os.symlink(tmp_path / "kept", p), _socket,
            lambda p: os.symlink("/dev/zero", p), lambda p: os.symlink(p, p),
        ):  # fmt: skip
            put(file)
            assert not tried(cache, tmp_path / "node", (name, put))
            file.rmdir() if file.is_dir() and not file.is_symlink() else file.unlink()
        assert not tried(cache, tmp_path / "node", (name, "gone"))
        kept.rename(file)
    assert tried(cache, tmp_path / "node", "whole again")


def test_a_folder_that_is_a_link(cache: Path, tmp_path: Path) -> None:
    for name in ("frames", "grey"):
        (cache / name).rename(tmp_path / "elsewhere")
        (cache / name).symlink_to(tmp_path / "elsewhere")
        assert not tried(cache, tmp_path / "node", name)
        (cache / name).unlink()
        (tmp_path / "elsewhere").rename(cache / name)


def _socket(path: Path) -> None:
    here = os.getcwd()
    os.chdir(path.parent)  # a socket's path may have 107 bytes
    try:
        with socket.socket(socket.AF_UNIX) as server:
            server.bind(path.name)
    finally:
        os.chdir(here)


@pytest.mark.parametrize("read", ["map", "pread"])
def test_what_takes_the_place_of_a_shard_while_it_is_opened(
    cache: Path, tmp_path: Path, read: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between a look at the name and the opening of it."""
    shard, real = cache / "grey" / "c.0.0.0", os.open
    shard.rename(tmp_path / "kept")
    for put in (os.mkfifo, lambda p: os.symlink(tmp_path / "kept", p)):
        shutil.copy(tmp_path / "kept", shard)

        def late(path: Any, flags: int, *given: Any, put: Any = put, **more: Any) -> int:
            if path == "c.0.0.0":
                shard.unlink()
                put(shard)
            return real(path, flags, *given, **more)

        opened = open_cache(cache)
        with monkeypatch.context() as patch:
            patch.setattr(os, "open", late)
            with bounded(), pytest.raises(DamagedError, match=r"c\.0\.0\.0: not a plain file"):
                list(CacheLoader(opened, 1, read=read, threads=0))
        shard.unlink()


@pytest.mark.parametrize("read", ["map", "advise", "pread"])
@pytest.mark.parametrize("codec", ["none", "zstd"])
def test_a_shard_that_shrank_on_a_network(
    tmp_path: Path, read: str, codec: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where SIGBUS is near, a file is looked at again: once a second, before it is touched."""
    monkeypatch.setattr(shards, "is_remote", lambda path: True)
    monkeypatch.setattr(shards, "_LOOK", 0.0)
    cache = tmp_path / "cache"
    hand_made.write(cache, codec)
    opened = open_cache(cache)
    loader = CacheLoader(opened.select([0, 1]), 2, read=read, threads=0)
    (batch,) = loader
    size = (cache / "grey" / "c.0.0.0").stat().st_size
    os.truncate(cache / "grey" / "c.0.0.0", 10)
    with pytest.raises(DamagedError, match=rf"c\.0\.0\.0: (10 bytes, {size} expected|ends at)"):
        list(loader)
    del batch


def test_a_shard_that_was_replaced_on_a_network(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shards, "is_remote", lambda path: True)
    monkeypatch.setattr(shards, "_LOOK", 0.0)
    cache = tmp_path / "cache"
    frames = hand_made.write(cache, "none")
    shard = cache / "grey" / "c.0.0.0"
    opened, data = open_cache(cache), shard.read_bytes()
    assert opened[0].tolist() == frames[0].tolist()
    (tmp_path / "new").write_bytes(bytes([data[0] ^ 1]) + data[1:])
    os.replace(tmp_path / "new", shard)
    with pytest.raises(DamagedError, match="another CRC-32C"):
        _ = opened[0]
    (tmp_path / "new").write_bytes(data)
    os.replace(tmp_path / "new", shard)  # mended
    assert opened[0].tolist() == frames[0].tolist()


def test_which_file_systems_are_on_a_network(tmp_path: Path) -> None:
    mounts = tmp_path / "mounts"
    mounts.write_text(
        "/dev/sda1 / ext4 rw 0 0\n"
        "server:/export /data\\040sets nfs4 rw 0 0\n"
        "scratch /scratch lustre rw 0 0\n"
        "tmpfs /scratch/local tmpfs rw 0 0\n"
        "box /box fuse.sshfs rw 0 0\n"
        "broken\n"
    )
    told = {
        "/home/x": False, "/data sets/x": True, "/data": False, "/scratch/x": True,
        "/scratch/local/x": False, "/scratchy": False, "/box": True,
    }  # fmt: skip
    assert {path: is_remote(Path(path), mounts) for path in told} == told
    assert not is_remote(Path("/home"), tmp_path / "absent")
