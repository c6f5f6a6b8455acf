"""Caches of several sites, whose sources were at the same path: which file is meant."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from dicom2cache import build, merge
from tests.support.dicom_files import pattern, uid, write_dicom
from trainer_adapter import Cache, open_cache
from trainer_adapter.errors import NotServedError
from trainer_adapter.lightly.paths import Names, stub_tree


@pytest.fixture(scope="module")
def merged(tmp_path_factory: pytest.TempPathFactory) -> Cache:
    """Two sites, both of FOLDER/data: each has its own a.dcm, one has b.dcm, the other c.dcm."""
    folder = tmp_path_factory.mktemp("sites")
    for site, names in (("one", "ab"), ("two", "ac")):
        for name in names:
            write_dicom(
                folder / "data" / f"{name}.dcm", pattern(f"{site}{name}", (8, 8)),
                SOPInstanceUID=uid(f"{site}{name}"), SeriesInstanceUID=uid(site),
            )  # fmt: skip
        build([folder / "data"], folder / site, jobs=1, backend="threading")
        (folder / "data").rename(folder / f"data of {site}")
    merge([folder / "one", folder / "two"], folder / "both")
    shutil.copytree(folder / "data of one", folder / "data")
    return open_cache(folder / "both")


def test_files_that_one_site_has(merged: Cache) -> None:
    data = merged.path.parent / "data"
    assert [s["path"] for s in merged.attributes["sources"]] == [str(data)] * 2
    names = Names(merged)
    assert (merged[names[data / "b.dcm"]] == pattern("oneb", (8, 8))).all()
    assert (merged[names[data / "c.dcm"]] == pattern("twoc", (8, 8))).all()


def test_a_name_that_both_have_is_not_guessed(merged: Cache) -> None:
    names = Names(merged)
    with pytest.raises(NotServedError, match="may be of source 0 or 1"):
        names[merged.path.parent / "data" / "a.dcm"]


def test_by_the_number_of_the_source(merged: Cache) -> None:
    one, two = (merged.path.parent / f"data of {site}" for site in ("one", "two"))
    names = Names(merged, root={0: one, 1: two})
    assert (merged[names[one / "a.dcm"]] == pattern("onea", (8, 8))).all()
    assert (merged[names[two / "a.dcm"]] == pattern("twoa", (8, 8))).all()
    with pytest.raises(ValueError, match="root names 2; the cache's folders: 0: "):
        Names(merged, root={2: two})


def test_stubs_of_each(merged: Cache, tmp_path: Path) -> None:
    stubs = stub_tree(merged, tmp_path / "stubs")
    names = Names(merged, root=stubs)
    found = {path.relative_to(stubs): names[path] for path in stubs.rglob("*.dcm")}
    assert len(set(found.values())) == len(merged) == 4
    for path, k in found.items():
        text = f"{('one', 'two')[int(path.parts[0])]}{path.name[0]}"
        assert (merged[k] == pattern(text, (8, 8))).all()
