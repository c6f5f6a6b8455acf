"""From a leased host buffer to the device, beside the training stream."""

from __future__ import annotations

from typing import Any, TypeVar

import torch

from trainer_adapter.batch.fields import Fields

B = TypeVar("B", bound=Fields)


class Transfer:
    """Sends batches in the threads that made them, and receives them in the training loop.

    On CUDA the copies run on a stream of their own, out of pinned memory. A thread waits for its
    copy, so that the host buffer is not given back while the device still reads it.
    """

    def __init__(self, device: str | torch.device | None) -> None:
        self.device = torch.device(device or "cpu")
        self.pinned = self.device.type == "cuda"
        self._stream: Any = torch.cuda.Stream(self.device) if self.pinned else None  # type: ignore[no-untyped-call]

    def sent(self, batch: B) -> B:
        """The batch on the device."""
        if self.device.type == "cpu":
            return batch
        if self._stream is None:
            return self._on_device(batch)
        with torch.cuda.stream(self._stream):
            moved = self._on_device(batch)
            done: Any = torch.cuda.Event()  # type: ignore[no-untyped-call]
            done.record(self._stream)
        done.synchronize()
        return moved

    def received(self, batch: B) -> B:
        """The batch, for use on the current stream of the calling thread."""
        if self._stream is not None:
            current = torch.cuda.current_stream(self.device)
            for tensor in _tensors(batch):
                tensor.record_stream(current)  # else its memory could be reused too early
        return batch

    def _on_device(self, batch: B) -> B:
        fast = self._stream is not None

        def moved(value: Any) -> Any:
            if isinstance(value, torch.Tensor):
                return value.to(self.device, non_blocking=fast)
            if isinstance(value, dict):
                return {k: moved(v) for k, v in value.items()}
            return value

        return type(batch)({name: moved(value) for name, value in batch.items()})


def _tensors(batch: Any) -> list[torch.Tensor]:
    parts = (f.values() if isinstance(f, dict) else [f] for f in batch.values())
    return [v for values in parts for v in values if isinstance(v, torch.Tensor)]
