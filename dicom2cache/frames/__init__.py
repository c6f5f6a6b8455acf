"""One frame: bytes to the values that are stored."""
