"""What `make dist` made, as who installs it finds it: new environments, no checkout.

Run: make test-dist. It takes an index of packages, for what the distributions ask for.
"""

from __future__ import annotations

import email
import os
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

import dicom2cache
from tests.support.caches import tree
from tests.support.dicom_files import CT_IMAGE, pattern, real, write_dicom

HERE = Path(__file__).parents[2]
DIST, TOOLS = HERE / "dist", HERE / ".venv-dist" / "bin"
VERSION = dicom2cache.__version__


def ran(*command: object, cwd: Path, status: int = 0, **variables: str) -> str:
    """What a command said, away from the checkout."""
    env = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "VIRTUAL_ENV")}
    done = subprocess.run(
        [*map(str, command)], cwd=cwd, env={**env, **variables}, text=True, check=False,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip
    assert done.returncode == status, done.stdout
    return done.stdout


def one(pattern: str) -> Path:
    """The one file of dist/ of that name."""
    (found,) = DIST.glob(pattern)
    return found


def environment(home: Path, *wanted: object) -> Path:
    """Python of a new environment with what is asked for."""
    ran(sys.executable, "-m", "venv", home, cwd=HERE)
    python = home / "bin" / "python"
    pip = (python, "-m", "pip", "--disable-pip-version-check", "install", "--quiet")
    if wanted:
        ran(*pip, "-c", HERE / "constraints.txt", *wanted, cwd=home)
        ran(python, "-m", "pip", "check", cwd=home)
    return python


@pytest.fixture(scope="module")
def converter(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Python of who converts: dicom2cache with its compiled loops, and what it asks for."""
    home = tmp_path_factory.mktemp("converter") / "env"
    # As from an index: trainer-adapter is found because dicom2cache asks for it.
    return environment(home, "--find-links", DIST, one("dicom2cache-*-abi3-*.whl"))


@pytest.fixture(scope="module")
def reader(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Python of who only trains: trainer-adapter with PyTorch."""
    home = tmp_path_factory.mktemp("reader") / "env"
    return environment(home, f"{one('trainer_adapter-*.whl')}[train]")


@pytest.fixture(scope="module")
def caches(converter: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with scans, and with a plain and a compressed cache of them."""
    folder = tmp_path_factory.mktemp("work")
    for k in range(8):
        write_dicom(
            folder / "scans" / f"{k}.dcm", pattern(str(k), (16, 16)), SOPClassUID=CT_IMAGE,
            Modality="CT", RescaleSlope=1, RescaleIntercept=-1024, PatientID=f"patient {k // 2}",
        )  # fmt: skip
    (folder / "scans" / "j2k.dcm").write_bytes(real("MR_small_jp2klossless.dcm").read_bytes())
    key = folder / "dicom2cache" / "patient.key"  # sides follow from it
    key.parent.mkdir()
    key.write_bytes(bytes(range(32)))
    key.chmod(0o600)
    command = converter.with_name("dicom2cache")
    for codec in ("none", "zstd"):
        ran(command, "build", "scans", codec, "--codec", codec, "--jobs", 2, cwd=folder,
            XDG_CONFIG_HOME=str(folder))  # fmt: skip
    return folder


def test_there_are_two_distributions_of_one_version() -> None:
    wheels = [
        f"dicom2cache-{VERSION}-py3-none-any.whl",
        f"trainer_adapter-{VERSION}-py3-none-any.whl",
    ]
    names = {path.name for path in DIST.iterdir()}
    compiled = one("dicom2cache-*-abi3-*.whl").name
    assert names == {
        *wheels, compiled, f"dicom2cache-{VERSION}.tar.gz", f"trainer_adapter-{VERSION}.tar.gz",
    }  # fmt: skip
    assert compiled.startswith(f"dicom2cache-{VERSION}-cp311-abi3-")
    if sys.platform == "linux":
        assert "-manylinux" in compiled
        ran(TOOLS / "python", "-m", "abi3audit", "--strict", DIST / compiled, cwd=HERE)
    for wheel in (*wheels, compiled):
        said = metadata(DIST / wheel)
        assert said["Version"] == VERSION
        asks = said.get_all("Requires-Dist") or []
        own = [k for k in asks if "extra ==" not in k and k.startswith("trainer")]
        assert own == ([] if wheel.startswith("trainer") else [f"trainer-adapter=={VERSION}"])
        extras = {"train", "volumes", "export", "seg", "lightly"}
        assert extras <= set(said.get_all("Provides-Extra") or [])


def metadata(wheel: Path) -> email.message.Message:
    with zipfile.ZipFile(wheel) as packed:
        (name,) = (name for name in packed.namelist() if name.endswith(".dist-info/METADATA"))
        return email.message_from_bytes(packed.read(name))


def test_an_index_would_take_and_show_them() -> None:
    ran(TOOLS / "python", "-m", "twine", "check", "--strict", *sorted(DIST.iterdir()), cwd=HERE)
    for wheel in DIST.glob("*.whl"):
        shown = metadata(wheel).get_payload(decode=True).decode()  # type: ignore[union-attr]
        assert re.findall(r"\]\((?!https://)[^)]*\)", shown) == []
        assert "\n## Train\n" in shown
        assert "pip install dicom2cache" in shown
        assert "make demo" not in shown  # of a clone


def test_wheels_have_all_files_and_no_others() -> None:
    packages = {
        "dicom2cache-*-any.whl": "dicom2cache", "dicom2cache-*-abi3-*.whl": "dicom2cache",
        "trainer_adapter-*.whl": "trainer_adapter",
    }  # fmt: skip
    for pattern_, package in packages.items():
        with zipfile.ZipFile(one(pattern_)) as packed:
            there = {n for n in packed.namelist() if ".dist-info/" not in n and n[-1] != "/"}
        listing = ["git", "ls-files", "--cached", "--others", "--exclude-standard", package]
        tracked = set(ran(*listing, cwd=HERE).splitlines())
        compiled = {"dicom2cache/pixels/_kernel.abi3.so"} if "abi3" in pattern_ else set()
        assert there == tracked | compiled


def test_the_converter_works_with_and_without_its_compiled_loops(
    converter: Path, caches: Path, tmp_path: Path
) -> None:
    code = "from dicom2cache.pixels import kernel; print(kernel.compiled is not None)"
    assert ran(converter, "-c", code, cwd=tmp_path) == "True\n"
    # The pure wheel before it, with the same libraries.
    pip = (converter, "-m", "pip", "install", "--quiet", "--no-deps", "--target", tmp_path / "pure")
    ran(*pip, one("dicom2cache-*-any.whl"), cwd=tmp_path)
    pure = {"PYTHONPATH": str(tmp_path / "pure"), "XDG_CONFIG_HOME": str(caches)}
    assert ran(converter, "-c", code, cwd=tmp_path, **pure) == "False\n"
    ran(converter, "-m", "dicom2cache", "build", "scans", "pure", "--jobs", 1, cwd=caches, **pure)
    assert tree(caches / "pure") == tree(caches / "none")
    told = ran(converter, "-m", "dicom2cache", "info", "none", cwd=caches)
    assert "9 frames" in told


_READS = """
import importlib.util, sys
import numpy as np
from trainer_adapter import CacheLoader, Normalize, open_cache
for name in ("pydicom", "imagecodecs", "simplejpeg", "zarr", "PIL", "joblib", "dicom2cache"):
    found = importlib.util.find_spec(name)
    assert found is None or found.origin is None, name  # `dicom2cache` is a folder here
import torch
plain, packed = open_cache("none", check="first-touch"), open_cache("zstd")
assert len(plain) == len(packed) == 9
for i in range(9):
    np.testing.assert_array_equal(plain[i], packed[i])
cache = plain.select("modality == 'CT'")
assert (cache.frames["unit"].to_pylist(), cache[0].shape) == (["HU"] * 8, (16, 16))
sides = cache.split(fractions=(0.5, 0.5), stratify="modality")
parts = [set(side.frames["patient"].to_pylist()) for side in sides.values()]
assert len(parts) == 2 and not parts[0] & parts[1] and len(parts[0] | parts[1]) == 4
net = torch.nn.Sequential(Normalize(window=(40, 400)), torch.nn.Flatten(), torch.nn.Linear(256, 1))
optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
before = net[2].weight.clone()
seen = 0
for batch in CacheLoader(cache, batch_size=4, shuffle=True, stage="staged"):
    net(batch.image).square().mean().backward()
    optimizer.step()
    seen += len(batch.image)
assert seen == 8 and not torch.equal(before, net[2].weight)
"""


def test_a_reader_needs_no_decoder(reader: Path, caches: Path) -> None:
    assert ran(reader, "-W", "error", "-c", _READS, cwd=caches) == ""
    assert any((caches / "staged").rglob("*")), "nothing was staged"


def test_a_reader_says_what_is_not_there(reader: Path, caches: Path, tmp_path: Path) -> None:
    code = (
        "import sys, trainer_adapter as t\n"
        "cache = t.open_cache('none')\n"
        "def said(call):\n"
        "    try: call()\n"
        "    except t.CacheError as e: print(e)\n"
        "said(lambda: t.load('scans/new.dcm', cache))\n"
        "import numpy as np\n"
        "image = t.SpatialImage(np.zeros((2, 2, 2), np.uint8), np.eye(4))\n"
        "said(image.to_nifti)\n"
        "sys.modules['torch'] = None\n"
        "said(lambda: t.CacheLoader)\n"
    )
    write_dicom(caches / "scans" / "new.dcm", pattern("new", (16, 16)))
    said = ran(reader, "-W", "ignore", "-c", code, cwd=caches).splitlines()
    assert len(said) == 3, said
    assert "pip install dicom2cache" in said[0]
    assert said[1].endswith("pip install 'nibabel>=5.2' 'scipy>=1.11'")
    assert said[2].endswith("pip install 'torch>=2.4'")


def test_sdists_build(tmp_path: Path) -> None:
    """With the build requirements that they name, fetched anew."""
    python = environment(tmp_path / "env")
    build = (python, "-m", "pip", "--disable-pip-version-check", "wheel", "--quiet", "--no-deps")
    ran(*build, *DIST.glob("*.tar.gz"), "-w", tmp_path / "made", cwd=tmp_path)
    made = {path.name.split("-")[0] for path in (tmp_path / "made").iterdir()}
    assert made == {"dicom2cache", "trainer_adapter"}


def test_a_failed_compilation_leaves_what_was_there(tmp_path: Path) -> None:
    (tmp_path / "dist").mkdir()
    (tmp_path / "dist" / "before").touch()
    script = HERE / "packaging" / "dist.py"
    said = ran(TOOLS / "python", script, "--out", tmp_path / "dist", cwd=tmp_path, status=1,
               CC="false")  # fmt: skip
    assert "make dist: failed" in said
    assert [path.name for path in (tmp_path / "dist").iterdir()] == ["before"]


def test_containers_and_conda_recipe_are_legal() -> None:
    """Linted and rendered; nothing here reaches a registry of containers or conda's channels."""
    ran(TOOLS / "hadolint", HERE / "packaging" / "Containerfile", cwd=HERE)
    code = (
        "import rattler_build as r\n"
        "recipe = r.Stage0Recipe.from_file('packaging/conda/recipe.yaml')\n"
        "variants = {'python': ['3.13.*'], 'c_compiler': ['gcc'], 'c_stdlib': ['sysroot']}\n"
        "for made in recipe.render(r.VariantConfig(variants)):\n"
        "    made = made.recipe.to_dict()\n"
        "    print(*made['package'].values(), made['source'][0]['path'])\n"
    )
    assert ran(TOOLS / "python", "-c", code, cwd=HERE).splitlines() == [
        f"trainer-adapter {VERSION} ../../dist/trainer_adapter-{VERSION}.tar.gz",
        f"dicom2cache {VERSION} ../../dist/dicom2cache-{VERSION}.tar.gz",
    ]
