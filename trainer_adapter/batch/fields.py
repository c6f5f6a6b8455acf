"""What is handed out together, by name: a Mapping whose keys are attributes too."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Self

import torch

from trainer_adapter.batch.units import MASKS


class Fields(Mapping[str, Any]):
    """Named values, none of which can be replaced in place.

    Trainers move and rebuild it as they do any Mapping: `type(fields)({...})`.
    """

    def __init__(self, values: Mapping[str, Any] | None = None, /, **named: Any) -> None:
        found = {**(values or {}), **named}
        object.__setattr__(self, "_values", found)
        image = found.get("image")
        units = found.get("units") or ()
        kept = units and ("window" in units or MASKS.issuperset(units))
        if kept and isinstance(image, torch.Tensor):
            # Of what a second window, or mixing, would spoil, where only the image is handed on.
            image.stored_units = units  # type: ignore[attr-defined]

    def __getitem__(self, name: str) -> Any:
        return self._values[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def __getattr__(self, name: str) -> Any:
        if name == "_values" or name not in self._values:
            raise AttributeError(f"{type(self).__name__} has no {name}; it has {', '.join(self)}")
        return self._values[name]

    def __setattr__(self, name: str, value: Any) -> None:
        raise AttributeError(f"{name} cannot be set in place; make one by replaced({name}=...)")

    def __dir__(self) -> list[str]:
        return [*super().__dir__(), *self]

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (dict(self),)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(f'{k}={_shown(v)}' for k, v in self.items())})"

    def replaced(self, **named: Any) -> Self:
        """The same with other values."""
        return type(self)(self, **named)


def units_of(image: torch.Tensor) -> tuple[str | None, ...]:
    """The units of an image that was taken out of a batch, as far as it has them still."""
    found: tuple[str | None, ...] = getattr(image, "stored_units", ())
    return found


def _shown(value: Any) -> str:
    if isinstance(value, torch.Tensor) and value.ndim:
        return f"{str(value.dtype).removeprefix('torch.')}{list(value.shape)}"
    if isinstance(value, list) and len(value) > 4:
        return f"[values: {len(value)}]"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{k}: {_shown(v)}" for k, v in value.items()) + "}"
    return repr(value)
