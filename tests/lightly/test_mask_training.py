"""Segmentation with LightlyTrain's own commands: images and masks from a cache, and no PNG."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import lightly_train
import numpy as np
import pytest
from lightly_train._data import file_helpers

from tests.lightly.discs import NAMES, drawn, write_discs
from tests.support.caches import built
from trainer_adapter import open_cache
from trainer_adapter.errors import NotServedError
from trainer_adapter.lightly import api

TRAIN, VAL = 16, 8


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory, config_home: Path) -> Path:
    """Two series of CT with their segmentations, named by the split."""
    folder = tmp_path_factory.mktemp("discs")
    write_discs(folder / "in" / "train", TRAIN)
    write_discs(folder / "in" / "val", VAL, begin=100)
    return built(folder / "in", folder / "cache")


@pytest.fixture
def no_files(no_dicom: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """LightlyTrain opens no image and no mask itself."""

    def fail(*_: object, **__: object) -> None:
        raise AssertionError("a file is opened")

    for what in ("image", "mask"):
        for library in ("pil", "torch"):
            monkeypatch.setattr(file_helpers, f"_open_{what}_numpy__with_{library}", fail)


def splits(cache: Path, folder: Path, task: str, masks: Any = True) -> dict[str, dict[str, str]]:
    """LightlyTrain's data for a task: the stubs and what else it needs, below `folder`."""
    whole = open_cache(cache)
    return {
        name: api.data(whole.select(path=[f"{name}/ct/{name}{k:02}.dcm" for k in range(many)]),
                       folder / name, task, masks)
        for name, many in (("train", TRAIN), ("val", VAL))
    }  # fmt: skip


def train(task: str, out: Path, **options: Any) -> Path:
    """A run on the CPU; the exported model."""
    given = {"steps": 2, "batch_size": 2, "num_workers": 0, **options}
    getattr(lightly_train, f"train_{task}")(
        out=out, devices=1, accelerator="cpu", precision="32-true", seed=0,
        gradient_accumulation_steps=1, **given,
    )  # fmt: skip
    return out / "exported_models" / "exported_last.pt"


@pytest.mark.usefixtures("no_files")
def test_semantic_segmentation_learns_from_dicom_masks(cache: Path, tmp_path: Path) -> None:
    """Discs of two classes: a mean IoU of at least 0.5 after 50 steps."""
    masks = list(NAMES)
    data = splits(cache, tmp_path, "semantic_segmentation", masks)
    roots = [tmp_path / name for name in data]
    # Without random transforms, which nothing seeds: albumentations takes fresh entropy.
    fixed = dict.fromkeys(("random_flip", "random_rotate", "scale_jitter"))
    args = {**api.transform_args("semantic_segmentation"), **fixed, "image_size": (112, 112)}
    with api.serve(cache, masks=masks, root=roots, window="soft") as served:
        exported = train(
            "semantic_segmentation", tmp_path / "out", steps=50, batch_size=8,
            model="dinov2/_vittest14-linear", model_args={"backbone_freeze": False, "lr": 0.003},
            data={**data, "classes": api.classes(cache, masks)}, transform_args=args,
        )  # fmt: skip
        opened, masks_opened = served.counts, served.mask_counts
        model = lightly_train.load_model(exported)
        said = [
            model.predict(f"{data['val']['images']}/val/ct/val{k:02}.dcm#frame=0.dcm").numpy()
            for k in range(VAL)
        ]
    assert opened == (50 * 8 + VAL, 0, 0)
    assert masks_opened == (50 * 8 + VAL, 0, 0)
    true = np.stack([drawn(100 + k) for k in range(VAL)])
    found = np.stack(said)
    both = [(true == label, found == label) for label in (1, 2)]
    union = [np.count_nonzero(a & b) / np.count_nonzero(a | b) for a, b in both]
    assert np.mean(union) >= 0.5
    files = [path for root in roots for path in root.rglob("*.*") if path.is_file()]
    assert {path.suffix for path in files if path.stat().st_size} <= {""}  # .source, .masks
    assert len(files) == TRAIN + VAL + 2 * len(roots)


@pytest.mark.usefixtures("no_files")
@pytest.mark.parametrize("things", [None, ["bright"]])
def test_panoptic_segmentation(cache: Path, tmp_path: Path, things: list[str] | None) -> None:
    masks = api.Masks(things=things)
    data = splits(cache, tmp_path, "panoptic_segmentation", masks)
    args = {**api.transform_args("panoptic_segmentation"), "image_size": (56, 56)}
    with api.serve(cache, masks=masks, root=[tmp_path / name for name in data]) as served:
        exported = train(
            "panoptic_segmentation", tmp_path / "out", model="dinov2/_vittest14-eomt",
            model_args={"num_joint_blocks": 1}, data=data, transform_args=args,
        )  # fmt: skip
    assert exported.is_file()
    assert served.counts == served.mask_counts == (2 * 2 + VAL, 0, 0)


@pytest.mark.usefixtures("no_files")
@pytest.mark.parametrize(
    ("task", "model", "size"),
    [
        ("instance_segmentation", "dinov2/_vittest14-eomt", 56),
        ("object_detection", "dinov2/_vittest14-ltdetr", 56),
    ],
)
def test_instances_and_boxes(cache: Path, tmp_path: Path, task: str, model: str, size: int) -> None:
    data = splits(cache, tmp_path, task)
    args = {**api.transform_args(task, model=model), "image_size": (size, size)}
    joint = {"num_joint_blocks": 1} if "eomt" in model else {}
    with api.serve(cache, masks=True, root=[tmp_path / name for name in data]) as served:
        exported = train(
            task, tmp_path / "out", model=model, model_args=joint, transform_args=args,
            data={"format": "coco", **data},
        )  # fmt: skip
    assert exported.is_file()
    assert served.counts.cached >= 2 * 2 + VAL
    assert served.counts[1:] == (0, 0)


@pytest.mark.usefixtures("no_files")
def test_pretraining_with_masks(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From a folder of stubs: the variable names that folder, in which no mask lies."""
    chosen = open_cache(cache).select(kind="image")[:8]
    folder = api.stubs(chosen, tmp_path / "stubs")
    monkeypatch.setenv("LIGHTLY_TRAIN_MASK_DIR", str(folder))
    args = api.transform_args("pretrain", "simclr")
    given: dict[str, Any] = {
        "out": tmp_path / "out", "model": "torchvision/resnet18", "method": "simclr",
        "epochs": 1, "batch_size": 4, "num_workers": 0, "accelerator": "cpu", "devices": 1,
        "transform_args": {**args, "image_size": (32, 32)}, "loggers": {"tensorboard": None},
    }  # fmt: skip
    with api.serve(cache, masks=True, root=folder) as served:
        lightly_train.pretrain(data=str(folder), **given)
        assert served.counts == served.mask_counts == (8, 0, 0)
        with pytest.raises(NotServedError, match=r"MASK_DIR is set, .* from one folder only"):
            lightly_train.pretrain(data=api.names(chosen), overwrite=True, **given)
    assert served.counts == (8, 0, 0)
