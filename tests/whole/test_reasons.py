"""Every reason is in our words: of all bundled files, and of thousands of ways to damage them."""

from __future__ import annotations

import ast
import os
import re
import struct
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

import dicom2cache
from tests.support.caches import attributes, run_here, table
from tests.support.dicom_files import DATA_STORE, WHEEL

_CODE = Path(dicom2cache.__file__).parent
_LARGEST = 120_000
"""bytes of a file that is damaged: all kinds are among the small ones"""

_FOREIGN = re.compile(
    r"""[A-Z]\w*(Error|Exception|Warning)\b | internal\ error | Traceback | 0x[0-9a-f]{6}
    | imcd_ | IMCD_ | opj_ | ojph | _decode | NoneType | \bobject\b | invalid\ literal
    | out\.shape | has\ no\ attribute | unsupported\ operand | out\ of\ range | can't\ decode
    | not\ subscriptable | not\ iterable | unpack\ requires | requires\ a\ buffer | dtype\('
    | cannot\ reshape | broadcast | could\ not\ convert | expected\ (str|bytes|int) | argument""",
    re.VERBOSE,
)
"""words of Python, NumPy, pydicom and the decoders"""


def _templates() -> Iterator[re.Pattern[str]]:
    """What is said in the code: texts with at least 12 letters of their own, open where a value
    stands."""
    for path in _CODE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            parts: list[ast.expr] = []
            if isinstance(node, ast.JoinedStr):
                parts = node.values
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                parts = [node]
            words = [str(p.value) for p in parts if isinstance(p, ast.Constant)]
            if sum(len(word) for word in words) >= 12:
                yield re.compile(".*".join(map(re.escape, words)), re.DOTALL)


@pytest.fixture(scope="module")
def ours() -> Callable[[str], bool]:
    """Whether a reason holds a text of the code and no words of others."""
    templates = list(_templates())
    assert len(templates) > 300

    def holds(reason: str) -> bool:
        return not _FOREIGN.search(reason) and any(t.search(reason) for t in templates)

    assert not holds("ValueError: invalid literal for int() with base 10: '4OO'")
    assert not holds("codestream: 'NoneType' object is not subscriptable")
    assert not holds("opj_decode or opj_end_decompress failed")
    assert holds("the file is empty (0 bytes); copy it again")
    return holds


def _sources() -> list[Path]:
    found = [p for folder in (WHEEL, DATA_STORE) for p in sorted(folder.rglob("*")) if p.is_file()]
    assert len(found) > 150
    return found


def _cut(data: bytearray, random: np.random.Generator) -> bytes:
    return bytes(data[: int(random.integers(1, len(data)))])


def _flipped(data: bytearray, random: np.random.Generator) -> bytes:
    """Bits turned over: some in the header, some anywhere."""
    for end in (min(2000, len(data)), len(data)):
        for place in random.integers(0, end, 4).tolist():
            data[place] ^= 1 << int(random.integers(8))
    return bytes(data)


def _shuffled(data: bytearray, random: np.random.Generator) -> bytes:
    """Pieces of the header in another order."""
    end = min(len(data), 3000)
    cuts = sorted({132, end, *random.integers(132, max(133, end), 5).tolist()})
    pieces = [bytes(data[a:b]) for a, b in pairwise(cuts)]
    order = random.permutation(len(pieces)).tolist()
    return bytes(data[:132]) + b"".join(pieces[k] for k in order) + bytes(data[end:])


def _overwritten(data: bytearray, random: np.random.Generator) -> bytes:
    """A value of group 0028 or of the pixel data's first items replaced by noise."""
    places = [m.start() for m in re.finditer(rb"\x28\0.\0", bytes(data), re.DOTALL)]
    places += [m.start() for m in re.finditer(b"\xfe\xff\0\xe0", bytes(data))][:3]
    for place in random.permutation(places or [132])[:3].tolist():
        noise = random.integers(0, 256, 4, dtype=np.uint8).tobytes()
        data[place + 8 : place + 12] = random.choice([noise, b"\0\0\0\0", b"\xff\xff\xff\xff"])
    return bytes(data)


def _lengthened(data: bytearray, random: np.random.Generator) -> bytes:
    """A 16-bit length of an element that lies."""
    places = [m.start() for m in re.finditer(rb"[A-Z][A-Z][\0-\x40]\0", bytes(data))]
    for place in random.permutation(places or [132])[:2].tolist():
        data[place + 2 : place + 4] = struct.pack("<H", int(random.integers(0, 65536)))
    return bytes(data)


_DAMAGES = (_cut, _flipped, _shuffled, _overwritten, _lengthened)


def _check(folder: Path, ours: Callable[[str], bool], *arguments: str) -> None:
    ran = run_here("build", folder, folder.parent / "cache", "-j2", *arguments)
    assert ran.returncode in (0, 1), ran.stderr
    counts = attributes(folder.parent / "cache")["counts"]
    assert counts["files"] == sum(len(names) for _, _, names in os.walk(folder))
    rows = table(folder.parent / "cache", "failures")
    foreign = {row["path"]: row["reason"] for row in rows if not ours(row["reason"])}
    assert not foreign


def test_reasons_of_bundled_files(tmp_path: Path, ours: Callable[[str], bool]) -> None:
    (tmp_path / "in").mkdir()
    for k, path in enumerate(_sources()):
        (tmp_path / "in" / f"{k:03} {path.name}").symlink_to(path)
    _check(tmp_path / "in", ours)


@pytest.mark.parametrize("seed", range(int(os.environ.get("DAMAGES", "1"))))
def test_reasons_of_damaged_files(tmp_path: Path, ours: Callable[[str], bool], seed: int) -> None:
    """One of each damage to each file; DAMAGES=20 tries 20 of them."""
    (tmp_path / "in").mkdir()
    whole = [path.read_bytes() for path in _sources() if 400 < path.stat().st_size < _LARGEST]
    for k, data in enumerate(whole):
        random = np.random.default_rng([seed, k])
        for damage in _DAMAGES:
            damaged = damage(bytearray(data), random)
            (tmp_path / "in" / f"{k:03}{damage.__name__}.dcm").write_bytes(damaged)
    assert len(list((tmp_path / "in").iterdir())) > 400
    _check(tmp_path / "in", ours, "--intensity", "window", "--window", "dicom")
