"""LightlyTrain's door of masks: which mask a path gets, workers, data sets, and what is refused."""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from lightly_train._data import file_helpers
from lightly_train._data.image_dataset import ImageDataset
from lightly_train._data.mask_panoptic_segmentation_dataset import (
    MaskPanopticSegmentationDatasetArgs,
)
from lightly_train._data.mask_semantic_segmentation_dataset import (
    MaskSemanticSegmentationDatasetArgs,
)
from PIL import Image
from pycocotools import mask as coco
from pydicom import dcmread
from torch.utils.data import DataLoader

from tests.lightly.discs import NAMES, SIZE, drawn, write_discs
from tests.support.caches import built
from tests.support.dicom_files import pattern, write_dicom, write_series
from tests.support.segmentations import write_segmentation
from tests.support.structures import box, contour, write_structures
from trainer_adapter import open_cache
from trainer_adapter.errors import LabelError, NotServedError, UnknownLightlyError
from trainer_adapter.lightly import api, masks, written


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, config_home: Path) -> Path:
    """in/a and in/b, three slices each with their segmentations; in/alone.dcm without; cache."""
    folder = tmp_path_factory.mktemp("masks")
    for k, name in enumerate("ab"):
        write_discs(folder / "in" / name, 3, begin=3 * k)
    write_dicom(folder / "in" / "alone.dcm", pattern("alone", (40, 50)), Modality="OT")
    built(folder / "in", folder / "cache")
    return folder


def opened(path: Path | str) -> Any:
    """What LightlyTrain's semantic segmentation gets for the path of a mask."""
    return file_helpers.open_mask_numpy(mask_path=Path(path))


def panoptic(path: Path | str) -> Any:
    """What its panoptic segmentation gets: it is told by the module that asks."""
    name = "lightly_train._data.mask_panoptic_segmentation_dataset"
    return eval("f.open_mask_numpy(mask_path=p)", {"f": file_helpers, "__name__": name,
                                                   "p": Path(path)})  # fmt: skip


def test_a_mask_has_the_path_of_its_image(folder: Path) -> None:
    """As it is, with the template's slash before it, or as .png; the stub's name too."""
    file = folder / "in" / "b" / "ct" / "b01.dcm"
    with api.serve(folder / "cache", masks=NAMES) as served:
        for path in (file, f"/{file}", file.with_suffix(".png"), f"{file}#frame=0.dcm",
                     f"{file}#frame=0.png"):  # fmt: skip
            found = opened(path)
            assert found.dtype == np.uint8
            assert np.array_equal(found, drawn(4))
        assert served.mask_counts == (5, 0, 0)
        assert served.counts == (0, 0, 0)
    assert served.mask_counts == (5, 0, 0)


@pytest.mark.parametrize("kind", ["none", "planes", "labelmap"])
def test_masks_of_every_recipe(folder: Path, tmp_path: Path, kind: str) -> None:
    """Resized as their images, under the names that the recipe gives them."""
    rois = "" if kind == "none" else '[rois]\nhole = "dark"\nball = ["no", "^bri"]\n'
    (tmp_path / "recipe.toml").write_text(f"masks = {kind!r}\nsize = {SIZE // 2}\n{rois}")
    cache = built(folder / "in" / "a", "--recipe", tmp_path / "recipe.toml", tmp_path / "cache")
    names = ["bright", "dark"] if kind == "none" else ["ball", "hole"]
    assert set(api.classes(cache).values()) == {"background", *names}
    file = folder / "in" / "a" / "ct" / "a02.dcm"
    with api.serve(cache, masks=names) as served:
        found = opened(file)
        assert (
            found.shape == file_helpers.open_image_numpy(file).shape[:2] == (SIZE // 2, SIZE // 2)
        )
    assert served.mask_counts == (1, 0, 0)
    fine = drawn(2).reshape(SIZE // 2, 2, SIZE // 2, 2)
    whole = (fine == fine[:, :1, :, :1]).all((1, 3))  # blocks of one label
    assert whole.mean() > 0.9
    assert np.array_equal(found[whole], fine[:, 0, :, 0][whole])


@pytest.mark.parametrize("kind", ["planes", "labelmap"])
def test_contours_are_masks_too(tmp_path: Path, config_home: Path, kind: str) -> None:
    write_series(tmp_path / "in" / "ct", 2, 16)
    corners = box(1, 1.5, 6, 6.5)  # mm, pixels are of 0.5
    write_structures(tmp_path / "in" / "rt.dcm", [("GTV 1", [contour(corners)])])
    cache = built(tmp_path / "in", "--masks", kind, tmp_path / "cache")
    data = api.data(cache, tmp_path / "train")
    expected = np.zeros((16, 16), np.uint8)
    expected[3:13, 2:12] = 1
    with api.serve(cache, masks=["GTV 1"], root=tmp_path / "train") as served:
        drawn_on = [opened(row["mask_filepaths"]) for row in listed(data["images"], data["masks"])]
    assert served.mask_counts == (2, 0, 0)
    assert sorted(int(mask.sum()) for mask in drawn_on) == [0, 100]
    assert any(np.array_equal(mask, expected) for mask in drawn_on)


def test_classes_are_numbered_as_asked(folder: Path) -> None:
    file = folder / "in" / "a" / "ct" / "a00.dcm"
    for asked, values in (
        (True, [0, 1, 2]),
        (["dark"], [0, 0, 1]),
        (["dark", "bright"], [0, 2, 1]),
        ({"bright": 7, "dark": 300}, [0, 7, 300]),
    ):
        with api.serve(folder / "cache", masks=asked):
            assert np.array_equal(opened(file), np.array(values)[drawn(0)])
    assert api.classes(folder / "cache") == {0: "background", 1: "bright", 2: "dark"}
    assert api.classes(folder / "cache", {"dark": 9}) == {0: "background", 9: "dark"}


def test_images_without_a_mask(folder: Path) -> None:
    file = folder / "in" / "alone.dcm"
    for missing, value in (("zeros", 0), ("ignore", 255)):
        with api.serve(folder / "cache", masks=api.Masks(missing=missing)) as served:
            assert np.array_equal(opened(file), np.full((40, 50), value))
            assert not panoptic(file).any()
        assert served.mask_counts == (2, 2, 0)
    said = r"1 of 1 image has no mask .* alone\.dcm"
    with api.serve(folder / "cache", masks=api.Masks(missing="error")), \
            pytest.raises(LabelError, match=said):  # fmt: skip
        opened(file)


def test_what_is_not_there_is_refused_by_name(folder: Path, tmp_path: Path) -> None:
    cache, file = folder / "cache", folder / "in" / "a" / "ct" / "a00.dcm"
    for asked, said in (
        ("dark", "masks 'dark'; legal: True, a list"),
        (["drak"], "no mask of .* is called 'drak'"),
        ([], "masks of no class; legal: some of bright, dark"),
        (api.Masks(things=["drak"]), "things 'drak'; legal: bright, dark"),
        (api.Masks(missing="none"), "missing 'none'; legal: zeros, ignore, error"),
    ):
        with pytest.raises(ValueError, match=said), api.serve(cache, masks=asked):
            pass
    bare = built(folder / "in" / "a" / "ct", tmp_path / "cache")
    with pytest.raises(ValueError, match="it has no masks; build it with"), \
            api.serve(bare, masks=True):  # fmt: skip
        pass
    png = tmp_path / "mask.png"
    Image.fromarray(drawn(0)).save(png)
    with api.serve(cache, masks=True), pytest.raises(NotServedError, match=r"mask\.png: not below"):
        opened(png)
    with api.serve(cache, masks=True, missing="pass") as served:
        assert np.array_equal(opened(png), drawn(0))
        assert served.mask_counts == (0, 0, 1)
    with api.serve(cache) as served:  # as before: masks are files
        assert np.array_equal(opened(png), drawn(0))
        assert served.mask_counts == (0, 0, 1)
        with pytest.raises(NotServedError, match=r"a00\.dcm: stands for a frame .* masks=True"):
            opened(file)
        with pytest.raises(FileNotFoundError):
            opened(tmp_path / "other.png")


def as_is(sample: dict[str, Any]) -> list[dict[str, Any]]:
    """A transform that can be sent to a worker: one view, image and mask themselves."""
    return [{k: torch.from_numpy(v) for k, v in sample.items()}]


@pytest.mark.parametrize("start", ["fork", "spawn"])
def test_workers_are_served_masks_however_they_start(folder: Path, start: str) -> None:
    images = folder / "in" / "b" / "ct"
    names = [f"b{k:02}.dcm" for k in range(3)]
    dataset = ImageDataset(images, names, as_is, num_channels=3, mask_dir=images)
    loader = DataLoader(dataset, num_workers=1, multiprocessing_context=start)
    with api.serve(folder / "cache", masks=NAMES) as served:
        found = [batch["masks"][0][0].numpy() for batch in loader]
    assert all(np.array_equal(found[k], drawn(3 + k)) for k in range(3))
    assert served.counts == served.mask_counts == (3, 0, 0)


def test_a_server_with_masks_pickles_without_its_tables(folder: Path) -> None:
    with api.serve(folder / "cache", masks=True) as served:
        assert len(pickle.dumps(served)) < 6000


def listed(images: str, template: str) -> list[dict[str, str]]:
    """LightlyTrain's own list of images and masks."""
    args = MaskSemanticSegmentationDatasetArgs(
        image_dir=Path(images), mask_dir_or_file=template, ignore_index=-100, classes={},
    )  # fmt: skip
    return list(args.list_image_info())


def test_pairs_that_would_be_left_out_are_refused(folder: Path, tmp_path: Path) -> None:
    data = api.data(folder / "cache", tmp_path / "train")
    assert data == {"images": str(tmp_path / "train"), "masks": "/{image_path}"}
    relative = str(Path("{image_path}").absolute())  # what LightlyTrain makes of "{image_path}"
    with api.serve(folder / "cache", masks=True, root=tmp_path / "train"):
        assert len(listed(**{"images": data["images"], "template": data["masks"]})) == 7
        said = r"7 of 7 images have no mask at .*image_path.* give masks='/\{image_path\}'"
        with pytest.raises(NotServedError, match=said):
            listed(data["images"], relative)
    assert listed(data["images"], relative) == []


def test_frames_of_a_multi_frame_file_have_their_own_masks(
    tmp_path: Path, config_home: Path
) -> None:
    """By the frame's number, which DICOM counts from 1; the file by itself names none."""
    place = {"PixelSpacing": [1, 1], "ImageOrientationPatient": [1, 0, 0, 0, 1, 0],
             "ImagePositionPatient": [0, 0, 0]}  # fmt: skip
    cine = write_dicom(
        tmp_path / "in" / "us.dcm", pattern("us", (3, 40, 50), "uint8", 256), Modality="US",
        SOPClassUID="1.2.840.10008.5.1.4.1.1.3.1", **place,
    )  # fmt: skip
    mask = np.zeros((1, 1, 40, 50), np.uint8)
    mask[..., 3:9, 4:20] = 1
    file = dcmread(write_segmentation(tmp_path / "in" / "seg.dcm", [cine], mask, ["lesion"]))
    (group,) = file.PerFrameFunctionalGroupsSequence
    group.DerivationImageSequence[0].SourceImageSequence[0].ReferencedFrameNumber = 2
    file.save_as(tmp_path / "in" / "seg.dcm")
    cache = built(tmp_path / "in", tmp_path / "cache")
    data = api.data(cache, tmp_path / "train", "object_detection")
    (row,) = json.loads(Path(data["annotations"]).read_text())["annotations"]
    assert (row["image_id"], row["bbox"]) == (1, [4, 3, 16, 6])
    with api.serve(cache, masks=True, root=tmp_path / "train"):
        stubs = sorted((tmp_path / "train").glob("*.dcm"))
        assert [int(opened(stub).sum()) for stub in stubs] == [0, 6 * 16, 0]
        with pytest.raises(NotServedError, match=r"us\.dcm: 3 frames of it"):
            opened(cine)


def test_stubs_of_other_frames_are_refused(folder: Path, tmp_path: Path) -> None:
    cache = open_cache(folder / "cache")
    api.data(cache, tmp_path / "train")
    api.data(cache, tmp_path / "train")
    with pytest.raises(ValueError, match=r"has 4 stubs of frames that are not asked for now"):
        api.data(cache.select(path=[f"a/ct/a{k:02}.dcm" for k in range(3)]), tmp_path / "train")
    with pytest.raises(ValueError, match="task 'depth'; legal: semantic_segmentation, panoptic"):
        api.data(cache, tmp_path / "other", "depth")
    with pytest.raises(ValueError, match=r"val: no images are selected for it"):
        api.data(cache.select("width < 0"), tmp_path / "val")


def test_classes_that_a_folder_was_not_written_for_are_refused(
    folder: Path, tmp_path: Path
) -> None:
    """Their numbers would mean something else."""
    cache = folder / "cache"
    api.data(cache, tmp_path / "train", masks=["dark"])
    with api.serve(cache, masks=["dark"], root=[tmp_path / "train"]):
        pass
    for other in (["bright"], ["dark", "bright"], True, api.Masks(["dark"], things=[])):
        for root in (
            tmp_path / "train",
            [tmp_path / "train"],
            {str(folder / "in"): tmp_path / "train"},
        ):
            with pytest.raises(ValueError, match=r"train: written for masks \{'dark': 1\}"), \
                    api.serve(cache, masks=other, root=root):  # fmt: skip
                pass


def test_files_of_one_name_in_several_folders_have_their_own_segments(
    tmp_path: Path, config_home: Path
) -> None:
    """LightlyTrain finds segments by the name without its folder: stubs have names of their own."""
    for k, name in enumerate("ab"):
        write_discs(tmp_path / "in" / name, 1, begin=k)
        file = tmp_path / "in" / name / "ct" / f"{name}00.dcm"
        file.rename(file.with_name("IM0.dcm"))
    cache = built(tmp_path / "in", tmp_path / "cache")
    data = api.data(cache, tmp_path / "train", "panoptic_segmentation")
    args = MaskPanopticSegmentationDatasetArgs(
        image_dir=Path(data["images"]), mask_dir_or_file=data["masks"], ignore_classes=None,
        annotation_file=Path(data["annotations"]), thing_classes={1: "bright", 2: "dark"},
        stuff_classes={}, split="train",
    )  # fmt: skip
    with api.serve(cache, masks=True, root=tmp_path / "train"):
        rows = sorted(args.list_image_info(), key=lambda row: row["image_filepaths"])
        assert len(rows) == 2
        for k, row in enumerate(rows):
            ids = panoptic(row["mask_filepaths"])
            assert np.array_equal(ids % 65536, drawn(k))
            areas = {s["id"]: s["area"] for s in json.loads(row["segments"])}
            assert areas == {65537: (drawn(k) == 1).sum(), 65538: (drawn(k) == 2).sum()}


def test_pieces_of_things_are_instances(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Corners touch; stuff is one segment, in however many pieces."""
    labels = np.array(
        [[1, 0, 1, 0, 2],
         [0, 1, 0, 0, 0],
         [0, 0, 0, 0, 2],
         [1, 1, 0, 0, 2]], np.uint8,
    )  # fmt: skip
    things, stuff = 65536, 0
    maps = {
        None: [[1 + things, 2 + things], [1 + 2 * things, 2 + 2 * things]],
        ("bright",): [[1 + things, 2 + stuff], [1 + 2 * things, 2 + stuff]],
        (): [[1, 2], [1, 2]],
    }
    for asked, ((bright, dark), (bright2, dark2)) in maps.items():
        made = masks.LabelMaps(open_cache(folder / "cache"), masks.Masks(things=asked))
        monkeypatch.setattr(masks.LabelMaps, "label_map", lambda self, i: labels)
        assert made.segments(0).tolist() == [
            [bright, 0, bright, 0, dark],
            [0, bright, 0, 0, 0],
            [0, 0, 0, 0, dark2],
            [bright2, bright2, 0, 0, dark2],
        ]


def test_coco_holds_boxes_and_masks_as_they_are(folder: Path, tmp_path: Path) -> None:
    """Read by pycocotools, as LightlyTrain does."""
    chosen = open_cache(folder / "cache").select(path=["a/ct/a01.dcm", "alone.dcm"])
    data = api.data(chosen, tmp_path / "train", "instance_segmentation", NAMES)
    said = json.loads(Path(data["annotations"]).read_text())
    assert said["categories"] == [
        {"id": 1, "name": "bright", "isthing": 1},
        {"id": 2, "name": "dark", "isthing": 1},
    ]
    by_name = {image["file_name"]: image for image in said["images"]}
    assert {name: (image["height"], image["width"]) for name, image in by_name.items()} == {
        "a/ct/a01.dcm#frame=0.dcm": (SIZE, SIZE),
        "alone.dcm#frame=0.dcm": (40, 50),
    }
    assert all((tmp_path / "train" / name).is_file() for name in by_name)
    assert len(said["annotations"]) == 2  # none of the image without a mask
    assert [row["id"] for row in said["annotations"]] == [1, 2]
    for row in said["annotations"]:
        assert row["image_id"] == by_name["a/ct/a01.dcm#frame=0.dcm"]["id"]
        true = drawn(1) == row["category_id"]
        lengths = coco.frPyObjects(row["segmentation"], SIZE, SIZE)
        assert np.array_equal(coco.decode(lengths), true)
        assert row["bbox"] == coco.toBbox(lengths).tolist()
        assert row["area"] == true.sum()


@pytest.mark.parametrize(
    ("mask", "counts"),
    [
        ([[0, 0], [0, 0]], [4]),
        ([[1, 1], [1, 1]], [0, 4]),
        ([[0, 1], [0, 0]], [2, 1, 1]),
        ([[1, 0, 1], [0, 0, 1]], [0, 1, 3, 2]),
    ],
)
def test_run_lengths(mask: list[list[int]], counts: list[int]) -> None:
    assert written.run_lengths(np.array(mask, bool)) == counts


def test_a_lightly_train_whose_lists_are_not_known_is_refused_by_name(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = file_helpers.open_mask_numpy
    monkeypatch.delattr(MaskSemanticSegmentationDatasetArgs, "list_image_info")
    with pytest.raises(UnknownLightlyError, match=r"SegmentationDatasetArgs has no list_image"), \
            api.serve(folder / "cache", masks=True):  # fmt: skip
        pass
    assert file_helpers.open_mask_numpy is own
    monkeypatch.setattr(file_helpers, "open_mask_numpy", lambda path: None)
    with pytest.raises(UnknownLightlyError, match=r"open_mask_numpy takes path; known: "), \
            api.serve(folder / "cache"):  # fmt: skip
        pass


def test_leaving_puts_the_doors_of_masks_back(folder: Path) -> None:
    def now() -> list[Any]:
        return [
            file_helpers.open_mask_numpy,
            MaskSemanticSegmentationDatasetArgs.list_image_info,
            MaskPanopticSegmentationDatasetArgs.list_image_info,
        ]

    before = now()
    with api.serve(folder / "cache", masks=True):
        assert not set(now()) & set(before)
    assert now() == before
