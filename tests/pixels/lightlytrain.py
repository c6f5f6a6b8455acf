"""What LightlyTrain's own loader gives for the files of `cases`: `make test-lightly` runs this.

It needs LightlyTrain, and so an environment of its own. Prints a line for each case; exit status 1
if one is not what `cases` says.
"""

from __future__ import annotations

import sys
import tempfile
import warnings
from pathlib import Path
from typing import Any

import numpy as np

from tests.pixels.cases import CASES, Case


def given(case: Case) -> Any:
    """Values of LightlyTrain's loader, or its error in words."""
    from lightly_train._data.file_helpers import open_image_numpy

    with tempfile.TemporaryDirectory() as folder:
        path = case.make(Path(folder))
        try:
            image = open_image_numpy(path)
            return np.asarray(image[case.at], np.float64).tolist()
        except Exception as e:  # whatever it raises is what a user would see
            return f"{type(e).__name__}: {str(e).splitlines()[0][:60]}"


def agrees(found: Any, said: Any) -> bool:
    """The same words, or numbers equal to 6 digits."""
    if isinstance(found, str) or isinstance(said, str) or said is None:
        return bool(found == said)
    return np.shape(found) == np.shape(said) and np.allclose(found, said, rtol=2e-6, atol=1e-7)


def main() -> int:
    """Compare all cases."""
    warnings.simplefilter("ignore")
    wrong = 0
    for case in CASES:
        found = given(case)
        same = agrees(found, case.theirs)
        wrong += not same
        note = "as stated" if same else f"NOT as stated ({case.theirs!r})"
        print(f"row {case.row}, {case.name}: {found!r}: {note}")
    return int(wrong > 0)


if __name__ == "__main__":
    sys.exit(main())
