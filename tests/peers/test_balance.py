"""Folds of cache.split against scikit-learn's StratifiedGroupKFold, labels and groups alike."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from sklearn import datasets
from sklearn.model_selection import StratifiedGroupKFold

from tests.support.caches import run_here
from tests.support.dicom_files import DATA_STORE, WHEEL, write_dicom
from trainer_adapter import Cache, open_cache

FOLDS = 5


def label_sets(folder: Path) -> Iterator[tuple[str, Path, str]]:
    """(name, cache, column of labels): bundled DICOM files, and bundled labels in groups."""
    key = folder / "key"  # hashes of patients decide between folds that are equally good
    key.touch(0o600)
    key.write_bytes(bytes(range(32)))
    own = ("--patient-key", key, "--jobs", "2")
    run_here("build", WHEEL, DATA_STORE, folder / "dicom", *own)
    yield "dicom", folder / "dicom", "modality"
    rng = np.random.default_rng(0)
    for name, load in (("cancer", datasets.load_breast_cancer), ("digits", datasets.load_digits)):
        about = load()
        target = about.target[:600]
        patient = np.sort(rng.integers(0, 120, len(target)))  # one to a dozen images of each
        for k, (label, group) in enumerate(zip(target, patient, strict=True)):
            write_dicom(
                folder / name / f"{k}.dcm", np.full((1, 1), k, np.uint16),
                PatientID=f"{group}", BodyPartExamined=str(about.target_names[label]),
            )  # fmt: skip
        run_here("build", folder / name, folder / f"{name}-cache", *own)
        yield name, folder / f"{name}-cache", "body_part"


def shares(labels: NDArray[np.str_], side: NDArray[np.int64]) -> NDArray[np.float64]:
    """(folds, classes) of the frames of a fold, the share of each class."""
    classes = np.unique(labels)
    return np.array([[np.mean(labels[side == k] == c) for c in classes] for k in range(FOLDS)])


def known(cache: Cache, column: str) -> tuple[Cache, NDArray[np.str_], NDArray[np.str_]]:
    """What both can divide: frames with a patient and a label, of patients without copies."""
    pairs = cache.split(folds=FOLDS).leaks
    copied = {*pairs["value"].to_pylist(), *pairs["other_value"].to_pylist()}
    patients, labels = (cache.column(c).to_pylist() for c in ("patient", column))
    kept = [
        k for k, (patient, label) in enumerate(zip(patients, labels, strict=True))
        if patient and label and patient not in copied
    ]  # fmt: skip
    chosen = cache.select(kept)
    found = (np.array(chosen.column(c).to_pylist()) for c in ("patient", column))
    return chosen, *found


def test_folds_are_as_balanced_as_theirs(tmp_path: Path) -> None:
    seen = []
    for name, path, column in label_sets(tmp_path):
        cache, patients, labels = known(open_cache(path).select('kind != "waveform"'), column)
        ours = cache.split(folds=FOLDS, stratify=column)
        theirs = np.empty(len(labels), np.int64)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # theirs, of rare classes
            folds = list(StratifiedGroupKFold(FOLDS).split(labels, labels, patients))
        for k, (_, held_out) in enumerate(folds):
            theirs[held_out] = k
        for patient in np.unique(patients):
            assert len(set(ours.sides[patients == patient])) == 1
        # Folds may be in another order: where two are equally good, rounding decides in theirs.
        own, other = (np.sort(shares(labels, s), axis=0) for s in (ours.sides, theirs))
        assert np.abs(own - other).max() <= 0.02, name
        seen.append((name, len(np.unique(labels)), len(np.unique(patients))))
    assert [(name, classes) for name, classes, _ in seen] == [
        ("dicom", 8), ("cancer", 2), ("digits", 10),
    ]  # fmt: skip
    assert all(patients >= 15 for *_, patients in seen), seen
