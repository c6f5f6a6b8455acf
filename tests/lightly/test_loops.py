"""CacheLoader in the loops of Lightning and Accelerate, the real ones."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytorch_lightning as lightning
import torch
from accelerate import Accelerator
from torch import nn

from tests.support.caches import built
from tests.support.dicom_files import pattern, write_dicom
from trainer_adapter import CacheLoader, Normalize, open_cache

N = 22


def cache_of(folder: Path) -> Path:
    for k in range(N):
        write_dicom(folder / "in" / f"{k:02}", pattern(str(k), (16, 16)), Modality="OT")
    return built(folder / "in", folder / "cache")


class Model(lightning.LightningModule):
    """A mean of pixels; it writes down which samples came in which epoch."""

    def __init__(self) -> None:
        super().__init__()
        self.normalize, self.layer = Normalize((2048, 4096)), nn.Linear(256, 1)
        self.seen: dict[int, list[int]] = {}

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return self.layer(self.normalize(image).flatten(1))

    def training_step(self, batch: Any, _: int) -> torch.Tensor:
        self.seen.setdefault(self.current_epoch, []).extend(batch.index.tolist())
        return self(batch.image).square().mean()

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), 0.01)


def test_lightning(tmp_path: Path) -> None:
    model = Model()
    loader = CacheLoader(open_cache(cache_of(tmp_path)), 4, shuffle=True)
    trainer = lightning.Trainer(
        max_epochs=3, accelerator="cpu", logger=False, enable_checkpointing=False,
        enable_progress_bar=False, enable_model_summary=False,
    )  # fmt: skip
    trainer.fit(model, loader)
    assert trainer.num_training_batches == len(loader) == 6
    assert trainer.global_step == 18
    assert sorted(model.seen) == [0, 1, 2]
    assert all(sorted(epoch) == list(range(N)) for epoch in model.seen.values())
    assert len({tuple(epoch) for epoch in model.seen.values()}) == 3


def test_accelerate(tmp_path: Path) -> None:
    accelerator = Accelerator(cpu=True)
    model = Model()
    loader = CacheLoader(open_cache(cache_of(tmp_path)), 4, shuffle=True, drop_last=True)
    model, optimizer, given = accelerator.prepare(model, model.configure_optimizers(), loader)
    assert len(given) == 5
    orders = []
    for epoch in range(2):
        given.set_epoch(epoch)
        order = []
        for batch in given:
            loss = model(batch.image).square().mean()
            accelerator.backward(loss)
            optimizer.step()
            optimizer.zero_grad()
            order += batch.index.tolist()
        orders.append(order)
    assert [len(set(order)) for order in orders] == [20, 20]
    assert orders[0] != orders[1]
