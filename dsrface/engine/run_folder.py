"""The folder of one run: who started it, with what, how it ended, and where its files are.

runs/<command>/<UTC time>-<short hash>/
  run.json        status running | done | failed | interrupted, argv, versions, device, seed, data hash
  config.toml     complete: feeding it back repeats the run
  metrics.jsonl   one event a line
  log.txt         the same as text
  tensorboard/    when it is installed
  samples/        images
  checkpoints/    see `engine.checkpoint`
  last.json  best.json
  .lock
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from types import MappingProxyType
from typing import Any

from dsrface.config.sources import Config, to_toml
from dsrface.engine.checkpoint import clean_leftovers
from dsrface.engine.run_claim import (
    CHECKPOINTS,
    CONFIG_FILE,
    FAILED,
    INTERRUPTED,
    LOCK_FILE,
    RUN_FILE,
    SAMPLES,
    check_same_settings,
    claim,
    config_values,
    read_record,
)
from dsrface.errors import DsrfaceError, RunError
from dsrface.runtime.files import remove_half_written, sha256_json, write_json, write_text
from dsrface.runtime.locks import exclusive
from dsrface.runtime.versions import gather_versions

SCHEMA_VERSION = 1
RUNNING, DONE = "running", "done"
_NO_FACTS: Mapping[str, object] = MappingProxyType({})


@dataclass
class RunFolder:
    """An opened, locked run folder.

    Args:
        path: The folder.
        is_resumed: Whether an earlier attempt is carried on.
        record: Contents of run.json.
    """

    path: Path
    is_resumed: bool
    record: dict[str, Any] = field(default_factory=dict)

    @property
    def checkpoints(self) -> Path:
        """Folder of the checkpoints."""
        return self.path / CHECKPOINTS

    @property
    def samples(self) -> Path:
        """Folder of the images."""
        return self.path / SAMPLES

    @property
    def is_there(self) -> bool:
        """Whether the folder is still what it was: it was not removed while the run goes on."""
        return (self.path / RUN_FILE).exists()

    @property
    def origin(self) -> dict[str, str]:
        """What a weight file says of where it came from: the data, its degradation, its teacher."""
        kept = [key for key in ("data_sha256", "degradation") if key in self.record]
        origin = {str(key): str(self.record[key]) for key in kept}
        pins: dict[str, str] = self.record.get("pins", {})
        taught_by = pins.get("teacher") or pins.get("identity_weights")
        return {**origin, "taught_by": taught_by} if taught_by else origin

    def pin(self, name: str, value: str) -> None:
        """Record what a run depends on besides its settings, such as the hash of starting weights.

        Raises:
            RunError: the run is resumed with another value.
        """
        pins: dict[str, str] = self.record.setdefault("pins", {})
        if pins.setdefault(name, value) != value:
            raise RunError(
                f"The run was started with another {name}: {pins[name][:12]} then, {value[:12]} now.",
                id="not-resumable",
                where=self.path,
                hint="Give back what it was started with, or start a new run.",
            )
        self.update()

    def update(self, **values: object) -> None:
        """Write `values` into run.json, atomically."""
        self.record |= values
        write_json(self.path / RUN_FILE, self.record)


@contextlib.contextmanager
def open_run(
    config: Config, *, run: Path | None, resume: bool, seed: int, facts: Mapping[str, object] = _NO_FACTS
) -> Iterator[RunFolder]:
    """Create or resume a run folder, hold its lock, and record how the run ends.

    A run that raises is `failed` (with the error's id), a KeyboardInterrupt makes it `interrupted`, a clean
    end `done` unless the caller has set another status. SIGKILL leaves `running`, which a free lock shows to
    be untrue.

    Args:
        config: Complete configuration; `type(config).command` names the command.
        run: The folder, or None for a new one below runs/.
        resume: Carry on an existing folder.
        seed: Recorded.
        facts: More for run.json: device, data hash...

    Raises:
        RunError: the folder holds a run already and `resume` is off; nothing to resume; it belongs to another
            configuration; another process holds it.
    """
    path = run if run is not None else new_run_path(config)
    is_old = claim(path, command=config.command, data=getattr(config, "data", None), resume=resume)
    with exclusive(path / LOCK_FILE, what="run folder"):
        folder = RunFolder(path, is_old, read_record(path) if is_old else {})
        if is_old:
            _check_same(folder, config, facts)
        _start(folder, config, seed, facts)
        try:
            yield folder
        except BaseException as error:
            status, reason = how_it_ended(error)
            if folder.is_there:
                folder.update(status=status, error=reason, ended_utc=_now())
            raise
        ended = folder.record["status"] if folder.record["status"] != RUNNING else DONE
        folder.update(status=ended, ended_utc=_now())


def how_it_ended(error: BaseException) -> tuple[str, str]:
    """Return the status of a run that raised, and the error's id or name."""
    status = INTERRUPTED if isinstance(error, KeyboardInterrupt | SystemExit) else FAILED
    return status, error.id if isinstance(error, DsrfaceError) else type(error).__name__


def new_run_path(config: Config) -> Path:
    """Return runs/<command>/<UTC time>-<short hash>, which no other process of this second will name."""
    stamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ")
    digest = sha256_json({"config": config_values(config), "pid": os.getpid()})[:6]
    return Path("runs") / config.command / f"{stamp}-{digest}"


def _start(folder: RunFolder, config: Config, seed: int, facts: Mapping[str, object]) -> None:
    folder.samples.mkdir(parents=True, exist_ok=True)
    folder.checkpoints.mkdir(exist_ok=True)
    for place in (folder.path, folder.samples):
        remove_half_written(place)
    clean_leftovers(folder.path)
    attempts = [
        *folder.record.get("attempts", []),
        {"argv": sys.argv, "started_utc": _now(), "pid": os.getpid()},
    ]
    folder.record = {
        "schema_version": SCHEMA_VERSION,
        "command": config.command,
        "status": RUNNING,
        "argv": sys.argv,
        "attempts": attempts,
        "started_utc": folder.record.get("started_utc", attempts[0]["started_utc"]),
        "ended_utc": None,
        "seed": seed,
        "versions": gather_versions().to_dict(),
        "config": config_values(config),
        "pins": folder.record.get("pins", {}),
        **facts,
    }
    folder.update()
    if not (folder.path / CONFIG_FILE).exists() or not folder.is_resumed:
        # Without the folder itself: fed back, it must make a new run.
        again = config.model_copy(update={"run": None, "resume": False})
        write_text(folder.path / CONFIG_FILE, to_toml(again))


def _check_same(folder: RunFolder, config: Config, facts: Mapping[str, object]) -> None:
    is_same = folder.record.get("data_sha256") == facts.get("data_sha256")
    more = () if is_same else ("the images of the data set",)
    check_same_settings(folder.path, folder.record, config, more)


def _now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
