"""Run precompute in forked children and kill each after a random time, until one gets to its end.

Usage: precompute_killer.py CONFIG_JSON MAX_KILLS SEED; prints the number of kills. One import of torch serves
all children.
"""

from __future__ import annotations

import os
import random
import signal
import sys
import time

import torch

from dsrface.commands import precompute
from dsrface.config.precompute import PrecomputeConfig


def main() -> None:
    config = PrecomputeConfig.model_validate_json(sys.argv[1])
    max_kills, rng = int(sys.argv[2]), random.Random(int(sys.argv[3]))
    torch.set_num_threads(1)
    kills, longest = 0, 0.3
    while True:
        child = os.fork()
        if child == 0:
            try:
                precompute.run(config, emit=lambda _: None)
            except BaseException as error:
                print(f"child: {type(error).__name__}: {error}", file=sys.stderr, flush=True)
                os._exit(1)
            os._exit(0)
        if kills < max_kills:
            time.sleep(rng.uniform(0, longest))
            # Children that come to their end too early show that later kills must come sooner, and the
            # reverse.
            os.kill(child, signal.SIGKILL)
        _, status = os.waitpid(child, 0)
        if os.WIFSIGNALED(status):
            kills += 1
            longest = min(longest * 1.1, 5)
            continue
        code = os.waitstatus_to_exitcode(status)
        if code:
            sys.exit(code)
        print(kills)
        return


if __name__ == "__main__":
    main()
