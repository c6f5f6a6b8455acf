"""The pictures of docs/ are what their command draws."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from docs import draw_masks
from docs.draw_stacks import HERE, PICTURES


@pytest.mark.parametrize("name", PICTURES)
def test_picture_is_current(name: str, tmp_path: Path) -> None:
    assert (HERE / name).read_text() == PICTURES[name](tmp_path), "run python -m docs.draw_stacks"


def test_pictures_of_masks_are_current(tmp_path: Path) -> None:
    for name, pixels in draw_masks.drawn(tmp_path).items():
        with Image.open(HERE / f"masks-{name}.png") as stored:
            assert np.array_equal(np.asarray(stored), pixels), "run python -m docs.draw_masks"
