"""docs/lightlytrain.md is run: its five commands in order, and its other Python, as it stands.

Only the length of training is less: one epoch, two steps.
"""

from __future__ import annotations

import csv
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.lightly.discs import write_discs
from tests.support.caches import built

PAGE = (Path(__file__).parents[2] / "docs" / "lightlytrain.md").read_text()
COMMANDS = re.search(r"```\n(.*?)```", PAGE, re.DOTALL)
MODEL = "dinov2/_vittest14-linear"
PYTHON = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)


def run(folder: Path, *command: str) -> str:
    """Output of a command that succeeds."""
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def worked(
    tmp_path_factory: pytest.TempPathFactory, scans: Path, config_home: Path
) -> tuple[Path, list[str]]:
    """(a folder in which the five commands were run, what each printed)."""
    folder = tmp_path_factory.mktemp("docs")
    for name in ("ct", "mr"):
        shutil.copytree(scans / name, folder / "scans" / name)
    shutil.copy(scans / "ct" / "IM0.dcm", folder / "new.dcm")
    short = [p.replace("epochs=100", "epochs=1").replace("steps=1000", "steps=2") for p in PYTHON]
    names = ("pretrain", "use", "names", "classes", "masks")
    for name, code in zip(names, short, strict=True):
        (folder / f"{name}.py").write_text(code)
    assert COMMANDS is not None
    said = []
    for line in COMMANDS[1].splitlines():
        program, *rest = line.split()
        start = {"dicom2cache": ["-m", "dicom2cache.cli"], "python": []}[program]
        said.append(run(folder, sys.executable, *start, *rest))
    return folder, said


def test_five_commands(worked: tuple[Path, list[str]]) -> None:
    folder, said = worked
    assert len(said) == 5
    assert "8 frames" in said[2]
    assert "Served(cached=8, passed=0, converted=0)" in said[3]
    assert (folder / "out" / "exported_models" / "exported_last.pt").exists()
    assert said[4] == "torch.Size([1, 1000])\n"


def test_names(worked: tuple[Path, list[str]], tmp_path: Path) -> None:
    """With the cache alone: no DICOM file is there."""
    shutil.copytree(worked[0] / "cache", tmp_path / "cache")
    run(tmp_path, sys.executable, str(worked[0] / "names.py"))
    assert (tmp_path / "out_names" / "exported_models" / "exported_last.pt").exists()


def test_classes(worked: tuple[Path, list[str]]) -> None:
    folder, _ = worked
    for split in ("train", "val"):
        with open(folder / f"{split}.csv", "w", newline="") as file:
            rows = csv.writer(file)
            rows.writerow(["image_path", "label"])
            rows.writerows([f"scans/{n}/IM{k}.dcm", n] for n in ("ct", "mr") for k in range(4))
    assert "scores" in run(folder, sys.executable, "classes.py")


def test_masks(worked: tuple[Path, list[str]], tmp_path: Path) -> None:
    """With another model, which needs no weights from elsewhere."""
    for k in range(4):
        write_discs(tmp_path / "in" / f"patient {k}", 2, 2 * k, ("liver", "tumour"))
    key = tmp_path / "key"  # by which both sides have patients
    key.write_bytes(bytes(32))
    key.chmod(0o600)
    built("--patient-key", key, tmp_path / "in", tmp_path / "cache")
    code = (worked[0] / "masks.py").read_text().replace("dinov2/vits14-eomt", MODEL)
    (tmp_path / "masks.py").write_text(code)
    said = run(tmp_path, sys.executable, "masks.py").splitlines()[-1]
    found = re.fullmatch(
        r"Served\(cached=(\d+), .*=0, .*=0\) ServedMasks\(cached=(\d+), empty=0, passed=0\)", said
    )
    assert found
    assert int(found[1]) == int(found[2]) > 0


RANKS = """
import os, sys
import lightly_train
from trainer_adapter import lightly

if __name__ == "__main__":
    args = {**lightly.transform_args(method="simclr"), "image_size": (32, 32)}
    with lightly.serve("cache") as served:
        lightly_train.pretrain(
            out="out_" + sys.argv[1], data=lightly.names("cache"), model="torchvision/resnet18",
            method="simclr", epochs=1, batch_size=4, num_workers=0, accelerator="cpu", devices=2,
            strategy=sys.argv[1], transform_args=args, loggers={"tensorboard": None},
        )
    print("rank", os.environ.get("LOCAL_RANK", "0"), *served.counts, flush=True)
"""


@pytest.mark.parametrize(
    ("strategy", "said"),
    [("ddp", {"rank 0 4 0 0", "rank 1 4 0 0"}), ("ddp_spawn", {"rank 0 8 0 0"})],
)
def test_ranks(
    worked: tuple[Path, list[str]], tmp_path: Path, strategy: str, said: set[str]
) -> None:
    """Two ranks, and no DICOM file there."""
    shutil.copytree(worked[0] / "cache", tmp_path / "cache")
    (tmp_path / "ranks.py").write_text(RANKS)
    os.rename(worked[0] / "scans", worked[0] / "hidden")
    try:
        out = run(tmp_path, sys.executable, "ranks.py", strategy)
    finally:
        os.rename(worked[0] / "hidden", worked[0] / "scans")
    assert set(re.findall(r"rank \d \d+ \d \d", out)) == said
