from __future__ import annotations

import subprocess
import sys

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from dsrface.data import draws


@given(
    seed=st.integers(-5, 2**62),
    epoch=st.integers(0, 1000),
    indices=st.lists(st.integers(0, 2**40), min_size=1),
)
def test_a_draw_does_not_depend_on_the_batch_around_it(seed: int, epoch: int, indices: list[int]) -> None:
    batch = draws.uniform(seed, epoch, np.array(indices), num=5, stream="a")
    assert batch.shape == (len(indices), 5)
    assert ((batch >= 0) & (batch < 1)).all()
    for row, index in enumerate(indices):
        alone = draws.uniform(seed, epoch, np.array([index]), num=3, stream="a")
        assert (alone[0] == batch[row, :3]).all()


def test_draws_are_uniform_and_independent() -> None:
    values = draws.uniform(0, 0, np.arange(20_000), num=4, stream="a")
    assert np.abs(values.mean(0) - 0.5).max() < 0.01
    assert np.abs(np.corrcoef(values.T) - np.eye(4)).max() < 0.03
    assert abs(np.corrcoef(values[:-1, 0], values[1:, 0])[0, 1]) < 0.03
    histogram = np.histogram(values, 32, (0, 1))[0]
    assert np.abs(histogram / 2500 - 1).max() < 0.1


def test_seed_epoch_index_and_stream_all_matter() -> None:
    base = draws.uniform(0, 0, np.array([7]), num=2, stream="a").tolist()
    assert draws.uniform(1, 0, np.array([7]), num=2, stream="a").tolist() != base
    assert draws.uniform(0, 1, np.array([7]), num=2, stream="a").tolist() != base
    assert draws.uniform(0, 0, np.array([8]), num=2, stream="a").tolist() != base
    assert draws.uniform(0, 0, np.array([7]), num=2, stream="b").tolist() != base
    assert draws.generator(0, 0, 7, "a").random() != draws.generator(0, 0, 8, "a").random()


def test_a_name_has_the_same_number_in_every_process() -> None:
    code = "from dsrface.data.draws import name_index; print(name_index('anna/1.png'))"
    numbers = {
        subprocess.run(
            [sys.executable, "-c", code],
            check=True,
            capture_output=True,
            text=True,
            env={"PYTHONHASHSEED": salt},
        ).stdout
        for salt in ("1", "2")
    }
    assert numbers == {f"{draws.name_index('anna/1.png')}\n"}
