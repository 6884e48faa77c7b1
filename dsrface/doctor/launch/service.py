"""Inside a launched process: answer the doctor's requests about one loader; syntax of Python 3.9."""

from __future__ import annotations

import json
import multiprocessing
import os
import platform
import socket
import sys
import traceback
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from dsrface.doctor.launch.timing import StepTimes
from dsrface.doctor.reporter import Reporter
from dsrface.runtime.start_methods import default_start_method, effective_start_method

if TYPE_CHECKING:
    from dsrface.doctor.launch.beginning import Beginning
    from dsrface.doctor.targets import Target


class Doctor:
    """The line to the doctor, which asks for one stage after the other.

    Args:
        settings: Of the launch; see `session.launched`.
        rank: Of this process.
    """

    def __init__(self, settings: dict[str, Any], *, rank: int) -> None:
        self._socket = socket.create_connection(("127.0.0.1", settings["port"]))
        self._requests = self._socket.makefile("r", encoding="utf-8")
        self.report = Reporter(self._socket.makefile("w", encoding="utf-8"))
        self.report("hello", token=settings["token"], pid=os.getpid(), rank=rank)

    def examine(
        self,
        loader: Any,
        times: StepTimes,
        beginning: Beginning | None,
        *,
        made_at: str,
        more_facts: Mapping[str, Any],
        is_busy: bool = False,
    ) -> bool:
        """Do what the doctor asks until it has seen enough of this loader.

        Args:
            loader: It.
            times: Of its loop.
            beginning: This process when the loop began.
            made_at: The line that made the loader.
            more_facts: For the doctor.
            is_busy: This process still loads a batch; all is examined in a copy of it.

        Returns:
            Whether the process shall end now.
        """
        from dsrface.doctor import stages

        self.report("loader", made_at=made_at, steps=times.summary(), **_facts(loader), **more_facts)
        target = target_of(loader)
        for line in self._requests:
            request = {"import_s": 0.0, **json.loads(line)}
            if request["stage"] == "end":
                return bool(request["stop"])
            try:
                if beginning is None or not beginning.run(request, self.report, is_busy=is_busy):
                    stages.run(request, self.report, target)
            except BaseException as error:  # noqa: BLE001 - reported; the doctor decides
                traceback.print_exc()
                self.report.crash(error)
            self.report("done")
        return True  # the doctor is gone


def target_of(loader: Any) -> Target:
    """Return what the doctor examines, for a loader of this process."""
    from dsrface.doctor.targets import from_loader

    main = sys.modules.get("__main__")
    target = from_loader(loader, file=str(getattr(main, "__file__", "") or ""))
    target.is_running = True
    return target


def _facts(loader: Any) -> dict[str, Any]:
    """Return what the doctor must know of a loader before it asks."""
    import torch
    from torch.utils.data import IterableDataset

    context = getattr(loader, "multiprocessing_context", None)
    method, source = effective_start_method()
    if method == default_start_method():  # making a loader fixes it, which looks as if the program had
        source = f"default of Python {platform.python_version()} on {sys.platform}"
    if context is not None:
        method, source = context.get_start_method(), "multiprocessing_context of the loader"
    return {
        "loader_class": type(loader).__name__,
        "dataset_class": type(loader.dataset).__name__,
        "is_stream": isinstance(loader.dataset, IterableDataset),
        "num_workers": loader.num_workers,
        "batch_size": loader.batch_size or getattr(loader.batch_sampler, "batch_size", None),
        "prefetch_factor": getattr(loader, "prefetch_factor", None),
        "pin_memory": bool(loader.pin_memory),
        "persistent_workers": bool(getattr(loader, "persistent_workers", False)),
        "start_method": method,
        "start_method_source": source,
        "start_methods": multiprocessing.get_all_start_methods(),
        "world_size": int(os.environ.get("LOCAL_WORLD_SIZE", "1") or 1),
        "python": platform.python_version(),
        "torch": torch.__version__,
    }
