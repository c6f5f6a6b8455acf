"""Zip and tar archives, gzip files and DICOMDIRs: the same frames, whatever they lie in."""

from __future__ import annotations

import gzip
import io
import os
import shutil
import struct
import subprocess
import tarfile
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from pydicom.data import get_testdata_file

from tests.support.caches import (
    attributes,
    built,
    by_path,
    failures,
    rows_of,
    run_here,
    table,
)
from tests.support.dicom_files import pattern, write_dicom, write_series
from tests.support.faults import at_most

_LEAD = b"\0" * 7


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A series, a file of 5 frames, one that is deflated itself, one in fragments and a text."""
    top = tmp_path_factory.mktemp("sources") / "files"
    write_series(top / "ct", 4, 32)
    write_dicom(top / "many.dcm", pattern("many", (5, 16, 16)))
    for name in ("image_dfl.dcm", "JPEG2000.dcm", "SC_rgb_rle_2frame.dcm"):
        found = get_testdata_file(name, download=False)
        assert isinstance(found, str), name
        shutil.copyfile(found, top / name)
    (top / "README").write_text("no image")
    return top


@pytest.fixture(scope="module")
def frames(folder: Path) -> dict[tuple[str, int], Any]:
    return _pixels(built(folder, folder.parent / "cache", "--jobs", "1"))


def _pixels(cache: Path, prefix: str = "") -> dict[tuple[str, int], Any]:
    """{(path behind the prefix, frame): bytes of its pixels}."""
    assert all(path.startswith(prefix) for path, _ in by_path(cache))
    return {
        (path[len(prefix) :], frame): pixels.tobytes()
        for (path, frame), (_, pixels) in by_path(cache).items()
    }


def _zip(path: Path, folder: Path, method: int = zipfile.ZIP_STORED) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w", method) as archive:
        for file in sorted(folder.rglob("*")):
            archive.write(file, file.relative_to(folder))
    return path


def _member(path: Path, name: str) -> tuple[int, int]:
    """(offset of its bytes, how many) of a member, by zipfile and its local header."""
    with zipfile.ZipFile(path) as archive:
        info = archive.getinfo(name)
    data = path.read_bytes()
    n, extra = struct.unpack_from("<HH", data, info.header_offset + 26)
    return info.header_offset + 30 + n + extra, info.compress_size


def _patch(path: Path, at: int, new: bytes) -> None:
    with path.open("r+b") as file:
        file.seek(at)
        file.write(new)


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_a_zip_has_the_frames_of_its_folder(
    tmp_path: Path, folder: Path, frames: dict[tuple[str, int], Any], method: int
) -> None:
    source = _zip(tmp_path / "in" / "a.zip", folder, method)
    cache = built(source.parent, tmp_path / "cache", "--jobs", "1")
    assert _pixels(cache, "a.zip!/") == frames
    assert failures(cache)["a.zip!/README", None][0] == "not-dicom"
    assert attributes(cache)["counts"]["files"] == 9
    plain = folder.parent / "cache"
    for about in attributes(cache)["arrays"]:  # the shards, byte for byte
        for shard in (cache / about["name"]).glob("c.*"):
            assert shard.read_bytes() == (plain / about["name"] / shard.name).read_bytes()
    assert run_here("verify", cache, "--deep", "1").returncode == 0
    alone = built(source, tmp_path / "alone", "--jobs", "1")  # the archive itself as the source
    assert _pixels(alone, "a.zip!/") == frames
    assert attributes(alone)["sources"] == [{"root": 0, "path": str(source.parent)}]


@pytest.mark.parametrize("kind", [tarfile.GNU_FORMAT, tarfile.PAX_FORMAT, tarfile.USTAR_FORMAT])
def test_a_tar_has_the_frames_of_its_folder(
    tmp_path: Path, folder: Path, frames: dict[tuple[str, int], Any], kind: int
) -> None:
    long = "n" * 90 + "/" + "m" * (60 if kind == tarfile.USTAR_FORMAT else 200)
    (tmp_path / "in").mkdir()
    with tarfile.open(tmp_path / "in" / "a.tar", "w", format=kind) as archive:
        archive.add(folder, f"./{long}")
    cache = built(tmp_path / "in", tmp_path / "cache", "--jobs", "1")
    assert _pixels(cache, f"a.tar!/{long}/") == frames
    assert run_here("verify", cache, "--deep", "1").returncode == 0


@pytest.mark.skipif(shutil.which("tar") is None, reason="no tar program on this machine")
def test_links_and_sparse_files_of_gnu_tar(tmp_path: Path) -> None:
    source = tmp_path / "in"
    write_dicom(source / "a.dcm", pattern("a", (8, 8)))
    os.link(source / "a.dcm", source / "b.dcm")
    (source / "c.dcm").symlink_to("a.dcm")
    (source / "lost").symlink_to("nowhere")
    with (source / "holes").open("wb") as file:
        file.truncate(1 << 20)
    (tmp_path / "out").mkdir()
    archive = tmp_path / "out" / "a.tar"
    subprocess.run(["tar", "-C", source, "-cSf", archive, "."], check=True)
    cache = built(tmp_path / "out", tmp_path / "cache", "--jobs", "1", status=1)
    assert len(table(cache, "frames")) == 1
    said = failures(cache)
    assert {path: outcome for (path, _), (outcome, _) in said.items() if outcome != "failed"} in (
        {f"a.tar!/{name}": "duplicate" for name in names}
        for names in (["b.dcm", "c.dcm"], ["a.dcm", "c.dcm"], ["a.dcm", "b.dcm"])
    )
    assert "sparse" in said["a.tar!/holes", None][1]
    assert "a link to nowhere" in said["a.tar!/lost", None][1]


def test_gzip_files_are_the_file_that_they_hold(
    tmp_path: Path, folder: Path, frames: dict[tuple[str, int], Any]
) -> None:
    for file in folder.rglob("*.dcm"):
        name = tmp_path / "in" / file.relative_to(folder)
        name.parent.mkdir(parents=True, exist_ok=True)
        name.with_name(name.name + ".gz").write_bytes(gzip.compress(file.read_bytes()))
    whole = gzip.compress((folder / "many.dcm").read_bytes())
    (tmp_path / "in" / "cut.dcm.gz").write_bytes(whole[:-900])
    (tmp_path / "in" / "two.dcm.gz").write_bytes(whole + whole)
    (tmp_path / "in" / "padded.dcm.gz").write_bytes(whole + bytes(512))
    (tmp_path / "in" / "empty.gz").write_bytes(gzip.compress(b""))
    (tmp_path / "in" / "nifti.nii.gz").write_bytes(gzip.compress(bytes(400)))
    (tmp_path / "in" / "all.tar.gz").write_bytes(gzip.compress(bytes(4000)))
    (tmp_path / "in" / "plain.gz").write_bytes((folder / "many.dcm").read_bytes())
    cache = built(tmp_path / "in", tmp_path / "cache", "--jobs", "1", status=1)
    found = {(p.removesuffix(".gz"), k): pixels for (p, k), pixels in _pixels(cache).items()}
    assert {key: found.get(key) for key in frames} == frames
    said = failures(cache)
    assert "gunzip it first" in said["all.tar.gz", None][1]
    assert said["nifti.nii.gz", None][0] == "not-dicom"
    assert said["empty.gz", None] == ("not-dicom", "the file is empty")
    assert said["padded.dcm.gz", None][0] == "failed"
    assert "gunzip it first" in said["padded.dcm.gz", None][1]
    assert "plain.gz", None in said  # a DICOM file, whatever its name: a copy of many.dcm
    for name in ("cut.dcm.gz", "two.dcm.gz"):
        whys = [why for (p, _), (_, why) in said.items() if p == name]
        assert whys, name
        assert all("gzip" in why for why in whys), whys
    assert "of several members" in said["two.dcm.gz", 0][1]


def test_a_damaged_member_costs_itself(tmp_path: Path, folder: Path) -> None:
    """A byte of pixels, a byte of a header, and one of a text, by their CRC-32."""
    source = _zip(tmp_path / "in" / "a.zip", folder)
    at, length = _member(source, "ct/slice001.dcm")
    _patch(source, at + length - 9, b"\xff\x0f")
    at, _ = _member(source, "ct/slice002.dcm")
    _patch(source, at + 128, b"X")
    cache = built(source.parent, tmp_path / "cache", "--jobs", "1", status=1)
    said = {p: why for (p, _), (outcome, why) in failures(cache).items() if outcome == "failed"}
    assert sorted(said) == ["a.zip!/ct/slice001.dcm", "a.zip!/ct/slice002.dcm"]
    assert all("CRC-32" in why for why in said.values()), said
    assert len(table(cache, "frames")) == 4 - 2 + 5 + 1 + 1 + 2


def test_headers_that_are_not_what_the_directory_says(tmp_path: Path, folder: Path) -> None:
    source = _zip(tmp_path / "in" / "a.zip", folder)
    with zipfile.ZipFile(source) as archive:
        places = {i.filename: i.header_offset for i in archive.infolist()}
    _patch(source, places["ct/slice000.dcm"] + 30, b"XX")  # its name
    _patch(source, places["ct/slice001.dcm"] + 8, b"\x08")  # its method
    _patch(source, places["ct/slice002.dcm"] + 28, b"\xff")  # its extra field
    _patch(source, places["many.dcm"], b"XX")
    cache = built(source.parent, tmp_path / "cache", "--jobs", "1", status=1)
    said = failures(cache)
    assert "name 'XX/slice000.dcm'" in said["a.zip!/ct/slice000.dcm", None][1]
    assert "method 8" in said["a.zip!/ct/slice001.dcm", None][1]
    assert "where others begin" in said["a.zip!/ct/slice002.dcm", None][1]
    assert "no member begins" in said["a.zip!/many.dcm", None][1]
    assert len(table(cache, "frames")) == 1 + 4


def test_names_are_only_names(tmp_path: Path) -> None:
    """What leads out, a root, a name that is there twice, one that is no UTF-8."""
    a, b = (write_dicom(tmp_path / f"{n}.dcm", pattern(n, (8, 8))).read_bytes() for n in "ab")
    (tmp_path / "in").mkdir()
    with zipfile.ZipFile(tmp_path / "in" / "a.ZIP", "w") as archive:
        archive.writestr("../../a.dcm", a)
        archive.writestr("/x/./b.dcm", b)
        archive.writestr(".", b)
        archive.writestr("twice", a)
        with pytest.warns(UserWarning, match="Duplicate name"):
            archive.writestr("twice", b"later")
    cache = built(tmp_path / "in", tmp_path / "cache", "--jobs", "1", status=1)
    assert sorted(row["path"] for row in table(cache, "frames")) == [
        "a.ZIP!/../../a.dcm", "a.ZIP!/x/b.dcm",
    ]  # fmt: skip
    said = failures(cache)
    assert said["a.ZIP!/twice", None][0] == "not-dicom"
    assert said["a.ZIP!/.", None][0] == "failed"
    assert said["a.ZIP", None] == (
        "excluded", "1 of its members has the name of a later one, which counts, as unpacking "
        "leaves them: twice",
    )  # fmt: skip
    assert run_here("verify", cache, "--deep", "1").returncode == 0


def test_bombs_and_what_cannot_be_read_are_refused_by_name(tmp_path: Path, folder: Path) -> None:
    top = tmp_path / "in"
    top.mkdir()
    shutil.copyfile(folder / "many.dcm", top / "ok.dcm")
    with zipfile.ZipFile(top / "zeros.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("z.dcm", bytes(128) + b"DICM" + bytes(8 << 20))
    with zipfile.ZipFile(top / "lzma.zip", "w", zipfile.ZIP_LZMA) as archive:
        archive.write(folder / "many.dcm", "m.dcm")
    inner = io.BytesIO()
    with zipfile.ZipFile(inner, "w") as archive:
        archive.write(folder / "many.dcm", "m.dcm")
    with zipfile.ZipFile(top / "nest.zip", "w") as archive:
        archive.writestr("inner.zip", inner.getvalue())
        archive.writestr("b.tar.gz", gzip.compress(b"x"))
        archive.writestr("i.dcm.gz", gzip.compress((folder / "many.dcm").read_bytes()))
        archive.writestr("t.txt.gz", gzip.compress(b"no image" * 90))
    with zipfile.ZipFile(top / "lock.zip", "w") as archive:
        archive.write(folder / "many.dcm", "m.dcm")
    data = bytearray((top / "lock.zip").read_bytes())
    data[6] |= 1
    data[data.rindex(b"PK\1\2") + 8] |= 1
    (top / "lock.zip").write_bytes(data)
    # two entries of the directory with one member: as in zips that overlap
    with zipfile.ZipFile(top / "over.zip", "w") as archive:
        archive.write(folder / "many.dcm", "m.dcm")
        archive.filelist.append(zipfile.ZipInfo("n.dcm"))
        for name in ("file_size", "compress_size", "CRC", "header_offset"):
            setattr(archive.filelist[1], name, getattr(archive.filelist[0], name))
    (top / "cut.zip").write_bytes(_zip(tmp_path / "w.zip", folder).read_bytes()[:-300])
    tar = io.BytesIO()
    with tarfile.open(fileobj=tar, mode="w", format=tarfile.USTAR_FORMAT) as archive_of_tar:
        archive_of_tar.add(folder / "many.dcm", "a/x.dcm")
        archive_of_tar.add(folder / "README", "a/y")
    whole = bytearray(tar.getvalue())
    (top / "cut.tar").write_bytes(whole[:1700])
    second = whole.index(b"a/y\0")
    whole[second + 148] ^= 0x55  # the checksum of the second header
    (top / "bad.tar").write_bytes(whole)
    few = ("--limits", "inflate_mib=4", "--jobs", "1")
    cache = built(top, tmp_path / "cache", *few, status=1)
    said = {p: why for (p, _), (outcome, why) in failures(cache).items() if outcome == "failed"}
    assert "limits.inflate_mib=4" in said["zeros.zip!/z.dcm"]
    assert "method 14" in said["lzma.zip!/m.dcm"]
    assert "an archive (zip) within an archive" in said["nest.zip!/inner.zip"]
    assert "an archive (gzip) within an archive" in said["nest.zip!/b.tar.gz"]
    assert "a DICOM file in an archive (gzip) within an archive" in said["nest.zip!/i.dcm.gz"]
    assert failures(cache)["nest.zip!/t.txt.gz", None][0] == "not-dicom"
    assert "encrypted" in said["lock.zip!/m.dcm"]
    assert "another member too" in said["over.zip!/m.dcm"]
    assert "another member too" in said["over.zip!/n.dcm"]
    assert "end of central directory" in said["cut.zip"]
    assert "the archive ends at byte 1700" in said["cut.tar!/a/x.dcm"]
    assert "no header of a member" in said["bad.tar"]
    stored = {row["path"] for row in table(cache, "frames")}
    assert stored == {"bad.tar!/a/x.dcm"}  # before it in order: ok.dcm is its copy
    assert failures(cache)["ok.dcm", None][0] == "duplicate"
    for name, text in (("two.tar", tar.getvalue()), ("two.zip", (tmp_path / "w.zip").read_bytes())):
        (tmp_path / name).write_bytes(text)
        shutil.copyfile(folder / "many.dcm", tmp_path / "many.dcm")
        few = tmp_path / f"few {name}"
        sources = (tmp_path / name, tmp_path / "many.dcm")
        built(*sources, few, "--limits", "archive_members=1", "--jobs", "1", status=1)
        assert "limits.archive_members=1" in failures(few)[name, None][1]


def test_zip64_and_what_stands_before_an_archive(
    tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(zipfile, "ZIP64_LIMIT", 100)
    monkeypatch.setattr(zipfile, "ZIP_FILECOUNT_LIMIT", 1)
    source = _zip(tmp_path / "in" / "a.zip", folder)
    assert b"PK\6\6" in source.read_bytes()
    monkeypatch.undo()
    whole = source.read_bytes()
    (tmp_path / "in" / "not.zip").write_bytes(b"MZ no archive at all PK\5\6" + bytes(90))
    for k, before in enumerate((b"PK\3\4 begins a zip", b"MZ a program that unpacks itself")):
        source.write_bytes(before + whole)
        cache = built(source.parent, tmp_path / f"cache{k}", "--jobs", "1")
        assert len(table(cache, "frames")) == 4 + 5 + 1 + 1 + 2
        assert failures(cache)["not.zip", None][0] == "not-dicom"
    entry = whole.index(b"PK\1\2")  # of the first member, whose extra field is of another kind now
    field = whole.index(
        b"\1\0", entry + 46 + int.from_bytes(whole[entry + 28 : entry + 30], "little")
    )
    source.write_bytes(whole[:field] + b"\2" + whole[field + 1 :])
    cache = built(source.parent, tmp_path / "broken", "--jobs", "1", status=1)
    lost = [path for (path, _), (_, why) in failures(cache).items() if "zip64 extra field" in why]
    assert len(lost) == 1
    assert lost[0].startswith("a.zip!/")
    assert len(table(cache, "frames")) > 0


def test_an_archive_that_changes_or_goes(tmp_path: Path, folder: Path) -> None:
    source = _zip(tmp_path / "in" / "a.zip", folder / "ct")
    cache = built(source.parent, tmp_path / "cache", "--jobs", "1")
    before = rows_of(cache)
    ran = run_here("update", source.parent, cache, "--jobs", "1")
    assert ran.returncode == 0, ran.stderr
    _zip(tmp_path / "in" / "b.zip", folder / "ct")  # copies
    shutil.copyfile(folder / "many.dcm", tmp_path / "in" / "many.dcm")
    ran = run_here("update", source.parent, cache, "--jobs", "1")
    assert ran.returncode == 0, ran.stderr
    assert [row["path"] for row in rows_of(cache)[len(before) :]] == ["many.dcm"] * 5
    stamp = source.stat().st_mtime_ns + 10**9
    os.utime(source, ns=(stamp, stamp))
    ran = run_here("update", source.parent, cache, "--jobs", "1")
    assert ran.returncode == 1
    assert f"{source}!/slice000.dcm" in ran.stdout + ran.stderr
    source.unlink()
    ran = run_here("update", source.parent, cache, "--jobs", "1")
    assert f"{source}!/slice000.dcm" in ran.stdout + ran.stderr
    assert rows_of(cache)[: len(before)] == before


def test_an_archive_that_changes_between_plan_and_convert(tmp_path: Path, folder: Path) -> None:
    source = _zip(tmp_path / "in" / "a.zip", folder / "ct")
    cache = tmp_path / "cache"
    assert run_here("plan", source.parent, cache, "--jobs", "1").returncode == 0
    os.utime(source, ns=(1, 1))
    assert run_here("convert", cache, "--jobs", "1").returncode == 1
    assert run_here("commit", cache).returncode in (0, 1)
    said = failures(cache)
    assert len(said) == 4
    assert all("changed since plan" in why for _, why in said.values())
    told = run_here("failures", cache).stdout
    assert "build again with --overwrite" in told
    assert "cannot be decoded" not in told  # it says what to do itself


def test_repair_show_labels_and_hashes_find_members(tmp_path: Path, folder: Path) -> None:
    from trainer_adapter import CacheLoader, open_cache

    source = _zip(tmp_path / "in" / "a.zip", folder / "ct", zipfile.ZIP_DEFLATED)
    cache = built(source.parent, tmp_path / "cache", "--jobs", "1")
    shown = run_here("show", cache, "--path", "a.zip!/slice002.dcm", "-o", tmp_path / "x.png")
    assert shown.returncode == 0, shown.stderr
    assert f"{source}!/slice002.dcm" in shown.stdout
    names = [f"a.zip!/slice00{k}.dcm" for k in range(4)]
    for paths in (names, [f"{source.parent}/{name}" for name in names]):
        labels = {"path": paths, "y": [3, 2, 1, 0]}
        loader = CacheLoader(open_cache(cache), label="y", labels=labels, on="path")
        assert loader.labels.tolist() == [3, 2, 1, 0]
    (shard,) = cache.glob("int16_*/c.*")
    whole = shard.read_bytes()
    shard.write_bytes(b"\xff" * 64 + whole[64:])
    assert run_here("verify", cache).returncode == 1
    assert run_here("repair", cache).returncode == 0
    assert shard.read_bytes() == whole
    key = tmp_path / "key"
    key.write_bytes(bytes(range(32)))
    key.chmod(0o600)
    veiled = built("--deidentify", key, source.parent, tmp_path / "veiled", "--jobs", "1")
    assert all("zip" not in row["path"] for row in table(veiled, "frames"))
    deep = ("--deidentify", key, "--source", source.parent)
    assert run_here("verify", veiled, "--deep", "1", *deep).returncode == 0


def test_a_folder_may_be_called_as_an_archive_is(tmp_path: Path) -> None:
    write_dicom(tmp_path / "in" / "a.zip!" / "x.dcm", pattern("a", (8, 8)))
    write_dicom(tmp_path / "in" / "b.zip", pattern("b", (8, 8)))
    cache = built(tmp_path / "in", tmp_path / "cache", "--jobs", "1")
    assert {row["path"] for row in table(cache, "frames")} == {"a.zip!/x.dcm", "b.zip"}
    assert run_here("verify", cache, "--deep", "1").returncode == 0
    write_dicom(tmp_path / "other" / "x.dcm", pattern("other", (8, 8)))
    _zip(tmp_path / "in" / "a.zip", tmp_path / "other")  # its member would have the same path
    both = built(tmp_path / "in", tmp_path / "both", "--jobs", "1", status=1)
    assert {row["path"] for row in table(both, "frames")} == {"a.zip!/x.dcm", "b.zip"}
    assert failures(both)["a.zip", None][1].startswith("beside it is a.zip!, whose files")
    assert run_here("verify", both, "--deep", "1").returncode == 0


def test_a_dicomdir_stands_for_the_files_that_it_names(tmp_path: Path) -> None:
    """pydicom's own: 31 files in 77654033/, 98892001/ and 98892003/."""
    found = get_testdata_file("DICOMDIR", download=False)
    assert isinstance(found, str)
    disc = tmp_path / "disc"
    shutil.copytree(Path(found).parent, disc)
    write_dicom(disc / "other.dcm", pattern("other", (8, 8)))
    gone = disc / "77654033" / "CR1" / "6154"
    assert gone.is_file()
    gone.unlink()
    (disc / "98892001").rename(disc / "98892001.tmp")
    (disc / "98892001.tmp").rename(disc / "98892001;1")  # as ISO 9660 has versions
    cache = tmp_path / "cache"
    ran = run_here("build", disc / "DICOMDIR", cache, "--jobs", "1")
    assert ran.returncode == 1, ran.stderr
    counts = attributes(cache)["counts"]
    assert counts["files"] == 31
    said = failures(cache)
    assert "it is not there" in said["77654033/CR1/6154", None][1]
    paths = {row["path"] for row in table(cache, "frames")}
    assert "other.dcm" not in paths
    assert any(path.startswith("98892001;1/") for path in paths)
    below = built(disc, tmp_path / "below", "--jobs", "1", status=0)
    assert failures(below)["DICOMDIR", None][0] == "no-pixels"


def test_a_dicomdir_leads_nowhere_else(tmp_path: Path) -> None:
    found = get_testdata_file("DICOMDIR", download=False)
    assert isinstance(found, str)
    write_dicom(tmp_path / "6154", pattern("out", (8, 8)))
    disc = tmp_path / "disc"
    disc.mkdir()
    (disc / "98892001").symlink_to(tmp_path / "far")  # links are followed, as everywhere
    write_dicom(tmp_path / "far" / "CT2N" / "6293", pattern("far", (8, 8)))
    write_dicom(disc / "98892003" / "MR1" / "15820", pattern("a", (8, 8)))
    data = Path(found).read_bytes()
    assert b"77654033\\CR1\\6154" in data
    assert data.count(b"98892003\\MR1\\15820") == 1
    twice = data.replace(
        b"98892003\\MR1\\4919 ", b"98892003/mr1/15820"
    )  # and as no ISO 9660 has it
    assert twice != data
    (disc / "DICOMDIR").write_bytes(twice.replace(b"77654033\\CR1\\6154", b"..\\AAAAAA\\..\\6154"))
    cache = tmp_path / "cache"
    ran = run_here("build", disc / "DICOMDIR", cache, "--jobs", "1")
    assert ran.returncode == 1, ran.stderr
    assert sorted(row["path"] for row in table(cache, "frames")) == [
        "98892001/CT2N/6293", "98892003/MR1/15820",
    ]  # fmt: skip
    assert attributes(cache)["counts"]["files"] == 30
    assert "leads out of its folder" in str(failures(cache))
    (disc / "DICOMDIR").write_bytes(data[:500])
    ran = run_here("build", disc / "DICOMDIR", tmp_path / "other", "--jobs", "1")
    assert ran.returncode == 2
    assert "DICOMDIR" in ran.stderr
    assert "Traceback" not in ran.stderr


def test_identities_are_those_of_members(tmp_path: Path, folder: Path) -> None:
    """The same archive at another time is another source; workers and order change no byte."""
    source = _zip(tmp_path / "in" / "a.zip", folder)
    one = built(source.parent, tmp_path / "one", "--jobs", "1")
    two = built(source.parent, tmp_path / "two", "--jobs", "2")
    names = ("frames/0.parquet", "failures/0.parquet", "shards/0.parquet", "zarr.json")
    assert all((one / name).read_bytes() == (two / name).read_bytes() for name in names)
    columns = pq.read_table(one / names[0]).column_names
    assert "member" not in columns
    assert np.isfinite(table(one, "frames")[0]["mean"])


def _tar_header(name: str, size: bytes, kind: bytes = b"0", extended: bool = False) -> bytes:
    """A header of a tar with a right checksum."""
    data = bytearray(tarfile.TarInfo(name).tobuf(tarfile.GNU_FORMAT))
    data[124:136] = size.ljust(12, b"\0")
    data[156:157] = kind
    data[482] = extended
    data[148:156] = b" " * 8
    data[148:156] = b"%06o\0 " % sum(data)
    return bytes(data)


def _pax(record: bytes) -> bytes:
    return _tar_header("pax", b"%o" % len(record), b"x") + record.ljust(512, b"\0")


TARS = {
    # a size below 0, by which the next header is the one of this record, without end
    "round": (
        _pax(b"14 size=-1536\n") + _tar_header("b", b"0"),
        "a header leads back to what was read already",
    ),
    "back": (
        _tar_header("b", b"\xff" + (-1024 & (1 << 88) - 1).to_bytes(11, "big")),
        "a header leads back to what was read already",
    ),
    "before": (
        _tar_header("b", b"\xff" + (-(1 << 40) & (1 << 88) - 1).to_bytes(11, "big")),
        "a header leads back to what was read already",
    ),
    "headers": (
        _pax(b"13 comment=x\n") * 3000 + _tar_header("b", b"0"),
        "it is damaged (headers of headers); copy it again",
    ),
    "cut": (_tar_header("b", b"0", b"S", extended=True), "it is damaged (index out of range)"),
}


@pytest.mark.parametrize("lie", TARS)
def test_a_tar_that_lies_costs_what_is_behind_the_lie(tmp_path: Path, lie: str) -> None:
    write_dicom(tmp_path / "a.dcm", pattern("a", (8, 8)))
    write_dicom(tmp_path / "in/beside.dcm", pattern("b", (8, 8)))
    whole = io.BytesIO()
    with tarfile.open(fileobj=whole, mode="w", format=tarfile.GNU_FORMAT) as archive:
        archive.add(tmp_path / "a.dcm", "a.dcm")
    member = whole.getvalue()[: 512 + -(-(tmp_path / "a.dcm").stat().st_size // 512) * 512]
    headers, why = TARS[lie]
    end = b"" if lie == "cut" else bytes(1024)
    (tmp_path / "in/x.tar").write_bytes(member + headers + end)
    with at_most(20):
        cache = built(tmp_path / "in", tmp_path / "cache", "--jobs", "1", status=1)
    assert {path for path, _ in by_path(cache)} == {"beside.dcm", "x.tar!/a.dcm"}
    said = failures(cache)
    assert said["x.tar", None][0] == "failed"
    assert why in said["x.tar", None][1]


def test_members_without_a_name_are_not_the_archive(tmp_path: Path) -> None:
    data = write_dicom(tmp_path / "a.dcm", pattern("a", (8, 8))).read_bytes()
    (tmp_path / "in").mkdir()
    with zipfile.ZipFile(tmp_path / "in/a.zip", "w") as archive:
        archive.writestr("a.dcm", data)
        archive.writestr(zipfile.ZipInfo("."), data)
    with tarfile.open(tmp_path / "in/a.tar", "w") as tar:
        info = tarfile.TarInfo("./")
        info.size, info.type = len(data), tarfile.CONTTYPE
        tar.addfile(info, io.BytesIO(data))
    (tmp_path / "in/a.z").write_bytes(data)  # what the path of the archive was cut to
    cache = built(tmp_path / "in", tmp_path / "cache", "--jobs", "1", status=1)
    said = failures(cache)
    for path in ("a.zip!/.", "a.tar!/."):
        why = "a member without a name: unpack the archive, and give it one"
        assert said[path, None] == ("failed", why)


def test_what_is_deflated_is_what_zlib_says(
    tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whichever library inflates it; what is wrong is said by zlib."""
    from dicom2cache.errors import FrameError
    from dicom2cache.sources.find import scan
    from dicom2cache.sources.place import Inflated, open_at, place_of

    source = _zip(tmp_path / "a.zip", folder / "ct", zipfile.ZIP_DEFLATED)
    at, length = _member(source, "slice001.dcm")
    _patch(source, at + length // 2, b"\x5a\x5a\x5a")
    _, candidates, _ = scan([source], tmp_path / "no cache")
    quick: list[bool] = []
    by_libdeflate = Inflated._at_once

    def seen(self: Inflated) -> memoryview | None:
        found = by_libdeflate(self)
        quick.append(found is not None)
        return found

    for way in (seen, lambda _: None):
        monkeypatch.setattr(Inflated, "_at_once", way)
        for one in candidates:
            name = one.path.removeprefix("a.zip!/")
            with open_at(place_of(str(tmp_path / one.path), one)) as file:
                if name == "slice001.dcm":
                    with pytest.raises(FrameError, match="member of the archive is damaged"):
                        file.check_whole()
                    continue
                file.check_whole()
                assert file.read(0, file.size) == (folder / "ct" / name).read_bytes()
    assert quick == [True, False, True, True]
