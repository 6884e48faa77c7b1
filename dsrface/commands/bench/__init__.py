"""`dsrface bench`: routes measured side by side in one run, as ratios to a ceiling of that run."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from dsrface.commands.bench.finetune import run_finetune
from dsrface.commands.bench.loader import run_loader
from dsrface.commands.bench.measure import Row
from dsrface.commands.bench.precompute import run_precompute
from dsrface.commands.shared.result import CommandResult
from dsrface.config.bench import BenchConfig
from dsrface.events import Emit
from dsrface.runtime.devices import choose_device
from dsrface.runtime.threads import limit_torch_threads

__all__ = ["BenchResult", "run"]

SCHEMA_VERSION = 1


@dataclass(frozen=True)
class BenchResult(CommandResult):
    """What was measured.

    Args:
        rows: Each route.
    """

    rows: tuple[Row, ...]

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for --json."""
        return {"schema_version": SCHEMA_VERSION, "results": [asdict(row) for row in self.rows]}


def run(config: BenchConfig, *, emit: Emit) -> BenchResult:
    """Run the benches that `what` names.

    Args:
        config: Complete configuration.
        emit: Takes the events.
    """
    choose_device(config.device)  # not minutes later, when the first network needs it
    limit_torch_threads(0)
    benches = {"loader": run_loader, "precompute": run_precompute, "finetune": run_finetune}
    chosen = list(benches) if config.what == "all" else [config.what]
    rows: list[Row] = []
    with _folder(config.folder) as folder:
        for name in chosen:
            rows += benches[name](config, folder / name, emit=emit)
    location = str(config.folder) if config.folder else "a temporary folder, deleted"
    return BenchResult(table(rows), location, f"dsrface bench {config.what} --json", tuple(rows))


def table(rows: list[Row]) -> str:
    """Return rows as lines of text."""
    width = max((len(row.name) for row in rows), default=0)
    lines = [f"{'':{width}}  {'median':>12}  {'spread':>12}  {'of ceiling':>10}  unit"]
    for row in rows:
        ratio = "" if row.ratio_to_ceiling is None else f"{row.ratio_to_ceiling:.3f}"
        numbers = f"{_number(row.median):>12}  {_number(row.spread):>12}  {ratio:>10}"
        lines.append(f"{row.name:{width}}  {numbers}  {row.unit}")
    return "\n".join(lines)


def _number(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.4g}"


@contextlib.contextmanager
def _folder(wanted: Path | None) -> Iterator[Path]:
    if wanted is not None:
        wanted.mkdir(parents=True, exist_ok=True)
        yield wanted
        return
    with tempfile.TemporaryDirectory(prefix="dsrface-bench-", ignore_cleanup_errors=True) as name:
        yield Path(name)
