"""A loader of fastai, which starts torch's workers without being a DataLoader, as one that does the same.

fastai's workers make items by `do_item` and batches by `do_batch`; what it does to a whole batch on the
device (`after_batch`) stays in the training process. Syntax of Python 3.9.
"""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # torch takes seconds, and this module is read where there may be none
    from torch.utils.data import DataLoader

MODULE = "fastai.data.load"
_OF_THE_LOOP = ("rng", "fake_l", "it")  # used in the training process alone; workers get their own


def is_fastai(value: Any) -> bool:
    """Return whether an object is a loader of fastai whose items have keys."""
    is_loader = any(cls.__module__ == MODULE and cls.__name__ == "DataLoader" for cls in type(value).__mro__)
    return is_loader and bool(value.indexed)


def training_loader(value: Any) -> Any:
    """Return the training loader of fastai's `DataLoaders`, or of a `Learner`; anything else as it is."""
    loaders = getattr(value, "dls", value) if type(value).__module__.startswith("fastai.") else value
    if type(loaders).__module__ == "fastai.data.core" and len(getattr(loaders, "loaders", ())):
        return loaders.loaders[0]
    return value


def as_torch(loader: Any) -> DataLoader[Any]:
    """Return a DataLoader that loads what a loader of fastai loads."""
    from torch.utils.data import DataLoader

    fastai = copy.copy(loader)
    for name in _OF_THE_LOOP:
        fastai.__dict__.pop(name, None)
    settings = loader.fake_l
    return DataLoader(
        Items(fastai),  # type: ignore[arg-type]  # no subclass of Dataset, which would need torch here
        batch_size=loader.bs,
        shuffle=bool(loader.shuffle),
        drop_last=bool(loader.drop_last),
        num_workers=settings.num_workers,
        collate_fn=Batches(fastai),
        pin_memory=settings.pin_memory,
        timeout=settings.timeout,
        worker_init_fn=start_worker,
        persistent_workers=bool(settings.persistent_workers) and settings.num_workers > 0,
    )


class Items:
    """Items as the workers of a fastai loader make them, before they are collated.

    Args:
        loader: Of fastai.
    """

    def __init__(self, loader: Any) -> None:
        self.loader = loader

    def __len__(self) -> int:
        return int(self.loader.n)

    def __getitem__(self, index: int) -> Any:
        return self.loader.do_item(index)


class Batches:
    """Collates as a fastai loader does; items that it skips are left out.

    Args:
        loader: Of fastai.
    """

    def __init__(self, loader: Any) -> None:
        self.loader = loader

    def __call__(self, items: Any) -> Any:
        """Return a batch of items."""
        if self.loader.prebatched:
            return self.loader.do_batch(items)
        return self.loader.do_batch([item for item in items if item is not None])


def start_worker(worker_id: int) -> None:
    """Seed, and call the loader's own `wif`, as fastai's workers do."""
    from fastai.torch_core import set_seed
    from torch.utils.data import get_worker_info

    del worker_id
    info = get_worker_info()
    assert info is not None
    assert isinstance(info.dataset, Items)
    set_seed(info.seed)
    info.dataset.loader.wif()
