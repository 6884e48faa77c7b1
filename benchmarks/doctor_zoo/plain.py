"""What a plain DataLoader does with a case: `python plain.py FILE.py:CALLABLE METHOD` prints one JSON object.

Its word is one of
    equal    workers deliver what 0 workers do
    differs  they deliver something else, or not as often
    random   0 workers deliver something else each time, and so do workers
    twins    0 workers do not repeat themselves, workers do: within an epoch, or from epoch to epoch
    raises   an exception with workers, none without
    broken   an exception without workers too
    hangs    no batch within 8 seconds
"""

from __future__ import annotations

import collections
import hashlib
import importlib
import itertools
import json
import os
import sys
import time
import warnings
from pathlib import Path
from typing import Any

EPOCH_S = 6.0
PATIENCE_S = 8


def main(target: str, method: str) -> None:
    """Build the case and print what it does."""
    warnings.simplefilter("ignore")
    file, _, name = target.rpartition(":")
    sys.path.insert(0, str(Path(file).parent))
    case = getattr(importlib.import_module(Path(file).stem), name)
    output = os.dup(1)
    os.dup2(2, 1)
    word, text = _word(case(), method)
    os.write(output, f"{json.dumps({'word': word, 'text': text})}\n".encode())
    os._exit(0)


def _word(made: Any, method: str) -> tuple[str, str]:
    failed = None
    try:  # workers first: what is opened at first use here would be shared with them
        working = [_epoch(made, 2, method) for _ in range(2)]
    except Exception as error:  # noqa: BLE001 - what it raises is the answer
        failed = error
    try:
        alone = [_epoch(made, 0, "") for _ in range(2)]
    except Exception as error:  # noqa: BLE001
        return "broken", f"0 workers: {_said(error)}"
    if failed is not None:
        return ("hangs" if "timed out" in str(failed) else "raises"), _said(failed)
    counts = [[_repeats(epoch) for epoch in epochs] for epochs in (alone, working)]
    rates = [len(epoch) / seconds for (epoch, seconds) in (alone[1], working[1])]
    text = f"{rates[0]:.0f} batches a second with 0 workers, {rates[1]:.0f} with 2"
    shared = min(len(epoch) for epoch, _ in alone)  # an epoch is cut when its time is over
    if alone[0][0][:shared] != alone[1][0][:shared]:
        again = _share_equal(working[0], working[1]) > 0.5 > _share_equal(alone[0], alone[1])
        if again or counts[1][0] > counts[0][0] + len(working[0][0]) // 8:
            return "twins", f"{text}; repeats {counts}, epochs of workers equal: {again}"
        return "random", text
    most = min(len(epoch) for epoch, _ in (*alone, *working))
    short = [len(epoch) for epoch, _ in (*alone, *working)]
    differing = [
        sum(a != b for a, b in zip(alone[0][0][:most], epoch[:most], strict=True)) for epoch, _ in working
    ]
    if any(differing) or (
        len(set(short)) > 1 and all(seconds < EPOCH_S for _, seconds in (*alone, *working))
    ):
        return "differs", f"{text}; of {most} batches {differing} differ in two epochs, lengths {short}"
    return "equal", text


def _epoch(made: Any, workers: int, method: str) -> tuple[list[str], float]:
    """Return a digest of each batch, and the seconds."""
    loader = _loader(made, workers, method)
    start = time.perf_counter()
    digests = []
    for batch in itertools.islice(loader, 400):
        digests.append(digest(batch))
        if time.perf_counter() - start > EPOCH_S:
            break
    return digests, time.perf_counter() - start


def _loader(made: Any, workers: int, method: str) -> Any:
    from torch.utils.data import DataLoader

    options: dict[str, Any] = {"num_workers": workers}
    if workers:
        options |= {"multiprocessing_context": method, "timeout": PATIENCE_S}
    if isinstance(made, DataLoader):
        made.num_workers, made.timeout = workers, options.get("timeout", 0)
        made.multiprocessing_context = options.get("multiprocessing_context")
        made.prefetch_factor = 2 if workers else None
        return made
    if isinstance(made, dict) and made and all(isinstance(part, DataLoader) for part in made.values()):
        return itertools.chain.from_iterable(_loader(part, workers, method) for part in made.values())
    if isinstance(made, list) and made and all(isinstance(part, DataLoader) for part in made):
        return itertools.chain.from_iterable(_loader(part, workers, method) for part in made)
    if hasattr(made, "train_dataloader"):
        made.setup("fit")
        return _loader(made.train_dataloader(), workers, method)
    dataset, own = made if isinstance(made, tuple) else (made, {})
    return DataLoader(dataset, **{"batch_size": 8, **own, **options})


def digest(value: Any) -> str:
    """Return a digest of everything in a batch: types, shapes, values and attributes."""
    return hashlib.blake2b(repr(list(_parts(value))).encode(), digest_size=12).hexdigest()


def _parts(value: Any) -> Any:
    import numpy as np
    import torch

    yield type(value).__name__
    if isinstance(value, torch.Tensor):
        dense = value.detach().to_dense() if value.is_sparse else value.detach()
        yield from (
            str(value.dtype),
            tuple(value.shape),
            hashlib.blake2b(
                dense.contiguous().cpu().view(torch.uint8).numpy().tobytes()
                if dense.numel() and dense.dim()
                else repr(dense).encode()
            ).hexdigest(),
        )
        yield sorted((key, str(part)) for key, part in vars(value).items())
    elif isinstance(value, np.ndarray):
        yield from (str(value.dtype), value.shape, hashlib.blake2b(value.tobytes()).hexdigest())
        yield sorted((key, str(part)) for key, part in getattr(value, "__dict__", {}).items())
    elif isinstance(value, collections.abc.Mapping):
        for key in value:
            yield key
            yield from _parts(value[key])
    elif isinstance(value, (set, frozenset)):
        yield sorted(map(repr, value))
    elif isinstance(value, (list, tuple)):
        for part in value:
            yield from _parts(part)
    elif hasattr(value, "__dict__"):
        yield from _parts(vars(value))
    else:
        yield repr(value)


def _repeats(epoch: tuple[list[str], float]) -> int:
    return len(epoch[0]) - len(set(epoch[0]))


def _share_equal(first: tuple[list[str], float], second: tuple[list[str], float]) -> float:
    pairs = list(zip(first[0], second[0], strict=False))
    return sum(a == b for a, b in pairs) / max(1, len(pairs))


def _said(error: Exception) -> str:
    lines = [line for line in str(error).strip().splitlines() if line.strip()]
    return f"{type(error).__name__}: {lines[-1] if lines else ''}"[:200]


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])
