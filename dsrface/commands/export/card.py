"""The model card of an export: what the run knows of its network, and what it must not be used for."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from dsrface import __version__
from dsrface.metrics.thresholds import StoredThresholds, Threshold
from dsrface.models.loaded import LoadedModel
from dsrface.runtime.files import read_json, write_text

CARD_FILE = "MODEL_CARD.md"
_WRITTEN_BY = "<!-- Written by dsrface export;"
_MARK = f"{_WRITTEN_BY} it is replaced by the next export of this file. -->"
_MANIFEST_FILE, _RUN_FILE = "checkpoint.json", "run.json"


def write_card(loaded: LoadedModel, exported: Path) -> Path | None:
    """Write the card next to an exported file; None where a card of somebody else is, which stays.

    Where the folder has the card of another exported file, this one's is named after its file.

    Args:
        loaded: What was exported.
        exported: The file.
    """
    path = exported.with_name(CARD_FILE)
    if _is_of_another(path, exported):
        path = exported.with_name(f"{exported.name}.{CARD_FILE}")
    if path.exists() and not _text(path).startswith(_WRITTEN_BY):
        return None
    write_text(path, model_card(loaded, exported))
    return path


def _is_of_another(path: Path, exported: Path) -> bool:
    """Return whether a card is that of another exported file, which is still there."""
    if not path.is_file():
        return False
    lines = _text(path).splitlines()
    names = [line.removeprefix("# ") for line in lines if line.startswith("# ")][:1]
    is_ours = bool(lines) and lines[0].startswith(_WRITTEN_BY)
    return is_ours and any(name != exported.name and exported.with_name(name).is_file() for name in names)


def _text(path: Path) -> str:
    return path.read_text(encoding="utf-8", errors="replace")


def model_card(loaded: LoadedModel, exported: Path) -> str:
    """Return the card as Markdown; figures that were not measured are left out.

    Args:
        loaded: What was exported.
        exported: The file.
    """
    sections = [
        f"{_MARK}\n\n# {exported.name}",
        f"{_what(loaded)} From `{loaded.path.name}`, SHA-256 `{loaded.sha256}`, by dsrface {__version__}.",
        "## Input and output\n\n" + _interface(loaded),
        "## Training\n\n" + _listed(_training(loaded)),
        "## Figures on validation persons\n\n" + _figures(loaded),
        "## Limits\n\n" + _limits(loaded),
    ]
    return "\n\n".join(sections) + "\n"


def input_text(loaded: LoadedModel) -> str:
    """Return how the network wants its images, in a line."""
    preprocess = loaded.preprocess
    if loaded.kind == "dsr":
        return f"float RGB [B, 3, {preprocess.size_px}, {preprocess.size_px}] in [0, 1]"
    mean, std = (", ".join(f"{value:g}" for value in values) for values in (preprocess.mean, preprocess.std))
    size = preprocess.size_px
    if preprocess.mean == (0.0, 0.0, 0.0) and preprocess.std == (1 / 255, 1 / 255, 1 / 255):
        return (
            f"float {preprocess.colour} [B, 3, {size}, {size}], pixels in [0, 255]: the file normalises them"
        )
    return (
        f"float {preprocess.colour} [B, 3, {size}, {size}], (x - mean) / std of x in [0, 1], mean ({mean}), "
        f"std ({std}): the file does not normalise"
    )


def _what(loaded: LoadedModel) -> str:
    if loaded.kind == "dsr":
        return f"A super-resolution network for aligned faces of {loaded.vlr_size} px ({loaded.name})."
    return f"A face recogniser for aligned faces ({loaded.name})."


def _interface(loaded: LoadedModel) -> str:
    output = "float RGB [B, 3, 112, 112], to be clamped to [0, 1]"
    if loaded.kind == "recogniser":
        output = "embeddings [B, D], compared by their cosine; not of length 1"
    return _listed([f"input: {input_text(loaded)}", f"output: {output}"])


def _training(loaded: LoadedModel) -> list[str]:
    metadata = loaded.metadata
    if not metadata:
        return ["Unknown: the file was not written by dsrface. Ask whoever trained it for data and consent."]
    run = _beside(loaded.path, _RUN_FILE, levels=2)
    config = _part(run, "config")
    facts = {
        "data set": Path(str(config["data"])).name if "data" in config else None,
        "digest of its images": metadata.get("data_sha256"),
        "degradation": metadata.get("degradation"),
        "input": metadata.get("mode"),
        "low-resolution size": metadata.get("vlr_size") or loaded.vlr_size,
        "step": metadata.get("step"),
        "seed": run.get("seed"),
        "trained until": run.get("ended_utc"),
        "taught by the network with SHA-256": metadata.get("taught_by"),
    }
    return [f"{name}: {value}" for name, value in facts.items() if value not in (None, "")]


def _figures(loaded: LoadedModel) -> str:
    metrics = _part(_beside(loaded.path, _MANIFEST_FILE, levels=0), "metrics")
    lines = [
        f"| {name} | {value:.4g} |" for name, value in metrics.items() if isinstance(value, (int, float))
    ]
    table = "\n".join(["| figure | value |", "| --- | --- |", *lines]) if lines else "None are recorded."
    if "thresholds" not in loaded.metadata:
        return table
    stored = StoredThresholds.from_json(loaded.metadata["thresholds"])
    rows = [_threshold_row(item) for item in stored.chosen]
    conditions = json.dumps(stored.conditions, sort_keys=True)
    head = [
        "| false-accept rate | cosine from which on | 95 % by person | true-accept rate |",
        "| --- " * 4 + "|",
    ]
    return f"{table}\n\nThresholds, for {conditions}:\n\n" + "\n".join([*head, *rows])


def _threshold_row(item: Threshold) -> str:
    score = item.score
    interval = "" if score.low is None or score.high is None else f"{score.low:.3f} to {score.high:.3f}"
    return f"| {item.far:g} | {score.value:.3f} | {interval} | {item.tar:.3f} |"


_LIMITS = """\
- The figures are of one data set; other cameras, poses and groups of people give others. `dsrface evaluate`
  measures them on persons that nothing was trained on.
- Whether the people in the training images agreed to this use is not recorded here. Make sure of it."""
_DSR_LIMIT = """\
- A reconstruction is not evidence: the network draws what is likely, not what was there. Its output is no
  photograph of anybody and never shows who somebody is."""
_RECOGNISER_LIMIT = """\
- A match is no proof of identity, least of all on small or super-resolved faces."""


def _limits(loaded: LoadedModel) -> str:
    return f"{_DSR_LIMIT if loaded.kind == 'dsr' else _RECOGNISER_LIMIT}\n{_LIMITS}"


def _beside(path: Path, name: str, *, levels: int) -> dict[str, Any]:
    """Return a JSON file of the run that a weight file belongs to; empty where there is none."""
    folder = path.parents[levels] if len(path.parents) > levels else path.parent
    return read_json(folder / name) if (folder / name).is_file() else {}


def _part(record: dict[str, Any], name: str) -> dict[str, Any]:
    """Return an object of a record; empty where it is another value, for no hash guards these files."""
    value = record.get(name)
    return value if isinstance(value, dict) else {}


def _listed(lines: list[str]) -> str:
    return "\n".join(f"- {line}" for line in lines)
