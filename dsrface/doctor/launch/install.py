"""Has every DataLoader of a process watched, from the moment that torch's own is imported; and fastai's."""

from __future__ import annotations

import json
import os
import weakref
from collections.abc import MutableMapping
from typing import Any

from dsrface.doctor.launch.watch import MADE_AT, Watch
from dsrface.runtime.user_code import users_line


def watch_torch(module: Any, *, import_s: float) -> Watch:
    """Watch every DataLoader of this process.

    Args:
        module: torch.utils.data.dataloader.
        import_s: What this process needed to import it, from its start on.
    """
    watch, loader_class = _new_watch(import_s), module.DataLoader

    def new(cls: Any, *args: Any, **kwargs: Any) -> Any:
        del args, kwargs
        for part in cls.__mro__[: cls.__mro__.index(loader_class)]:
            watch.wrap(part)
        loader = super(loader_class, cls).__new__(cls)
        loader.__dict__[MADE_AT] = users_line(1)
        return loader

    loader_class.__new__ = staticmethod(new)
    watch.wrap(loader_class)
    return watch


def watch_fastai(module: Any, watch: Watch) -> None:
    """Watch every loader of fastai, which is no DataLoader; a run of a proof cannot change its settings.

    Args:
        module: fastai.data.load.
        watch: Of this process.
    """
    from dsrface.doctor.fastai_loader import as_torch, is_fastai

    equals: MutableMapping[Any, Any] = weakref.WeakKeyDictionary()

    def equal_of(loader: Any) -> Any:
        if loader not in equals and is_fastai(loader):
            equals[loader] = as_torch(loader)
        return equals.get(loader)

    if watch.settings["trial"] is None:
        watch.wrap(module.DataLoader, as_torch=equal_of)


def _new_watch(import_s: float) -> Watch:
    settings = json.loads(os.environ["DSRFACE_LAUNCH"])
    if settings["trial"] is not None:
        from dsrface.doctor.launch.trial import Trial

        return Trial(settings)
    return Watch(settings, import_s=import_s)
