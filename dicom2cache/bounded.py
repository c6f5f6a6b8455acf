"""Files whose reads take no more memory than the file has bytes, whatever lengths stand in them."""

from __future__ import annotations

import io
import os

_SMALL = 1 << 16
"""bytes that are asked for without a look at the file's size"""


class BoundedFile(io.BufferedReader):
    """A file to read from; a read beyond its end allocates what is left, not what was asked for.

    A parser takes lengths at their word: 4 GiB in a file of 700 bytes would end in a MemoryError.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        """Raises OSError if the file cannot be opened."""
        super().__init__(io.FileIO(path))

    def read(self, size: int | None = -1, /) -> bytes:
        """As of any file: fewer bytes than `size` where the file ends."""
        if size is not None and size > _SMALL:
            size = min(size, max(_SMALL, os.fstat(self.fileno()).st_size - self.tell()))
        return super().read(size)
