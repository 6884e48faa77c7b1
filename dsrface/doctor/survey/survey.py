"""Build the data set and look at it without workers: its members, its items, and what it leaves behind."""

from __future__ import annotations

import os
import sys
import time
import traceback
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from dsrface.doctor import targets
from dsrface.doctor.checks.build import BUILD
from dsrface.doctor.checks.installation import torchvision_check
from dsrface.doctor.checks.items import needs_cuda
from dsrface.doctor.checks.members import outermost, without
from dsrface.doctor.checks.registry import run_stage
from dsrface.doctor.checks.startup import network_in
from dsrface.doctor.checks.threads import THREADS
from dsrface.doctor.proof.shards import most_workers
from dsrface.doctor.proof.threads import by_threads
from dsrface.doctor.report import Finding
from dsrface.doctor.reporter import Reporter
from dsrface.doctor.survey.code_facts import (
    epoch_setters,
    finalizers,
    held_by_code,
    keyed_by_process,
    mentions_device,
    numbers_read,
    read_by_items,
)
from dsrface.doctor.survey.facts import SurveyFacts
from dsrface.doctor.survey.loading import load
from dsrface.doctor.survey.loops import Change, changed_in_loops
from dsrface.doctor.survey.observe import thread_ids
from dsrface.doctor.survey.subject import Subject
from dsrface.doctor.targets import Target
from dsrface.doctor.trace.pickling import trace
from dsrface.errors import DsrfaceError
from dsrface.runtime.start_methods import METHODS
from dsrface.runtime.text import count_text
from dsrface.runtime.user_code import place_of, short_path

_THREADS_KEYS, _THREADS_FEWEST = 16, 2
_THREADS_SHARE, _THREADS_TIMES = 0.15, 5  # of the seconds for loading; each item is loaded so often


def device_of(tensor: torch.Tensor) -> str:
    """Return a tensor's device; DSRFACE_DOCTOR_META_AS_CUDA=1 lets `meta` stand in for CUDA in tests."""
    if tensor.device.type == "meta" and os.environ.get("DSRFACE_DOCTOR_META_AS_CUDA") == "1":
        return "cuda:0"
    return str(tensor.device)


def survey(request: Mapping[str, Any], report: Reporter, target: Target | None = None) -> None:
    """Examine a target without workers; reports checks and one `facts` event, a `SurveyFacts`.

    Args:
        request: `methods`, `num_workers`, `memory_bytes`, `batch_size`, `load_s`, `measure_s`, `allow_cuda`.
        report: Takes checks and events.
        target: What to examine; built from `request["target"]` when not given.
    """
    threads_before = thread_ids()
    report("stage", name="build the data set")
    start = time.perf_counter()
    try:
        target = target or targets.build(request["target"])
    except (Exception, SystemExit) as error:  # noqa: BLE001 - foreign code
        report.check(_build_failed(error, request))
        if "torchvision" in str(error):
            report.check(torchvision_check(is_imported=True))
        return
    build_s = time.perf_counter() - start
    report.check(_built(target, build_s))
    report("stage", name="trace its members")
    roots = target.roots
    having, removing = finalizers(roots)
    found = trace({**roots, "worker_init_fn": target.worker_init_fn}, device_of=device_of)
    found.handles += held_by_code(roots)
    found.mentions_device = mentions_device(roots)
    found.keyed = keyed_by_process(found.handles, roots)
    found.handles = without(found.handles, found.keyed)
    subject = Subject(
        target,
        found,
        request["methods"],
        num_workers=request["num_workers"],
        memory_bytes=request["memory_bytes"],
        threads_before=threads_before,
        device_of=device_of,
        finalizers=having,
        removing=removing,
    )
    for finding in run_stage("members", subject):
        report.check(finding)
    facts = load(subject, _facts(subject, build_s, request), report, request)
    if target.is_iterable:
        facts = replace(facts, shards=most_workers(target, report))
    report("facts", **facts.to_dict())
    _try_threads(target, facts, report, request)


def _try_threads(target: Target, facts: SurveyFacts, report: Reporter, request: Mapping[str, Any]) -> None:
    """Load items in two threads; the last thing that is done, for it may be the process's end."""
    item_s = facts.cost.wall_s if facts.cost is not None else 0.0
    number = min(
        _THREADS_KEYS, int(_THREADS_SHARE * request["load_s"] / (_THREADS_TIMES * max(item_s, 1e-9)))
    )
    if target.is_iterable or number < _THREADS_FEWEST or facts.cost is None:
        reason = "a stream has no keys" if target.is_iterable else "items take too long to try"
        report.check(THREADS.finding("skip", reason))
        return
    keys = [key for key in target.first_keys(number) if repr(key)[:200] not in facts.failing]
    report("stage", name="load items in two threads")
    for finding in run_stage("threads", by_threads(target.load, keys)):
        report.check(finding)


def _facts(subject: Subject, build_s: float, request: Mapping[str, Any]) -> SurveyFacts:
    found, target = subject.trace, subject.target
    used, setters = read_by_items(target.roots), epoch_setters(target.roots)
    in_loops = changed_in_loops({**numbers_read(target.roots), **setters})
    return SurveyFacts(
        num_items=target.num_keys(),
        build_s=build_s,
        batch_size=request["batch_size"] or target.batch_items() or 32,
        blocks={method: [member.path for member in found.blocks(method)] for method in METHODS},
        data_paths=data_paths(target.dataset),
        network=network_in(found),
        handles=[
            {"path": member.path, "kind": member.kind, "source": member.source}
            for member in outermost(found.handles, found.handles)
            if member.kind != "process" or member.path.rpartition(".")[2] in used  # else a server of its own
        ],
        epoch_setters=sorted(
            dict.fromkeys([*setters, *in_loops]), key=lambda path: _urgency(path, in_loops.get(path))
        ),
        changed_in_loops={path: change.where for path, change in in_loops.items()},
        changed_per_batch=[path for path, change in in_loops.items() if change.is_per_batch],
        finalizers=list(subject.finalizers),
        removing=list(subject.removing),
    )


def _urgency(path: str, change: Change | None) -> tuple[bool, bool]:
    """Return a key that puts first what changes from batch to batch, then what changes between epochs."""
    return not (change and change.is_per_batch), "epoch" not in path and change is None


def data_paths(dataset: Any) -> list[str]:
    """Return up to four existing paths among the data set's own attributes."""
    paths = []
    for value in vars(dataset).values() if hasattr(dataset, "__dict__") else ():
        if issubclass(type(value), (str, Path)) and 1 < len(str(value)) < 1024:
            try:
                if Path(value).exists():
                    paths.append(str(Path(value).resolve()))
            except (OSError, ValueError):
                continue
    return paths[:4]


def _built(target: Target, build_s: float) -> Finding:
    size = target.num_items()
    length = "no length" if size is None else count_text(size, "item")
    summary = f"{type(target.dataset).__name__}, {length}, built in {build_s:.1f} s"
    if target.note:
        summary += f" ({target.note})"
    return BUILD.finding("pass", summary, data={"flags": target.flags}, duration_s=build_s)


def _build_failed(error: BaseException, request: Mapping[str, Any]) -> Finding:
    text = f"{type(error).__name__}: {error}"
    if needs_cuda(text) and not request["allow_cuda"]:
        return BUILD.finding(
            "fail",
            "building the data set needs CUDA, which the doctor hides",
            where=place_of(error),
            matters="A data set that uses CUDA while it is built holds something that workers cannot use.",
            fix="See the two ways out below; run again with --allow-cuda to examine it as it is.",
            data={"needs_cuda": True, "error": text},
        )
    summary, place, fix = text, place_of(error), _build_hint(error)
    if isinstance(error, DsrfaceError):
        summary, place, fix = error.message, error.where, error.hint
    elif isinstance(error, SyntaxError):
        place = f"{short_path(error.filename or '')}:{error.lineno}"
    return BUILD.finding(
        "fail",
        f"the data set could not be built: {summary}",
        where=place,
        fix=fix,
        data={
            "error": text,
            "message": summary,
            "usage": isinstance(error, DsrfaceError) and error.exit_code == 2,
            "traceback": "".join(traceback.format_exception(error))[-4000:],
        },
    )


def _build_hint(error: BaseException) -> str:
    if isinstance(error, SyntaxError):
        return "Correct that line."
    if isinstance(error, SystemExit):
        return (
            "The file ends itself when it is imported, as a script that reads arguments does: put that below "
            '`if __name__ == "__main__":`, or examine it as it is launched: '
            "dsrface doctor -- python FILE.py ARGUMENTS."
        )
    if isinstance(error, ImportError) and "relative import" in str(error):
        return "Name it as a module, from the folder above its package: --dataset package.module:callable."
    if isinstance(error, ModuleNotFoundError):
        return (
            f"This Python is {sys.executable}: install {error.name} for it, or name the project's own with "
            "--python .venv/bin/python."
        )
    return "Call it in a Python prompt; --dataset-args passes arguments as JSON."
