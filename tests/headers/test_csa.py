"""The Siemens CSA header: what is read of it, and what is not believed."""

from __future__ import annotations

import random
from struct import pack

import pytest

from dicom2cache.headers.csa import Csa, csa_values, read_csa
from tests.support.siemens import csa, image_csa

DIFFUSION = [
    ("B_value", "IS", 1, ["1000"]),
    ("DiffusionGradientDirection", "FD", 3, ["0.99997449", "0.00505012", "-0.00505012"]),
    ("B_matrix", "FD", 6, ["992", "5", "-5", "1", "-1", "1"]),
]
# One tag of one item, byte for byte: name (64), VM, VR, syngo type, items, 77; lengths, text.
LITERAL = (
    "53563130 04030201 01000000 4d000000"
    "425f76616c7565" + "00" * 57 + "01000000 49530000 06000000 01000000 4d000000"
    "04000000 04000000 4d000000 04000000 37353000"
)


def test_a_header_byte_for_byte() -> None:
    assert csa_values(bytes.fromhex(LITERAL)) == {"B_value": ("750",)}


@pytest.mark.parametrize("version", [1, 2])
def test_what_is_used_of_it(version: int) -> None:
    found = read_csa(image_csa(48, (0.0, 0.5, -0.8660254), version, DIFFUSION))
    assert found == Csa(
        48, (0.0, 0.5, -0.8660254), 1000.0, (0.99997449, 0.00505012, -0.00505012)
    )  # fmt: skip


@pytest.mark.parametrize("version", [1, 2])
def test_what_it_does_not_say(version: int) -> None:
    tags = [
        ("NumberOfImagesInMosaic", "US", 1, []),
        ("SliceNormalVector", "FD", 3, ["0", "1"]),  # two numbers are no vector
        ("B_value", "IS", 1, ["many"]),
        ("DiffusionGradientDirection", "FD", 3, ["nan", "0", "1"]),
    ]
    assert read_csa(csa(tags, version)) == Csa(None, None, None, None)


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"", "empty"),
        (b"SV10", "only the mark"),
        (bytes(1000), "zeros: no tags"),
        (b"\xff" * 1000, "more tags than any header has"),
        (b"SV10\4\3\2\1" + pack("<II", 1001, 77) + bytes(100_000), "1001 tags"),
        (image_csa(9, (0, 0, 1))[:-1], "cut within the last tag"),
        (image_csa(9, (0, 0, 1))[:300], "cut within an item"),
        (image_csa(9, (0, 0, 1)).replace(b"SliceNormal", b"\1liceNormal"), "a name that is none"),
        (image_csa(9, (0, 0, 1)).replace(pack("<iii", 3, 3, 77), pack("<iii", 3, 1 << 30, 77)),
         "an item that is longer than the file"),
        (csa([("B_value", "IS", 1, ["0"])]).replace(pack("<i", 6), pack("<i", 1001)),
         "1001 items"),
        (csa([("B_value", "IS", 1, ["0"])]).replace(pack("<i", 6), pack("<i", -6)),
         "a negative number of items"),
    ],
)  # fmt: skip
def test_a_header_that_lies_gives_nothing(data: bytes, why: str) -> None:
    assert read_csa(data) is None, why


@pytest.mark.parametrize("version", [1, 2])
def test_damaged_headers_end_and_never_raise(version: int) -> None:
    whole = image_csa(48, (0, 0, 1), version, DIFFUSION)
    draw = random.Random(version)
    for _ in range(2000):
        data = bytearray(whole[: draw.randrange(len(whole)) if draw.random() < 0.3 else None])
        for _ in range(draw.randrange(8) if data else 0):
            data[draw.randrange(len(data))] = draw.randrange(256)
        read_csa(bytes(data))
