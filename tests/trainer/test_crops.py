"""Crops out of the map, and batches of one array, against plain slices of padded frames."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.support.caches import built
from tests.support.dicom_files import pattern, write_dicom
from trainer_adapter import CacheLoader, Crop, open_cache

SIZES = {"a": (40, 60), "b": (30, 30), "c": (64, 16), "d": (20, 20)}
"""(H, W) of the images, by the name of their file"""
MARGIN = 100


def pixels_of(name: str) -> np.ndarray:
    return np.asarray(pattern(name, SIZES[name], "int16", top=30000))


def cut(name: str, top: int, left: int, height: int, width: int, fill: int = 0) -> np.ndarray:
    """What a crop of an image is, by a slice of the image with wide margins."""
    wide = np.pad(pixels_of(name), MARGIN, constant_values=fill)
    return wide[top + MARGIN :, left + MARGIN :][:height, :width]


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four images of four sizes, and the same as colour in files of other names."""
    folder = tmp_path_factory.mktemp("sizes")
    for name in SIZES:
        write_dicom(folder / "in" / name, pixels_of(name))
    return built(folder / "in", folder / "cache", "--max-arrays", "1")


def names_of(path: Path) -> list[str]:
    return list(open_cache(path).column("path").to_pylist())


READS = ("auto", "map", "advise", "pread")


@pytest.mark.parametrize("read", READS)
def test_given_boxes(path: Path, read: str) -> None:
    names = names_of(path)
    place = {"a": (0, 0), "b": (3, 7), "c": (-5, -2), "d": (10, 15)}
    boxes = np.array([place[n] for n in names])
    crop = Crop(16, 24, at="given", boxes=boxes, fill=-7)
    (batch,) = CacheLoader(open_cache(path), 4, crop=crop, read=read)
    for image, i in zip(batch.image.numpy(), batch.index.tolist(), strict=True):
        expected = cut(names[i], *place[names[i]], 16, 24, -7)
        np.testing.assert_array_equal(image, expected)


@pytest.mark.parametrize("read", READS)
@pytest.mark.parametrize("place", [(500, 0), (-500, 0), (0, 500), (0, -500)])
def test_a_box_outside_of_its_frame_is_fill(path: Path, read: str, place: tuple[int, int]) -> None:
    crop = Crop(8, 8, at="given", boxes=np.array([place] * 4), fill=5)
    (batch,) = CacheLoader(open_cache(path), 4, crop=crop, read=read)
    assert (batch.image == 5).all()


@pytest.mark.parametrize("read", READS)
def test_the_centre_and_smaller_frames_in_the_middle(path: Path, read: str) -> None:
    names = names_of(path)
    (batch,) = CacheLoader(open_cache(path), 4, crop=Crop(30, 40, at="center", fill=1), read=read)
    corner = {"a": (5, 10), "b": (0, -5), "c": (17, -12), "d": (-5, -10)}
    for image, i in zip(batch.image.numpy(), batch.index.tolist(), strict=True):
        np.testing.assert_array_equal(image, cut(names[i], *corner[names[i]], 30, 40, 1))


@pytest.mark.parametrize("read", READS)
def test_random_crops_are_slices_and_cover_all_places(path: Path, read: str) -> None:
    cache = open_cache(path).select(path="a")
    whole = pixels_of("a")
    loader = CacheLoader(cache, 1, crop=(38, 57), read=read, threads=1)
    seen = set()
    for _ in range(120):
        (batch,) = loader
        found = [
            (y, x)
            for y in range(3)
            for x in range(4)
            if (batch.image[0].numpy() == whole[y : y + 38, x : x + 57]).all()
        ]
        assert len(found) == 1
        seen.add(found[0])
    assert len(seen) == 12  # each of 3 x 4 places; one is missed in 120 draws with p = 3e-4


def test_a_crop_depends_on_seed_epoch_and_sample_alone(path: Path) -> None:
    cache = open_cache(path)

    def crops(**options: object) -> dict[int, bytes]:
        loader = CacheLoader(cache, crop=(10, 10), **options)
        loader.set_epoch(3)
        return {
            i: image.numpy().tobytes()
            for b in loader
            for i, image in zip(b.index.tolist(), b.image, strict=True)
        }

    first = crops(batch_size=4, seed=1)
    assert crops(batch_size=1, seed=1, threads=0, shuffle=True, read="pread") == first
    few = CacheLoader(cache.select([2]), 1, crop=(10, 10), seed=1)
    few.set_epoch(3)
    (batch,) = few
    assert first[int(batch.index[0])] == batch.image.numpy().tobytes()
    other = crops(batch_size=4, seed=2)
    assert all(first[i] != other[i] for i in first)


def test_boxes_follow_their_frames(path: Path) -> None:
    names = names_of(path)
    boxes = np.array([[k, 2 * k] for k in range(4)])
    labels = {"path": names, "label": ["x", None, "y", "x"]}
    loader = CacheLoader(
        open_cache(path), 4, crop=Crop(9, 9, at="given", boxes=boxes),
        label="label", labels=labels, on="path", missing="drop",
    )  # fmt: skip
    (batch,) = loader
    assert batch.index.tolist() == [0, 2, 3]
    for image, i in zip(batch.image.numpy(), [0, 2, 3], strict=True):
        np.testing.assert_array_equal(image, cut(names[i], i, 2 * i, 9, 9))


@pytest.mark.parametrize("read", READS)
def test_batches_of_one_array_hold_slots(path: Path, read: str) -> None:
    names = names_of(path)
    batches = list(CacheLoader(open_cache(path), 4, bucket="array", read=read))
    assert len(batches) == 1  # of four sizes in one array
    for batch in batches:
        for image, i in zip(batch.image.numpy(), batch.index.tolist(), strict=True):
            np.testing.assert_array_equal(image, cut(names[i], 0, 0, *image.shape))
    sizes = CacheLoader(open_cache(path), 4, columns=("height", "width"))
    shapes = {tuple(b.image.shape[1:]): (b.columns["height"], b.columns["width"]) for b in sizes}
    assert sorted(shapes) == sorted(SIZES.values())
    assert all((int(h[0]), int(w[0])) == shape for shape, (h, w) in shapes.items())


def test_colour_crops(tmp_path: Path) -> None:
    image = pattern("rgb", (30, 40, 3), "uint8", 255)
    write_dicom(tmp_path / "in" / "rgb", image)
    cache = open_cache(built(tmp_path / "in", tmp_path / "cache"))
    for read in READS:
        crop = Crop(35, 10, at="given", boxes=np.array([[-2, 33]]), fill=9)
        (batch,) = CacheLoader(cache, 1, crop=crop, read=read)
        wide = np.pad(image, ((2, 3), (0, 3), (0, 0)), constant_values=9)
        np.testing.assert_array_equal(batch.image[0].numpy(), wide[:, 33:43])


def test_grey_and_colour_are_batches_of_their_own(tmp_path: Path) -> None:
    write_dicom(tmp_path / "in" / "rgb", pattern("rgb", (30, 40, 3), "uint8", 255))
    write_dicom(tmp_path / "in" / "grey", pattern("grey", (20, 20), "uint8", 255))
    write_dicom(tmp_path / "in" / "other", pattern("other", (50, 20), "uint8", 255))
    loader = CacheLoader(
        open_cache(built(tmp_path / "in", tmp_path / "cache")), 4, crop=(8, 8), shuffle=True
    )
    assert sorted(tuple(b.image.shape) for b in loader) == [(1, 8, 8, 3), (2, 8, 8)]


@pytest.mark.parametrize(
    ("crop", "message"),
    [
        ({"height": 0, "width": 4}, "from 1 x 1"),
        ({"height": 4, "width": 4, "at": "corner"}, "random, center"),
        ({"height": 4, "width": 4, "at": "given"}, "boxes"),
        ({"height": 4, "width": 4, "boxes": np.zeros((4, 2), int)}, "boxes"),
        ({"height": 4, "width": 4, "at": "given", "boxes": np.zeros((4, 4), int)}, r"\(n, 2\)"),
        ({"height": 4, "width": 4, "at": "given", "boxes": np.zeros((4, 2))}, "whole numbers"),
    ],
)
def test_nonsense_is_refused(crop: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Crop(**crop)  # type: ignore[arg-type]


def test_boxes_for_other_frames_are_refused(path: Path) -> None:
    crop = Crop(4, 4, at="given", boxes=np.zeros((3, 2), int))
    with pytest.raises(ValueError, match="3 boxes for 4 frames"):
        CacheLoader(open_cache(path), crop=crop)


def test_a_fill_that_the_dtype_cannot_hold_is_refused(path: Path) -> None:
    with pytest.raises(ValueError, match="fill"):
        CacheLoader(open_cache(path), crop=Crop(8, 8, fill=1e6))
    with pytest.raises(ValueError, match="fill"):
        CacheLoader(open_cache(path), crop=Crop(8, 8, fill=0.5))


TOUCHED = """
import ctypes, mmap, re, sys
from trainer_adapter import CacheLoader, open_cache
cache = open_cache(sys.argv[1])
loader = CacheLoader(cache, 1, crop=(32, 2048), threads=0, read="map")

def mine():
    maps = open("/proc/self/smaps").read()
    blocks = re.split(r"(?m)^(?=[0-9a-f]+-[0-9a-f]+ )", maps)
    (found,) = [b for b in blocks if "/c.0.0.0" in b]
    return found

(batch,) = loader  # at first touch, the first frame is checked as a whole
start, stop = (int(x, 16) for x in mine().split()[0].split("-"))
libc = ctypes.CDLL(None)
libc.madvise(ctypes.c_void_p(start), ctypes.c_size_t(stop - start), mmap.MADV_DONTNEED)
(batch,) = loader
mine = mine()
print(re.search(r"Rss: +(\\d+)", mine)[1], re.search(r"Size: +(\\d+)", mine)[1])
"""


@pytest.mark.skipif(sys.platform != "linux", reason="smaps is Linux's")
def test_only_the_rows_of_a_crop_are_touched(tmp_path: Path) -> None:
    write_dicom(tmp_path / "in" / "x-ray", pattern("x-ray", (4096, 4096)))
    cache = built(tmp_path / "in", tmp_path / "cache")
    out = subprocess.run(
        [sys.executable, "-c", TOUCHED, cache], check=True, capture_output=True, text=True
    ).stdout
    resident, size = map(int, re.findall(r"\d+", out))  # KiB
    assert size >= 32768
    # 32 rows are 128 KiB; the kernel maps up to 2 MiB around what is touched, index included.
    assert 128 <= resident <= 6 * 1024
