"""Train a classifier from a cache, by one process or many; told to end, it goes on later.

    torchrun --nproc-per-node 2 train.py CACHE RUN --label body_part

RUN/state.pt has all that is needed to go on at the very next batch. It is written at the end of
each epoch and at SIGTERM, which Slurm sends before it preempts a job or its time is over; run the
same command again. RUN/finished is there once training is over.
"""

import argparse
import os
import signal
from pathlib import Path

import torch
from torch import distributed, nn

from trainer_adapter import CacheLoader, Normalize, open_cache


def network(classes: int) -> nn.Module:
    """A small one; yours goes here."""
    return nn.Sequential(
        nn.LazyConv2d(16, 3, stride=2), nn.ReLU(), nn.Conv2d(16, 32, 3, stride=2), nn.ReLU(),
        nn.AdaptiveAvgPool2d(4), nn.Flatten(), nn.Linear(512, classes),
    )  # fmt: skip


def main() -> None:
    """Train until RUN/finished, or until SIGTERM."""
    parser = argparse.ArgumentParser()
    parser.add_argument("cache", type=Path)
    parser.add_argument("run", type=Path)
    parser.add_argument("--label", required=True, help="a column of the cache's frames")
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--batch-size", type=int, default=64, help="of each process")
    parser.add_argument("--crop", type=int, default=64)
    parser.add_argument("--stage", type=Path, help="copy shards to storage of the node first")
    said = parser.parse_args()

    stop = torch.zeros(1)
    signal.signal(signal.SIGTERM, lambda *_: stop.fill_(1))
    cuda = torch.cuda.is_available()
    device = torch.device("cuda", int(os.environ["LOCAL_RANK"])) if cuda else torch.device("cpu")
    distributed.init_process_group("nccl" if cuda else "gloo")
    rank = distributed.get_rank()
    torch.manual_seed(0)

    path = said.run / "state.pt"
    state = torch.load(path, map_location=device, weights_only=True) if path.exists() else None
    # The frames that it began with, whatever `dicom2cache update` has added since.
    cache = open_cache(said.cache, generation=state["loader"]["generation"] if state else None)
    loader = CacheLoader(
        cache, said.batch_size, shuffle=True, seed=0, crop=said.crop, label=said.label,
        missing="drop", device=device if cuda else None, stage=said.stage,
    )  # fmt: skip
    normalize = Normalize(mean=0.0, std=1000.0).to(device)
    model = network(len(loader.classes)).to(device)
    model(normalize(next(iter(loader)).image))  # lazy layers see a shape
    loader.set_epoch(0)
    model = nn.parallel.DistributedDataParallel(model)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)

    said.run.mkdir(parents=True, exist_ok=True)
    epoch = 0
    if state:
        model.load_state_dict(state["model"])
        optimizer.load_state_dict(state["optimizer"])
        loader.load_state_dict({**state["loader"], "rank": rank})  # all ranks are at one batch
        epoch = state["loader"]["epoch"]

    def save() -> None:
        state = {"model": model.state_dict(), "optimizer": optimizer.state_dict()}
        if rank == 0:
            torch.save({**state, "loader": loader.state_dict()}, path.with_suffix(".part"))
            os.replace(path.with_suffix(".part"), path)
        distributed.barrier()

    for number in range(epoch, said.epochs):
        for batch in loader:
            loss = nn.functional.cross_entropy(model(normalize(batch.image)), batch.label)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            told = stop.to(device)
            distributed.all_reduce(told)  # all ranks end after the same batch
            if told > 0:
                save()
                distributed.destroy_process_group()
                return
        save()
        if rank == 0:
            print(f"epoch {number}: loss {loss.item():.4f}", flush=True)
    (said.run / "finished").touch()
    distributed.destroy_process_group()


if __name__ == "__main__":
    main()
