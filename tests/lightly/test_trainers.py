"""Batches and samples in the hands of other trainers, which LightlyTrain's environment has."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import albumentations
import numpy as np
import pytest
import pytorch_lightning
import torch
import transformers
from accelerate.utils import send_to_device
from torch import nn
from torch.utils.data import DataLoader, default_collate
from torchvision.transforms import v2

from tests.support.caches import built
from tests.support.dicom_files import pattern, write_dicom
from trainer_adapter import Batch, CacheLoader, FrameDataset, Normalize, Sample, open_cache


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory, config_home: Path) -> Path:
    """Eight images of two sizes, half of them MR."""
    folder = tmp_path_factory.mktemp("trainers")
    for k in range(8):
        shape = (24, 32) if k % 2 else (40, 20)
        write_dicom(folder / "in" / f"{k}", pattern(f"{k}", shape), Modality=("MR", "CT")[k % 2])
    return built(folder / "in", folder / "cache")


class Net(nn.Module):
    """Brightness to one of two classes."""

    def __init__(self) -> None:
        super().__init__()
        self.last = nn.Linear(1, 2)

    def forward(self, image: torch.Tensor, label: torch.Tensor, **_: Any) -> dict[str, Any]:
        """(b, 1, H, W) to logits and loss."""
        logits = self.last(image.float().mean((2, 3)) / 4096)
        return {"loss": nn.functional.cross_entropy(logits, label), "logits": logits}


def test_accelerate_moves_a_batch(path: Path) -> None:
    for batch in CacheLoader(open_cache(path), 4, label="modality", columns=["path"]):
        moved = send_to_device(batch, torch.device("meta"))
        assert type(moved) is Batch
        assert (moved.image.device.type, moved.label.device.type) == ("meta", "meta")
        assert (moved.columns, moved.units, moved.epoch) == (batch.columns, batch.units, 0)


def test_lightning_trains_from_both_loaders(path: Path, tmp_path: Path) -> None:
    class Module(pytorch_lightning.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.net, self.normalize, self.seen = Net(), Normalize(std=1.0), []

        def training_step(self, batch: Any, _: int) -> torch.Tensor:
            self.seen.append(type(batch))
            return self.net(**self.normalize(batch))["loss"]

        def configure_optimizers(self) -> Any:
            return torch.optim.SGD(self.parameters(), lr=0.1)

    cache = open_cache(path).select("height == 24")
    stock = DataLoader(FrameDataset(cache, "modality", classes=["CT", "MR"]), batch_size=2)
    own = CacheLoader(cache, 2, label="modality", classes=["CT", "MR"])
    for loader, kind in ((stock, Sample), (own, Batch)):
        module = Module()
        pytorch_lightning.Trainer(
            max_epochs=1, accelerator="cpu", logger=False, enable_checkpointing=False,
            enable_progress_bar=False, default_root_dir=tmp_path,
        ).fit(module, loader)  # fmt: skip
        assert module.seen == [kind] * 2


def test_hugging_face_trains_from_a_dataset(path: Path, tmp_path: Path) -> None:
    resize = v2.Compose([v2.ToDtype(torch.float32), v2.Resize((16, 16), antialias=True)])
    data = FrameDataset(open_cache(path), "modality", transform=resize)
    trainer = transformers.Trainer(
        Net(),
        transformers.TrainingArguments(
            str(tmp_path), max_steps=3, per_device_train_batch_size=4, use_cpu=True,
            report_to=[], save_strategy="no", disable_tqdm=True,
        ),
        train_dataset=data,
        data_collator=default_collate,
    )  # fmt: skip
    assert trainer.train().global_step == 3


def test_transforms_of_torchvision_and_albumentations(path: Path) -> None:
    """Both resize to rows and columns: the axes that they take for these are these."""
    cache = open_cache(path)
    own = FrameDataset(cache, dtype=torch.float32, transform=v2.Resize((12, 10), antialias=False))
    resize = albumentations.Compose([albumentations.Resize(12, 10, interpolation=1)])
    other = FrameDataset(
        cache, dtype=torch.float32, layout="HWC", transform=lambda a: resize(image=a)["image"]
    )
    for k in range(8):
        channels_first, channels_last = own[k].image.numpy(), np.asarray(other[k].image)
        assert channels_first.shape == (1, 12, 10)
        assert channels_last.reshape(12, 10, -1).shape == (12, 10, 1)
        stored = torch.from_numpy(np.asarray(cache[k], np.float32))[None, None]
        expected = nn.functional.interpolate(stored, (12, 10), mode="bilinear")[0]
        np.testing.assert_allclose(channels_first, expected, rtol=1e-5)
        np.testing.assert_allclose(channels_last.reshape(12, 10), expected[0], atol=8)
    (batch,) = DataLoader(own, batch_size=8)
    assert batch.image.shape == (8, 1, 12, 10)
