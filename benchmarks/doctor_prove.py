"""How often `dsrface doctor --prove` calls equal settings faster, and what it says of a gain that is known.

    python benchmarks/doctor_prove.py [--runs 20] [--json FILE]

A small training script, whose items wait 2 ms and whose step computes for some, is proved with its present
settings on both sides, over and over: none of those may be called faster. Then two workers are proved against
none. Every proof is six pairs of fresh processes.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

from dsrface.doctor.launch.prove import Gain, Job, gain_of, time_pairs

SCRIPT = """
import time, torch
from torch.utils.data import DataLoader, Dataset

class Items(Dataset):
    def __len__(self):
        return 1600
    def __getitem__(self, index):
        time.sleep(0.002)
        return torch.full((256,), float(index))

if __name__ == "__main__":
    net = torch.nn.Linear(256, 256)
    for epoch in range(99):
        for x in DataLoader(Items(), 16, shuffle=True):
            net(x).square().sum().backward()
            time.sleep(0.01)
"""
LINE = 15
SAME = {
    "num_workers": 0,
    "prefetch_factor": None,
    "persistent_workers": False,
    "pin_memory": False,
    "multiprocessing_context": None,
}
TWO = {**SAME, "num_workers": 2, "prefetch_factor": 2, "persistent_workers": True}


def main() -> int:
    """Prove equal settings, then better ones; exit code 1 when equal ones were called faster."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--runs", type=int, default=20)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "train.py"
        file.write_text(SCRIPT, encoding="utf-8")
        same = [_shown("equal settings", _gain(file, SAME)) for _ in range(options.runs)]
        better = _shown("two workers for none", _gain(file, TWO))
    faster = sum(gain.is_faster for gain in same)
    print(f"equal settings called faster: {faster} of {len(same)}; two workers: {better.is_faster}")
    if options.json:
        rows = [[gain.ratio, gain.low, gain.high] for gain in [*same, better]]
        options.json.write_text(json.dumps(rows) + "\n", encoding="utf-8")
    return 1 if faster else 0


def _gain(file: Path, arguments: dict[str, Any]) -> Gain:
    job = Job(
        command=[sys.executable, str(file)],
        made_at=f"{file}:{LINE}",
        ready=4,
        recommended=arguments,
        is_stream=False,
        steps=20,
        step_s=0.045,
        start_s=5.0,
    )
    return gain_of(time_pairs(job, say=lambda _: None))


def _shown(name: str, gain: Gain) -> Gain:
    verdict = "faster" if gain.is_faster else "slower" if gain.is_slower else "no difference"
    print(f"{name}: {gain.ratio:.3f} [{gain.low:.3f}, {gain.high:.3f}] {verdict}", flush=True)
    return gain


if __name__ == "__main__":
    sys.exit(main())
