"""A stranger's reader, written from FORMAT.md alone, reads what we read; the page is complete."""

from __future__ import annotations

import ast
import hashlib
import json
import re
import struct
from pathlib import Path
from typing import Any

import google_crc32c
import imagecodecs
import numpy as np
import pyarrow.parquet as pq
import pytest
from numpy.typing import NDArray
from pydicom import examples

from tests.conftest import IMAGE_EXAMPLES
from tests.support.caches import attributes, built
from trainer_adapter import open_cache

HERE = Path(__file__).parents[2]
PAGE = (HERE / "dicom2cache" / "FORMAT.md").read_text()


class Stranger:
    """What FORMAT.md says, in its order."""

    def __init__(self, cache: Path) -> None:
        self.cache = cache
        self.about = json.loads((cache / "zarr.json").read_text())["attributes"]["dicom2cache"]
        assert self.about["format"] == 1
        without = {k: v for k, v in self.about.items() if k != "sha256"}
        text = json.dumps(without, sort_keys=True, separators=(",", ":"))
        assert hashlib.sha256(text.encode("utf-8")).hexdigest() == self.about["sha256"]
        self.tables = {
            kind: [row for entry in entries for row in self._table(entry)]
            for kind, entries in self.about["tables"].items()
        }

    def _table(self, entry: dict[str, Any]) -> list[dict[str, Any]]:
        data = (self.cache / entry["path"]).read_bytes()
        assert (len(data), hashlib.sha256(data).hexdigest()) == (entry["bytes"], entry["sha256"])
        rows: list[dict[str, Any]] = pq.read_table(self.cache / entry["path"]).to_pylist()
        assert len(rows) == entry["rows"]
        return rows

    def frame(self, sample: int) -> NDArray[Any]:
        row = self.tables["frames"][sample]
        array = self.about["arrays"][row["array"]]
        k, slot = divmod(row["row"], array["frames_per_shard"])
        data = (self.cache / array["name"] / (f"c.{k}" + ".0" * len(array["slot"]))).read_bytes()
        (facts,) = [
            s for s in self.tables["shards"] if (s["array"], s["shard"]) == (row["array"], k)
        ]
        kind = np.dtype(array["dtype"]).newbyteorder("<")
        slot_bytes = int(np.prod(array["slot"])) * kind.itemsize
        index = data[-16 * array["frames_per_shard"] - 4 : -4]
        assert len(data) == facts["bytes"]
        (crc,) = struct.unpack("<I", data[-4:])
        assert crc == facts["index_crc32c"] == google_crc32c.value(index)
        offset, length = struct.unpack_from("<QQ", index, 16 * slot)
        raw = data[offset : offset + length]
        if array["codec"] == "none":
            assert (offset, length) == (slot * slot_bytes, slot_bytes)
            assert len(data) == facts["slots"] * slot_bytes + len(index) + 4
        else:
            version, _, flags, typesize, nbytes, _, cbytes = struct.unpack_from("<BBBBIII", raw)
            assert (version, flags >> 5) == (2, {"lz4": 1, "zstd": 4}[array["codec"]])
            assert (typesize, nbytes, cbytes) == (kind.itemsize, slot_bytes, length)
            raw = imagecodecs.blosc_decode(raw)  # another build of Blosc
        assert google_crc32c.value(raw) == row["crc32c"]
        return np.frombuffer(raw, kind).reshape(array["slot"])[: row["height"], : row["width"]]


def test_a_stranger_reads_every_frame(examples_cache: Path) -> None:
    stranger, ours = Stranger(examples_cache), open_cache(examples_cache)
    assert len(stranger.tables["frames"]) == len(ours) == 51
    for k in range(51):
        np.testing.assert_array_equal(stranger.frame(k), ours[k])


@pytest.mark.parametrize("codec", ["lz4", "zstd"])
def test_a_stranger_reads_compressed_frames(
    examples_cache: Path, tmp_path: Path, codec: str
) -> None:
    paths = [Path(examples.get_path(name)) for name in IMAGE_EXAMPLES]
    stranger = Stranger(built(*paths, tmp_path / "cache", "--codec", codec))
    plain = open_cache(examples_cache)
    assert len(stranger.tables["frames"]) == 51
    for k in range(51):
        np.testing.assert_array_equal(stranger.frame(k), plain[k])


def _documented(section: str) -> list[str]:
    """Names in the first column of a section's table."""
    text = PAGE.split(f"\n## {section}\n")[1].split("\n## ")[0]
    rows = re.findall(r"^\| ([a-z0-9_, ]+) \| ", text, re.MULTILINE)
    return [name for row in rows for name in row.split(", ") if name != "column"]


def test_every_column_is_documented_once(examples_cache: Path) -> None:
    for kind in ("frames", "failures", "shards", "contours"):
        schema = pq.read_schema(examples_cache / kind / "0.parquet")
        assert sorted(_documented(f"{kind}/")) == sorted(schema.names)


def test_every_root_member_is_documented(examples_cache: Path) -> None:
    text = PAGE.split("## Root")[1].split("\n## ")[0]
    for member in attributes(examples_cache):
        assert f"`{member}`" in text
    for count in attributes(examples_cache)["counts"]:
        assert f"`{count}`" in text


def test_counts_add_up(examples_cache: Path) -> None:
    counts = attributes(examples_cache)["counts"]
    parts = ["stored", "no_pixels", "not_dicom", "duplicate", "excluded", "failed"]
    assert counts["files"] == sum(counts[f"files_{part}"] for part in parts) == 11
    assert (counts["files_stored"], counts["files_no_pixels"]) == (9, 2)


_NO_FLAGS = {
    "no-volume", "first-touch",  # of exports
    "google-crc32c",  # a package
    "big-endian", "burned-in", "deflated-frame", "jpeg-2000", "jpeg-ls", "jpeg-xl", "latin-1",
    "no-pixels", "not-dicom", "parent-watch", "shard-writer", "utf-8",
}  # fmt: skip
"""words with a hyphen in the code that are no flags: outcomes, decoders, names of threads"""


def test_flags_in_the_code_are_documented() -> None:
    """Every word with a hyphen is a flag that the page has, or one of those that are named here."""
    words = set()
    for path in (HERE / "dicom2cache").rglob("*.py"):
        tree = ast.parse(path.read_text())
        docstrings = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
        words |= {
            node.value
            for node in ast.walk(tree)
            if isinstance(node, ast.Constant)
            and isinstance(node.value, str)
            and id(node) not in docstrings
            and re.fullmatch(r"[a-z]+(-[a-z0-9]+)+", node.value)
        }
    documented = set(re.findall(r"^- `([a-z0-9-]+)`: ", PAGE, re.MULTILINE))
    assert len(documented) >= 15
    assert words - _NO_FLAGS == {flag for flag in documented if "-" in flag}
