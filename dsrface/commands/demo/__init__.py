"""`dsrface demo`: prepare, doctor, train-dsr, precompute, finetune and evaluate on drawn faces, in minutes.

It calls the use cases that the commands call, with small settings. Interrupted, it goes on where it was.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

from dsrface.commands import doctor, evaluate, finetune, precompute, prepare, train_dsr
from dsrface.commands.evaluate.result import EvaluateResult
from dsrface.commands.shared.result import CommandResult
from dsrface.config.demo import DemoConfig
from dsrface.config.doctor import DoctorConfig
from dsrface.config.evaluate import EvaluateConfig
from dsrface.config.finetune import FinetuneConfig
from dsrface.config.precompute import PrecomputeConfig
from dsrface.config.prepare import PrepareConfig
from dsrface.config.sources import Config, resolve
from dsrface.config.train_dsr import TrainDsrConfig
from dsrface.data.folders import outputs_folder
from dsrface.data.synthetic.demo_folder import MARKER, check_demo_folder
from dsrface.data.synthetic.photo_folder import draw_dataset
from dsrface.errors import RunError
from dsrface.events import Emit, Note, Progress
from dsrface.runtime import process_age
from dsrface.runtime.command_line import joined
from dsrface.runtime.devices import choose_device
from dsrface.runtime.files import read_json, remove_half_written, replace, write_json
from dsrface.runtime.versions import require

PLUMBING = "Drawn faces prove the plumbing, not accuracy: no figure here says anything about real people."
_STEPS = 7


@dataclass(frozen=True)
class DemoResult(CommandResult):
    """What the demo made.

    Args:
        seconds: Wall time of each part, in seconds.
        results: What each command returned, as its `--json` gives it.
        evaluation: What `evaluate` returned.
    """

    seconds: Mapping[str, float] = field(default_factory=dict)
    results: Mapping[str, Any] = field(default_factory=dict)
    evaluation: EvaluateResult | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for --json."""
        return {name: value for name, value in vars(self).items() if name != "evaluation"}


def run(config: DemoConfig, *, emit: Emit) -> DemoResult:
    """Run every command once, one after the other.

    Raises:
        RunError: the folder holds something else than a demo with these settings.
        DsrfaceError: whatever a part raises.
    """
    require("timm", extra="faces")
    choose_device(config.device)  # not minutes later, when the first network needs it
    process_age.count_no_more()  # the doctor's budget begins when its turn has come
    started = time.monotonic()
    demo = _Demo(config, emit)
    demo.claim_folder()
    emit(Note(f"{PLUMBING} {_STEPS} steps, about three minutes on two cores."))
    demo.draw()
    demo.prepare()
    demo.doctor()
    demo.train_dsr()
    demo.train_start()
    demo.precompute()
    demo.finetune()
    evaluation = demo.evaluate()
    minutes = (time.monotonic() - started) / 60
    return DemoResult(
        summary=f"The whole pipeline ran in {minutes:.1f} minutes. {PLUMBING}",
        location=evaluation.location,
        next_command="dsrface prepare PHOTOS DATA",
        seconds=demo.seconds,
        results=demo.results,
        evaluation=evaluation,
    )


class _Demo:
    """The parts and what they pass on: folders below one, and the results so far."""

    def __init__(self, config: DemoConfig, emit: Emit) -> None:
        self.config = config
        self.emit = emit
        self.out = config.out
        self.data = config.out / "data"
        self.dsr = config.out / "runs" / "dsr"
        self.start = config.out / "runs" / "recogniser"
        self.tuned = config.out / "runs" / "finetuned"
        self.seconds: dict[str, float] = {}
        self.results: dict[str, Any] = {}

    def claim_folder(self) -> None:
        """Go on with an earlier demo of the same settings, or begin in an empty folder.

        Raises:
            RunError: neither.
        """
        marker = self.out / MARKER
        remove_half_written(self.out, MARKER)
        wanted = self.config.model_dump(mode="json", exclude={"out", "device"})
        if marker.exists():
            if read_json(marker) != wanted:
                raise RunError(
                    "The folder holds a demo with other settings.",
                    id="demo-differs",
                    where=self.out,
                    hint="Give another folder by --out, or delete this one.",
                )
        else:
            check_demo_folder(self.out)
            write_json(marker, wanted)

    def draw(self) -> None:
        photos = self.out / "photos"
        if not photos.exists():
            half = self.out / "photos.partial"
            shutil.rmtree(half, ignore_errors=True)
            draw_dataset(
                half,
                num_persons=self.config.num_persons,
                images_per_person=self.config.images_per_person,
                seed=self.config.seed,
                on_face=lambda done, total: self.emit(Progress("draw faces", done, total)),
            )
            replace(half, photos)

    def prepare(self) -> None:
        flags = {
            "source": self.out / "photos",
            "data": self.data,
            "vlr_sizes": [self.config.vlr_size],
            "align": "none",
            "split": [0.6, 0.2, 0.2],  # evaluate judges nothing below ten persons
            "seed": self.config.seed,
        }
        self._part(prepare, PrepareConfig, flags)

    def doctor(self) -> None:
        flags = {
            "data": self.data,
            "purpose": "finetune",
            "vlr_size": self.config.vlr_size,
            "probe": False,
        }
        report = self._part(doctor, DoctorConfig, flags).report
        for check in report.checks:
            if check.status in ("warn", "fail"):
                self.emit(Note(f"{check.id}: {check.summary}", is_warning=check.status == "fail"))

    def train_dsr(self) -> None:
        flags = self._training(self.dsr, {"epochs": self.config.dsr_epochs})
        self._part(train_dsr, TrainDsrConfig, flags, preset="tiny")

    def train_start(self) -> None:
        """Train a recogniser from scratch on the HR faces: no weights come with the package."""
        flags = {"hr_only": True, "stage1_epochs": 0, "stage2_epochs": self.config.start_epochs}
        self._part(finetune, FinetuneConfig, self._training(self.start, flags), name="finetune (start)")

    def precompute(self) -> None:
        flags = {"data": self.data, "weights": self.dsr, "device": self.config.device}
        self._part(precompute, PrecomputeConfig, flags)

    def finetune(self) -> None:
        flags = {
            "dsr_outputs": self.data / "train" / outputs_folder(self.config.vlr_size),
            "backbone_weights": self.start,
            "stage1_epochs": 1,
            "stage2_epochs": self.config.finetune_epochs,
        }
        self._part(finetune, FinetuneConfig, self._training(self.tuned, flags))

    def evaluate(self) -> EvaluateResult:
        flags = {
            "data": self.data,
            "vlr_size": self.config.vlr_size,
            "dsr": self.dsr,
            "recogniser": self.start,
            "finetuned": self.tuned,
            "out": self.out / "report",
            "device": self.config.device,
        }
        return cast(EvaluateResult, self._part(evaluate, EvaluateConfig, flags))

    def _training(self, run: Path, flags: Mapping[str, object]) -> dict[str, object]:
        """Return the flags of a training command: its own, among those that both take."""
        return {
            "data": self.data,
            "vlr_size": self.config.vlr_size,
            **flags,
            "run": run,
            "seed": self.config.seed,
            "device": self.config.device,
            "resume": (run / "run.json").exists(),
        }

    def _part(
        self,
        module: Any,
        schema: type[Config],
        flags: Mapping[str, object],
        *,
        preset: str | None = None,
        name: str | None = None,
    ) -> Any:
        """Show the command that a user would type, and run its use case."""
        step = f"step {len(self.seconds) + 1} of {_STEPS}"
        self.emit(Note(f"$ {command_line(schema, flags, preset=preset)}  # {step}"))
        before = time.monotonic()
        result = module.run(resolve(schema, preset=preset, flags=flags).config, emit=self.emit)
        name = name or schema.command
        self.seconds[name] = round(time.monotonic() - before, 1)
        self.results[name] = result.to_dict()
        self.emit(Note(result.summary))
        return result


def command_line(schema: type[Config], flags: Mapping[str, object], *, preset: str | None = None) -> str:
    """Return the command that sets these keys, as a shell takes it; keys with their default are left out.

    Args:
        schema: The command's configuration.
        flags: Key to value; source and data are the arguments that have no name.
        preset: Its `--preset`.
    """
    words = ["dsrface", schema.command]
    options = ["--preset", preset] if preset else []
    for key, value in flags.items():
        if value == schema.model_fields[key].default:
            continue
        name = "for" if key == "purpose" else key.replace("_", "-")
        if key in ("source", "data"):
            words.append(str(value))
        elif isinstance(value, bool):
            options.append(f"--{name}" if value else f"--no-{name}")
        else:
            text = ",".join(map(str, value)) if isinstance(value, list) else str(value)
            options += [f"--{name}", text]
    return joined([*words, *options])
