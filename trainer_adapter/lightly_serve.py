"""LightlyTrain's doors, replaced while a context lasts: here, and in the workers of DataLoaders."""

from __future__ import annotations

import inspect
import os
import shutil
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any

from trainer_adapter.errors import NotServedError, UnknownLightlyError
from trainer_adapter.lightly_convert import Paths
from trainer_adapter.lightly_counts import Counts, Served
from trainer_adapter.lightly_images import Images, wants_rgb
from trainer_adapter.lightly_pixels import Image

MISSING = ("error", "pass", "convert")
MODES = (None, "RGB", "UNCHANGED")
_DOORS = {
    "open_image_numpy": ["image_path", "mode"],
    "open_image_tensor": ["image_path"],
    # Behind both: what still comes here has found a door that is not known.
    "_open_image_numpy__with_pydicom": ["image_src"],
}
"""functions of lightly_train._data.file_helpers with their parameters; every task calls the first
as an attribute of the module, every predict the second"""
_active: Server | None = None


class Server:
    """What is served, and how much of it was; pickles for spawned workers."""

    def __init__(self, images: Images, missing: str, mode: str | None, counts: Counts) -> None:
        self.images, self.missing, self.mode = images, missing, mode
        self._counts = counts
        self._final: Served | None = None
        self.passing = threading.local()
        """`now` is set while LightlyTrain opens a file itself"""

    def __reduce__(self) -> tuple[Any, ...]:
        return Server, (self.images, self.missing, self.mode, self._counts)

    @property
    def counts(self) -> Served:
        """How many images were given so far, by all workers; readable after the context too."""
        return self._final or self._counts.total()

    def close(self) -> None:
        """Keep the counts, remove their files."""
        self._final = self._counts.total()
        shutil.rmtree(self._counts.folder, ignore_errors=True)

    def mean_std(self) -> dict[str, tuple[float, ...]]:
        """Mean and standard deviation of what is served, for transform_args(normalize=...)."""
        return self.images.mean_std()

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
        return image

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
    from lightly_train._data import file_helpers
    from torch.utils.data import DataLoader

    check(file_helpers)
    numpy_door, tensor_door = file_helpers.open_image_numpy, file_helpers.open_image_tensor
    pydicom_door = file_helpers._open_image_numpy__with_pydicom
    iterator_of = DataLoader._get_iterator
    start_processes: Any = torch.multiprocessing.start_processes  # type: ignore[attr-defined]
    rgb_mode = file_helpers.ImageMode.RGB

    def open_image_numpy(image_path: Any, mode: Any = rgb_mode) -> Any:
        return server.open(
            image_path, mode == rgb_mode, server.missing, lambda: numpy_door(image_path, mode)
        )

    def open_image_tensor(image_path: Any) -> Any:
        # A model predicts on what it was trained on: LightlyTrain's own pixels of DICOM are others.
        new = "convert" if str(image_path).lower().endswith(".dcm") else server.missing
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

    def get_iterator(self: Any) -> Any:
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
        (DataLoader, "_get_iterator", get_iterator),
        (torch.multiprocessing, "start_processes", start),  # strategy ddp_spawn
    ):
        undo.callback(setattr, owner, name, getattr(owner, name))
        setattr(owner, name, new)
    _active = server
    undo.callback(_deactivate)


def _deactivate() -> None:
    global _active
    _active = None


def active() -> Server | None:
    """The server of the context that this process is in."""
    return _active


@contextmanager
def serving(images: Images, missing: str, mode: str | None) -> Iterator[Server]:
    """Serve `images` in this process and in workers that it starts, until the context is left.

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
    folder = Path(tempfile.mkdtemp(prefix="trainer_adapter-counts-"))
    server = Server(images, missing, mode, Counts(folder))
    try:
        with ExitStack() as undo:
            install(server, undo)
            yield server
    finally:
        server.close()
