"""Fixtures that several test modules share."""

from __future__ import annotations

import os
import re
import shutil
import warnings
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from pydicom import examples

from dicom2cache.errors import Unfinished
from dicom2cache.privacy.keys import patient_key
from dicom2cache.running.proof import gate
from dicom2cache.syntaxes import SYNTAXES
from tests.support.caches import built
from tests.support.dicom_files import write_series

# New examples on every run by hand; the same ones on every run of CI, which must not be a lottery.
# None is timed: a machine may be busy.
settings.register_profile(
    "untimed", deadline=None, suppress_health_check=[HealthCheck.too_slow],
    derandomize=bool(os.environ.get("CI")),
)  # fmt: skip
settings.load_profile("untimed")

_BARE = "bare" in os.environ.get("FAULT", "").split(";")  # `make test-portable`
_NAMES_WHAT_IS_HIDDEN = re.compile(
    r"import (fcntl|resource)\b|from benchmarks|support\.hostile|pass_fds|dir_fd|/proc/"
    r"|os\.(pread|preadv|pwrite|O_DIRECT)\b|\bos, \"(pread|preadv|pwrite)\""
    r"|signal\.(SIGALRM|SIGHUP|setitimer|getitimer|pthread_)"
)


_OF_WHAT_IS_HIDDEN = {
    "test_volume_is_a_view": "shards in one range of addresses",
    "test_patches_across_shards": "shards in one range of addresses",
    "test_processes_of_a_node_share_the_work": "locks",
    "test_killed_before_durable_steps": "whether a process lives",
    "test_killed_at_each_step_it_is_run_again": "whether a process lives",
    "test_what_a_worker_dies_of_costs_its_own_frame": "whether a process lives",
    "test_killed": "steps that make folders durable",
    "test_while_it_is_under_way": "whether a process lives",
    "test_each_byte_is_as_it_was[a FIFO]": "opening a FIFO without waiting",
    "test_it_goes_on_after_sigterm_at_the_next_batch": "killpg, of torchrun",
    "test_a_compiled_graph_gives_the_same": "locks, of torch's compiler, which waits for ever",
    "test_workers_that_only_copy_are_warned_of_once": "which pages are in memory",
    "test_a_key_that_others_may_read_is_refused": "modes of files",
    "test_no_permission": "libc, by ctypes",
    "test_no_permission_to_write": "libc, by ctypes",
}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Of other systems, tests of what they lack are left out by name."""
    for item in items if _BARE else ():
        names = (item.name, getattr(item, "originalname", item.name))
        why = next(filter(None, map(_OF_WHAT_IS_HIDDEN.get, names)), None)
        if why is not None:
            item.add_marker(pytest.mark.skip(reason=f"needs what is hidden: {why}"))


def pytest_ignore_collect(collection_path: Path) -> bool | None:
    """Without what other systems lack, tests that take it to hand themselves are left out."""
    if _BARE and collection_path.suffix == ".py" and collection_path.name != "conftest.py":
        return bool(_NAMES_WHAT_IS_HIDDEN.search(collection_path.read_text())) or None
    return None


IMAGE_EXAMPLES = (
    "ct", "mr", "overlay", "rgb_color", "palette_color", "jpeg2k", "rt_dose", "ybr_color",
)  # fmt: skip
OTHER_EXAMPLES = ("rt_plan", "rt_ss", "dicomdir")


@pytest.fixture(scope="session", autouse=True)
def config_home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A home for the patient key, so that the user's own is never touched; one for the session."""
    home = tmp_path_factory.mktemp("config")
    before = os.environ.get("XDG_CONFIG_HOME")
    os.environ["XDG_CONFIG_HOME"] = str(home)
    with warnings.catch_warnings(action="ignore"):  # said once, and not in some test or other
        patient_key(None)
    with suppress(
        Unfinished
    ):  # remembered in the user's cache folder: no build under a fault does it
        gate.check(SYNTAXES)
    yield home
    if before is None:
        del os.environ["XDG_CONFIG_HOME"]
    else:
        os.environ["XDG_CONFIG_HOME"] = before


def example_files(folder: Path) -> list[Path]:
    """Pydicom's examples as sources; its DICOMDIR in a folder, else it stands for its files."""
    paths = [Path(examples.get_path(name)) for name in (*IMAGE_EXAMPLES, *OTHER_EXAMPLES)]
    named = [path for path in paths if path.name == "DICOMDIR"]
    for path in named:
        shutil.copyfile(path, folder / path.name)
    return [path for path in paths if path not in named] + [folder]


@pytest.fixture(scope="session")
def examples_cache(tmp_path_factory: pytest.TempPathFactory, config_home: Path) -> Path:
    """All examples of pydicom that are whole, in one cache; nothing failed."""
    return built(
        *example_files(tmp_path_factory.mktemp("disc")),
        tmp_path_factory.mktemp("examples") / "cache",
    )


@pytest.fixture(scope="session")
def ct_series(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a CT series: 12 slices of 512 x 512, at 1 MiB a shard six shards of two."""
    folder = tmp_path_factory.mktemp("series")
    write_series(folder, 12)
    return folder


@pytest.fixture(scope="session")
def ct_series_cache(
    tmp_path_factory: pytest.TempPathFactory, config_home: Path, ct_series: Path
) -> Path:
    """The undisturbed cache of `ct_series` with --shard-mib 1."""
    return built(ct_series, tmp_path_factory.mktemp("whole") / "cache", "--shard-mib", "1")
