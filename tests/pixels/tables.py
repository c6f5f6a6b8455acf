"""docs/pixels.md and docs/transfer-syntaxes.md: `python -m tests.pixels.tables` writes them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.frames.pairs import PAIRS
from tests.pixels.cases import CASES

DOCS = Path(__file__).parents[2] / "docs"
_ROWS = "tests/pixels/test_rows.py"
_SPLITTING = "tests/planning/test_splitting.py"
_STREAMS = "tests/frames/test_codestreams.py"
_DAMAGED = "tests/frames/test_damaged.py"
_REFUSALS = "tests/whole/test_refusals.py"
_FRAGMENTS, _RLE = "tests/frames/test_encapsulated.py", "tests/frames/test_rle.py"
_CASE = f"{_ROWS}::test_case"
_UNITS, _POSITIONS = "tests/headers/test_units.py", "tests/headers/test_positions.py"
_MOSAIC, _SLIDES = "tests/whole/test_mosaic.py", "tests/whole/test_slides.py"
_SAMPLES, _MODULE = "tests/frames/test_samples.py", "tests/headers/test_pixel_module.py"


@dataclass(frozen=True)
class Row:
    """A way in which pixels go wrong."""

    pitfall: str
    behaviour: str
    tests: tuple[str, ...] = ()
    """file::function, besides the row's cases"""
    code: str = ""
    """file::function that does it"""


ROWS = {
    1: Row("Scaling by the container and not by the bit depth (PS3.5 8.1.1)",
           "values with their unit are stored; a range is a recipe, recorded; colour says what its "
           "full intensity is",
           ("tests/frames/test_frames.py::test_full_scale_of_colour",)),
    2: Row("MONOCHROME1, Presentation LUT Shape INVERSE (PS3.3 C.7.6.3.1.2)",
           "values without a unit are turned over once, v' = lowest + highest - v, windows too; "
           "HU, OD and others keep theirs, with `polarity`; after a window 1 - y",
           ("tests/planning/test_stacks.py::test_monochrome1_without_unit_is_mirrored_in_slope_and_windows",
            "tests/pixels/test_window.py::"
            "test_monochrome1_is_inverted_after_the_window_and_padding_is_0")),
    3: Row("YBR to RGB", "converted once, by what the decoder returns and not by the header",
           ("tests/pixels/test_colour.py::"
            "test_ybr_to_rgb_is_the_exact_inverse_rounded_for_all_of_256_cubed",
            "tests/whole/test_examples.py::"
            "test_every_ybr_frame_is_what_libjpeg_makes_of_it_through_pillow")),
    4: Row("Rescale tags on colour", "colour is never rescaled"),
    5: Row("Multi-frame files (PS3.3 C.7.6.6)",
           "each frame is a sample, decoded one at a time",
           ("tests/whole/test_examples.py::test_shape_type_unit_and_sum",)),
    6: Row("Rescale per frame or shared (PS3.3 C.7.6.16.2.9)",
           "the frame's own, else the shared, else the file's; of more items than "
           "frames, what all say alike, flagged; refused where a frame's values stay open",
           ("tests/whole/test_every_file.py::test_every_stored_frame_is_what_pydicom_makes_of_it",
            f"{_ROWS}::test_row_6_items_that_are_not_one_for_each_frame")),
    7: Row("Series assembly: order, gaps, tilt, localizers, 4D (PS3.3 C.7.6.2)",
           "stacks of one geometry in order of position along the normal; repeats are split by "
           "what tells them apart; what is irregular or sheared is flagged "
           "([stacks.md](stacks.md))",
           ("tests/planning/test_stacks.py::test_stacks",
            "tests/planning/test_splitting.py::test_kinds_of_series",
            "tests/planning/test_splitting.py::test_tilt_comes_from_positions")),
    8: Row("Pixel padding (PS3.3 C.7.5.1.1.2, of float pixels C.7.6.24)",
           "found among stored values, whole ones modulo 2^BitsAllocated, a range too; left out of "
           "statistics, percentiles and interpolation; 0 after a window",
           ("tests/pixels/test_intensity.py::test_padding",
            "tests/frames/test_frames.py::test_both_ends_of_padding",
            "tests/frames/test_frames.py::test_padding_that_does_not_fit_is_named",
            f"{_ROWS}::test_row_8_padding_of_float_pixels",
            "tests/pixels/test_resize.py::test_padding_does_not_bleed_into_the_image")),
    9: Row("The header contradicts the codestream's colour (PS3.5 8.2.1)",
           "the codestream wins where it is explicit; flagged"),
    10: Row("Native data of full size called YBR_FULL_422", "refused: the length contradicts it"),
    11: Row("Palettes (PS3.3 C.7.6.3.1.5)",
            "the index is clamped, not wrapped; the first mapped value has the sign of the pixels; "
            "8-bit colours in 16-bit entries become uint8",
            ("tests/pixels/test_colour.py::test_depth_of_palette_entries",
             "tests/pixels/test_colour.py::test_first_mapped_value_has_the_sign_of_the_pixels")),
    12: Row("Supplemental palettes (PS3.3 C.7.6.19)", "grey values are kept"),
    13: Row("Modality LUT sequences (PS3.3 C.11.1.1.1)",
            "in 32-bit arithmetic; a LUT wins over a slope beside it, flagged",
            ("tests/pixels/test_intensity.py::test_modality_lut",)),
    14: Row("Empty, one-sided, illegal or zero rescale; units that are not HU",
            "identity, 0 or 1 for what is missing, flagged; what is no number is refused; a slope "
            "of 0 that loses values is a failure; HU only where the header says so, or by row 31",
            (f"{_ROWS}::test_row_14_a_rescale_that_is_no_number_is_refused",
             f"{_ROWS}::test_row_14_a_rescale_after_the_pixels_is_flagged")),
    15: Row("Bits above BitsStored, overlays in pixels (PS3.5 8.1.1)",
            "masked after every lossless codec; flagged unless declared or sign extension; of "
            "lossy ones row 39",
            ("tests/pixels/test_intensity.py::test_mask_stored_for_every_layout",)),
    16: Row("HighBit is not BitsStored - 1", "shifted",
            ("tests/pixels/test_intensity.py::test_mask_stored_literal",)),
    17: Row("Signs or bits in the codestream and the header differ (PS3.5 8.2)",
            "the header's sign holds, of the codestream's bits where these are fewer than "
            "BitsStored, unless the codestream has a sign, see row 40: flagged where it changes a "
            "value; values beyond BitsAllocated: refused",
            (f"{_STREAMS}::test_signed_values_narrower_than_bits_stored",
             f"{_STREAMS}::test_a_stream_wider_than_bits_allocated")),
    18: Row("RT Dose (PS3.3 C.8.8.3)",
            "times Dose Grid Scaling in float64, once, which is refused below 0, and flagged where "
            "it is missing; Gy or relative; a position for each plane",
            (f"{_ROWS}::"
             "test_row_18_dose_grid_scaling_below_0_is_refused_and_an_empty_one_flagged",
             "tests/whole/test_examples.py::test_dose_is_scaled_once_in_double_precision",)),
    19: Row("PET units, real world values, SUV (PS3.3 C.8.9.1)",
            "the unit that Units says; SUV only by recipe, with every input checked; a map's "
            "values in what it measures",
            ("tests/headers/test_suv.py::test_factor",
             "tests/headers/test_suv.py::test_what_is_missing_or_mad_is_refused_by_name",
             f"{_ROWS}::test_row_19_real_world_values_of_a_parametric_map")),
    20: Row("VOI LUTs and windows (PS3.3 C.11.2)",
            "all are kept, those of single frames too; applied only by recipe",
            ("tests/pixels/test_window.py::test_formula",
             "tests/pixels/test_window.py::test_recipe",
             f"{_ROWS}::test_row_20_windows_of_single_frames",
             f"{_ROWS}::test_row_20_windows_of_frames_turn_over_with_the_values")),
    21: Row("Segmentations (PS3.3 C.8.20)",
            "masks, never images: segment number, label and the image that they mark; resized to "
            "the nearest label",
            ("tests/whole/test_every_file.py::test_segmentations_are_masks",
             "tests/pixels/test_resize.py::test_masks_take_the_nearest_label")),
    22: Row("Float and Double Float Pixel Data", "kept as float32 and float64",
            (f"{_ROWS}::test_row_22_float_pixels",)),
    23: Row("No preamble, no suffix, DICOMDIR, reports",
            "files are known by content; no pixels is an outcome of its own",
            (f"{_ROWS}::test_row_23_found_by_content",)),
    24: Row("Deflated syntax", "inflated as far as the header says, no further",
            (f"{_ROWS}::test_row_24_deflated",
             f"{_ROWS}::test_row_24_a_stream_that_goes_on_for_ever_costs_no_memory",
             f"{_ROWS}::test_row_24_a_damaged_stream_is_named",
             f"{_ROWS}::test_row_24_frames_from_last_to_first_cost_two_passes")),
    25: Row("Header explicit, body implicit, or the other way round; other wrong syntaxes",
            "read by what the bytes are; plain data called big-endian or deflated is refused, "
            "naming the UID (pixel data of another syntax: row 52)",
            (f"{_ROWS}::test_row_25_header_explicit_body_implicit",
             f"{_ROWS}::test_row_25_header_implicit_body_explicit",
             f"{_ROWS}::test_row_25_plain_data_under_another_syntax")),
    26: Row("Truncated, damaged or excess pixel data, codestreams too (PS3.5 A.4)",
            "truncated: refused, and of many frames those that are gone; an end marker or "
            "delimiter alone missing: flagged; what a decoder finds damaged, or libjpeg warns of: "
            "refused (codestreams have no checksum, so changed bits may look like others: [shares "
            "below](#damaged-codestreams)); excess, as of more frames than the header says, or "
            "padding: ignored, flagged",
            ("tests/whole/test_bad_input.py::test_bad_file_is_named_with_its_reason",
             "tests/whole/test_every_file.py::test_failures_are_these_and_say_why",
             f"{_STREAMS}::test_a_codestream_that_is_cut_is_refused",
             f"{_STREAMS}::test_a_codestream_without_its_end_marker",
             f"{_STREAMS}::test_scans_and_tiles_that_are_missing",
             f"{_STREAMS}::test_what_openjph_can_only_report_is_a_failure",
             f"{_STREAMS}::test_one_frame_that_is_more",
             f"{_STREAMS}::test_frames_before_the_cut_are_stored",
             f"{_DAMAGED}::test_what_libjpeg_warns_of_through_libtiff_is_refused_or_flagged",
             f"{_DAMAGED}::test_a_lossless_frame_has_as_many_bits_as_its_pixels_take",
             f"{_DAMAGED}::test_every_predictor_is_taken_and_its_damage_seen",
             f"{_DAMAGED}::test_padding_before_the_end_is_flagged",
             f"{_DAMAGED}::test_a_subsampling_that_is_not_looked_at_is_flagged",
             f"{_DAMAGED}::test_a_marker_without_a_length_hides_no_segment",
             f"{_DAMAGED}::test_a_deflated_frame_that_goes_on_or_does_not_end_is_flagged")),
    27: Row("16-bit YBR, YBR_PARTIAL", "refused by name",
            (f"{_ROWS}::test_row_27_what_no_formula_converts_is_refused",)),
    28: Row("Video and rare syntaxes", "refused, naming the UID",
            ("tests/pixels/test_syntaxes.py::test_others_are_refused_by_name",)),
    29: Row("Fragments, offset tables, planes, byte order", "native-endian frames, channels last",
            ("tests/frames/test_encapsulated.py::test_fragments_to_frames",
             f"{_ROWS}::test_row_29_planes_and_byte_order",
             f"{_ROWS}::test_row_29_bits_in_big_endian_words")),
    30: Row("ICC profiles, non-square pixels, two kinds of spacing (PS3.3 10.7)",
            "a profile is flagged and not applied; spacing comes with the tag that said it, and "
            "resizing keeps millimetres",
            (f"{_ROWS}::test_row_30_spacing_comes_with_its_tag",
             f"{_ROWS}::test_row_30_a_colour_profile_is_flagged_and_not_applied",
             "tests/pixels/test_resize.py::"
             "test_non_square_pixels_keep_their_shape_in_millimetres")),
    31: Row("HU that is not said, or oddly (PS3.3 Table C.8-3)",
            "a rescaled CT Image without Rescale Type is in HU, unless it is a localizer or of "
            "multi-energy; flagged where it is derived. Secondary captures of CT are not; enhanced "
            "CT has to say it, and is flagged where it does not. Its case and blanks do not count, "
            "and of several values the first, flagged",
            (f"{_UNITS}::test_the_unit_of_ct",
             f"{_UNITS}::test_derived_ct_is_windowed_like_the_original",
             f"{_UNITS}::test_a_type_that_one_group_lacks_is_flagged"),
            "headers/meaning.py::unit_of"),
    32: Row("SUV across clocks (PS3.5 6.2, PS3.3 C.12.1.1.8); counts of Philips",
            "offsets from UTC count, and what the file says of its zone; without that, and where "
            "two times of injection disagree, refused; "
            "the maker's factors are taken, and flagged",
            ("tests/headers/test_suv.py::test_factor",
             "tests/headers/test_suv.py::test_counts_by_the_makers_factor"),
            "headers/suv.py::suv_of"),
    33: Row("Sign of the first value that a VOI LUT maps (PS3.3 C.11.2.1.1)",
            "by the pixels, or by what a rescale can give; unsigned after a modality LUT; of two "
            "readings the one whose table meets the values, if only one does",
            ("tests/pixels/test_voi_lut.py::test_the_sign_of_the_first_value",
             "tests/pixels/test_voi_lut.py::test_an_empty_voi_lut_is_none"),
            "headers/luts.py::voi_lut"),
    34: Row("Real world values of parametric maps (PS3.3 C.7.6.16.2.11)",
            "those of a frame, else the shared ones, instead of the identity beside them, with "
            "their unit; windows too; a line or a table. What is neither over all values is left "
            "out, flagged, and so are values beyond those that are mapped",
            (f"{_UNITS}::test_real_world_values_of_parametric_maps",
             f"{_UNITS}::test_frames_that_say_nothing_but_their_real_world_values",
             f"{_UNITS}::test_stored_values_that_have_no_real_one_are_flagged",
             f"{_UNITS}::test_windows_of_a_map_are_in_its_own_unit"),
            "headers/real_world.py::real_values"),
    35: Row("Positions of the frames of a multi-frame file",
            "their own, or computed (dose grids, reconstructed slices of nuclear medicine, even "
            "spacing, slice locations), else unknown: never that of the first for all",
            (f"{_POSITIONS}::test_frames_have_positions_of_their_own_or_none",
             f"{_POSITIONS}::test_dose_planes", f"{_POSITIONS}::test_reconstructed_slices",
             f"{_POSITIONS}::test_gates_are_moments_and_not_places",
             f"{_POSITIONS}::test_windows_and_detectors_are_images_of_their_own"),
            "headers/positions.py::planes"),
    36: Row("Pixel Aspect Ratio (PS3.3 C.7.6.3.1.7), units of ultrasound regions (C.8.5.5)",
            "resizing keeps shapes; a spacing only where both axes of all regions are cm",
            (f"{_POSITIONS}::test_pixels_that_are_not_square_keep_their_shape",
             f"{_POSITIONS}::test_spacing_of_ultrasound"),
            "headers/meaning.py::spacing_of"),
    37: Row("Several units in one file (PS3.3 C.7.6.16.2.9)",
            "each frame has its own, and frames of one unit are a stack",
            (f"{_UNITS}::test_several_units_in_one_file_are_several_stacks",
             f"{_UNITS}::test_frames_in_hu_of_a_file_of_several_units_are_padded_with_air"),
            "planning/values.py::units"),
    38: Row("What the numbers of a segmentation mean (PS3.3 C.8.20.4)",
            "each row lists the segments of its frame with their codes; `full_scale` is Maximum "
            "Fractional Value",
            (f"{_UNITS}::test_what_masks_show",), "headers/groups.py::segments_of"),
    39: Row("Overshoot: a lossy codec goes beyond BitsStored",
            "kept, in a dtype with room for a bit more; beyond that clamped; flagged; never masked",
            (f"{_SAMPLES}::test_overshoot_is_kept",
             f"{_SAMPLES}::test_overshoot_of_near_lossless_jpeg_ls",
             f"{_SAMPLES}::test_a_twelve_bit_jpeg_of_ten_stored_bits",
             f"{_SAMPLES}::test_the_plan_has_room_for_one_bit_more",
             f"{_SAMPLES}::test_what_the_dtype_cannot_hold_is_clamped",
             f"{_SAMPLES}::test_high_bits_of_a_lossless_stream_are_no_overshoot"),
            "frames/samples.py::stored_samples"),
    40: Row("Signs of codestream and header (PS3.5 8.2.4)",
            "a sign in the stream is explicit: its values are stored, flagged, or refused by name "
            "where the plan has no place for them; all pairs are below",
            (f"{_SAMPLES}::test_signs_and_bits_of_stream_and_header",
             f"{_SAMPLES}::test_a_recipe_of_a_signed_dtype_stores_what_the_plan_had_no_place_for"),
            "frames/samples.py::stored_samples"),
    41: Row("Empty LUT items, an impossible HighBit, no photometric interpretation or sign",
            "where one reading is left it is taken, flagged; else refused",
            (f"{_MODULE}::test_one_reading_is_left",
             f"{_MODULE}::test_several_readings_are_refused",
             f"{_MODULE}::test_an_empty_modality_lut_leaves_the_rescale_beside_it"),
            "headers/pixel_module.py::pixel_layout"),
    42: Row("Overlay planes outside of the pixels (PS3.3 C.9.2)",
            "flagged, and once more where the pixels are all the same",
            (f"{_MODULE}::test_overlays_are_flagged",), "headers/pixel_module.py::overlays"),
    43: Row("Volumes tiled into one frame: Siemens mosaics, UIH VFRAME",
            "cut into slices, each at its place: number and direction from the CSA header, or the "
            "scanner's other private elements; what cannot be cut is one image, flagged",
            (f"{_MOSAIC}::test_a_siemens_mosaic_becomes_its_slices",
             f"{_MOSAIC}::test_a_volume_of_uih",
             f"{_MOSAIC}::test_what_cannot_be_cut_stays_one_image",
             f"{_MOSAIC}::test_a_mosaic_that_fails_is_one_frame",
             "tests/headers/test_csa.py::test_a_header_that_lies_gives_nothing"),
            "headers/mosaic.py::with_slices"),
    44: Row("Tiles of whole slides (PS3.3 C.7.6.17.3)",
            "each with its place in the total pixel matrix, focal plane and optical path, by the "
            "order of frames or as it says itself; label and overview can be left out",
            (f"{_SLIDES}::test_tiles_in_full",
             f"{_SLIDES}::test_focal_planes_before_optical_paths",
             f"{_SLIDES}::test_sparse_tiles_say_it_themselves",
             f"{_SLIDES}::test_a_header_that_contradicts_its_frames"),
            "headers/slide.py::tiling_of"),
    45: Row("Volumes of several patients, studies, frames of reference (PS3.3 C.7.3.1, C.7.4.1)",
            "the series and the patient (without an ID: name and birth date) decide, never the "
            "study; a frame of reference, image type or lossy compression that differs within one "
            "regular volume is joined, flagged",
            (f"{_SPLITTING}::test_kinds_of_series",
             "tests/headers/test_acquisition.py::test_no_name_comes_to_a_disk"),
            "planning/stacks.py::assign"),
    46: Row("Volumes that repeat: times, echoes, directions, phases",
            "split by the elements that give whole volumes, each judged by itself; where no "
            "element tells, by order, flagged",
            (f"{_SPLITTING}::test_kinds_of_series",
             f"{_SPLITTING}::test_parts_of_one_acquisition_say_so"),
            "planning/splitting.py::split"),
    47: Row("Tilted gantries (PS3.3 C.8.2.1), slices that shift in their plane",
            "the tilt is computed from positions, flagged, and volume() refuses what is sheared "
            "unless asked",
            (f"{_SPLITTING}::test_tilt_comes_from_positions",
             "tests/trainer/test_cache.py::test_volume_refuses_a_sheared_stack_unless_asked"),
            "planning/places.py::judge"),
    48: Row("Positions, directions, times that differ by rounding only",
            "one, by clusters without a grid and without chains",
            (f"{_SPLITTING}::test_orientations_that_jitter_are_one_wherever_they_lie",
             f"{_SPLITTING}::test_orientations_do_not_chain",
             f"{_SPLITTING}::test_positions_that_jitter_over_time_are_one_place"),
            "planning/clusters.py::clusters"),
    49: Row("b-values and gradients in private elements, in other axes",
            "those of Siemens, Philips, UIH and GE, as unit vectors in patient coordinates; null "
            "where the axes are not known",
            ("tests/headers/test_acquisition.py::test_diffusion",
             "tests/headers/test_acquisition.py::test_a_turned_image_turns_its_gradients"),
            "headers/acquisition.py::diffusion_of"),
    50: Row("Private and unknown transfer syntaxes",
            "GE's with big-endian words is read where it has 16 bits; others are refused by name, "
            "and another UID is not advised: it could swap bytes",
            (f"{_REFUSALS}::test_the_private_syntax_of_ge_has_big_endian_words",
             f"{_REFUSALS}::test_a_syntax_that_is_not_known_is_named_and_no_other_is_advised"),
            "syntaxes.py::refusal"),
    51: Row("Empty fragments, one too few or too many, offset tables that lie (PS3.5 A.4)",
            "frames are dealt by an offset table if it contradicts no codestream, else by where "
            "codestreams begin and end, else one fragment each; what is there is stored, flagged, "
            "and what is not fails by its number",
            (f"{_FRAGMENTS}::test_fragments_to_frames",
             f"{_FRAGMENTS}::test_what_is_there_is_found_and_what_is_not_fails_by_itself",
             f"{_FRAGMENTS}::test_frames_before_damage_are_found_without_a_table",
             f"{_REFUSALS}::test_a_shorter_file_of_a_real_series_names_the_frame"),
            "frames/fragments.py::find_frames"),
    52: Row("Pixel data that is not in the syntax that the header says (PS3.5 A.4)",
            "fragments under an uncompressed syntax are decoded by what their codestream is, plain "
            "pixels of the right length under a compressed one are read, one codec under the UID "
            "of another too: flagged; RLE under another's UID, and what nothing here reads (JPEG "
            "XL, PNG, ...), is refused by name",
            (f"{_REFUSALS}::test_codestreams_under_an_uncompressed_syntax",
             f"{_REFUSALS}::test_fragments_in_pixel_data_of_defined_length",
             f"{_REFUSALS}::test_plain_pixels_under_a_compressed_syntax",
             f"{_REFUSALS}::test_a_codestream_of_another_kind_than_the_syntax",
             f"{_REFUSALS}::test_rle_and_codestreams_are_not_taken_for_each_other",
             f"{_REFUSALS}::test_codestreams_that_nothing_here_reads_are_named"),
            "headers/really.py::settle_syntax"),
    53: Row("RLE with surplus bytes, of one bit, without all of its segments (PS3.5 annex G)",
            "bytes beyond the pixels are left out, flagged, unless they make whole rows or "
            "columns; one bit is read as a byte each or packed, as its length says; what is "
            "missing is named",
            (f"{_RLE}::test_surplus_bytes_are_left_out",
             f"{_RLE}::test_pixels_of_one_bit",
             f"{_RLE}::test_what_is_missing_is_named"),
            "frames/rle.py::unpacked"),
    54: Row("JPEG-LS in planes (interleave mode none)", "read as any other",
            (f"{_REFUSALS}::test_jpeg_ls_in_every_interleave_mode",),
            "frames/codestream.py::parse_jpeg"),
    55: Row("Windows that do not pair, decimal commas (PS3.3 C.11.2)",
            "those that pair are kept, the others flagged; a window that is no number is told with "
            "its text, if a recipe wants it",
            (f"{_REFUSALS}::test_windows_that_do_not_pair",), "headers/meaning.py::window_flags"),
    56: Row("Archives, AppleDouble files, contours, private objects without pixels",
            "named as what they are; no failures",
            (f"{_REFUSALS}::test_archives_are_named_as_such_and_are_no_failure",
             f"{_REFUSALS}::test_what_macos_keeps_beside_files_is_no_failure",
             f"{_REFUSALS}::test_objects_without_pixels"),
            "headers/by_pydicom.py::other_format"),
    57: Row("One SOP Instance UID for several images",
            "a copy is equal in pixels, geometry, meaning, series and patient, and in its window "
            "where a recipe wants that; all else is kept, flagged; each path of a copy finds the "
            "frame",
            ("tests/planning/test_selection.py::test_copies_are_equal_in_geometry_and_meaning",
             "tests/planning/test_selection.py::"
             "test_of_two_copies_the_one_with_a_window_is_stored",
             "tests/trainer/test_twins.py::test_one_uid_for_all_loses_no_slice",
             "tests/trainer/test_twins.py::test_each_path_of_an_image_finds_its_frame"),
            "planning/select.py::copies"),
}  # fmt: skip

LATER_SYNTAXES = {
    "1.2.840.10008.1.2.4.110": "JPEG XL Lossless",
    "1.2.840.10008.1.2.4.111": "JPEG XL JPEG Recompression",
    "1.2.840.10008.1.2.4.112": "JPEG XL",
    "1.2.840.10008.1.2.8.1": "Deflated Image Frame Compression",
}
"""younger than pydicom's dictionary"""

_SYNTAXES = "tests/pixels/test_syntaxes.py"
_BACK, _REAL = f"{_SYNTAXES}::test_lossless_frames_come_back", f"{_SYNTAXES}::test_real_files"
SHOWN_BY = {
    **dict.fromkeys(
        [f"1.2.840.10008.1.2{end}" for end in (
            "", ".1", ".1.98", ".1.99", ".2", ".4.57", ".4.70", ".4.80", ".4.81", ".4.90", ".4.91",
            ".4.110", ".4.112", ".4.201", ".4.202", ".4.203", ".8.1",
        )],
        _BACK,
    ),
    **dict.fromkeys([f"1.2.840.10008.1.2{end}" for end in (".4.50", ".4.51", ".5")], _REAL),
    "1.2.840.10008.1.2.4.111": f"{_SYNTAXES}::test_a_recompressed_jpeg_is_that_jpeg",
}  # fmt: skip


def syntaxes() -> dict[str, str]:
    """{UID: name} of the transfer syntaxes of PS3.6."""
    from pydicom.uid import UID_dictionary

    known = {uid: e[0] for uid, e in UID_dictionary.items() if e[1] == "Transfer Syntax"}
    both = {**known, **LATER_SYNTAXES}
    return dict(sorted(both.items(), key=lambda s: [int(n) for n in s[0].split(".")]))


def _shown(value: Any) -> str:
    return f"`{value}`".replace("], [", "], [").replace("|", "\\|")


DAMAGE = (Path(__file__).parent / "damaged.md").read_text().splitlines()
"""a section of docs/pixels.md; its table is what `make test-codestreams` prints"""


def pixels_page() -> str:
    """docs/pixels.md."""
    lines = [
        "# Ways in which pixels go wrong",
        "",
        "Between a DICOM file and a training tensor, the first thirty in the order of the damage",
        "that they do; later rows name the code, too. Each row names the tests that show it; the",
        "second table has cases of rows 1 to 18, with what",
        "LightlyTrain 0.18's own loader returns for the same file (`make test-lightly` runs it).",
        "A test holds this page to the code; `.venv/bin/python -m tests.pixels.tables` writes it.",
        "",
        "| row | pitfall | dicom2cache | shown by |",
        "| --- | --- | --- | --- |",
    ]
    for number, row in ROWS.items():
        cases = any(c.row == number for c in CASES)
        tests = ([f"`{_CASE}`"] if cases else []) + [f"`{t}`" for t in row.tests]
        code = f" (`{row.code}`)" if row.code else ""
        shown = "<br>".join(tests)
        lines.append(f"| {number} | {row.pitfall} | {row.behaviour}{code} | {shown} |")
    lines += [
        "",
        "## Cases",
        "Values of a few pixels of a file that `tests/pixels/cases.py` writes or names. A text is",
        "the refusal of a failure, or the error that is raised.",
        "",
        "| row | case | stored | LightlyTrain |",
        "| --- | --- | --- | --- |",
    ]
    lines += [
        f"| {c.row} | {c.name} | {_shown(c.ours)} | {_shown(c.theirs)} |" for c in CASES
    ]  # fmt: skip
    lines += [
        "",
        "## Signs and bits",
        "A lossless JPEG 2000 stream and what the header says of it; BitsAllocated is 16. Codecs",
        "without a sign (JPEG, JPEG-LS, RLE) are `unsigned` here.",
        "",
        "| stream | its bits | header | BitsStored | coded | stored | flags |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    lines += [
        f"| {p.stream} | {p.precision} | {p.header} | {p.bits} | {_values(p.coded)} | "
        f"{_values(p.stored)} | {' '.join(f'`{flag}`' for flag in p.flags)} |"
        for p in PAIRS
    ]
    lines += ["", *DAMAGE]
    return "\n".join(lines) + "\n"


def _values(said: tuple[int, ...] | str) -> str:
    return f"refused: {said}" if isinstance(said, str) else ", ".join(map(str, said))


def syntaxes_page() -> str:
    """docs/transfer-syntaxes.md."""
    from dicom2cache.syntaxes import supported

    lines = [
        "# Transfer syntaxes",
        "",
        "All of DICOM's (PS3.6, table A-1). A file in one that is not read is a failure whose",
        "reason names the UID. `frames.codec` says what decoded a frame, with its version.",
        "`.venv/bin/python -m tests.pixels.tables` writes this page, a test holds it to the code.",
        "Of private ones 1.2.840.113619.5.2 is read: GE's, implicit little endian save that words",
        "of 16 bits of its pixels are big-endian.",
        "",
        "| UID | name | read | shown by |",
        "| --- | --- | --- | --- |",
    ]
    for uid, name in syntaxes().items():
        read = "yes" if supported(uid) else "no"
        test = SHOWN_BY.get(uid, f"{_SYNTAXES}::test_others_are_refused_by_name")
        lines.append(f"| {uid} | {name} | {read} | `{test}` |")
    return "\n".join(lines) + "\n"


PAGES = {"pixels.md": pixels_page, "transfer-syntaxes.md": syntaxes_page}

if __name__ == "__main__":
    for name, page in PAGES.items():
        (DOCS / name).write_text(page())
