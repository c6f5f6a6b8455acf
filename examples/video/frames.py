"""A DICOM video (MPEG-2, MPEG-4, HEVC) as a multi-frame file of plain RGB, which dicom2cache reads.

    pip install av
    python examples/video/frames.py clip.dcm frames.dcm

All frames are written, one after the other, as their decoder gives them; each takes rows x columns
x 3 bytes. The header stays, patient's data included, but for what says how pixels are stored.
"""

from __future__ import annotations

import io
import os
import sys
import tempfile

import av
from pydicom import dcmread
from pydicom.encaps import generate_fragments, parse_basic_offsets
from pydicom.uid import (
    ExplicitVRLittleEndian,
    MultiFrameTrueColorSecondaryCaptureImageStorage,
    VideoEndoscopicImageStorage,
    VideoMicroscopicImageStorage,
    VideoPhotographicImageStorage,
    generate_uid,
)

VIDEOS = (
    VideoEndoscopicImageStorage, VideoMicroscopicImageStorage, VideoPhotographicImageStorage,
)  # fmt: skip
MOST = 2**32 - 2  # bytes of pixel data that are not encapsulated (PS3.5 7.1.2)


def main(clip: str, target: str) -> None:
    """Write the frames of the video `clip` to the file `target`."""
    ds = dcmread(clip)
    items = io.BytesIO(ds.PixelData)
    parse_basic_offsets(items)  # the first item; the others are one stream (PS3.5 8.2.5)
    stream = io.BytesIO(b"".join(generate_fragments(items)))
    room = os.path.dirname(os.path.abspath(target))
    with tempfile.TemporaryFile(dir=room) as pixels, av.open(stream) as video:
        count = 0
        for count, frame in enumerate(video.decode(video=0), 1):
            rgb = frame.to_ndarray(format="rgb24")
            if count * rgb.nbytes > MOST:
                raise SystemExit(f"{clip}: more than 4 GiB of frames; cut the video before")
            if rgb.shape[:2] != (ds.Rows, ds.Columns):
                raise SystemExit(f"{clip}: frames of {rgb.shape[:2]}, ({ds.Rows}, {ds.Columns}) "
                                 "by Rows (0028,0010) and Columns (0028,0011)")  # fmt: skip
            pixels.write(rgb.tobytes())
        if not count:
            raise SystemExit(f"{clip}: no frame in it")
        pixels.write(b"\0" * (pixels.tell() % 2))
        pixels.seek(0)
        ds.PixelData = pixels
        ds["PixelData"].VR = "OB"
        ds["PixelData"].is_undefined_length = False
        ds.NumberOfFrames = count
        ds.SamplesPerPixel, ds.PhotometricInterpretation, ds.PlanarConfiguration = 3, "RGB", 0
        ds.BitsAllocated, ds.BitsStored, ds.HighBit, ds.PixelRepresentation = 8, 8, 7, 0
        ds.LossyImageCompression = "01"
        ds.ImageType = ["DERIVED", *list(ds.get("ImageType") or ["", "PRIMARY"])[1:]]
        if ds.SOPClassUID in VIDEOS:  # these are videos by definition
            ds.SOPClassUID = MultiFrameTrueColorSecondaryCaptureImageStorage
        ds.SOPInstanceUID = generate_uid(entropy_srcs=[str(ds.SOPInstanceUID), "frames"])
        ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        ds.file_meta.MediaStorageSOPClassUID = ds.SOPClassUID
        ds.file_meta.MediaStorageSOPInstanceUID = ds.SOPInstanceUID
        ds.save_as(target, enforce_file_format=True)
    print(f"{target}: {count} frames")


if __name__ == "__main__":
    main(*sys.argv[1:])
