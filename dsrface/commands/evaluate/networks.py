"""The networks of an evaluation: found, loaded and described."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import torch

from dsrface.commands.evaluate.images import Networks
from dsrface.commands.evaluate.result import FROZEN, JUDGE, TUNED
from dsrface.config.evaluate import EvaluateConfig
from dsrface.engine.backends import MirrorEnsemble
from dsrface.errors import DataError
from dsrface.events import Emit, Note
from dsrface.models import judge_files
from dsrface.models.loaded import LoadedModel
from dsrface.models.sources import JUDGE as JUDGE_NAME
from dsrface.models.sources import is_name
from dsrface.models.weights import load_dsr, load_recogniser
from dsrface.runtime.devices import Device
from dsrface.runtime.files import read_json
from dsrface.types import HIGH_SIZE_PX


def load_networks(
    config: EvaluateConfig, outputs: Path | None, device: Device, emit: Emit, *, high_px: int = HIGH_SIZE_PX
) -> Networks:
    """Load everything that is to be measured.

    Args:
        config: Of the command.
        outputs: Stored outputs of a DSR; None without any.
        device: Where the networks go.
        emit: Takes notes.
        high_px: Side of the HR faces, in pixels.

    Raises:
        DataError: stored outputs for HR faces of another size than 112 px.
        DsrfaceError: a network cannot be loaded.
    """
    if outputs is not None and high_px != HIGH_SIZE_PX:
        raise DataError(
            f"Stored outputs have {HIGH_SIZE_PX} px, the HR faces {high_px} px.",
            id="wrong-hr-size",
            where=outputs,
            hint="Give the network itself with --dsr.",
        )
    dsr = None
    if config.dsr is not None:
        dsr = load_dsr(config.dsr, vlr_size=config.vlr_size, high_size=high_px, device=device.torch_name)
        if config.self_ensemble:
            dsr = replace(dsr, model=MirrorEnsemble(dsr.model))
    frozen = config.recogniser or _starting_weights(config.finetuned, emit)
    sources = {FROZEN: frozen, TUNED: config.finetuned}
    if judge_files.is_available() and frozen != Path(JUDGE_NAME):
        sources[JUDGE if any(sources.values()) else FROZEN] = Path(JUDGE_NAME)
        emit(Note("the judge is installed: it measures as well; it was trained by others, on other people"))
    loaded = {
        role: load_recogniser(source, device=device.torch_name) for role, source in sources.items() if source
    }
    if not loaded:
        emit(
            Note(
                "no recogniser (--recogniser, --finetuned): whether people are recognised better is not "
                "measured" + (", --pairs is not used" if config.pairs else ""),
                is_warning=True,
            )
        )
    return Networks(dsr, outputs, loaded, high_px)


def judged_by_teacher(networks: Networks) -> tuple[str, ...]:
    """Return a sentence for each network that was trained against a recogniser that measures it here."""
    learners = filter(None, (networks.dsr, networks.recognisers.get(TUNED)))
    return tuple(
        f"{learner.path} was trained against the {role} recogniser, which measures it here: those figures "
        "flatter it. Trust those of another recogniser."
        for learner in learners
        for role, teacher in networks.recognisers.items()
        if learner.metadata.get("taught_by") == teacher.sha256
    )


def _starting_weights(finetuned: Path | None, emit: Emit) -> Path | None:
    """Return what a fine-tuned run started from, as its run.json says."""
    if finetuned is None or not (finetuned / "run.json").is_file():
        return None
    named = read_json(finetuned / "run.json").get("config", {}).get("backbone_weights")
    if not named:
        emit(Note("the fine-tuned run started from random weights: no frozen recogniser to compare with"))
        return None
    path = Path(named)
    if not path.exists() and not is_name(path):
        emit(Note(f"the weights it started from are gone: {path}; --recogniser names them", is_warning=True))
        return None
    emit(Note(f"frozen recogniser: {path}, which the fine-tuned run started from"))
    return path


def is_untuned(recognisers: dict[str, LoadedModel]) -> bool:
    """Return whether the fine-tuned recogniser is the frozen one, number for number."""
    if not {FROZEN, TUNED} <= recognisers.keys():
        return False
    frozen, tuned = (recognisers[role].model.state_dict() for role in (FROZEN, TUNED))
    return (
        bool(frozen)
        and frozen.keys() == tuned.keys()
        and all(torch.equal(frozen[name], tuned[name]) for name in frozen)
    )


def describe_networks(networks: Networks) -> dict[str, dict[str, str]]:
    """Return name, path and SHA-256 of every network, by role."""
    found = {role: _network(loaded) for role, loaded in networks.recognisers.items()}
    if networks.dsr is not None:
        found["DSR"] = _network(networks.dsr)
    elif networks.dsr_outputs is not None:
        found["DSR"] = {"path": str(networks.dsr_outputs)}
    return found


def _network(loaded: LoadedModel) -> dict[str, str]:
    known = {"name": loaded.name, "path": str(loaded.path), "sha256": loaded.sha256}
    return known | {key: loaded.metadata[key] for key in ("input", "licence") if key in loaded.metadata}
