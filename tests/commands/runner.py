"""Runs a training command in a process of its own: `python -m tests.commands.runner train-dsr key=value ...`.

`die_at=N` kills the process with SIGKILL before batch N of the training is handed out.
"""

from __future__ import annotations

import json
import os
import signal
import sys

from dsrface.cli import leave
from dsrface.commands import finetune, train_dsr
from dsrface.config.finetune import FinetuneConfig
from dsrface.config.sources import resolve
from dsrface.config.train_dsr import TrainDsrConfig
from dsrface.engine import loop
from dsrface.errors import DsrfaceError


def main() -> int:
    command, *assignments = sys.argv[1:]
    die = [int(text.removeprefix("die_at=")) for text in assignments if text.startswith("die_at=")]
    log = [text.removeprefix("log=") for text in assignments if text.startswith("log=")]
    settings = [text for text in assignments if not text.startswith(("die_at=", "log="))]
    _watch(die[0] if die else -1, log[0] if log else "")
    module, schema = {"train-dsr": (train_dsr, TrainDsrConfig), "finetune": (finetune, FinetuneConfig)}[
        command
    ]
    try:
        result = module.run(resolve(schema, assignments=settings).config, emit=lambda event: None)
    except DsrfaceError as error:
        print(json.dumps(error.as_dict()), file=sys.stderr)
        return error.exit_code
    return result.exit_code


def _watch(die_at: int, log: str) -> None:
    real = loop._Loop._train_step
    rank = int(os.environ.get("RANK", "0"))

    def step(self, batch) -> None:
        if log:
            with open(f"{log}.{rank}", "a") as file:
                file.write(json.dumps([self.state.step, batch.epoch, batch.indices.tolist()]) + "\n")
        if self.state.step == die_at and rank == int(os.environ.get("WORLD_SIZE", "1")) - 1:
            os.kill(os.getpid(), signal.SIGKILL)
        real(self, batch)

    loop._Loop._train_step = step


if __name__ == "__main__":
    leave(main())
