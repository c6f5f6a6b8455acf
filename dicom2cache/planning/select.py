"""Which files are converted, pure: the recipe's where and exclude, refusals, duplicates."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from dicom2cache.arrow import Codes, canonical, combine, floats, ints, mask_of, rows_of, with_column
from dicom2cache.errors import RecipeError
from dicom2cache.planning import treatments
from dicom2cache.planning.weigh import over_limits
from dicom2cache.recipes.recipe import WAVEFORM, Recipe
from dicom2cache.recipes.where import parse_where
from dicom2cache.schema import FILE_COLUMNS, REJECTS, WHOSE
from dicom2cache.syntaxes import refusal, supported

UNREADABLE = "windows-unreadable"
"""flag of a file whose windows are no numbers"""


def _third(word: str) -> str:
    """Pattern of an Image Type whose value 3 is `word`."""
    return rf"^[^\\]*\\[^\\]*\\{word}(\\|$)"


_EXCLUDES = {
    "localizer": pc.match_substring(pc.field("image_type"), "LOCALIZER"),
    "derived": pc.starts_with(pc.field("image_type"), "DERIVED"),
    "secondary": pc.match_substring_regex(pc.field("image_type"), r"^[^\\]*\\SECONDARY"),
    "burned-in": pc.field("burned_in"),
    "dose": pc.field("kind") == "dose",
    "map": pc.field("kind") == "map",
    "mask": pc.field("kind") == "mask",
    "waveform": pc.field("kind") == WAVEFORM,
    "lossy": pc.field("lossy"),
    "mosaic": pc.match_substring_regex(pc.binary_join(pc.field("flags"), " "), r"(^| )mosaic( |$)"),
    "label": pc.match_substring_regex(pc.field("image_type"), _third("LABEL")),
    "overview": pc.match_substring_regex(pc.field("image_type"), _third("OVERVIEW")),
    "thumbnail": pc.match_substring_regex(pc.field("image_type"), _third("THUMBNAIL")),
}


def select_files(files: pa.Table, recipe: Recipe) -> tuple[pa.Table, pa.Table]:
    """(files that are converted, REJECTS of the others), each in order of root and path."""
    files = canonical(files)
    reasons: list[str | None] = [None] * files.num_rows
    outcomes = ["excluded"] * files.num_rows

    def mark(expression: pc.Expression, reason: str, outcome: str = "excluded") -> None:
        holds = _holds(files, expression)
        for i in np.flatnonzero(holds):
            if reasons[i] is None:
                reasons[i], outcomes[i] = reason, outcome

    if recipe.where is not None:
        kept = _holds(files, parse_where(recipe.where, FILE_COLUMNS))
        for i in np.flatnonzero(~kept):
            reasons[i] = f"recipe: where {recipe.where}"
    for kind in recipe.exclude:
        mark(_EXCLUDES[kind], f"recipe: exclude {kind}")
    syntaxes = [s for s in pc.unique(files["transfer_syntax"]).to_pylist() if not supported(s)]
    for syntax in syntaxes:
        mark(pc.field("transfer_syntax") == syntax, refusal(syntax), "failed")
    files = with_rules(files, recipe)
    for row, reason in (*over_limits(files, recipe), *_refusals(files, recipe)):
        if reasons[row] is None:
            reasons[row], outcomes[row] = reason, "failed"
    mask = np.array([r is None for r in reasons], bool)
    bad = np.flatnonzero(~mask)
    rejects = rejected(
        {
            "root": files["root"].take(bad),
            "path": files["path"].take(bad),
            "outcome": [outcomes[i] for i in bad],
            "stage": ["plan"] * len(bad),
            "reason": [reasons[i] for i in bad],
        }
    )
    return files if mask.all() else files.filter(pa.array(mask)), rejects


def with_rules(files: pa.Table, recipe: Recipe) -> pa.Table:
    """The files with `rule`: the first of the recipe's whose `where` holds, 0 for none."""
    rule = np.zeros(files.num_rows, np.int16)
    for place in range(len(recipe.rules), 0, -1):
        mine = _holds(files, parse_where(recipe.rules[place - 1].where, FILE_COLUMNS))
        rule[mine] = place
    return with_column(files, "rule", pa.array(rule))


def _refusals(files: pa.Table, recipe: Recipe) -> Iterator[tuple[int, str]]:
    """(row, reason) of files that their treatment cannot be applied to."""
    slope, intercept = floats(files["slope"]), floats(files["intercept"])
    fractional = (slope != np.floor(slope)) | (intercept != np.floor(intercept))
    fractional &= ~np.isnan(slope)
    whole = treatments.holds(
        files, recipe, lambda t: t.intensity == "modality" and t.dtype[0] in "iu"
    )
    for i in np.flatnonzero(fractional & whole):
        dtype = recipe.treatments[files["rule"][int(i)].as_py()].dtype
        yield (
            int(i),
            (
                f"recipe: dtype {dtype} cannot hold the fractions that Rescale Slope (0028,1053) "
                "gives; use dtype auto or float32"
            ),
        )
    wants = treatments.suv_files(files, recipe)
    for i in np.flatnonzero(wants & np.isnan(floats(files["suv_factor"]))):
        yield int(i), files["suv_refusal"][int(i)].as_py()
    yield from _without_window(files, recipe)
    spaced = treatments.holds(files, recipe, lambda t: t.spacing is not None)
    if recipe.masks != "none":  # drawn masks are resized as their images are
        spaced &= ~mask_of(pc.equal(files["kind"], "mask"))
    spaced &= ~treatments.waveforms(files)
    for i in np.flatnonzero(spaced & np.isnan(floats(files["spacing_y"]))):
        frames = files["per_frame"][int(i)].as_py()
        if not frames or any(frame["spacing_y"] is None for frame in frames):
            yield (
                int(i),
                (
                    "recipe: spacing wants a Pixel Spacing (0028,0030), and the file has none; "
                    "leave it out by `where`, or give it a rule without spacing"
                ),
            )


def _without_window(files: pa.Table, recipe: Recipe) -> Iterator[tuple[int, str]]:
    """(row, reason) of grey images that are to go through a window that they do not have.

    Where only some frames of a file lack one these fail when they are converted, and so does what
    cannot be read, since only the file can tell what it says.
    """
    wants = treatments.graded_files(files, recipe)
    wants &= treatments.holds(files, recipe, lambda t: "dicom" in t.window)
    for i in np.flatnonzero(wants & ~mask_of(files["voi"])):
        if UNREADABLE not in (files["flags"][int(i)].as_py() or ()):
            yield (
                int(i),
                (
                    "the recipe says window dicom, but the file has no VOI LUT and no Window "
                    "Center (0028,1050); give CENTER,WIDTH, a rule of its own, or leave it out by "
                    "`where`"
                ),
            )


def _holds(files: pa.Table, expression: pc.Expression) -> NDArray[np.bool_]:
    """True where the expression is; a null is not."""
    try:
        # A projection: a filter would copy all columns.
        from pyarrow import dataset  # as long as all else that planning imports

        found = dataset.dataset(files).to_table(columns={"holds": expression})["holds"]
    except (pa.ArrowNotImplementedError, pa.ArrowInvalid, pa.ArrowTypeError) as e:
        raise RecipeError(f"where: the types do not match: {e}") from e
    if not pa.types.is_boolean(found.type):
        raise RecipeError(f"where: gives {found.type}, not true or false; compare it with a value")
    holds: NDArray[np.bool_] = found.fill_null(False).to_numpy().astype(bool)
    return holds


def same_sop(files: pa.Table) -> NDArray[np.int64]:
    """Numbers of the rows whose SOP Instance UID another one has too."""
    counts = files["sop_uid"].value_counts()
    twice = pc.filter(counts.field("values"), pc.greater(counts.field("counts"), 1)).drop_null()
    rows: NDArray[np.int64] = np.flatnonzero(pc.is_in(files["sop_uid"], value_set=twice).to_numpy())
    return rows


_OF_A_COPY = frozenset({
    "root", "path", "size", "mtime_ns", "member", "sop_uid",
    "transfer_syntax", "pixel_keyword", "pixel_vr", "pixel_offset", "pixel_length", "planar",
    "bits_allocated", "bits_stored", "high_bit", "overlay_bits", "photometric", "palette_bits",
    "lossy", "flags", "rule", "waveforms", "windows", "voi_lut", "voi", "suv_refusal", "suv_flag",
    "accession", "sex", "age", "body_part", "manufacturer", "model", "burned_in",
    "presentation_intent", "spacing_tag",
})  # fmt: skip
"""columns of FILES in which copies of one image may differ: how it is encoded, where it lies, and
what is written about it that makes no pixel another one; in all others they must be equal"""
_LOOK = ("windows", "voi_lut")
"""columns of FILES that pixels follow from where the recipe's window is `dicom`"""


def meant(
    files: pa.Table, recipe: Recipe
) -> tuple[pa.Table, NDArray[np.int64], Codes, NDArray[np.bool_]]:
    """(files, rows of `same_sop`, their `meanings`, which of them are `copies`)."""
    rows = same_sop(files)
    said = meanings(files, rows, recipe)
    return files, rows, said, copies(files, rows, said)


def meanings(files: pa.Table, rows: NDArray[np.int64], recipe: Recipe) -> Codes:
    """What the pixels of each of the `rows` mean and where they lie: a code, equal for equal.

    Where a file's window is the recipe's, it counts, too.
    """
    wanted = [n for n in files.column_names if n not in _OF_A_COPY]
    some = rows_of(files.select([*wanted, "rule", *_LOOK]), rows)
    codes = [_codes(some[name]) for name in wanted]
    shown = treatments.holds(some, recipe, lambda t: "dicom" in t.window)
    if shown.any():
        codes += [np.where(shown, _codes(some[name]), -2) for name in _LOOK]
    return combine(codes)


def _codes(column: pa.ChunkedArray) -> Codes:
    """A code for each value, equal for equal ones; -1 for null."""
    if not pa.types.is_nested(column.type):
        coded = column.combine_chunks().dictionary_encode()
        return ints(coded.indices, -1)
    codes = np.full(len(column), -1, np.int64)
    known: dict[bytes, int] = {}
    for k in np.flatnonzero(column.is_valid().to_numpy()).tolist():  # one at a time: some are large
        said = hashlib.sha256(repr(column[k].as_py()).encode()).digest()
        codes[k] = known.setdefault(said, len(known))
    return codes


def copies(files: pa.Table, rows: NDArray[np.int64], meanings: Codes) -> NDArray[np.bool_]:
    """(n,) True for those of the `rows` that another one equals in SOP UID and meaning: whether
    they are copies, their pixels decide."""
    sops = rows_of(files.select(["sop_uid"]), rows)["sop_uid"]
    _, place, many = np.unique(
        combine([_codes(sops), meanings]), return_inverse=True, return_counts=True
    )
    return np.asarray(many[place] > 1)


def drop_duplicates(
    files: pa.Table, rows: NDArray[np.int64], digests: Sequence[str]
) -> tuple[pa.Table, pa.Table]:
    """(files without repeated ones, REJECTS "duplicate"): same SOP UID, pixels and meaning.

    `digests` has one of pixels and meaning for each of `rows`, those of `same_sop`. The first by
    root and path is kept; what differs under one UID is all kept and flagged.
    """
    if not len(rows):
        return files, REJECTS.empty_table()
    some = rows_of(files.select(["root", "path", "sop_uid", "flags", "frames"]), rows)
    roots, paths = some["root"].to_pylist(), some["path"].to_pylist()
    sops, flags = some["sop_uid"].to_pylist(), some["flags"].to_pylist()
    frames = some["frames"].to_pylist()
    first: dict[tuple[str, str], int] = {}
    pixels_of: dict[str, set[str]] = {}
    keep, rejects = np.ones(files.num_rows, bool), []
    for i, key in enumerate(zip(sops, digests, strict=True)):
        pixels_of.setdefault(sops[i], set()).add(digests[i])
        kept = first.setdefault(key, i)
        if kept != i:
            keep[rows[i]] = False
            other = "" if roots[kept] == roots[i] else f" of source {roots[kept]}"
            rejects.append(
                {
                    "root": roots[i],
                    "path": paths[i],
                    "outcome": "duplicate",
                    "stage": "plan",
                    "reason": f"duplicate of {paths[kept]}{other}: same SOP Instance UID, same "
                    "pixels",
                    "same_root": roots[kept],
                    "same_path": paths[kept],
                    "same_frame": 0 if frames[kept] == 1 else None,
                }
            )
    marked = [i for i, sop in enumerate(sops) if len(pixels_of[sop]) > 1]
    said = [[*(flags[i] or []), "sop-uid-repeated"] for i in marked]
    files = with_column(files, "flags", _replaced(files["flags"], rows[marked], said))
    return files.filter(pa.array(keep)), pa.Table.from_pylist(rejects, REJECTS)


def rejected(columns: dict[str, Any]) -> pa.Table:
    """REJECTS of some columns, null in the others."""
    count = len(next(iter(columns.values())))
    nulls = {field.name: pa.nulls(count, field.type) for field in REJECTS}
    return pa.table({**nulls, **columns}, REJECTS)


def owned(rejects: pa.Table, files: pa.Table) -> pa.Table:
    """REJECTS of some of the files, with whose they are."""
    if not rejects.num_rows:
        return rejects
    place = pc.index_in(_place(rejects), value_set=_place(files))
    for name in WHOSE:
        number, field = rejects.schema.get_field_index(name), rejects.schema.field(name)
        rejects = rejects.set_column(number, field, files[name].take(place).cast(field.type))
    return rejects


def _place(table: pa.Table) -> Any:
    """One text for root and path."""
    parts = (table[name].cast(pa.string()).combine_chunks() for name in ("root", "path"))
    return pc.binary_join_element_wise(*parts, "/")


def _replaced(column: pa.ChunkedArray, rows: NDArray[np.int64], values: list[Any]) -> pa.Array:
    """The column with other values in some rows."""
    both = pa.concat_arrays([*column.chunks, pa.array(values, column.type)])
    taken = np.arange(len(column))
    taken[rows] = len(column) + np.arange(len(rows))
    return both.take(pa.array(taken))
