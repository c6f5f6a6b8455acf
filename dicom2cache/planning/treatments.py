"""Which treatment of the recipe a file gets, and what that makes of it; pure and columnar."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from dicom2cache.arrow import Floats, Mask, ints, mask_of
from dicom2cache.recipes.recipe import WAVEFORM, Recipe, Treatment
from dicom2cache.syntaxes import MAY_BE_LOSSY


def by_rule(files: pa.Table, recipe: Recipe, pick: Callable[[Treatment], Any]) -> NDArray[Any]:
    """What the treatment of each file says, one object a file."""
    picked = np.empty(len(recipe.treatments), object)
    picked[:] = [pick(t) for t in recipe.treatments]
    return np.asarray(picked[ints(files["rule"], 0)])


def holds(files: pa.Table, recipe: Recipe, pick: Callable[[Treatment], bool]) -> Mask:
    """For which files their treatment has a property."""
    return by_rule(files, recipe, pick).astype(bool)


def waveforms(files: pa.Table) -> Mask:
    """Files that are no images: what the recipe says of pixels does not hold for them."""
    return mask_of(pc.equal(files["kind"], WAVEFORM))


def graded_files(files: pa.Table, recipe: Recipe) -> Mask:
    """Files that windows or percentiles apply to: grey images; neither dose, maps nor masks."""
    grey = pc.and_(pc.is_valid(files["slope"]), pc.equal(files["kind"], "image"))
    return holds(files, recipe, lambda t: t.graded) & mask_of(grey)


def suv_files(files: pa.Table, recipe: Recipe) -> Mask:
    """PET files whose treatment is SUV."""
    pet = mask_of(pc.and_(pc.equal(files["modality"], "PT"), pc.is_valid(files["slope"])))
    return pet & holds(files, recipe, lambda t: t.intensity == "suv")


def stored_range(files: pa.Table, overshoot: bool = False) -> tuple[Floats, Floats]:
    """(least, greatest) value that the stored bits of each file can hold.

    With `overshoot` those of lossy syntaxes have one bit more, where BitsAllocated has room for it:
    what a lossy codec makes of an edge can lie beyond BitsStored.
    """
    bits = ints(files["bits_stored"], 16)
    if overshoot:
        lossy = pc.is_in(files["transfer_syntax"], pa.array(sorted(MAY_BE_LOSSY)))
        room = bits < ints(files["bits_allocated"], 16)
        bits = bits + (mask_of(lossy) & room)
    signed = mask_of(files["signed"])
    span = 2.0**bits
    return np.where(signed, -span / 2, 0.0), np.where(signed, span / 2, span) - 1
