"""The commands that write, small enough to be run a thousand times, and what must be equal in the end."""

from __future__ import annotations

import contextlib
import hashlib
import importlib
import json
import shutil
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

from dsrface.config.sources import resolve
from dsrface.errors import DsrfaceError, MachineError

TRAINING = {
    "vlr_size": 16,
    "device": "cpu",
    "workers": 0,
    "batch_size": 8,
    "engine.tensorboard": False,
    "engine.checkpoint_every_steps": 1,
}


@dataclass(frozen=True)
class Command:
    """A command that is run in a folder of its own.

    Args:
        name: The command.
        flags: Its settings; a path below `out` is made absolute.
        result: What must be equal in the end, whatever happened in between.
        arrange: Puts into the folder what the command finds there.
        within: Surrounds the command, such as with stand-ins for its parts.
    """

    name: str
    flags: dict[str, Any]
    result: Callable[[Path], Any]
    arrange: Callable[[Path], object] = lambda out: None
    within: Callable[[], AbstractContextManager[object]] = nullcontext

    def run(self, out: Path, *, flag: str = "") -> int:
        """Run it; errors of ours give their exit code."""
        from dsrface.cli.execute import schema_of

        values = {
            key: out / value[4:] if str(value).startswith("out/") else value
            for key, value in self.flags.items()
        }
        if flag:  # what an earlier attempt's message has named
            values[flag] = True
        module = importlib.import_module(f"dsrface.commands.{self.name.replace('-', '_')}")
        config = resolve(schema_of(self.name), flags=values).config
        try:
            # In a folder that is no repository: asking git for its state takes most of a second.
            with contextlib.chdir(out), self.within():
                return int(getattr(module.run(config, emit=_ignore), "exit_code", 0))
        except OSError as error:
            if error.errno is None:
                raise
            return MachineError.exit_code  # as `cli.output.guarded` has it
        except DsrfaceError as error:
            (out / "said.json").write_text(json.dumps(error.as_dict()))
            return error.exit_code


def commands(inputs: Path) -> list[Command]:
    """Return every command that writes, on the inputs that `make_inputs` has made."""
    data, dsr = inputs / "data", inputs / "dsr.safetensors"
    train = {"data": data, **TRAINING}
    return [
        Command(
            "prepare",
            {
                "source": inputs / "photos",
                "data": "out/data",
                "vlr_sizes": (16,),
                "align": "none",
                "workers": 0,
            },
            lambda out: tree(out / "data"),
        ),
        Command(
            "train-dsr",
            {**train, "run": "out/run", "epochs": 1, "model.channels": 4, "model.blocks": 1},
            lambda out: last_weights(out / "run"),
        ),
        Command(
            "finetune",
            {**train, "run": "out/run", "hr_only": True, "stage1_epochs": 1, "stage2_epochs": 1},
            lambda out: last_weights(out / "run"),
        ),
        Command(
            "precompute",
            {
                "input": data / "train/vlr_images_16x16",
                "output": "out/sr",
                "weights": dsr,
                "workers": 0,
                "batch_size": 4,
                "device": "cpu",
                "storage.shard_images": 4,
            },
            lambda out: tree(out / "sr"),
        ),
        Command(
            "precompute",
            {
                "input": data / "train/vlr_images_16x16",
                "output": "out/png",
                "weights": dsr,
                "workers": 0,
                "batch_size": 4,
                "device": "cpu",
                "format": "png",
            },
            lambda out: tree(out / "png"),
        ),
        Command(
            "evaluate",
            {
                "data": data,
                "vlr_size": 16,
                "dsr": dsr,
                "out": "out/ev",
                "bootstrap": 0,
                "device": "cpu",
                "workers": 0,
            },
            lambda out: sorted(path.name for path in (out / "ev").iterdir() if not path.name.startswith(".")),
        ),
        Command(
            "export",
            {"source": dsr, "out": "out/x.safetensors"},
            lambda out: digest(out / "x.safetensors"),
        ),
        *_of_people(inputs),
        Command(
            "cache",
            {"action": "gc", "path": "out/sr"},
            lambda out: tree(out / "sr"),
            arrange=lambda out: _leave_garbage(inputs / "sr", out / "sr"),
        ),
        Command("demo", {"out": "out/demo"}, lambda out: tree(out / "demo"), within=_parts_of_the_demo),
    ]


def _of_people(inputs: Path) -> list[Command]:
    """Return the commands that know people, with aligned faces and no detector."""
    faces = inputs / "data/train/hr_images"
    networks = {"weights": inputs / "recogniser.safetensors", "device": "cpu"}
    return [
        Command(
            "embed",
            {"images": faces, "out": "out/e.npz", "workers": 0, **networks},
            lambda out: digest(out / "e.npz"),
        ),
        Command(
            "enrol",
            {"gallery": faces, "out": "out/people.npz", "threshold": 0.5, "align": "none", **networks},
            lambda out: digest(out / "people.npz"),
        ),
        Command(
            "identify",
            {
                "photos": faces,
                "gallery": inputs / "people.npz",
                "sheet": "out/s.png",
                "align": "none",
                "device": "cpu",
            },
            lambda out: digest(out / "s.png"),
        ),
    ]


def _leave_garbage(cache: Path, copy: Path) -> None:
    """Copy a cache, with files in it as a killed run leaves them."""
    shutil.copytree(cache, copy)
    for number in range(90, 95):
        (copy / f"shard-{number:05d}.u8").write_bytes(b"left")


@contextmanager
def _parts_of_the_demo() -> Iterator[None]:
    """Let the demo draw few faces, and its parts, each of them tried by itself, only leave a file."""
    import dsrface.commands.demo as demo

    def part(demo: Any, module: Any, schema: Any, flags: dict[str, Any], **_: Any) -> Any:
        del demo, module, schema
        if place := flags.get("run") or flags.get("out"):
            place.mkdir(parents=True, exist_ok=True)
            (place / "made.txt").touch()
        return SimpleNamespace(report=SimpleNamespace(checks=[]), location="")

    def draw(folder: Path, **_: Any) -> None:
        draw_dataset(folder, num_persons=3, images_per_person=2, seed=0)

    draw_dataset = demo.draw_dataset
    with (
        patch.object(demo, "draw_dataset", draw),
        patch.object(demo._Demo, "_part", part),
    ):
        yield


def tree(folder: Path) -> dict[str, str]:
    """Return the digest of every file that counts: no locks, and no file that tells the time."""
    files = (path for path in sorted(folder.rglob("*")) if path.is_file())
    return {
        path.relative_to(folder).as_posix(): digest(path)
        for path in files
        if not path.name.startswith(".lock") and not path.name.startswith(".prepare.lock")
    }


def last_weights(run: Path) -> str:
    """Return the digest of the weights that last.json names."""
    pointer = json.loads((run / "last.json").read_text())
    return digest(run / pointer["checkpoint"] / "model.safetensors")


def digest(path: Path) -> str:
    """Return the SHA-256 of a file."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _ignore(_: object) -> None:
    return
