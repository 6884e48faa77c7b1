"""Memory and time of a training step of the margin head, over all classes and over a sample of them.

Each runs in a process of its own: embeddings of a batch, the head's loss, its gradient and the optimiser's
step, without a trunk. Prints one JSON line for each.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time

import psutil
import torch
from torch.nn import functional

from dsrface.config.engine import OptimConfig
from dsrface.engine.optim import build_optimizer, clip_norm
from dsrface.engine.task import ParamGroup
from dsrface.models.heads import build_head


def main() -> None:
    """Measure every fraction in a process of its own."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--classes", type=int, default=1_000_000)
    parser.add_argument("--dim", type=int, default=512)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--steps", type=int, default=3)
    parser.add_argument("--fractions", type=float, nargs="+", default=[0.1, 1.0])
    parser.add_argument("--alone", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.alone:
        print(json.dumps(measure(options, options.fractions[0])), flush=True)
        return
    for fraction in options.fractions:
        words = [sys.executable, __file__, *sys.argv[1:], "--alone", "--fractions", str(fraction)]
        subprocess.run(words, check=True)


def measure(options: argparse.Namespace, fraction: float) -> dict[str, float]:
    """Return seconds a step (the best) and the highest memory of this process, above that of an empty one."""
    process = psutil.Process()
    empty = process.memory_info().rss
    torch.manual_seed(0)
    head = build_head(
        "arcface", num_classes=options.classes, embedding_dim=options.dim, sample_fraction=fraction
    )
    optimizer = build_optimizer([ParamGroup("head", list(head.parameters()))], OptimConfig())
    seconds: list[float] = []
    for _ in range(options.steps + 1):  # the first makes the optimiser's state
        embeddings = torch.randn(options.batch_size, options.dim, requires_grad=True)
        labels = torch.randint(0, options.classes, (options.batch_size,))
        start = time.perf_counter()
        classes = head.draw_classes(labels)
        targets = labels if classes is None else torch.searchsorted(classes, labels)
        logits = head.logits(head.cosines(embeddings, classes), embeddings, targets)
        torch.autograd.backward(functional.cross_entropy(logits, targets))
        clip_norm(head.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        seconds.append(time.perf_counter() - start)
    highest = highest_rss(process) - empty
    return {
        "classes": options.classes,
        "fraction": fraction,
        "seconds_a_step": round(min(seconds[1:]), 2),
        "gib": round(highest / 1024**3, 2),
    }


def highest_rss(process: psutil.Process) -> int:
    """Return the most memory that this process has held, in bytes."""
    if sys.platform == "win32":
        return int(process.memory_info().peak_wset)
    import resource

    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


if __name__ == "__main__":
    main()
