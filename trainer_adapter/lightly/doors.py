"""LightlyTrain's doors, replaced while a context lasts: here, and in the workers of DataLoaders."""

from __future__ import annotations

import inspect
import os
import re
import shutil
import sys
import tempfile
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any

from trainer_adapter.errors import NotServedError, UnknownLightlyError, counting
from trainer_adapter.lightly.counts import Counts, Served, ServedMasks
from trainer_adapter.lightly.images import Images, wants_rgb
from trainer_adapter.lightly.listing import hold_folder, hold_rows
from trainer_adapter.lightly.mask_doors import MaskServer, mask_doors
from trainer_adapter.lightly.masks import LabelMaps
from trainer_adapter.lightly.pixels import Image
from trainer_adapter.loading.convert import Paths

MISSING = ("error", "pass", "convert")
MODES = (None, "RGB", "UNCHANGED")
_DOORS = {
    "open_image_numpy": ["image_path", "mode"],
    "open_image_tensor": ["image_path"],
    "open_mask_numpy": ["mask_path"],
    # Which files of a folder are images at all, and the suffixes that say so.
    "list_image_filenames_from_dir": ["image_dir"],
    "_supported_image_extensions": [],
    # Behind both: what still comes here has found a door that is not known.
    "_open_image_numpy__with_pydicom": ["image_src"],
}
"""functions of lightly_train._data.file_helpers with their parameters; every task calls the first
as an attribute of the module, every predict the second, semantic and panoptic segmentation and
pretraining with masks the third"""
_ROWS = "_list_image_info_from_csv"
"""of ImageClassificationDatasetArgs: the rows of a CSV that are trained on"""
_BOXED = re.compile(r"detection|instance")
"""modules of lightly_train._data whose datasets have boxes or polygons"""
_active: Server | None = None


class Server:
    """What is served, and how much of it was; pickles for spawned workers."""

    def __init__(
        self,
        images: Images,
        missing: str,
        mode: str | None,
        counts: Counts,
        resized: int = 0,
        maps: LabelMaps | None = None,
    ) -> None:
        """`resized`: how many frames are not where their boxes are; `maps`: None if masks are
        files."""
        self.images, self.missing, self.mode = images, missing, mode
        self._counts, self.resized, self.maps = counts, resized, maps
        self._final: tuple[Served, ServedMasks] | None = None
        self.passing = threading.local()
        """`now` is set while LightlyTrain opens a file itself"""

    def __reduce__(self) -> tuple[Any, ...]:
        said = (self.images, self.missing, self.mode, self._counts, self.resized, self.maps)
        return Server, said

    @property
    def counts(self) -> Served:
        """How many images were given so far, by all workers; readable after the context too."""
        return self._final[0] if self._final else self._counts.total()

    @property
    def mask_counts(self) -> ServedMasks:
        """The same of masks."""
        return self._final[1] if self._final else self._counts.masks()

    @property
    def masks(self) -> MaskServer:
        """What opens masks."""
        return MaskServer(self.images, self.maps, self.missing, self._counts)

    def close(self) -> None:
        """Keep the counts, remove their files."""
        self._final = self._counts.total(), self._counts.masks()
        shutil.rmtree(self._counts.folder, ignore_errors=True)

    def mean_std(self, kind: str | None = "image") -> dict[str, tuple[float, ...]]:
        """Mean and standard deviation of what is served, for transform_args(normalize=...)."""
        return self.images.mean_std(kind)

    def load(self, path: str | os.PathLike[str], *, beside: Paths = ()) -> Image:
        """The image at `path` as a model is given it: from the cache, or converted if it is new."""
        return self.images.open(path, wants_rgb(self.mode), True, beside)[0]

    def open(self, path: Any, rgb: bool, missing: str, own: Callable[[], Any]) -> Any:
        """(H, W, C) of a frame; what is not in the cache is treated as `missing` says, `own` being
        LightlyTrain's way to open it. Raises NotServedError, ConvertError."""
        try:
            image, origin = self.images.open(path, rgb, missing == "convert")
        except NotServedError:
            if missing != "pass":
                raise
            return self._pass(own)
        self._counts.add(origin)
        if not self.images.listed(path):
            self._counts.add("unlisted")
        return image

    def say_boxes(self) -> None:
        """Warn, once of all processes, that boxes are trained on frames which a size moved."""
        cache, many, self.resized = self.images.cache, self.resized, 0
        if self._counts.first("boxes"):
            warnings.warn(
                f"{cache.path}: {many} of {counting(len(cache), 'frame was', 'frames were')} "
                "padded or cropped to a size, so that boxes and polygons of the DICOM files do not "
                "match them; build a cache without `size` (LightlyTrain resizes boxes with their "
                "images), or move the labels by scale_y, scale_x, offset_y and offset_x of frames/",
                stacklevel=3,
            )

    def say_unlisted(self) -> None:
        """Warn, if none of the files that LightlyTrain does not find in a folder was asked for."""
        if not self.counts.cached or self._counts.unlisted():
            return
        many, example = self.images.unlisted()
        if many:
            warnings.warn(
                f"{self.images.cache.path}: {counting(many, 'image is', 'images are')} in files "
                f"that LightlyTrain does not find in a folder, such as {example}, and none was "
                "asked for: it goes by the suffix .dcm; train on "
                "data=trainer_adapter.lightly.names(cache) for all",
                stacklevel=4,
            )

    def _pass(self, own: Callable[[], Any]) -> Any:
        self.passing.now = True
        try:
            found = own()
        finally:
            self.passing.now = False
        self._counts.add("passed")
        return found


class InWorker:
    """A function that first serves in its process, which may have been spawned: the worker_init_fn
    of a DataLoader's workers, or what the ranks of a training run."""

    def __init__(self, server: Server, inner: Callable[..., Any] | None) -> None:
        self.server, self.inner = server, inner

    def __call__(self, *given: Any) -> Any:
        if _active is None:  # a forked process has its parent's doors
            install(self.server, ExitStack())  # for as long as the process lives
        return None if self.inner is None else self.inner(*given)


def _rows_of(args: Any) -> Any:
    """How LightlyTrain reads a CSV of classes. Raises UnknownLightlyError."""
    known = {"dir_or_file", "csv_image_column", "csv_label_column"}
    door = getattr(args, _ROWS, None)
    if door is None or not known <= set(args.model_fields):
        raise UnknownLightlyError(
            f"lightly-train {version('lightly-train')}: {args.__name__} has no {_ROWS}, or none of "
            f"{', '.join(sorted(known))}; install 0.18, or a newer trainer_adapter"
        )
    return door


def check(module: Any) -> None:
    """Refuse a LightlyTrain whose doors are not those that are known, by name."""
    for name, known in _DOORS.items():
        door = getattr(module, name, None)
        found = None if door is None else list(inspect.signature(door).parameters)
        if found != known:
            raise UnknownLightlyError(
                f"lightly-train {version('lightly-train')}: {module.__name__}.{name} "
                f"{'is gone' if found is None else 'takes ' + ', '.join(found)}; known: "
                f"{name}({', '.join(known)}), as in 0.18; install that, or a newer trainer_adapter"
            )


def install(server: Server, undo: ExitStack) -> None:
    """Replace the doors; `undo` puts back what was there. Raises UnknownLightlyError."""
    global _active
    import torch
    import torch.multiprocessing
    from lightly_train._data import file_helpers, image_classification_dataset
    from torch.utils.data import DataLoader

    check(file_helpers)
    args_of_rows = image_classification_dataset.ImageClassificationDatasetArgs
    rows_door, folder_door = _rows_of(args_of_rows), file_helpers.list_image_filenames_from_dir
    numpy_door, tensor_door = file_helpers.open_image_numpy, file_helpers.open_image_tensor
    pydicom_door = file_helpers._open_image_numpy__with_pydicom
    iterator_of = getattr(DataLoader, "_get_iterator", None)
    probe: Any = DataLoader([0])  # type: ignore[arg-type]
    probed = []
    start_processes: Any = torch.multiprocessing.start_processes  # type: ignore[attr-defined]
    rgb_mode = file_helpers.ImageMode.RGB

    def open_image_numpy(image_path: Any, mode: Any = rgb_mode) -> Any:
        if server.resized and _BOXED.search(sys._getframe(1).f_globals["__name__"]):
            server.say_boxes()
        return server.open(
            image_path, mode == rgb_mode, server.missing, lambda: numpy_door(image_path, mode)
        )

    def open_image_tensor(image_path: Any) -> Any:
        # A model predicts on what it was trained on: LightlyTrain's own pixels of DICOM are others.
        new = "convert" if is_dicom(image_path) else server.missing
        found = server.open(
            image_path, wants_rgb(server.mode), new, lambda: tensor_door(image_path)
        )
        if isinstance(found, torch.Tensor):
            return found
        return torch.from_numpy(found).permute(2, 0, 1).contiguous()

    def with_pydicom(image_src: Any) -> Any:
        if not getattr(server.passing, "now", False):
            raise UnknownLightlyError(
                f"lightly-train {version('lightly-train')} opens {image_src} by a way that is not "
                "served; install 0.18, or a newer trainer_adapter"
            )
        return pydicom_door(image_src)

    def list_rows(self: Any) -> Any:
        extensions = file_helpers._supported_image_extensions()
        hold_rows(self, extensions, str(server.images.cache.path))
        return rows_door(self)

    def list_folder(image_dir: Any) -> Any:
        extensions = file_helpers._supported_image_extensions()
        hold_folder(image_dir, extensions, server.images.names)
        return folder_door(image_dir)

    def get_iterator(self: Any) -> Any:
        if self is probe:
            probed.append(True)
            return iter(())
        assert iterator_of is not None
        if self.num_workers == 0:
            return iterator_of(self)
        # Only while workers are started: Lightning seeds those that have no function of their own.
        inner = self.worker_init_fn
        self.worker_init_fn = InWorker(server, inner)
        try:
            return iterator_of(self)
        finally:
            self.worker_init_fn = inner

    def start(fn: Any, *given: Any, **options: Any) -> Any:
        return start_processes(InWorker(server, fn), *given, **options)

    for owner, name, new in (
        (file_helpers, "open_image_numpy", open_image_numpy),
        (file_helpers, "open_image_tensor", open_image_tensor),
        (file_helpers, "_open_image_numpy__with_pydicom", with_pydicom),
        (file_helpers, "list_image_filenames_from_dir", list_folder),
        (args_of_rows, _ROWS, list_rows),
        (DataLoader, "_get_iterator", get_iterator),
        (torch.multiprocessing, "start_processes", start),  # strategy ddp_spawn
        *mask_doors(server.masks),
    ):
        undo.callback(_put_back, owner, name, getattr(owner, name, None))
        setattr(owner, name, new)
    iter(probe)
    if not probed or iterator_of is None:
        raise UnknownLightlyError(
            f"torch {torch.__version__}: DataLoader does not start its workers by _get_iterator, "
            "so that they would not be served; known: 2.4 to 2.14; install one of these, or a "
            "newer trainer_adapter"
        )
    _active = server
    undo.callback(_deactivate)


def _put_back(owner: Any, name: str, what: Any) -> None:
    if what is None:
        delattr(owner, name)
    else:
        setattr(owner, name, what)


def is_dicom(path: Any) -> bool:
    """By its suffix, or by what stands at byte 128 (PS3.10 7.1): many files have no suffix."""
    if str(path).lower().endswith(".dcm"):
        return True
    try:
        with open(path, "rb") as file:
            return file.read(132)[128:] == b"DICM"
    except (OSError, ValueError, TypeError):  # no file, no path
        return False


def _deactivate() -> None:
    global _active
    _active = None


def active() -> Server | None:
    """The server of the context that this process is in."""
    return _active


@contextmanager
def serving(
    images: Images, missing: str, mode: str | None, maps: LabelMaps | None = None
) -> Iterator[Server]:
    """Serve `images`, and masks if `maps` are given, in this process and in workers that it starts,
    until the context is left.

    Raises RuntimeError inside of another such context, ValueError for an unknown option.
    """
    for name, value, legal in (("missing", missing, MISSING), ("mode", mode, MODES)):
        if value not in legal:
            raise ValueError(f"{name} {value!r}; legal: {', '.join(map(str, legal))}")
    if _active is not None:
        raise RuntimeError(
            f"already served from {_active.images.cache.path}; leave that context first"
        )
    images.prepare()
    if maps is not None:
        maps.prepare()
    folder = Path(tempfile.mkdtemp(prefix="trainer_adapter-counts-"))
    # Boxes that are written from the cache's masks are of the frames as they are stored.
    moved = images.resized() if maps is None else 0
    server = Server(images, missing, mode, Counts(folder), moved, maps)
    try:
        with ExitStack() as undo:
            install(server, undo)
            yield server
        server.say_unlisted()
    finally:
        server.close()
