"""docs/faq.md's way from a video to frames: a real H.264 stream, decoded, stored, compared."""

from __future__ import annotations

import io
import re
import shlex
import subprocess
import sys
from pathlib import Path

import av
import numpy as np

from tests.support.caches import built, run_here
from tests.support.dicom_files import write_dicom
from trainer_adapter import open_cache

HERE = Path(__file__).parents[2]
COLOURS = [(200, 40, 40), (40, 200, 40), (40, 40, 200), (120, 120, 120)]


def _h264() -> bytes:
    """A stream of four frames of 64 x 96, each of one colour."""
    stream = io.BytesIO()
    with av.open(stream, "w", format="h264") as video:
        track = video.add_stream("libx264", rate=25)
        track.width, track.height, track.pix_fmt = 96, 64, "yuv420p"
        for colour in COLOURS:
            plane = np.full((64, 96, 3), colour, np.uint8)
            video.mux(track.encode(av.VideoFrame.from_ndarray(plane, format="rgb24")))
        video.mux(track.encode())
    return stream.getvalue()


def test_a_video_becomes_frames(tmp_path: Path) -> None:
    clip = write_dicom(
        tmp_path / "videos" / "clip.dcm", np.zeros((4, 64, 96, 3), np.uint8), encoded=[_h264()],
        SOPClassUID="1.2.840.10008.5.1.4.1.1.77.1.1.1", Modality="ES", NumberOfFrames=4,
        PhotometricInterpretation="YBR_PARTIAL_420",
        syntax="1.2.840.10008.1.2.4.102",
    )  # fmt: skip
    refused = run_here("build", clip.parent, tmp_path / "none", "--jobs", "1")
    assert refused.returncode
    assert "1.2.840.10008.1.2.4.102" in refused.stderr
    (line,) = re.findall(r"^python (examples/video/.*)$", (HERE / "docs/faq.md").read_text(), re.M)
    script, source, target = shlex.split(line)
    assert (source, target) == ("clip.dcm", "frames.dcm")
    frames = tmp_path / "frames" / target
    frames.parent.mkdir()
    subprocess.run([sys.executable, HERE / script, clip, frames], check=True)
    cache = open_cache(built(frames.parent, tmp_path / "cache"))
    assert [frame.shape for frame in cache] == [(64, 96, 3)] * 4
    for frame, colour in zip(cache, COLOURS, strict=True):
        assert np.abs(frame.astype(int) - colour).max() <= 8, frame[0, 0]  # H.264 has loss
    assert cache.column("lossy").to_pylist() == [True] * 4
