"""LightlyTrain's transforms for medical images, as `transform_args` that the installed one accepts.

LightlyTrain's own advice for DICOM (its page data/dicom): keep RandomResize, RandomFlip and
RandomRotation, disable Solarize, RandomGrayScale, ColorJitter and ChannelDrop. Which keys say so
differs between tasks, methods and models; they are read from its config classes.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping
from importlib.metadata import version
from typing import Any, get_args

from trainer_adapter.errors import UnknownLightlyError

IMAGENET = {"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)}
_OFF = ("solarize", "random_gray_scale", "color_jitter", "photometric_distort", "channel_drop")
"""photometric_distort is the colour jitter of detection"""
_KNOWN = {
    "bbox_params", "channel_drop", "color_jitter", "copyblend", "gaussian_blur", "global_view_1",
    "ignore_index", "image_size", "local_view", "min_bbox_size_px", "mixup", "mosaic", "normalize",
    "num_channels", "num_views", "paka_high_overlap_iou", "paka_num_local", "photometric_distort",
    "random_crop", "random_flip", "random_gray_scale", "random_iou_crop", "random_resize",
    "random_rotate", "random_rotate_90", "random_rotation", "random_zoom_out", "record_geometry",
    "resize", "resize_scale", "scale_jitter", "smallest_max_size", "solarize", "view_size",
}  # fmt: skip
"""fields of LightlyTrain 0.18's configurations: a renamed one would no longer be turned off"""
_VIEWS = ("global_view_1", "local_view")
_LOOSE_BOXES = {"object_detection", "instance_segmentation"}
"""tasks of boxes: a rotated box is boxed again, and grows"""


def transform_args(
    task: str = "pretrain",
    method: str = "distillation",
    *,
    model: str | None = None,
    horizontal_flip: bool = True,
    rotation: float = 10.0,
    normalize: str | Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """The medical recommendation, as transform_args for `lightly_train.pretrain` or the fine-tuning
    of `task` ("image_classification", "object_detection", ...).

    `method` counts in pretraining, `model` in fine-tuning: where models of a task differ in their
    keys, it must be given. `horizontal_flip` False where sides matter. `rotation`: at most as many
    degrees, for every other image; 0 for none; left out where LightlyTrain cannot (DINOv3.1 keeps
    track of crops) and where boxes would grow. `normalize`: {"mean", "std"} (from mean_std),
    "imagenet" (right for pretrained backbones and teachers), or None for LightlyTrain's own:
    ImageNet's in pretraining, the model's in fine-tuning.

    Raises ValueError for an unknown task, method or model, with the legal ones, and
    UnknownLightlyError where what is to be off is not there by its name; warns of new transforms.
    """
    classes = _pretraining(method) if task == "pretrain" else _fine_tuning(task, model)
    found = [_args(c, task, horizontal_flip, rotation, normalize) for c in classes]
    if any(other != found[0] for other in found):
        raise ValueError(f"task {task!r}: its models differ in their transforms; give model=...")
    return found[0]


def _pretraining(method: str) -> list[Any]:
    from lightly_train._methods import method_helpers

    return [method_helpers.get_method_cls(method).transform_cls().transform_args_cls()]


def _fine_tuning(task: str, model: str | None) -> list[Any]:
    from lightly_train._commands import train_task_helpers

    every = train_task_helpers.TASK_TRAIN_MODEL_CLASSES
    if task not in {c.task for c in every}:
        legal = sorted({"pretrain"} | {c.task for c in every})
        raise ValueError(f"task {task!r}; legal: {', '.join(legal)}")
    if model is None:
        return [c.train_transform_cls.transform_args_cls for c in every if c.task == task]
    found = train_task_helpers.get_train_model_cls(model_name=model, task=task)
    return [found.get_train_transform_cls(model).transform_args_cls]


def _args(
    config: Any, task: str, horizontal_flip: bool, rotation: float, normalize: Any
) -> dict[str, Any]:
    fields = config.model_fields
    _check(config, task)
    args: dict[str, Any] = dict(_off(config))
    for view in _VIEWS:
        inner = _config_in(fields[view].annotation) if view in fields else None
        if inner is not None and (off := dict(_off(inner))):
            args[view] = off
    args["random_flip"] = {
        "horizontal_prob": 0.5 if horizontal_flip else 0.0,
        "vertical_prob": 0.0,
    }
    key = "random_rotation" if "random_rotation" in fields else "random_rotate"
    tracked = "record_geometry" in fields and fields["record_geometry"].default
    if rotation and not tracked and task not in _LOOSE_BOXES:
        args[key] = {"prob": 0.5, "degrees": float(rotation)}
    if normalize is not None:
        said = IMAGENET if normalize == "imagenet" else normalize
        if isinstance(said, str) or set(said) != {"mean", "std"}:
            raise ValueError(f"normalize {normalize!r}; legal: imagenet, mean and std, None")
        args["normalize"] = {k: tuple(float(x) for x in said[k]) for k in ("mean", "std")}
    return args


def _check(config: Any, task: str) -> None:
    """Refuse a configuration in which something that is to be off has another name, or none."""
    fields = set(config.model_fields)
    views = [_config_in(config.model_fields[v].annotation) for v in _VIEWS if v in fields]
    unknown = fields.union(*(v.model_fields for v in views if v is not None)) - _KNOWN
    jitter = "photometric_distort" if "photometric_distort" in fields else "color_jitter"
    needed = {"channel_drop", jitter}
    needed |= {"solarize", "random_gray_scale"} if task == "pretrain" else set()
    said = f"lightly-train {version('lightly-train')}: {config.__name__} "
    new = f"has {', '.join(sorted(unknown))}, which this trainer_adapter does not know"
    if missing := sorted(needed - fields):
        raise UnknownLightlyError(
            f"{said}has no {', '.join(missing)} to turn off{'; it ' + new if unknown else ''}; "
            "install 0.18, or a newer trainer_adapter"
        )
    if unknown:
        warnings.warn(f"{said}{new}; look whether it suits medical images", stacklevel=4)


def _off(config: Any) -> Iterator[tuple[str, None]]:
    return ((name, None) for name in _OFF if name in config.model_fields)


def _config_in(annotation: Any) -> Any:
    """The config class in `Config | None`."""
    parts = get_args(annotation) or (annotation,)
    return next((p for p in parts if hasattr(p, "model_fields")), None)
