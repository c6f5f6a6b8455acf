"""transform_args against LightlyTrain's own classes: every method, task and class of models."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from lightly_train._commands import train_helpers, train_task_helpers
from lightly_train._methods import method_helpers
from lightly_train._transforms.normalize import NormalizeDtypeAware

from trainer_adapter.errors import UnknownLightlyError
from trainer_adapter.lightly import api, transforms

METHODS = method_helpers._list_methods()
MODELS = {
    "image_classification": ["torchvision/resnet18"],
    "image_classification_multihead": ["torchvision/resnet18"],
    "semantic_segmentation": [
        "dinov2/_vittest14-eomt", "dinov3/vits16-eomt", "dinov2/vits14-linear",
    ],
    "semantic_segmentation_multihead": ["dinov2/_vittest14-multihead"],
    "panoptic_segmentation": ["dinov2/_vittest14-eomt", "dinov3/vits16-eomt"],
    "instance_segmentation": [
        "dinov2/_vittest14-eomt", "dinov3/_vittest16-eomt", "edgecrafter/_ecvittest-ltdetr-seg",
    ],
    "object_detection": [
        "dinov2/_vittest14-ltdetr", "dinov3/vitt16-notpretrained-ltdetr", "ltdetrv2-s",
        "picodet/s-416",
    ],
}  # fmt: skip
"""models of each task that between them reach every class of transforms"""
CASES = [(task, model) for task, models in MODELS.items() for model in models]
OFF = ("ColorJitter", "ToGray", "Solarize", "ChannelDrop", "RandomPhotometricDistort")


def built(method: str, args: dict[str, Any]) -> Any:
    """The transform that LightlyTrain's pretraining makes of transform_args."""
    resolved = train_helpers.get_transform_args(method=method, transform_args=args)
    return train_helpers.get_transform(method=method, transform_args_resolved=resolved)


def parts(thing: Any, seen: set[int] | None = None) -> Iterator[Any]:
    """All objects that a transform is made of, however they are nested."""
    seen = set() if seen is None else seen
    if id(thing) in seen or isinstance(thing, str | bytes | int | float | np.ndarray | type):
        return
    seen.add(id(thing))
    yield thing
    inner: list[Any] = []
    if isinstance(thing, list | tuple):
        inner = list(thing)
    elif isinstance(thing, dict):
        inner = list(thing.values())
    # A configuration says what could be there, not what is.
    elif hasattr(thing, "__dict__") and not hasattr(
        type(thing), "model_fields"
    ):  # no configuration
        inner = list(vars(thing).values())
    for part in inner:
        yield from parts(part, seen)


def kinds(transform: Any) -> set[str]:
    """Names of the classes of a transform's parts."""
    return {type(p).__name__ for p in parts(transform)}


@pytest.mark.parametrize("method", METHODS)
def test_pretraining(method: str) -> None:
    args = api.transform_args(method=method)
    transform = built(method, args)
    found = kinds(transform)
    assert not found & set(OFF)
    assert {"RandomResizedCrop", "HorizontalFlip", "VerticalFlip"} <= found
    # DINOv3.1 keeps track of its crops, and refuses to be rotated.
    assert ("Rotate" in found) is (method != "dinov31")
    (limit,) = {tuple(p.limit) for p in parts(transform) if type(p).__name__ == "Rotate"} or {0}
    assert limit in (0, (-10.0, 10.0))
    images = transform({"image": np.zeros((256, 256, 3), np.uint8)})
    assert {tuple(view["image"].shape[:1]) for view in images} == {(3,)}


def test_lightly_trains_own_defaults_have_what_is_off() -> None:
    """So the test above can fail; and solarize stays on in view 1 unless it is off there too."""
    assert {"ColorJitter", "ToGray", "Solarize"} <= kinds(built("dino", {}))
    assert "Solarize" in kinds(built("dino", {"solarize": None}))
    dropped = {"num_channels_keep": 3, "weight_drop": (0.0, 0.0, 0.0, 1.0)}
    assert "ChannelDrop" in kinds(built("dino", {"channel_drop": dropped}))
    for task, model in CASES:
        if task in ("object_detection", "image_classification"):
            assert kinds(task_transform(task, model, {})) & set(OFF), (task, model)


@pytest.mark.parametrize("method", METHODS)
def test_horizontal_flips_can_be_turned_off(method: str) -> None:
    for flip, wanted in ((True, {0.5}), (False, {0.0})):
        transform = built(method, api.transform_args(method=method, horizontal_flip=flip))
        flips = [p for p in parts(transform) if type(p).__name__ == "HorizontalFlip"]
        assert {p.p for p in flips} == wanted
        assert {p.p for p in parts(transform) if type(p).__name__ == "VerticalFlip"} == {0.0}


def test_the_cases_reach_every_class_of_models() -> None:
    reached = {train_task_helpers.get_train_model_cls(m, t) for t, m in CASES}
    assert reached == set(train_task_helpers.TASK_TRAIN_MODEL_CLASSES)


def task_transform(task: str, model: str, args: dict[str, Any]) -> Any:
    """The training transform that LightlyTrain's fine-tuning makes of transform_args."""
    cls = train_task_helpers.get_train_model_cls(model, task)
    resolved, _ = train_task_helpers.get_transform_args(
        train_model_cls=cls,
        model_name=model,
        transform_args={"image_size": (64, 64), **args},
        ignore_index=-100 if task == "semantic_segmentation" else None,
        model_init_args={"image_normalize": None},
        total_steps=1000,
        train_num_batches=100,
        gradient_accumulation_steps=1,
    )
    return train_task_helpers.get_train_transform(cls, model, resolved)


@pytest.mark.parametrize(("task", "model"), CASES)
@pytest.mark.parametrize("flip", [True, False])
def test_fine_tuning(task: str, model: str, flip: bool) -> None:
    args = api.transform_args(task=task, model=model, horizontal_flip=flip)
    transform = task_transform(task, model, args)
    found = kinds(transform)
    assert not found & set(OFF)
    flips = [p for p in parts(transform) if "HorizontalFlip" in type(p).__name__]
    assert {p.p for p in flips} == {0.5} if flip else {p.p for p in flips} <= {0.0}
    boxes = task in ("object_detection", "instance_segmentation")
    assert ("Rotate" in found) is not boxes


@pytest.mark.parametrize("task", MODELS)
def test_fine_tuning_without_a_model(task: str) -> None:
    """Where all models of a task have the same keys; else it is asked for."""
    if task == "instance_segmentation":
        with pytest.raises(ValueError, match="its models differ in their transforms; give model"):
            api.transform_args(task=task)
        return
    args = api.transform_args(task=task)
    for model in MODELS[task]:
        assert args == api.transform_args(task=task, model=model)
        task_transform(task, model, args)


@pytest.mark.parametrize(
    ("normalize", "mean"),
    [
        (None, (0.485, 0.456, 0.406)),
        ("imagenet", (0.485, 0.456, 0.406)),
        ({"mean": [0.1, 0.2, 0.3], "std": [0.4, 0.5, 0.6]}, (0.1, 0.2, 0.3)),
    ],
)
def test_normalize(normalize: Any, mean: tuple[float, ...]) -> None:
    transform = built("simclr", api.transform_args(method="simclr", normalize=normalize))
    found = {tuple(p.mean) for p in parts(transform) if isinstance(p, NormalizeDtypeAware)}
    assert found == {mean}


def test_the_caches_own_mean_and_std_make_images_of_mean_0_and_std_1(cache: Path) -> None:
    args = api.transform_args(method="simclr", normalize=api.mean_std(cache))
    args |= {"random_resize": None, "gaussian_blur": None, "image_size": (64, 64)}
    transform = built("simclr", args)
    with api.serve(cache) as served:
        images = [served.load(name) for name in api.names(cache)]
    views = np.stack([transform({"image": i})[0]["image"].numpy() for i in images])
    assert abs(views.mean((0, 2, 3))).max() < 0.15
    assert abs(views.std((0, 2, 3)) - 1).max() < 0.15


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"task": "detection"}, "task 'detection'; legal: image_classification"),
        ({"method": "mae"}, "Method 'mae' is unknown"),
        ({"task": "object_detection", "model": "yolo"}, "Unsupported model name 'yolo'"),
        ({"normalize": "ct"}, "normalize 'ct'; legal: imagenet, mean and std"),
    ],
)
def test_what_is_unknown_is_named(options: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        api.transform_args(**options)


@pytest.mark.parametrize(
    ("names", "error", "said"),
    [
        (
            {"random_gray_scale": "random_grayscale", "color_jitter": "colour_jitter"},
            UnknownLightlyError,
            r"SimCLRTransformArgs has no color_jitter, random_gray_scale to turn off; it has "
            r"colour_jitter, random_grayscale, which",
        ),
        (
            {"random_resize": "random_melt"},
            UserWarning,
            "TransformArgs has random_melt, which",
        ),
    ],
)
def test_what_would_no_longer_be_turned_off_is_named(
    monkeypatch: pytest.MonkeyPatch, names: dict[str, str], error: type[Exception], said: str
) -> None:
    known = method_helpers.get_method_cls("simclr").transform_cls().transform_args_cls()
    fields = {names.get(k, k): v for k, v in known.model_fields.items()}
    other = type("SimCLRTransformArgs", (), {"model_fields": fields})
    monkeypatch.setattr(transforms, "_pretraining", lambda method: [other])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(error, match=said):
            api.transform_args(method="simclr")


def test_no_configuration_of_this_lightly_train_is_unknown() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for method in METHODS:
            api.transform_args(method=method)
        for task, model in CASES:
            api.transform_args(task, model=model)
