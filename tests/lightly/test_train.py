"""The real thing: LightlyTrain's own commands on the CPU, every image from a cache.

pydicom fails when it opens a file, so nothing is read but the cache; each run exports a model.
Models are small, and none needs weights from elsewhere.
"""

from __future__ import annotations

import csv
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import lightly_train
import numpy as np
import pyarrow.compute as pc
import pytest
import torch
from lightly_train._data.image_classification_dataset import ImageClassificationDatasetArgs
from PIL import Image

from tests.lightly.example_types import COPIES, MULTI, SINGLE
from tests.support.caches import built
from tests.support.dicom_files import pattern, write_dicom
from trainer_adapter import open_cache
from trainer_adapter.errors import NotServedError
from trainer_adapter.lightly import api

TINY_DINO = {"output_dim": 64, "hidden_dim": 32, "bottleneck_dim": 16}


def small(task: str, method: str = "distillation", **options: Any) -> dict[str, Any]:
    """The medical recommendation at 32 x 32, with one local view."""
    args = api.transform_args(task, method, **options)
    args["image_size"] = (32, 32)
    if method == "dino":
        args["local_view"] = {"num_views": 1, "view_size": (32, 32)}
    return args


def pretrain(out: Path, data: Any, method: str = "dino", **options: Any) -> Path:
    """One epoch of resnet18; the exported model."""
    given: dict[str, Any] = {
        "model": "torchvision/resnet18",
        "method_args": TINY_DINO if method == "dino" else None,
        "epochs": 1,
        "batch_size": 4,
        "num_workers": 0,
        "loggers": {"tensorboard": None},
        "transform_args": small("pretrain", method),
    }
    lightly_train.pretrain(
        out=out, data=data, method=method, accelerator="cpu", devices=1, **{**given, **options}
    )
    return exported(out)


def exported(out: Path) -> Path:
    """The model that a run exported, which torch can load."""
    file = out / "exported_models" / "exported_last.pt"
    assert torch.load(file, weights_only=True)
    return file


@pytest.mark.usefixtures("no_dicom")
@pytest.mark.parametrize("name", SINGLE)
def test_pretrain_by_folder(scans: Path, cache: Path, tmp_path: Path, name: str) -> None:
    with api.serve(cache) as served:
        pretrain(tmp_path / "out", scans / name)
    assert served.counts == (COPIES, 0, 0)


@pytest.mark.usefixtures("no_dicom")
@pytest.mark.parametrize("name", MULTI)
def test_pretrain_multi_frame_by_folder(cache: Path, tmp_path: Path, name: str) -> None:
    """A folder of stubs: each stands for one frame."""
    chosen = open_cache(cache).select(path=f"{name}/{name}.dcm")[:8]
    folder = api.stubs(chosen, tmp_path / "stubs", kind=None)
    with api.serve(cache, root=folder) as served:
        pretrain(tmp_path / "out", str(folder))
    assert served.counts == (8, 0, 0)


@pytest.mark.usefixtures("no_dicom")
@pytest.mark.parametrize("name", [*SINGLE, *MULTI])
def test_pretrain_by_names(recipe_cache: Path, cache: Path, tmp_path: Path, name: str) -> None:
    """From the recipe's cache, save for dose, which that leaves out."""
    source = open_cache(cache if name == "rt_dose" else recipe_cache)
    chosen = source.select(pc.starts_with(pc.field("path"), f"{name}/"))[:8]
    names = api.names(chosen, kind=None)
    assert len(names) == (8 if name in MULTI else COPIES)
    with api.serve(chosen) as served:
        pretrain(tmp_path / "out", names)
    assert served.counts == (len(names), 0, 0)


@pytest.mark.usefixtures("no_dicom")
def test_pretrain_with_forked_workers_and_own_statistics(cache: Path, tmp_path: Path) -> None:
    names = api.names(cache)
    with api.serve(cache) as served:
        args = small("pretrain", "simclr", normalize=served.mean_std(), horizontal_flip=False)
        pretrain(
            tmp_path / "out", names, "simclr", num_workers=2, batch_size=8, transform_args=args,
            loader_args={"multiprocessing_context": "fork"},
        )  # fmt: skip
    assert served.counts.passed == 0
    assert served.counts.cached in range(len(names) // 8 * 8, len(names) + 1)  # drop_last


@pytest.mark.usefixtures("no_dicom")
@pytest.mark.parametrize("method", ["distillation", "distillationv1"])
def test_distillation(cache: Path, tmp_path: Path, method: str) -> None:
    names = api.names(open_cache(cache).select(modality=["CT", "MR"]))
    size = {"image_size": (28, 28)}
    teacher = {"teacher": "dinov2/_vittest14", "queue_size": 2}
    with api.serve(cache) as served:
        pretrain(
            tmp_path / "out", names, method, method_args=teacher,
            transform_args={**small("pretrain", method), **size},
        )  # fmt: skip
    assert served.counts == (12, 0, 0)


def fine_tune(command: str, out: Path, **options: Any) -> Path:
    """Two steps of a fine-tuning command; the exported model."""
    getattr(lightly_train, command)(
        out=out, steps=2, batch_size=2, num_workers=0, devices=1, accelerator="cpu",
        precision="32-true", **options,
    )  # fmt: skip
    return exported(out)


@pytest.mark.usefixtures("no_dicom")
def test_classification_and_predicting_with_what_was_trained(
    scans: Path, cache: Path, tmp_path: Path
) -> None:
    for split in ("train", "val"):
        with open(tmp_path / f"{split}.csv", "w", newline="") as file:
            rows = csv.writer(file)
            rows.writerow(["image_path", "label"])
            for name in ("ct", "mr"):
                rows.writerows([scans / name / f"IM{k}.dcm", name] for k in range(COPIES))
    with api.serve(cache) as served:
        file = fine_tune(
            "train_image_classification",
            tmp_path / "out",
            model="torchvision/resnet18",
            data={
                "train": tmp_path / "train.csv",
                "val": tmp_path / "val.csv",
                "classes": {0: "ct", 1: "mr"},
            },
            transform_args={**small("image_classification"), "image_size": (64, 64)},
        )
        assert served.counts.cached >= 4 + 8
        assert served.counts[1:] == (0, 0)
        model = lightly_train.load_model(file)
        ct = scans / "ct" / "IM0.dcm"
        told = model.predict(str(ct), topk=2)
        image = torch.from_numpy(api.load(ct)).permute(2, 0, 1)
        again = model.predict(image, topk=2)
    assert torch.equal(told["scores"], again["scores"])
    raw = torch.from_numpy(open_cache(cache).select(path="ct/IM0.dcm")[0].astype(np.float32))
    other = model.predict(raw[None].repeat(3, 1, 1), topk=2)  # HU, as LightlyTrain's own loader
    assert not torch.equal(told["scores"], other["scores"])


@pytest.fixture(scope="module")
def half(tmp_path_factory: pytest.TempPathFactory, config_home: Path) -> Path:
    """scans/ct has two files without a suffix, scans/mr two with one; and their cache."""
    folder = tmp_path_factory.mktemp("half")
    for name, suffix in (("ct", ""), ("mr", ".dcm")):
        for k in range(2):
            image = pattern(f"{name}{k}", (32, 32))
            write_dicom(
                folder / "scans" / name / f"{name}{k}{suffix}", image, Modality=name.upper()
            )
    built(folder / "scans", folder / "cache")
    return folder


def classes(table: Path, names: list[str]) -> dict[str, Any]:
    """A CSV of files whose folders are their classes, as `data`."""
    with open(table, "w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["image_path", "label"])
        rows.writerows([name, Path(name).parent.name] for name in names)
        rows.writerow(["", ""])  # no row: LightlyTrain may leave it out
    return {"train": table, "val": table, "classes": {0: "ct", 1: "mr"}}


@pytest.mark.parametrize("lost", ["ct1", "ct1.gone.dcm"])
def test_rows_that_would_be_left_out_are_refused(half: Path, tmp_path: Path, lost: str) -> None:
    names = [str(half / "scans" / name) for name in ("mr/mr0.dcm", f"ct/{lost}", "mr/mr1.dcm")]
    said = rf"a\.csv: the files of 1 of 3 rows .*{lost}; write stubs, lightly\.stubs\(cache"
    with api.serve(half / "cache") as served, pytest.raises(NotServedError, match=said):
        fine_tune(
            "train_image_classification", tmp_path / "out", model="torchvision/resnet18",
            data=classes(tmp_path / "a.csv", names),
            transform_args={**small("image_classification"), "image_size": (32, 32)},
        )  # fmt: skip
    assert served.counts.cached == 0


def test_stubs_of_files_without_a_suffix_are_all_trained_on(half: Path, tmp_path: Path) -> None:
    stubs = api.stubs(half / "cache", tmp_path / "stubs")
    names = sorted(str(path) for path in stubs.rglob("*.dcm"))
    assert len(names) == 4
    with api.serve(half / "cache", root=stubs) as served:
        fine_tune(
            "train_image_classification", tmp_path / "out", model="torchvision/resnet18",
            data=classes(tmp_path / "a.csv", names),
            transform_args={**small("image_classification"), "image_size": (32, 32)},
        )  # fmt: skip
    assert served.counts.cached >= 4


def test_folders_of_which_files_would_be_left_out_are_refused(half: Path, tmp_path: Path) -> None:
    (half / "scans" / "notes.txt").touch()  # no file of the cache: nobody misses it
    said = r"ct/ct\d: is in .*has no suffix .*data=lightly\.names\(cache\), for fine-tuning"
    with api.serve(half / "cache"):
        with pytest.raises(NotServedError, match=said):
            pretrain(tmp_path / "out", half / "scans", method="simclr")
        args = ImageClassificationDatasetArgs(
            dir_or_file=half / "scans", classes={0: "ct", 1: "mr"}, ignore_classes=None,
            classification_task="multiclass",
        )  # fmt: skip
        with pytest.raises(NotServedError, match=said):
            list(args.list_image_info())
        args = args.model_copy(update={"classes": {1: "mr"}})
        assert len(list(args.list_image_info())) == 2
    assert len(list(args.list_image_info())) == 2


@pytest.fixture(scope="module")
def labelled(tmp_path_factory: pytest.TempPathFactory, config_home: Path) -> Path:
    """CT with a bright square in each, its box, its polygon and its mask; for train and val."""
    folder = tmp_path_factory.mktemp("labelled")
    for split in ("train", "val"):
        for k in range(4):
            pixels = pattern(f"{split}{k}", (64, 64), top=600) + np.uint16(700)
            pixels[16:48, 16:48] += 700
            write_dicom(
                folder / "images" / split / f"{split}{k}.dcm", pixels, Modality="CT",
                ImageType=["ORIGINAL", "PRIMARY"], RescaleSlope=1, RescaleIntercept=-1024,
                SOPClassUID="1.2.840.10008.5.1.4.1.1.2",
            )  # fmt: skip
            boxes = folder / "labels" / split / f"{split}{k}.txt"
            boxes.parent.mkdir(parents=True, exist_ok=True)
            boxes.write_text("0 0.5 0.5 0.5 0.5\n")
            outlines = folder / "polygons" / "labels" / split / f"{split}{k}.txt"
            outlines.parent.mkdir(parents=True, exist_ok=True)
            outlines.write_text("0 0.25 0.25 0.75 0.25 0.75 0.75 0.25 0.75\n")
            mask = np.zeros((64, 64), np.uint8)
            mask[16:48, 16:48] = 1
            drawn = folder / "masks" / split / f"{split}{k}.png"
            drawn.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(mask).save(drawn)
    (folder / "polygons" / "images").symlink_to(folder / "images")
    built(folder / "images", folder / "cache")
    return folder


BOXED = {"train": "images/train", "val": "images/val", "names": {0: "square"}}


@pytest.mark.usefixtures("no_dicom")
def test_object_detection(labelled: Path, tmp_path: Path) -> None:
    args = api.transform_args("object_detection")
    with api.serve(labelled / "cache") as served:
        fine_tune(
            "train_object_detection", tmp_path / "out", model="dinov2/_vittest14-ltdetr",
            data={"path": labelled, **BOXED}, transform_args={**args, "image_size": (56, 56)},
        )  # fmt: skip
    assert served.counts.cached >= 8
    assert served.counts[1:] == (0, 0)


@pytest.mark.usefixtures("no_dicom")
def test_semantic_segmentation(labelled: Path, tmp_path: Path) -> None:
    splits = {
        s: {"images": labelled / "images" / s, "masks": labelled / "masks" / s}
        for s in ("train", "val")
    }
    args = api.transform_args("semantic_segmentation")
    with api.serve(labelled / "cache") as served:
        fine_tune(
            "train_semantic_segmentation", tmp_path / "out", model="dinov2/_vittest14-eomt",
            model_args={"num_joint_blocks": 1},
            data={**splits, "classes": {0: "background", 1: "square"}},
            transform_args={**args, "image_size": (56, 56)},
        )  # fmt: skip
    assert served.counts.cached >= 8
    assert served.counts[1:] == (0, 0)


@pytest.mark.usefixtures("no_dicom")
@pytest.mark.parametrize("model", ["dinov2/_vittest14-eomt", "edgecrafter/_ecvittest-ltdetr-seg"])
def test_instance_segmentation(labelled: Path, tmp_path: Path, model: str) -> None:
    args = api.transform_args("instance_segmentation", model=model)
    size, blocks = (56, {"num_joint_blocks": 1}) if "eomt" in model else (64, {})
    with api.serve(labelled / "cache") as served:
        fine_tune(
            "train_instance_segmentation", tmp_path / "out", model=model, model_args=blocks,
            data={"path": labelled / "polygons", **BOXED},
            transform_args={**args, "image_size": (size, size)},
        )  # fmt: skip
    assert served.counts.cached >= 8
    assert served.counts[1:] == (0, 0)


@pytest.mark.usefixtures("no_dicom")
def test_one_channel_for_a_model_of_one_channel(cache: Path, tmp_path: Path) -> None:
    """num_channels other than 3: one named window, grey."""
    names = api.names(open_cache(cache).select(modality="CT"))
    args = {**small("pretrain", "dino"), "num_channels": 1}
    with api.serve(cache, window="lung", dtype="float32") as served:
        pretrain(
            tmp_path / "out", names, model="dinov2/_vittest14",
            transform_args={**args, "image_size": (28, 28),
                            "local_view": {"num_views": 1, "view_size": (28, 28)}},
        )  # fmt: skip
    assert served.counts == (COPIES, 0, 0)


def test_the_same_weights_where_lightly_trains_own_loader_is_right(tmp_path: Path) -> None:
    """RGB of 8 bits: the same pixels, and after the same steps the same weights, to the bit.

    Without random transforms, which nothing seeds: albumentations takes fresh entropy.
    """
    for k in range(8):
        write_dicom(tmp_path / "scans" / f"{k}.dcm", pattern(f"{k}", (48, 40, 3), "uint8", 256))
    made = built(tmp_path / "scans", tmp_path / "cache")
    fixed = dict.fromkeys(("random_resize", "random_flip", "random_rotation", "gaussian_blur"))
    args = {**small("pretrain", "simclr"), **fixed}
    runs = {"own": 0, "served": 0, "other seed": 1}
    weights = {}
    for name, seed in runs.items():
        with ExitStack() as stack:
            served = stack.enter_context(api.serve(made)) if name == "served" else None
            file = pretrain(
                tmp_path / name, tmp_path / "scans", "simclr",
                epochs=3, seed=seed, transform_args=args,
            )  # fmt: skip
        assert served is None or served.counts == (24, 0, 0)
        weights[name] = torch.load(file, weights_only=True)
    own, ours, other = weights.values()
    assert own.keys() == ours.keys()
    assert all(torch.equal(own[key], ours[key]) for key in own)
    assert not all(torch.equal(own[key], other[key]) for key in own)


def test_lightly_train_says_what_it_was_given(cache: Path, tmp_path: Path) -> None:
    """Names come back in what LightlyTrain writes, so they can be joined with frames/."""
    names = api.names(open_cache(cache).select(modality="CT"))
    with api.serve(cache):
        file = pretrain(tmp_path / "out", names)
        checkpoint = file.parents[1] / "checkpoints" / "last.ckpt"
        lightly_train.embed(
            out=tmp_path / "embeddings.csv", data=names, checkpoint=checkpoint, format="csv",
            accelerator="cpu", num_workers=0, image_size=(32, 32),
        )  # fmt: skip
    with open(tmp_path / "embeddings.csv", newline="") as text:
        rows = list(csv.DictReader(text))
    assert [row["filename"] for row in rows] == names
