"""Decoders are proved on what other programs made, before a build believes them."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from imagecodecs import jpeg2k_encode
from pydicom import dcmread

from dicom2cache.errors import Unfinished
from dicom2cache.running.proof import apart, gate, machine, remembered, samples
from dicom2cache.running.proof.samples import Proof
from dicom2cache.syntaxes import SYNTAXES
from tests.support.caches import run_cli, run_here
from tests.support.dicom_files import pattern, write_dicom
from tests.support.faults import with_fault

JPEG_2000, HTJ2K, JPEG_LS = (f"1.2.840.10008.1.2.4.{end}" for end in ("90", "201", "80"))
EXPLICIT = "1.2.840.10008.1.2.1"


@pytest.fixture
def cache_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A user's cache folder in which nothing is remembered."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    return tmp_path / "xdg" / "dicom2cache" / "proofs"


def test_each_syntax_has_a_sample_and_is_decoded_truly() -> None:
    assert {sample.syntax for sample in samples.samples().values()} == set(SYNTAXES)
    found = list(samples.proved_here(samples.of_syntaxes(SYNTAXES)))
    assert len(found) == 40
    assert [proof for proof in found if proof.wrong] == []
    by = {proof.sample: proof for proof in found}
    # The same image went into all of these, through four other programs.
    grey = "0138950fa3ae2e6cf44973199913086357c007b24c4036c794c9af5c031f44d1"
    for name in ("jpeg-ls-grey", "jpeg-2000-grey", "htj2k-grey", "rle-grey", "deflated-frame"):
        assert by[name].sha256 == grey
    assert by["jpeg-lossless-grey"].codec.startswith("imagecodecs")


@pytest.mark.parametrize("name", ["implicit-signed", "explicit-colour", "big-endian-signed"])
def test_samples_hold_what_pydicom_reads(name: str) -> None:
    pixels = dcmread(samples.FOLDER / f"{name}.dcm").pixel_array
    plain = np.ascontiguousarray(pixels.astype(pixels.dtype.newbyteorder("<")))
    assert hashlib.sha256(plain.tobytes()).hexdigest() == samples.samples()[name].sha256


def test_samples_are_of_nobody_and_small() -> None:
    paths = list(samples.FOLDER.glob("*.dcm"))
    assert {path.stem for path in paths} == set(samples.samples())
    assert sum(path.stat().st_size for path in samples.FOLDER.iterdir()) < 250_000
    for path in set(paths) - {samples.FOLDER / "ge-private.dcm"}:  # pydicom knows no GE syntax
        assert not [
            e for e in dcmread(path, stop_before_pixels=True) if e.tag.group == 0x10 and e.value
        ]


def test_a_wrong_decoder_stops_a_build_before_it_begins(tmp_path: Path, cache_home: Path) -> None:
    image = pattern("wavelets", (16, 16))
    stream = jpeg2k_encode(image, level=0, reversible=True, codecformat="J2K")
    write_dicom(
        tmp_path / "scans" / "a.dcm", image, syntax=JPEG_2000,
        encoded=[stream + bytes(len(stream) % 2)], BitsStored=12, HighBit=11,
    )  # fmt: skip
    write_dicom(tmp_path / "scans" / "plain.dcm", pattern("plain", (16, 16)))
    cache = tmp_path / "cache"
    fault = with_fault("broken-decoder jpeg2k_decode wrong")
    ran = run_cli("build", tmp_path / "scans", cache, "--jobs", 1, env=fault)
    assert ran.returncode == 2
    assert "Traceback" not in ran.stderr
    assert f"{JPEG_2000}, sample jpeg-2000-grey: other pixels: SHA-256" in ran.stderr
    assert "nothing was converted" in ran.stderr
    assert "--force-reinstall" in ran.stderr
    assert list(cache.glob("build/*/receipts/*")) == []
    (kept,) = cache_home.iterdir()
    assert json.loads(kept.read_bytes()) == {"proved": [EXPLICIT]}
    ran = run_here(
        "build", tmp_path / "scans", cache, "--jobs", 1
    )  # mended, the same command goes on
    assert ran.returncode == 0, ran.stderr
    assert json.loads(kept.read_bytes()) == {"proved": [EXPLICIT, JPEG_2000]}


def test_what_was_proved_is_not_proved_again(
    cache_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[list[str]] = []

    def proved(names: list[str]) -> Iterator[Proof]:
        asked.append(list(names))
        return iter([])

    monkeypatch.setattr(apart, "proved", proved)
    gate.check({JPEG_LS, "1.2.3"})  # a syntax that nothing decodes: its files are refused by name
    gate.check({JPEG_LS})
    assert asked == [["jpeg-ls-colour", "jpeg-ls-grey", "jpeg-ls-signed"]]
    # Another library, if of the same version: its files are others.
    parts = [*remembered._parts()]
    assert any("jpegls" in path for path, _, _ in parts)
    monkeypatch.setattr(remembered, "_parts", lambda: iter([("other", 1, 2), *parts]))
    remembered._digest.cache_clear()
    try:
        gate.check({JPEG_LS})
    finally:
        remembered._digest.cache_clear()
    assert len(asked) == 2


@pytest.mark.parametrize("what", ["a file", "damaged"])
def test_a_folder_that_remembers_nothing_fails_no_build(
    tmp_path: Path, cache_home: Path, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    count = 0

    def proved(names: list[str]) -> Iterator[Proof]:
        nonlocal count
        count += 1
        return iter([])

    monkeypatch.setattr(apart, "proved", proved)
    if what == "a file":
        (tmp_path / "xdg").write_text("in the way")
        gate.check({JPEG_LS})
    else:
        gate.check({JPEG_LS})
        (kept,) = cache_home.iterdir()
        kept.write_text("[1, 2")
    gate.check({JPEG_LS})
    assert count == 2


def test_each_wrong_decoder_is_named_also_one_that_kills_its_process(cache_home: Path) -> None:
    ran = run_cli(
        "doctor",
        "--json",
        env=with_fault("broken-decoder htj2k_decode abort;broken-decoder jpeg8_decode wrong"),
    )
    assert ran.returncode == 1, ran.stderr
    found = json.loads(ran.stdout)
    assert not found["whole"]
    wrong = {one["sample"]: one["wrong"] for one in found["decoders"] if one["wrong"]}
    dead = {"htj2k-colour", "htj2k-grey", "htj2k-lossy", "htj2k-rpcl"}
    lossless = {f"jpeg-lossless{kind}" for kind in ("-grey", "-signed", "-sv1-grey", "-sv1-signed")}
    assert set(wrong) == dead | lossless | {"jpeg-extended"}
    assert wrong["htj2k-grey"].startswith("kills its process: SIGABRT")
    assert wrong["jpeg-extended"] == (  # which is lossy
        "1 of 2080 values differ by more than one grey level from those of another program, by 2 "
        "at most"
    )
    assert len(found["decoders"]) == 40
    assert not cache_home.exists()  # it proves each time


def test_without_a_library_its_syntaxes_are_named(
    cache_home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A library that is there and cannot be loaded, as on a processor that it was not made for."""
    (tmp_path / "broken" / "imagecodecs").mkdir(parents=True)
    (tmp_path / "broken" / "imagecodecs" / "__init__.py").write_text(
        "raise ImportError('libjxl.so: cannot open shared object file')"
    )
    monkeypatch.syspath_prepend(tmp_path / "broken")
    found = {proof.sample: proof.wrong for proof in apart.proved(["rle-grey", "explicit-signed"])}
    assert found["explicit-signed"] == ""
    assert found["rle-grey"] == "ImportError: libjxl.so: cannot open shared object file"


def test_one_that_does_not_end_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(apart, "EACH", 4)
    for name, value in with_fault("broken-decoder jpegls_decode sleep").items():
        monkeypatch.setenv(name, value)
    monkeypatch.syspath_prepend(os.environ["PYTHONPATH"])
    found = {proof.sample: proof.wrong for proof in apart.proved(["jpeg-ls-grey", "rle-grey"])}
    assert found == {"jpeg-ls-grey": "does not end within 4 s", "rle-grey": ""}


def test_doctor_says_what_the_file_system_of_a_path_can_do(tmp_path: Path) -> None:
    ran = run_here("doctor", tmp_path / "not" / "there", "--json")
    assert ran.returncode == 0, ran.stdout
    found = json.loads(ran.stdout)
    assert found["whole"]
    facts = {fact["name"]: fact for part in ("software", "path") for fact in found[part]}
    assert facts["imagecodecs"]["state"] == "ok"
    assert facts["file system"]["said"].endswith(f", of {tmp_path}")
    assert facts["hard links"]["said"] == "yes"
    assert facts["4 MiB made durable"]["said"].endswith("ms, median of 5") or (
        facts["4 MiB made durable"]["state"] != "wrong"
    )
    assert not (tmp_path / "not").exists()
    assert list(tmp_path.iterdir()) == []
    assert {len(one["sha256"]) for one in found["decoders"]} == {64}


def test_what_works_slowly_is_said_and_is_not_wrong(tmp_path: Path) -> None:
    env = with_fault("no-kernel;no-crc32c;no-links 38")
    ran = run_cli("doctor", tmp_path, env=env)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    said = {line[2:22].strip(): line for line in ran.stdout.splitlines() if line}
    assert said["compiled loops"].startswith("- ")
    assert "NumPy does the same" in said["compiled loops"]
    assert said["CRC-32C"].startswith("- ")
    assert "nstall a wheel of it" in said["CRC-32C"]
    assert "folders are renamed" in said["hard links"]
    assert "all is well" in ran.stdout
    assert ran.stderr == ""


def test_versions_that_are_not_asked_for_are_wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        machine.metadata,
        "requires",
        lambda _: ["numpy>=99", "nowhere-to-be>=2", "torch>=99; extra == 'train'"],
    )
    monkeypatch.setattr(machine, "_PACKAGES", ("numpy", "nowhere-to-be", "torch"))
    found = {fact.name: fact for fact in machine.software()}
    assert found["numpy"].state == found["nowhere-to-be"].state == "wrong"
    assert "'numpy>=99'" in found["numpy"].remedy
    assert found["torch"].state == "ok"


def test_a_disk_that_may_not_be_written_to_is_wrong(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(machine.tempfile, "TemporaryDirectory", refused)
    fact = {fact.name: fact for fact in machine.file_system(tmp_path)}["written to"]
    assert fact.state == "wrong"
    assert fact.said == f"{tmp_path}: Permission denied"
    assert "ls -ld" in fact.remedy


def test_a_build_in_python_raises(cache_home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bad = Proof("htj2k-grey", HTJ2K, "", "", "other pixels")
    monkeypatch.setattr(apart, "proved", lambda _: iter([bad]))
    with pytest.raises(Unfinished, match=f"{HTJ2K}, sample htj2k-grey: other pixels"):
        gate.check({HTJ2K, EXPLICIT})
    assert remembered.remembered() == {EXPLICIT}
