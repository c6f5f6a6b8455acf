"""LightlyTrain's doors for masks: what they are replaced with, beside those for images."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from importlib.metadata import version
from typing import Any

from trainer_adapter.errors import NotServedError, UnknownLightlyError
from trainer_adapter.lightly.counts import Counts
from trainer_adapter.lightly.images import Images
from trainer_adapter.lightly.listing import hold_list, hold_pairs
from trainer_adapter.lightly.masks import LabelMaps, mask_place

_LIST = "list_image_info"
_PAIRED = {
    "mask_semantic_segmentation_dataset": "MaskSemanticSegmentationDatasetArgs",
    "mask_panoptic_segmentation_dataset": "MaskPanopticSegmentationDatasetArgs",
}
"""modules of lightly_train._data, and their classes that list images with their masks"""


class MaskServer:
    """Masks by path, counted."""

    def __init__(
        self, images: Images, maps: LabelMaps | None, missing: str, counts: Counts
    ) -> None:
        """`maps`: None if masks are files, which LightlyTrain opens itself."""
        self.images, self.maps, self.missing, self._counts = images, maps, missing, counts

    def open(self, path: Any, panoptic: bool, own: Callable[[], Any]) -> Any:
        """(H, W) of the frame that a mask's path stands for: class numbers, or, for panoptic
        segmentation, ids of its segments. `own` is LightlyTrain's way. Raises NotServedError."""
        if self.maps is None:
            return self._file(path, own)
        try:
            i = mask_place(self.images.names, path)
        except NotServedError:
            if self.missing != "pass":
                raise
            found = own()
            self._counts.add("passed_masks")
            return found
        mask = self.maps.segments(i) if panoptic else self.maps.label_map(i)
        self._counts.add("masks")
        if not (self.maps.annotated(i) or self.maps.drawn(i)):
            self._counts.add("empty_masks")
        return mask

    def _file(self, path: Any, own: Callable[[], Any]) -> Any:
        try:
            found = own()
        except (OSError, RuntimeError, ValueError) as e:
            try:
                mask_place(self.images.names, path)
            except NotServedError:
                raise e from None
            raise NotServedError(
                f"{path}: stands for a frame of {self.images.cache.path}, and is no file of a "
                "mask; give serve(cache, masks=True) for the masks that are in the cache"
            ) from e
        self._counts.add("passed_masks")
        return found


def mask_doors(server: MaskServer) -> list[tuple[Any, str, Any]]:
    """(owner, name, what it is to be) for each of these doors. Raises UnknownLightlyError."""
    from lightly_train._commands import common_helpers
    from lightly_train._data import (
        file_helpers,
        mask_panoptic_segmentation_dataset,
        mask_semantic_segmentation_dataset,
    )

    own = file_helpers.open_mask_numpy

    def open_mask_numpy(mask_path: Any) -> Any:
        panoptic = "panoptic" in sys._getframe(1).f_globals["__name__"]
        return server.open(mask_path, panoptic, lambda: own(mask_path))

    doors: list[tuple[Any, str, Any]] = [(file_helpers, "open_mask_numpy", open_mask_numpy)]
    if server.maps is None:
        return doors
    for module in (mask_semantic_segmentation_dataset, mask_panoptic_segmentation_dataset):
        args = _args_of(module)
        doors.append((args, _LIST, _pairs(getattr(args, _LIST), server)))
    get_dataset = getattr(common_helpers, "get_dataset", None)
    if get_dataset is None:
        raise _unknown("common_helpers has no get_dataset")

    def of_pretraining(*given: Any, **named: Any) -> Any:
        hold_list(named.get("data", given[0] if given else None), str(server.images.cache.path))
        return get_dataset(*given, **named)

    return [*doors, (common_helpers, "get_dataset", of_pretraining)]


def _pairs(door: Any, server: MaskServer) -> Any:
    def list_pairs(self: Any) -> Iterator[Any]:
        many = 0
        for many, row in enumerate(door(self), 1):  # noqa: B007  (all of them, in the end)
            yield row
        hold_pairs(self, many, str(server.images.cache.path))

    return list_pairs


def _args_of(module: Any) -> Any:
    name = _PAIRED[module.__name__.rpartition(".")[2]]
    args = getattr(module, name, None)
    fields = set(getattr(args, "model_fields", ()))
    if _LIST not in vars(args or object) or not {"image_dir", "mask_dir_or_file"} <= fields:
        raise _unknown(f"{name} has no {_LIST}, or none of image_dir, mask_dir_or_file")
    return args


def _unknown(what: str) -> UnknownLightlyError:
    return UnknownLightlyError(
        f"lightly-train {version('lightly-train')}: {what}; install 0.18, or a newer "
        "trainer_adapter"
    )
