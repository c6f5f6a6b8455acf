"""Exported files: names, sidecars, what a second run does, what fails, what is never said."""

from __future__ import annotations

import fcntl
import gzip
import json
import resource
import shutil
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pyarrow as pa
import pytest

from tests.oracles.series import Series, diffusion, one_volume, several
from tests.pixels.cases import item
from tests.support.caches import built, run_here
from tests.support.dicom_files import CT_IMAGE, uid, write_dicom
from tests.support.kill_export import files
from tests.support.signed import rewrite
from trainer_adapter import export, open_cache

SEGMENTATION = "1.2.840.10008.5.1.4.1.1.66.4"
AXIAL = [1, 0, 0, 0, 1, 0]


def series(tmp_path: Path, *kinds: Any) -> Path:
    """A cache of these kinds of series."""
    for kind in kinds:
        folder = tmp_path / "in" / kind.__name__
        folder.mkdir(parents=True)
        kind(Series(folder))
    return built(tmp_path / "in", tmp_path / "cache")


def patient(cache: Path) -> str:
    return str(open_cache(cache).column("patient")[0].as_py()[:16])


def test_a_volume_its_sidecar_and_the_table(tmp_path: Path) -> None:
    cache = series(tmp_path, one_volume.ct)
    made = export(open_cache(cache), tmp_path / "out")
    sub = f"sub-{patient(cache)}"
    name = f"{sub}/{sub}_stack-000000_ct"
    assert set(files(tmp_path / "out")) == {
        ".lock", "export.tsv", f"{name}.json", f"{name}.nii.gz"
    }  # fmt: skip
    assert [(r.stack, r.outcome, r.file) for r in made.rows] == [(0, "made", f"{name}.nii.gz")]
    table = (tmp_path / "out" / "export.tsv").read_text()
    assert table == f"stack\toutcome\tfile\treason\n0\tmade\t{name}.nii.gz\t\n"
    said = json.loads((tmp_path / "out" / f"{name}.json").read_text())
    assert len(said.pop("Digest")) == 64
    assert said == {
        "Modality": "CT", "Manufacturer": "GE MEDICAL SYSTEMS", "SliceThickness": 3.0,
        "ImageType": ["ORIGINAL", "PRIMARY", "AXIAL"], "AcquisitionNumber": 1, "Units": "HU",
        "Kind": "image", "Shape": [11, 24, 20], "DataType": "int16", "Spacing": [3.0, 0.8, 0.7],
        "AffineLPS": [[0.7, 0, 0, -30], [0, 0.8, 0, -30], [0, 0, 3, -30], [0, 0, 0, 1]],
        "Stacks": [0], "ConversionSoftware": "dicom2cache",
    }  # fmt: skip
    image = nibabel.load(tmp_path / "out" / f"{name}.nii.gz")
    np.testing.assert_array_equal(image.dataobj, open_cache(cache).volume(0).T)


def test_directions_in_the_axes_of_the_image(tmp_path: Path) -> None:
    """FSL's x runs against the columns where the axes are right-handed."""
    cache = series(tmp_path, diffusion.diffusion)
    (row, *_) = export(open_cache(cache), tmp_path / "out").rows
    path = tmp_path / "out" / row.file
    assert nibabel.load(path).shape == (20, 24, 5, 4)
    stem = str(path).removesuffix(".nii.gz")
    assert Path(f"{stem}.bval").read_text() == "0 1000 1000 1000\n"
    assert Path(f"{stem}.bvec").read_text() == "0 -1 0 -0.6\n0 0 1 0\n0 0 0 0.8\n"
    said = json.loads(Path(f"{stem}.json").read_text())
    assert (said["Stacks"], said["DiffusionBValue"]) == ([0, 1, 2, 3], [0, 1000, 1000, 1000])
    assert (said["EchoTime"], said["RepetitionTime"]) == (0.03, 2.0)  # s


def test_times_are_one_file_echoes_are_not(tmp_path: Path) -> None:
    cache = open_cache(series(tmp_path, several.dynamic_pet, several.dual_echo))
    paths = sorted({row.file for row in export(cache, tmp_path / "out").rows})
    shapes = {Path(f).name[-9:-7]: nibabel.load(tmp_path / "out" / f).shape for f in paths}
    assert len(paths) == 3
    assert len(shapes["pt"]) == 4
    assert len(shapes["mr"]) == 3
    (pet,) = (f for f in paths if f.endswith("pt.nii.gz"))
    said = json.loads((tmp_path / "out" / pet.replace(".nii.gz", ".json")).read_text())
    times = [min(cache.select(stack=n).column("time").to_pylist()) / 1000 for n in said["Stacks"]]
    assert said["FrameTimesStart"] == [t - times[0] for t in times]
    assert times[1] > times[0]
    assert said["Units"] == "Bq/mL"


def test_a_second_run_makes_what_is_missing(tmp_path: Path) -> None:
    cache = open_cache(series(tmp_path, one_volume.ct, one_volume.sagittal, one_volume.beds))
    out = tmp_path / "out"
    first = export(cache, out)
    assert first.count("made") == 3
    before = files(out)
    paths = [out / row.file for row in first.rows]
    times = [f.stat().st_mtime_ns for f in paths]
    paths[0].unlink()
    sidecar = paths[1].with_name(paths[1].name.replace(".nii.gz", ".json"))
    sidecar.write_text("{")  # whose file it is, nobody knows any more
    (paths[2].parent / f".{paths[2].name}.0a0b0c0d.part").write_bytes(b"of a killed run")
    again = export(cache, out)
    assert [row.outcome for row in again.rows] == ["made", "made", "there"]
    assert paths[2].stat().st_mtime_ns == times[2]
    assert files(out).keys() == before.keys()
    same = {name: digest for name, digest in files(out).items() if name != "export.tsv"}
    assert same.items() <= before.items()
    other = export(cache, out, spacing=(2, 2, 2))
    assert other.count("made") == 3  # by other options they are other files
    assert nibabel.load(paths[1]).header.get_zooms() == (2, 2, 2)


def test_colour_over_time_has_a_file_each(tmp_path: Path) -> None:
    """NIfTI has no fourth axis for RGB24."""
    for t in range(2):
        for k in range(3):
            write_dicom(
                tmp_path / "in" / f"{t}{k}.dcm", np.full((4, 5, 3), 10 * t + k, np.uint8),
                SOPClassUID="1.2.840.10008.5.1.4.1.1.4", Modality="MR", PixelSpacing=[1, 1],
                TemporalPositionIdentifier=t, ImagePositionPatient=[0, 0, k],
                ImageOrientationPatient=AXIAL,
            )  # fmt: skip
    cache = open_cache(built(tmp_path / "in", tmp_path / "cache"))
    assert set(cache.column("stack_of").to_pylist()) == {0}
    made = export(cache, tmp_path / "out")
    shapes = [nibabel.load(tmp_path / "out" / row.file).shape for row in made.rows]
    assert shapes == [(5, 4, 3), (5, 4, 3)]


def test_other_headers_are_another_file(tmp_path: Path) -> None:
    """The same voxels, whose directions another version reads otherwise."""
    cache = series(tmp_path, diffusion.diffusion)
    (row, *_) = export(open_cache(cache), tmp_path / "out").rows

    def turned(table: pa.Table) -> pa.Table:
        rows = table.to_pylist()
        for told in rows:
            told["gradient"] = told["gradient"] and [-v for v in told["gradient"]]
        return pa.Table.from_pylist(rows, table.schema)

    rewrite(cache, "frames", turned)
    assert export(open_cache(cache), tmp_path / "out").count("made") == 4
    path = tmp_path / "out" / row.file.replace(".nii.gz", ".bvec")
    assert path.read_text() == "0 1 0 0.6\n0 0 -1 0\n0 0 0 -0.8\n"


def test_files_of_stacks_that_are_not_there_any_more_are_counted(tmp_path: Path) -> None:
    cache = series(tmp_path, one_volume.ct, one_volume.beds)
    paths = [row.file for row in export(open_cache(cache), tmp_path / "out").rows]
    ran = run_here(
        "export", cache, tmp_path / "out", "--to", "nifti", "--where", 'modality == "CT"'
    )  # fmt: skip
    assert (ran.returncode, "1 of an earlier run; 1 file of other stacks" in ran.stdout) == (
        0,
        True,
    )
    (other,) = export(open_cache(cache).select(modality="CT"), tmp_path / "out").others
    assert other in paths
    assert other.endswith("_pt.nii.gz")


def test_the_same_bytes_by_one_thread_or_four(tmp_path: Path) -> None:
    cache = open_cache(series(tmp_path, one_volume.ct, diffusion.diffusion, several.dual_echo))
    for jobs in (1, 4):
        export(cache, tmp_path / f"out{jobs}", jobs=jobs)
    assert files(tmp_path / "out1") == files(tmp_path / "out4")


def test_a_run_that_is_killed_leaves_whole_files_and_is_gone_on_with(tmp_path: Path) -> None:
    cache = series(tmp_path, diffusion.diffusion)
    export(open_cache(cache), tmp_path / "out", jobs=1)
    expected = files(tmp_path / "out")
    done = subprocess.run(
        [sys.executable, "-m", "tests.support.kill_export", cache, tmp_path / "runs"],
        stdout=subprocess.PIPE, text=True, check=True, timeout=100,
    )  # fmt: skip
    steps = [json.loads(line) for line in done.stdout.splitlines()]
    assert Counter(name for _, name, *_ in steps)["replace"] == 5  # four files, and the table
    for step, name, killed, status, between, found in steps:
        assert (killed, status) == (-signal.SIGKILL, 0), (step, name)
        shown = {path: digest for path, digest in between.items() if not path.endswith(".part")}
        assert shown.items() <= expected.items(), (step, name)
        table = found.pop("export.tsv")
        assert (table == expected["export.tsv"]) == (not any("nii" in p for p in shown))
        assert found == {p: d for p, d in expected.items() if p != "export.tsv"}, (step, name)


def test_what_fails_costs_itself_only(tmp_path: Path) -> None:
    cache = series(tmp_path, one_volume.ct, one_volume.tilted, one_volume.uneven)
    write_dicom(tmp_path / "more" / "single.dcm", np.ones((4, 4), np.uint8))
    cache = built(tmp_path / "in", tmp_path / "more", tmp_path / "both")
    ran = run_here("export", cache, tmp_path / "out", "--to", "npy")
    assert ran.returncode == 1
    assert "1 stack in 1 file; 1 is no volume; 2 failed; export.tsv has each" in ran.stdout
    assert "12.0 degrees off their normal" in ran.stderr
    table = (tmp_path / "out" / "export.tsv").read_text().splitlines()
    assert sorted(line.split("\t")[1] for line in table[1:]) == [
        "failed", "failed", "made", "no-volume"
    ]  # fmt: skip
    ran = run_here("export", cache, tmp_path / "out", "--to", "npy", "--upright", "--gaps")
    assert ran.returncode == 0, ran.stderr
    assert "3 stacks in 3 files, 1 of an earlier run; 1 is no volume;" in ran.stdout
    shapes = sorted(np.load(p, mmap_mode="r").shape for p in (tmp_path / "out").rglob("*.npy"))
    assert shapes == [(8, 28, 20), (11, 24, 20), (12, 24, 20)]


def test_a_damaged_volume_fails_by_name(tmp_path: Path) -> None:
    cache = series(tmp_path, one_volume.ct, one_volume.sagittal)
    shard = next(p for p in (cache / "int16_24x20").glob("c.*"))
    data = bytearray(shard.read_bytes())
    row = open_cache(cache).select(stack=0).column("row")[5].as_py()
    data[row * 960 + 100] ^= 1
    shard.write_bytes(data)
    ran = run_here("export", cache, tmp_path / "out", "--to", "nifti", "--jobs", "1")
    assert ran.returncode == 1
    assert shard.name in ran.stderr
    assert "1 stack in 1 file; 1 failed" in ran.stdout


def test_commands_that_cannot_be(tmp_path: Path) -> None:
    cache = series(tmp_path, one_volume.ct)
    for flags, said in (
        (["--to", "mha"], "legal: nifti, nnunet, npy"),
        (["--to", "nifti", "--spacing", "1,x"], "--spacing 1,x; legal: one length in mm"),
        (["--to", "nifti", "--spacing", "0"], "legal: three lengths in mm"),
        (["--to", "nifti", "--where", 'modality == "PT"'], "no frame where"),
        (["--to", "nifti", "--where", 'modalty == "PT"'], "modalty"),
    ):
        ran = run_here("export", cache, tmp_path / "out", *flags)
        assert ran.returncode == 2, ran.stdout
        assert said in ran.stderr
        assert "Traceback" not in ran.stderr
    for out in (cache, cache / "more"):
        ran = run_here("export", cache, out, "--to", "nifti")
        assert ran.returncode == 2
        assert "lies in the cache" in ran.stderr
    other = shutil.copytree(cache, tmp_path / "other")
    ran = run_here("export", cache, other, "--to", "nifti")
    assert (ran.returncode, "a cache lies here" in ran.stderr) == (2, True)


def test_two_do_not_write_to_one_folder(tmp_path: Path) -> None:
    cache = series(tmp_path, one_volume.ct)
    (tmp_path / "out").mkdir()
    with open(tmp_path / "out" / ".lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        ran = run_here("export", cache, tmp_path / "out", "--to", "npy")
    assert (ran.returncode, "another process exports to it" in ran.stderr) == (2, True)


def test_a_full_disk_ends_it_and_leaves_nothing_begun(tmp_path: Path) -> None:
    cache = series(tmp_path, one_volume.ct, one_volume.beds)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (5000, before[1]))  # a volume has 9 kB
    try:
        ran = run_here("export", cache, tmp_path / "out", "--to", "nifti")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert ran.returncode == 2, ran.stdout
    assert "Traceback" not in ran.stderr
    assert {p.suffix for p in (tmp_path / "out").rglob("*") if p.is_file()} <= {".json", ""}
    assert export(open_cache(cache), tmp_path / "out").count("made") == 2


def test_numbers_that_are_none_are_not_told(tmp_path: Path) -> None:
    """JSON has no NaN, and a cache may say anything."""
    cache = series(tmp_path, one_volume.ct)
    lies = {"thickness": float("nan"), "modality": "../../x", "patient": "../y"}
    rewrite(cache, "frames", lambda table: pa.Table.from_pylist(
        [row | lies for row in table.to_pylist()], table.schema))  # fmt: skip
    (row,) = export(open_cache(cache), tmp_path / "out").rows
    assert row.file == "sub-unknown/sub-unknown_stack-000000_ot.nii.gz"
    text = (tmp_path / "out" / row.file.replace(".nii.gz", ".json")).read_text()
    assert "NaN" not in text
    assert "SliceThickness" not in json.loads(text)


def test_spacing_of_the_command(tmp_path: Path) -> None:
    cache = series(tmp_path, one_volume.ct)
    assert (
        run_here("export", cache, tmp_path / "out", "--to", "nifti", "--spacing", "2").returncode
        == 0
    )
    (path,) = (tmp_path / "out").rglob("*.nii.gz")
    assert nibabel.load(path).header.get_zooms() == (2, 2, 2)


@pytest.mark.parametrize("deidentified", [False, True])
def test_nothing_of_a_patient_is_written(tmp_path: Path, deidentified: bool) -> None:
    folder = tmp_path / "QXPATHQX"
    for k in range(3):
        write_dicom(
            folder / f"QXFILEQX{k}.dcm", np.full((8, 8), k, np.uint16), SOPClassUID=CT_IMAGE,
            Modality="CT", ImagePositionPatient=[0, 0, k], ImageOrientationPatient=AXIAL,
            PixelSpacing=[1, 1], PatientID="QXIDQX", PatientName="QXNAME^QX",
            AccessionNumber="QXACCQX", StudyDate="19990102", SeriesDescription="QXDESCQX",
            StudyInstanceUID="1.2.826.0.1.77777.1", SeriesInstanceUID="1.2.826.0.1.77777.2",
            SOPInstanceUID=f"1.2.826.0.1.77777.3.{k}", FrameOfReferenceUID="1.2.826.0.1.77777.4",
        )  # fmt: skip
    (tmp_path / "key").touch(0o600)
    (tmp_path / "key").write_bytes(bytes(range(32)))
    flags = ["--deidentify", str(tmp_path / "key")] if deidentified else []
    cache = open_cache(built(*flags, folder, tmp_path / "cache"))
    for to in ("nifti", "npy", "nnunet"):
        assert export(cache, tmp_path / "out" / to, to).count("made") == 1
    for path in (tmp_path / "out").rglob("*"):
        shown = str(path.relative_to(tmp_path)).encode()
        if path.is_file():
            data = path.read_bytes()
            shown += gzip.decompress(data) if path.suffix == ".gz" else data
        for word in (b"QX", b"77777", b"1999"):
            assert word not in shown, path


def drawn_on_ct(folder: Path) -> None:
    """A CT of 4 slices, a segmentation of its slices 1 and 3, two segments; another CT alone."""
    for name in ("a", "b"):
        for k in range(4):
            write_dicom(
                folder / f"{name}{k}.dcm", np.full((8, 8), k, np.uint16), SOPClassUID=CT_IMAGE,
                Modality="CT", SeriesInstanceUID=uid(name), SOPInstanceUID=uid(f"{name}{k}"),
                ImagePositionPatient=[0, 0, 2 * k], ImageOrientationPatient=AXIAL,
                PixelSpacing=[1, 1], FrameOfReferenceUID=uid(f"space {name}"), SliceThickness=2,
            )  # fmt: skip
    pixels = np.zeros((3, 8, 8), np.uint8)
    pixels[0, 2:4] = pixels[1, 2:4] = 1
    pixels[2, 5, 5] = 1
    groups = [
        item(
            PlanePositionSequence=[item(ImagePositionPatient=[0, 0, 2 * k])],
            SegmentIdentificationSequence=[item(ReferencedSegmentNumber=n)],
            DerivationImageSequence=[item(SourceImageSequence=[item(
                ReferencedSOPClassUID=CT_IMAGE, ReferencedSOPInstanceUID=uid(f"a{k}"))])],
        ) for n, k in ((1, 1), (1, 3), (2, 1))
    ]  # fmt: skip
    write_dicom(
        folder / "seg.dcm", pixels, SOPClassUID=SEGMENTATION, Modality="SEG",
        SeriesInstanceUID=uid("seg"), FrameOfReferenceUID=uid("space a"),
        BitsAllocated=1, BitsStored=1, HighBit=0, SegmentationType="BINARY",
        PixelData=np.packbits(pixels.ravel(), bitorder="little").tobytes(),
        SegmentSequence=[item(SegmentNumber=1, SegmentLabel="liver"),
                         item(SegmentNumber=2, SegmentLabel="cyst")],
        SharedFunctionalGroupsSequence=[item(
            PlaneOrientationSequence=[item(ImageOrientationPatient=AXIAL)],
            PixelMeasuresSequence=[item(PixelSpacing=[1, 1], SliceThickness=2)])],
        PerFrameFunctionalGroupsSequence=groups,
    )  # fmt: skip


def test_a_data_set_of_nnunet(tmp_path: Path) -> None:
    drawn_on_ct(tmp_path / "in")
    cache = open_cache(built(tmp_path / "in", tmp_path / "cache"))
    made = export(cache, tmp_path / "out", "nnunet")
    assert {row.outcome for row in made.rows} == {"made"}, made.rows
    out = tmp_path / "out"
    assert json.loads((out / "dataset.json").read_text()) == {
        "channel_names": {"0": "CT"}, "labels": {"background": 0, "cyst": 1, "liver": 2},
        "numTraining": 1, "file_ending": ".nii.gz",
    }  # fmt: skip
    (labels,) = (out / "labelsTr").iterdir()
    (image,) = (out / "imagesTr").iterdir()
    assert image.name == labels.name.replace(".nii.gz", "_0000.nii.gz")
    assert len(list((out / "imagesTs").iterdir())) == 1
    drawn, place = nibabel.load(labels), nibabel.load(image)
    np.testing.assert_array_equal(drawn.affine, place.affine)
    values = np.asarray(drawn.dataobj).T
    assert values.dtype == np.uint8
    expected = np.zeros((4, 8, 8))
    expected[[1, 3], 2:4] = 2
    expected[1, 5, 5] = 1
    np.testing.assert_array_equal(values, expected)


def test_a_case_that_fails_is_no_training_case(tmp_path: Path) -> None:
    drawn_on_ct(tmp_path / "in")
    cache = built(tmp_path / "in", tmp_path / "cache")
    export(open_cache(cache), tmp_path / "out", "nnunet")
    mask = open_cache(cache).select(kind="mask")
    place = mask.core.places
    spec = mask.arrays[int(place.array[mask.indices[0]])]
    shard = cache / spec.shard_name(0)
    data = bytearray(shard.read_bytes())
    data[int(place.row[mask.indices[-1]]) * 64 + 7] ^= 1
    shard.write_bytes(data)
    told = {"segment_label": "tumour"}  # so that the case is made again
    rewrite(cache, "frames", lambda table: pa.Table.from_pylist(
        [row | told for row in table.to_pylist()], table.schema))  # fmt: skip
    made = export(open_cache(cache, check="first-touch"), tmp_path / "out", "nnunet")
    assert sorted(row.outcome for row in made.rows) == ["failed", "failed", "failed", "made"]
    out = tmp_path / "out"
    assert json.loads((out / "dataset.json").read_text())["numTraining"] == 0
    assert not list((out / "labelsTr").iterdir())
    assert not list((out / "imagesTr").iterdir())


def test_masks_lie_on_their_own_grid(tmp_path: Path) -> None:
    """Slices that a segmentation leaves out are empty: 1 to 3 of the liver, one of the cyst."""
    drawn_on_ct(tmp_path / "in")
    cache = open_cache(built(tmp_path / "in", tmp_path / "cache"))
    masks = cache.select(kind="mask")
    found = {row["stack"]: masks.image(row["stack"]) for row in masks.stacks().to_pylist()}
    liver, cyst = sorted(found.values(), key=lambda i: -len(i.voxels))
    assert (liver.voxels != 0).sum((1, 2)).tolist() == [16, 0, 16]
    assert (cyst.voxels.shape, cyst.spacing) == ((1, 8, 8), (2, 1, 1))
    assert liver.affine[:3, 3].tolist() == [0, 0, 2]
