"""LightlyTrain from a cache: its own calls, with images that are decoded already.

```
with trainer_adapter.lightly.serve("cache") as served:
    names = lightly.names("cache")
    lightly_train.pretrain(out="out", data=names, model="torchvision/resnet18", method="dino")
print(served.counts)
```
"""

from trainer_adapter.lightly.api import (
    Masks,
    classes,
    data,
    load,
    mean_std,
    names,
    serve,
    stubs,
    transform_args,
)

__all__ = [
    "Masks",
    "classes",
    "data",
    "load",
    "mean_std",
    "names",
    "serve",
    "stubs",
    "transform_args",
]
