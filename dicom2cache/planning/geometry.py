"""Headers to what decides stacks: the columns of Geometry, pure."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from dicom2cache.arrow import Codes, appearance, codes, floats, ints, vectors
from dicom2cache.pixels.resize import Placement
from dicom2cache.planning import parts
from dicom2cache.planning.people import people
from dicom2cache.planning.splitting import Splitter
from dicom2cache.planning.stacks import ORIENTATION, Geometry
from dicom2cache.planning.treatments import waveforms

_TIME, _SHORT = 0.5, 0.01  # ms; echoes may follow one another faster than times jitter
_WOBBLE = 2.0  # s/mm² that the b-values of one volume may differ by, if so its parts are whole
_DIMENSIONS = 6  # most indices of a frame that count


def geometry(
    files: pa.Table,
    file: NDArray[np.int32],
    frame: NDArray[np.int32],
    part: NDArray[np.int16],
    said: dict[str, Any],
    placement: Placement,
) -> Geometry:
    """What decides the stack of every frame: `said` has what it or its file says, `part` the number
    of a slice that was cut out of one."""
    dimensions = _padded(said["dimensions"])
    moments = [ints(said[c], -1) for c in ("temporal_index", "acquisition")]
    moments += [_ranks(floats(said[c])) for c in ("trigger_time", "time", "acquired")]
    return Geometry(
        base=_base(files, file, said, placement),
        study=codes(files["study_uid"])[file],
        spacing=np.stack([floats(said["spacing_x"]), floats(said["spacing_y"])], axis=1),
        position=vectors(said["position"], 3),
        orientation=vectors(said["orientation"], 6),
        location=floats(files["slice_location"])[file],
        in_stack=floats(said["in_stack"]),
        reference=codes(files["frame_of_reference_uid"])[file],
        image_type=codes(said["image_type"]),
        lossy=ints(files["lossy"], 0)[file],
        clip=_clips(files, file),
        instance=ints(files["instance"], -1)[file],
        splitters=_splitters(files, file, said, dimensions),
        moments=moments,
        ties=[
            *(ints(files[c], -1)[file] for c in ("instance", "in_concatenation")),
            *moments,
            codes(files["sop_uid"])[file],
            file.astype(np.int64),
            *dimensions.T,
            frame.astype(np.int64),
            part.astype(np.int64),
        ],
    )


def _base(
    files: pa.Table, file: NDArray[np.int32], said: dict[str, Any], placement: Placement
) -> list[Codes]:
    """What must agree within a stack; the study need not, whose UID differs within real series."""
    series = codes(files["series_uid"])
    # Without a series nothing says that files belong together.
    series = np.where(series < 0, np.arange(len(series)) - len(series), series)
    palette = pc.equal(files["photometric"], "PALETTE COLOR").cast(pa.int8())
    # As they first appear: in the order of hashes, that of stacks would hang on the key.
    patient, name, born = (appearance(files[c]) for c in ("patient", "person", "born"))
    person = people(series, patient, name, born)
    per_file = [series, patient, person, *parts.sides(files)]
    per_file += [ints(files[c], 0) for c in ("samples", "palette_bits", "rule")]
    per_file += [codes(files[c]) for c in ("kind", "pixel_keyword")]
    per_file.append(ints(palette, 0))
    base = [code[file] for code in per_file]
    # What is resized alike lies in one array; spacings that are nearly the same need not be.
    base += [placement.height.astype(np.int64), placement.width.astype(np.int64)]
    base += [codes(said["unit"]) if "unit" in said else codes(files["unit"])[file]]
    base += [ints(said[c], -1) for c in ("segment", "energy_window", "detector") if c in said]
    # A multiplex group is no slice of anything.
    alone = np.where(waveforms(files)[file], np.arange(len(file)), -1)
    return [*base, _localizer(said["image_type"]), alone]


def _localizer(image_type: Any) -> Codes:
    """1 for an image that plans the others: it may lie among them, and is not of them."""
    if not isinstance(image_type, pa.DictionaryArray):
        image_type = image_type.dictionary_encode()
    types = pc.match_substring(image_type.dictionary, "LOCALIZER").cast(pa.int8())
    return ints(types.take(image_type.indices), 0)


def _clips(files: pa.Table, file: NDArray[np.int32]) -> Codes:
    """The concatenation of a frame (PS3.3 C.7.6.16.2.2.4), or its file of several; else -1."""
    concatenation = codes(files["concatenation_uid"])
    several = np.bincount(file, minlength=files.num_rows) > 1
    alone = np.where(several, len(concatenation) + np.arange(len(concatenation)), -1)
    return np.asarray(np.where(concatenation >= 0, concatenation, alone)[file])


def _splitters(
    files: pa.Table, file: NDArray[np.int32], said: dict[str, Any], dimensions: NDArray[np.int64]
) -> list[Splitter]:
    """What may tell volumes at the same places apart, best first.

    b-values of 0 and 0.001 are two things to the vendors who write them.
    """

    def number(name: str, tolerance: float, **how: bool) -> Splitter:
        return Splitter(name, floats(said[name]), tolerance, **how)

    return [
        Splitter("stack_name", codes(said["stack_name"])),
        Splitter("temporal_index", ints(said["temporal_index"], -1), timed=True),
        number("echo_time", _TIME),
        number("echo_time", _SHORT),
        number("b_value", 5e-4),
        number("b_value", _WOBBLE),
        Splitter("gradient", vectors(said["gradient"], 3), float(ORIENTATION)),
        Splitter("gradient_said", vectors(files["gradient_said"], 3)[file], float(ORIENTATION)),
        number("flip_angle", 1e-2),
        number("inversion_time", _TIME),
        number("phase", 1e-2, timed=True),
        Splitter("asl_label", codes(said["asl_label"])),
        Splitter("acquisition", ints(said["acquisition"], -1), timed=True),
        number("trigger_time", _TIME, timed=True, ranked=True),
        number("time", _TIME, timed=True, ranked=True),
        *(Splitter(f"dimension {k}", column) for k, column in enumerate(dimensions.T)),
        Splitter("clip", _clips(files, file)),
        *(Splitter(c, floats(files[c])[file], 1e-3) for c in ("kvp",)),
        Splitter("kernel", codes(files["kernel"])[file]),
        Splitter("image_type", codes(said["image_type"])),
        *(Splitter(c, codes(files[c])[file]) for c in ("frame_of_reference_uid", "study_uid")),
        number("acquired", _TIME, timed=True, ranked=True),
    ]


def _ranks(values: NDArray[np.float64]) -> Codes:
    """Ranks of the values from 0; -1 for NaN."""
    known = ~np.isnan(values)
    found = np.full(len(values), -1, np.int64)
    if known.any():
        found[known] = np.unique(values[known], return_inverse=True)[1]
    return found


def _padded(lists: Any) -> NDArray[np.int64]:
    """(n, k) of a column of lists, -1 where one is shorter."""
    lists = lists.combine_chunks() if isinstance(lists, pa.ChunkedArray) else lists
    lengths = ints(pc.list_value_length(lists), 0)
    found = np.full((len(lists), min(_DIMENSIONS, int(lengths.max(initial=0)))), -1, np.int64)
    if found.shape[1]:
        row = np.repeat(np.arange(len(lists)), lengths)
        place = np.arange(len(row)) - np.repeat(np.cumsum(lengths) - lengths, lengths)
        kept = place < found.shape[1]
        found[row[kept], place[kept]] = ints(lists.flatten(), -1)[kept]
    return found
