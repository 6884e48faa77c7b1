"""Has every DataLoader of a process watched, from the moment that torch's own is imported."""

from __future__ import annotations

import json
import os
from typing import Any

from dsrface.doctor.launch.watch import MADE_AT, Watch
from dsrface.runtime.user_code import users_line


def install(loader_class: Any, *, import_s: float) -> None:
    """Watch every DataLoader of this process.

    Args:
        loader_class: torch.utils.data.DataLoader.
        import_s: What this process needed to import it, from its start on.
    """
    settings = json.loads(os.environ["DSRFACE_LAUNCH"])
    watch = Watch(settings, import_s=import_s)
    if settings["trial"] is not None:
        from dsrface.doctor.launch.trial import Trial

        watch = Trial(settings)

    def new(cls: Any, *args: Any, **kwargs: Any) -> Any:
        del args, kwargs
        for part in cls.__mro__[: cls.__mro__.index(loader_class)]:
            watch.wrap(part)
        loader = super(loader_class, cls).__new__(cls)
        loader.__dict__[MADE_AT] = users_line(1)
        return loader

    loader_class.__new__ = staticmethod(new)
    watch.wrap(loader_class)
