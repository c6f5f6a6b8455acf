"""The report of a small cache: literal counts, no address, nothing of headers as markup."""

from __future__ import annotations

import gzip
import io
import re
import shutil
from base64 import b64decode
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pydicom import dcmread
from pydicom.uid import JPEGLSLossless

from tests.support.caches import attributes, built, run_here, table
from tests.support.dicom_files import CT_IMAGE, uid, write_dicom
from tests.support.segmentations import write_segmentation

EVIL = '<script>alert("x")</script><img src=//evil.example/x onerror=alert(1)>'
_VOID = {"meta", "img", "br"}
_TEXT = {"ImageOrientationPatient": [1, 0, 0, 0, 1, 0], "PixelSpacing": [0.5, 0.5]}


class Page(HTMLParser):
    """A page, taken apart; fails where tags are not balanced."""

    def __init__(self, document: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[str] = []
        self.addresses: list[str] = []
        self.images: list[dict[str, str | None]] = []
        self.ids: list[str] = []
        self.shown = ""
        self.feed(document)
        self.close()
        assert not self.open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        said = dict(attrs)
        self.addresses += [str(said[key]) for key in ("src", "href", "action") if key in said]
        self.ids += [str(said["id"])] if "id" in said else []
        assert not [key for key in said if key.startswith("on")]
        if tag == "img":
            self.images.append(said)
        if tag not in _VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open[-1:] != ["style"]:
            self.shown += f"{data} "


def _ct(folder: Path, patient: str, slices: int, **elements: object) -> None:
    ramp = np.arange(64 * 64, dtype=np.uint16).reshape(64, 64) % 1500
    for k in range(slices):
        write_dicom(
            folder / f"{patient}-{k}.dcm", ramp + k, SOPClassUID=CT_IMAGE, Modality="CT",
            PatientID=patient, StudyInstanceUID=uid(f"study {patient}"),
            SeriesInstanceUID=uid(f"series {patient}"), RescaleSlope=1, RescaleIntercept=-1024,
            RescaleType="HU", ImagePositionPatient=[0, 0, 2.5 * k], SliceThickness=2.5,
            FrameOfReferenceUID=uid("space"), PatientAge="045Y", PatientSex="F", InstanceNumber=k,
            ImageType=["ORIGINAL", "PRIMARY", "AXIAL"], **{**_TEXT, **elements},
        )  # fmt: skip


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three patients of CT, a hostile one of colour, and files that are not stored."""
    folder = tmp_path_factory.mktemp("report")
    for patient, slices in (("Anna^Meyer", 12), ("Bert", 4), ("Carl", 1)):
        _ct(folder / "in", patient, slices)
    colour = np.zeros((2, 40, 60, 3), np.uint8)
    colour[..., 0] = 255
    write_dicom(
        folder / "in" / "<b>shot.dcm", colour, PatientID=EVIL, Manufacturer=EVIL, Modality="US",
        BodyPartExamined="<IMG SRC=X>", ImageType=["DERIVED", "SECONDARY"],
    )  # fmt: skip
    whole = (folder / "in" / "Bert-0.dcm").read_bytes()
    for k in range(3):
        (folder / "in" / f"cut <{k}>.dcm").write_bytes(whole[: -1000 - k])
    write_dicom(folder / "in" / "plan.dcm", SOPClassUID="1.2.840.10008.5.1.4.1.1.481.5")
    for k in range(5):
        (folder / "in" / f"volume{k}.nii.gz").write_bytes(gzip.compress(bytes(352)))
    (folder / "in" / "notes.txt").write_text("none\n" * 99)
    return built(folder / "in", folder / "cache", "--jobs", 1, status=1)


def _report(cache: Path, *flags: object) -> str:
    out = cache.parent / "page.html"
    ran = run_here("report", cache, "-o", out, *flags)
    assert ran.returncode == 0, ran.stderr
    return out.read_text("utf-8")


def _words(document: str) -> str:
    return re.sub(r"[ \n]+", " ", Page(document).shown)


def test_the_page_counts(cache: Path) -> None:
    words = _words(_report(cache))
    assert "19 frames: CT, US" in words
    assert "18 DICOM files of 4 patients" in words
    assert re.search(r"CT image 3 3 3 3 17 17 ", words)  # patients, studies, series, stacks, files
    assert re.search(r"US image 1 1 1 1 1 2 ", words)
    # The ramp has 0 to 1095 three times and 1096 to 1499 twice; its middle slice has 3 more.
    assert re.search(r"CT HU int16 17 [\d.]+ KiB −1\u202f008 −339 458 ", words)
    assert re.search(r"CT 3 3 1 4 12 2 0 0 1 ", words)  # stacks, least, median, most, regular, ...
    assert "Explicit VR Little Endian 19" in words
    assert "F 3 not said 1" in words  # patients, not frames
    assert "all 45 years" in words
    assert "all 2.5 mm" in words


def test_what_is_not_stored_is_grouped_with_its_remedy(cache: Path) -> None:
    words = _words(_report(cache))
    assert "failed at header 3 3 pixel data is truncated: ... bytes, ... expected" in words
    assert "RT Plan Storage has no pixel data → nothing to do" in words
    assert "6 6 no DICM at byte 128 and no data element at byte 0 .nii.gz 5, .txt 1" in words
    assert "unless it was made from DICOM: then convert the originals" in words


def test_nothing_of_a_header_is_markup_or_leaves_the_page(cache: Path) -> None:
    for flags in ((), ("--identifying", "--title", EVIL)):
        document = _report(cache, *flags)
        page = Page(document)
        assert not {"script", "iframe", "link", "object", "b:"} & set(page.tags)
        assert all(a.startswith(("#", "data:image/png;base64,")) for a in page.addresses)
        assert {a[1:] for a in page.addresses if a.startswith("#")} <= set(page.ids)
        assert "<script" not in document
        assert "url(" not in document
        assert "@import" not in document
        assert "default-src 'none'" in document.replace("&#x27;", "'")
    assert 'alert("x")' in page.shown  # told, as text
    assert "<b>shot.dcm" not in document
    assert "cut <0>.dcm" in page.shown


def test_by_default_nobody_is_named(cache: Path) -> None:
    document = _report(cache)
    rows = table(cache, "frames")
    for column in ("patient", "study_uid", "series_uid", "sop_uid", "path"):
        for value in {row[column] for row in rows}:
            assert value not in document, column
    for word in ("Meyer", "evil.example", "IMG SRC", "cut", str(cache.parent), cache.name + "/"):
        assert word not in _words(document), word
    assert "cut <0>.dcm" in _words(_report(cache, "--identifying"))


def test_pictures_are_the_frames(cache: Path) -> None:
    page = Page(_report(cache, "--pictures", 3))
    assert len(page.images) == 3  # not the screen shot, which may have names in it
    pictures = {}
    for image in page.images:
        assert image["alt"]
        data = b64decode(str(image["src"]).partition(",")[2])
        pictures[str(image["alt"])] = np.asarray(Image.open(io.BytesIO(data)))
    assert sorted(pictures) == [
        "4 of 4 frames of a stack of CT, 64 × 64 pixels",
        "9 of 12 frames of a stack of CT, 64 × 64 pixels",
        "A frame of a stack of CT, 64 × 64 pixels",
    ]
    one = pictures["A frame of a stack of CT, 64 × 64 pixels"]
    assert one.shape == (288, 288)
    # A ramp of 0 to 1499 from row to row, twice and more: row 0 is dark, row 22 bright, 24 dark.
    assert one[2, 144] < 16
    assert one[int(22.5 * 4.5), 144] > 240
    assert one[int(24.5 * 4.5), 144] < 32
    assert len(Page(_report(cache, "--identifying")).images) == 4


def test_masks_lie_on_their_images(cache: Path, tmp_path: Path) -> None:
    images = [cache.parent / "in" / f"Bert-{k}.dcm" for k in range(4)]
    for image in images:
        shutil.copy(image, tmp_path)
    square = np.zeros((1, 4, 64, 64), np.uint8)
    square[..., :32, :32] = 1
    write_segmentation(tmp_path / "in" / "seg.dcm", images, square, ["liver"])
    for name, text in (("plain", "NO"), ("text", "YES")):
        for image in images:
            changed = dcmread(image)
            changed.BurnedInAnnotation = text
            changed.save_as(tmp_path / "in" / image.name)
        found = built(tmp_path / "in", tmp_path / name, "--jobs", 1)
        page = Page(_report(found))
        said = {str(image["alt"]): str(image["src"]) for image in page.images}
        assert len(said) == (2 if text == "NO" else 1)
        data = b64decode(said["4 of 4 frames of a stack of SEG, 64 × 64 pixels"].partition(",")[2])
        picture = np.asarray(Image.open(io.BytesIO(data)).convert("RGB")).astype(int)
        assert ("on its images" in page.shown) is (text == "NO")
        inside = picture[2, 2]
        if text == "NO":  # half of (230, 159, 0) on black; the image beside it as it is
            assert np.abs(inside - (115, 80, 0)).max() < 12
            assert np.ptp(picture[100, 140]) < 6
            assert picture[100, 140].max() > 0
        else:
            assert set(np.unique(picture)) == {0, 255}


def test_pictures_are_chosen_by_seed(cache: Path) -> None:
    def alts(*flags: object) -> list[str]:
        return [str(image["alt"]) for image in Page(_report(cache, *flags)).images]

    assert alts("--pictures", 0) == []
    found = {tuple(alts("--pictures", 1, "--seed", seed)) for seed in range(8)}
    assert len(found) == 3
    assert _report(cache, "--seed", 5) == _report(cache, "--seed", 5)


def test_damaged_frames_are_said_not_shown(cache: Path, tmp_path: Path) -> None:
    copy = tmp_path / "cache"
    shutil.copytree(cache, copy)
    about = attributes(copy)
    (shard,) = (copy / about["arrays"][0]["name"]).glob("c.0.*")
    with shard.open("r+b") as file:
        file.seek(100)
        file.write(b"\xff" * 64)
    words = _words(_report(copy, "--pictures", 9))
    assert "1 stack cannot be read" in words


def test_a_split_is_shown(cache: Path) -> None:
    out = cache.parent / "sides.csv"
    ran = run_here("split", cache, out, "--fractions", "a=0.5,b=0.5")
    assert ran.returncode == 0, ran.stderr
    words = _words(_report(cache, "--split", out))
    sides = re.search(r"given Side .{,60} of frames a (\d) [\d ]*b (\d) ", words)
    assert sides
    assert int(sides[1]) + int(sides[2]) == 4


def test_a_file_that_is_no_report_stays(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "report.html").write_text("of pytest")
    ran = run_here("report", cache)
    assert ran.returncode == 2
    assert ran.stderr == (
        "dicom2cache: report.html: exists, and is not of this command; name a file by -o\n"
    )
    assert (tmp_path / "report.html").read_text() == "of pytest"
    (tmp_path / "report.html").unlink()
    for _ in range(2):
        assert run_here("report", cache).returncode == 0
    assert sorted(p.name for p in tmp_path.iterdir()) == ["report.html"]


def test_a_plan_has_a_page(cache: Path, tmp_path: Path) -> None:
    out = tmp_path / "plan.html"
    ran = run_here("plan", cache.parent / "in", tmp_path / "cache", "--report", out)
    assert ran.returncode == 1, ran.stderr  # some files fail
    assert ran.stdout.endswith(f"{out}: Plan of 19 frames: CT, US\n")
    document = out.read_text("utf-8")
    page, words = Page(document), _words(document)
    assert page.images == []
    assert re.search(r"CT image 3 3 3 3 17 17 136.0 KiB ", words)  # 17 slots of 8 KiB
    assert "all 2.5 mm" in words
    assert "pixel data is truncated: ... bytes, ... expected" in words
    assert "Meyer" not in document
    assert "cut" not in words


def test_a_cache_of_no_frames_has_a_page(tmp_path: Path) -> None:
    write_dicom(
        tmp_path / "in" / "lost.dcm", np.zeros((8, 8), np.uint8), syntax=JPEGLSLossless,
        encoded=[bytes(64)],
    )  # fmt: skip
    words = _words(_report(built(tmp_path / "in", tmp_path / "cache", "--jobs", 1, status=1)))
    assert "No frame is stored." in words
    assert "failed at decode 1 1 " in words
