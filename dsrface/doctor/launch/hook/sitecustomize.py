"""First on PYTHONPATH of a launched command: when torch's DataLoader is imported, the doctor may watch it.

Python imports a module of this name when it starts. This one needs nothing but the standard library, works on
whatever Python runs the command, and hands over to the sitecustomize that would have run without it.
"""

from __future__ import annotations

import importlib.machinery
import importlib.util
import json
import os
import sys
import time

TYPE_CHECKING = False  # that of `typing` would be an import more at every start of Python
if TYPE_CHECKING:
    from typing import Any

_HERE = os.path.dirname(os.path.abspath(__file__))
_TORCH, _FASTAI = "torch.utils.data.dataloader", "fastai.data.load"


class _PackageFinder:
    """Finds the doctor's package, which need not be installed where the command runs."""

    def __init__(self, folder: str) -> None:
        self.folder = folder

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> Any:
        """Return where the package is; its modules follow from that."""
        del path, target
        if name != "dsrface":
            return None
        return importlib.util.spec_from_file_location(
            name, os.path.join(self.folder, "__init__.py"), submodule_search_locations=[self.folder]
        )


class _LoaderFinder:
    """Waits for torch's DataLoader to be imported, and for fastai's, and has them watched."""

    def __init__(self) -> None:
        self.began = time.monotonic()
        self.watch: Any = None

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> Any:
        """Return the module's own specification, with one more step after it has run."""
        if name not in (_TORCH, _FASTAI):
            return None
        spec = importlib.machinery.PathFinder.find_spec(name, path, target)
        if spec is None or spec.loader is None:
            return None
        loader: Any = spec.loader
        run = loader.exec_module

        def exec_module(module: Any) -> None:
            run(module)
            from dsrface.doctor.launch.install import watch_fastai, watch_torch

            if name == _TORCH:
                self.watch = watch_torch(module, import_s=time.monotonic() - self.began)
            elif self.watch is not None:
                watch_fastai(module, self.watch)

        loader.exec_module = exec_module
        return spec


def _install() -> None:
    settings = os.environ.get("DSRFACE_LAUNCH")
    if settings and sys.version_info >= (3, 9):
        launch = json.loads(settings)
        finders = [_PackageFinder(launch["package"])]
        sys.meta_path[:0] = [*finders, _LoaderFinder()] if "port" in launch else finders


def _hand_over() -> None:
    """Run the sitecustomize that this one hides."""
    sys.path[:] = [folder for folder in sys.path if os.path.abspath(folder or ".") != _HERE]
    spec = importlib.machinery.PathFinder.find_spec("sitecustomize", sys.path)
    if spec is not None and spec.loader is not None:
        module = importlib.util.module_from_spec(spec)
        sys.modules["sitecustomize"] = module
        spec.loader.exec_module(module)


_install()
_hand_over()
