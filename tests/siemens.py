"""Files as Siemens and UIH scanners write them: CSA headers, and volumes tiled into one frame."""

from __future__ import annotations

from struct import pack

Tags = list[tuple[str, str, int, list[str]]]
"""(name, VR, value multiplicity, values as text) of a CSA header"""


def csa(tags: Tags, version: int = 2, items: int = 6) -> bytes:
    """A CSA header as a scanner writes it; a tag with values has `items` items, most of them empty.

    Version 1 has no mark, and adds the number of the first tag's items to each length.
    """
    first = max(items, len(tags[0][3])) if tags[0][3] else 0
    body = b"SV10\4\3\2\1" if version == 2 else b""
    body += pack("<II", len(tags), 77)
    for name, vr, multiplicity, values in tags:
        count = max(items, len(values)) if values else 0
        body += pack("<64si4siii", name.encode(), multiplicity, vr.encode(), 0, count, 77)
        for k in range(count):
            text = values[k].encode() + b"\0" if k < len(values) else b""
            length = len(text)
            body += pack("<iiii", length + (first if version == 1 else 0), length, 77, length)
            body += text + bytes(-length % 4)
    return body


def image_csa(
    images: int, normal: tuple[float, float, float], version: int = 2, more: Tags | None = None
) -> bytes:
    """The CSA header of a mosaic of `images` slices that follow each other along `normal`."""
    tags: Tags = [
        ("EchoLinePosition", "IS", 1, ["32"]),
        ("EchoColumnPosition", "IS", 1, ["32"]),
        ("NumberOfImagesInMosaic", "US", 1, [str(images)]),
        ("SliceNormalVector", "FD", 3, [f"{v:.8f}" for v in normal]),
        *(more or []),
        ("UsedChannelMask", "UL", 1, []),
    ]
    return csa(tags, version)
