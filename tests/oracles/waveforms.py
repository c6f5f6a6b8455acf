"""Waveforms against DCMTK's reading of the file, and arithmetic of its own.

    python -m tests.oracles.waveforms [FOLDER]

dcm2json says what elements hold, whatever the transfer syntax; the rest is PS3.3 C.10.9.1, a sample
at a time. Without a folder: the waveform that pydicom brings, and one for each sample
interpretation and transfer syntax.
"""

from __future__ import annotations

import base64
import json
import struct
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom import dcmread

from dicom2cache import build
from tests.support.dicom_files import real
from tests.support.waveforms import BITS, channel, group, write_waveform
from trainer_adapter import open_cache

_LETTERS = {
    "SB": "b", "UB": "B", "MB": "B", "AB": "B", "SS": "h", "US": "H", "SL": "i", "UL": "I",
    "SV": "q", "UV": "Q",
}  # fmt: skip
_SYNTAXES = ("1.2.840.10008.1.2", "1.2.840.10008.1.2.1", "1.2.840.10008.1.2.2",
             "1.2.840.10008.1.2.1.99")  # fmt: skip


def excuse(path: Path, frame: int) -> str | None:
    """Why DCMTK's answer does not count."""
    ds = dcmread(path, force=True, stop_before_pixels=True)
    big = str(ds.file_meta.get("TransferSyntaxUID", "")) == _SYNTAXES[2]
    if big and ds.WaveformSequence[frame].WaveformBitsAllocated > 16:
        return "swaps the bytes of 16-bit words, where samples are big-endian (PS3.5 A.3)"
    return None


def read(path: Path) -> list[NDArray[np.float64]]:
    """(channels, samples) of each multiplex group, as DCMTK reads the file; [] of what has none."""
    done = subprocess.run(["dcm2json", path], capture_output=True, check=False)
    if done.returncode:
        return []
    found = json.loads(done.stdout.decode("utf-8", "replace"))
    return [_group(item) for item in _value(found, "54000100") or ()]


def _value(item: dict[str, Any], tag: str) -> Any:
    return item.get(tag, {}).get("Value")


def _bytes(item: dict[str, Any], tag: str) -> bytes:
    return base64.b64decode(item.get(tag, {}).get("InlineBinary", ""))


def _number(item: dict[str, Any], tag: str, other: float) -> float:
    found = _value(item, tag)
    return float(found[0]) if found else other


def _group(item: dict[str, Any]) -> NDArray[np.float64]:
    channels, samples = int(_value(item, "003A0005")[0]), int(_value(item, "003A0010")[0])
    letter = _LETTERS[_value(item, "54001006")[0]]
    raw = _bytes(item, "54001010")
    words = struct.unpack_from(f"<{channels * samples}{letter}", raw)
    padding = _bytes(item, "5400100A")
    gap = struct.unpack_from(f"<{letter}", padding)[0] if padding else None
    made = np.empty((channels, samples))
    for c, said in enumerate(_value(item, "003A0200") or [{}] * channels):
        line = [1.0, 1.0, 0.0]
        if _value(said, "003A0210"):
            line = [_number(said, tag, d) for tag, d in
                    (("003A0210", 1.0), ("003A0212", 1.0), ("003A0213", 0.0))]  # fmt: skip
        for s in range(samples):
            word = words[s * channels + c]
            value = _expanded(word, _value(item, "54001006")[0])
            made[c, s] = np.nan if word == gap else value * line[0] * line[1] + line[2]
    return made


def _expanded(word: int, interpretation: str) -> float:
    """A sample; of mu-law and A-law the values of G.711's tables 2 and 1, of 14 and 13 bits, in
    16."""
    if interpretation == "MB":
        word = 255 - word
        segment, step = word >> 4 & 7, word & 15
        size = ((2 * step + 33) << segment) - 33
        return -4.0 * size if word & 128 else 4.0 * size
    if interpretation == "AB":
        word ^= 0x55
        segment, step = word >> 4 & 7, word & 15
        size = 2 * step + 1 if not segment else (2 * step + 33) << (segment - 1)
        return 8.0 * size if word & 128 else -8.0 * size
    return float(word)


def examples(folder: Path) -> None:
    """One of each sample interpretation and transfer syntax, and pydicom's own."""
    (folder / "ecg").write_bytes(real("waveform_ecg.dcm").read_bytes())
    for interpretation, bits in BITS.items():
        for k, syntax in enumerate(_SYNTAXES):
            letter = _LETTERS[interpretation]
            drawn = np.random.default_rng([bits, k]).bytes(3 * 40 * bits // 8)
            words = np.frombuffer(drawn, letter)
            data = words.astype(words.dtype.newbyteorder(">" if k == 2 else "<")).tobytes()
            channels = [
                channel("A", "0.25", ChannelBaseline="3"),
                channel("B", "4.88", unit="mV", ChannelSensitivityCorrectionFactor="1.1"),
                channel("C"),
            ]
            size = bits // 8
            vr = "OB" if bits == 8 and k else "OW"
            said = {"WaveformPaddingValue": (vr, data[:size] + bytes(size % 2))}
            groups = [group(data, channels, interpretation, vr=vr, **said)]
            write_waveform(folder / f"{interpretation}-{k}", groups, bool(k % 2), syntax)


def main(arguments: list[str]) -> int:
    """How many recordings differ."""
    with tempfile.TemporaryDirectory() as place:
        folder = Path(arguments[0]) if arguments else Path(place, "in")
        if not arguments:
            folder.mkdir()
            examples(folder)
        build(folder, Path(place, "cache"))
        cache = open_cache(Path(place, "cache"))
        cache = cache.select(kind="waveform")
        judged: dict[Path, list[NDArray[np.float64]]] = {}
        wrong = 0
        for k in range(len(cache)):
            path, frame = cache.source(k)
            if path not in judged:
                judged[path] = read(path)
            theirs = judged[path][frame].astype(np.float32) if judged[path] else None
            if theirs is None:
                print(f"{path}: DCMTK cannot read it")
            elif why := excuse(path, frame):
                print(f"{path}: DCMTK {why}")
            elif not np.array_equal(theirs, cache[k], equal_nan=True):
                print(f"{path}, group {frame}: differs from DCMTK's")
                wrong += 1
        print(f"{len(cache)} multiplex groups, {wrong} differ")
        return int(bool(wrong) or not len(cache))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
