"""A canary in every place of a file that holds text: none in what is said to be without."""

from __future__ import annotations

import base64
import logging
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from dicom2cache.headers import by_pydicom, read
from dicom2cache.schema import KEYWORDS
from tests.privacy.canaries import FORMS, WORD, Canaries, found_in, make, texts_of
from tests.support.caches import run_cli, run_here
from tests.support.dicom_files import pattern, uid, write_dicom

PATIENT = {
    "PatientName", "PatientID", "AccessionNumber", "PatientBirthDate", "PatientWeight",
    "AcquisitionDate", "AcquisitionTime", "AcquisitionDateTime", "SeriesDate", "SeriesTime",
    "TimezoneOffsetFromUTC", "RadiopharmaceuticalInformationSequence",
}  # fmt: skip
"""elements that are read, and whose values no cache and no message has"""
QUOTED = {
    "file name", "folder name", "target of a link", "TransferSyntaxUID", "FrameOfReferenceUID",
    "RescaleType of a frame", "explanation of a frame", "archive name", "member name",
    "link of a member", "ROI name", "ROI type", "segment label", "segment code",
    "segment code meaning",
    "channel label", "channel code", "channel code meaning", "unit", "group label",
    "interpretation",
}  # fmt: skip
"""what is no element of the catalogue, and may be in a cache that is not de-identified"""


@pytest.fixture(scope="module")
def canaries(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Canaries]:
    folder = tmp_path_factory.mktemp("canaries")
    return folder / "source", make(folder / "source")


@pytest.fixture(scope="module")
def key(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("key") / "key"
    path.touch(0o600)
    path.write_bytes(bytes(range(32)))
    return path


def _everything(source: Path, cache: Path, *options: object) -> list[tuple[str, bytes]]:
    """All that a cache has, and all that the commands that make and look at it say."""
    said = []
    page = cache.with_name("page.html")
    for command in (
        ("plan", source, cache, "--jobs", "2", "--verbose", *options),
        ("convert", cache, "--jobs", "2"),
        ("commit", cache, "--json", *options),
        ("build", source, cache, "--json", *options),
        ("info", cache), ("info", cache, "--json"), ("info", cache, "--errata"),
        ("verify", cache), ("compare", cache, cache), ("failures", cache, "--each"),
        ("report", cache, "--out", page), ("show", cache, "0", "--out", page.with_name("0.png")),
    ):  # fmt: skip
        several = command[0] in ("plan", "convert")
        ran = (run_cli if several else run_here)(*command)
        assert ran.returncode < 2, ran.stderr
        said.append((f"{command[0]} says", f"{ran.stdout}\n{ran.stderr}".encode()))
    return [*said, *texts_of(cache), ("page", page.read_bytes())]


def test_a_deidentified_cache_has_none(
    canaries: tuple[Path, Canaries], key: Path, tmp_path: Path
) -> None:
    source, made = canaries
    found = found_in(_everything(source, tmp_path / "cache", "--deidentify", key), made)
    assert {c: (made.places.get(c), where) for c, where in found.items()} == {}


def test_another_cache_has_what_the_page_says(
    canaries: tuple[Path, Canaries], tmp_path: Path
) -> None:
    source, made = canaries
    found = found_in(_everything(source, tmp_path / "cache"), made)
    assert not [c for c in found if c.startswith("form: ")]
    places = {made.places[c] for c in found}
    assert places <= QUOTED | (set(KEYWORDS) - PATIENT)
    # So the search does find, in tables, and in what is printed.
    assert {"file name", "SeriesInstanceUID", "Manufacturer", "RescaleSlope"} <= places
    names = {where for c in found if made.places[c] == "file name" for where in found[c]}
    assert {"plan says", "values of frames/0.parquet", "values of failures/0.parquet"} <= names
    where = {made.places[c]: where for c, where in found.items()}
    assert "values of contours/0.parquet" in where["ROI name"]
    assert not [c for c in found if "page" in found[c]]


def test_the_search_finds_each_form() -> None:
    made = Canaries()
    word, number = made.word("a place"), made.number("a date", "DA")
    for shift in range(3):
        data = b"abc"[:shift] + word.encode()
        assert found_in([("x", base64.b64encode(data))], made) == {"form: base64": {"x"}}
    assert found_in([("x", word.encode("utf-16"))], made) == {"form: UTF-16": {"x"}}
    assert found_in([("x", word.encode().hex().upper().encode())], made) == {"form: hex": {"x"}}
    assert set(found_in([("x", f"a{number}b {word}".encode())], made)) == {word, number}
    assert {form for form, _ in FORMS} == {"UTF-16", "hex", "base64"}


@dataclass
class _Small:
    source: Path
    cache: Path
    key: Path


@pytest.fixture
def small(tmp_path: Path, key: Path) -> _Small:
    """A source whose names are canaries, with one file that is refused."""
    source = tmp_path / f"{WORD}00001"
    for name in ("2", "3"):
        path = source / f"{WORD}0000{name}.dcm"
        write_dicom(path, pattern(name, (8, 8)), SOPInstanceUID=uid(name))
    write_dicom(source / "bad.dcm", pattern("b", (8, 8)), PhotometricInterpretation=f"{WORD}00009")
    return _Small(source, tmp_path / "cache", key)


def _fault(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: Any) -> None:
        raise KeyError(f"{WORD}00010")

    monkeypatch.setattr(read, "row_of", fails)
    monkeypatch.setattr(by_pydicom, "describe", fails)


def _away(small: _Small) -> None:
    small.source.rename(small.source.with_name("elsewhere"))


def _gone(small: _Small) -> None:
    (small.source / f"{WORD}00002.dcm").unlink()


@pytest.mark.parametrize(
    ("harm", "status", "said"),
    [
        (_away, 2, "Mount it on that machine and run the same command again"),
        (_gone, 1, "frames that failed: 1"),
    ],
)
def test_errors_of_a_conversion_name_no_source(
    small: _Small, harm: Callable[[_Small], None], status: int, said: str
) -> None:
    ran = run_here("plan", small.source, small.cache, "--jobs", "1", "--deidentify", small.key)
    assert ran.returncode == 1
    assert WORD not in ran.stdout + ran.stderr
    harm(small)
    ran = run_here("convert", small.cache, "--jobs", "1")
    assert ran.returncode == status
    assert said in ran.stderr
    assert WORD not in ran.stdout + ran.stderr


def test_errors_of_a_build_name_no_source(small: _Small) -> None:
    options = ("--jobs", "1", "--deidentify", small.key)
    ran = run_here("build", small.source, small.cache, *options, "--on-error", "raise")
    assert ran.returncode == 2
    assert "PhotometricInterpretation (0028,0004)" in ran.stderr
    assert WORD not in ran.stdout + ran.stderr
    for path in small.source.glob(f"{WORD}*"):
        path.unlink()
    ran = run_here("build", small.source, small.cache, *options, "--overwrite")
    assert ran.returncode == 2
    assert "none with an image to store" in ran.stderr
    assert WORD not in ran.stdout + ran.stderr


def test_faults_of_our_own_name_no_source(
    small: _Small, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    _fault(monkeypatch)
    with caplog.at_level(logging.ERROR, "dicom2cache"):
        ran = run_here("build", small.source, small.cache, "--jobs", "1")
        assert ran.returncode == 2
    assert f"{WORD}00010" in caplog.text  # so there is something to leave out
    caplog.clear()
    with caplog.at_level(logging.ERROR, "dicom2cache"):
        options = ("--jobs", "1", "--deidentify", small.key)
        ran = run_here("build", small.source, small.cache, *options)
        assert ran.returncode == 2
    assert "KeyError" in caplog.text
    assert WORD not in caplog.text + ran.stdout + ran.stderr
    shutil.rmtree(small.source)
