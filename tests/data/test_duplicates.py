"""Nearly equal images under different persons, against every pair compared one by one."""

from __future__ import annotations

import numpy as np
import pytest

from dsrface.data.photos import duplicates


def thumbs_with_copies(num):
    """Return int8 thumbs of which the last third are noisy copies of the first third."""
    rng = np.random.default_rng(0)
    thumbs = rng.integers(-127, 128, (num, 576))
    third = num // 3
    thumbs[-third:] = np.clip(thumbs[:third] + rng.integers(-20, 21, (third, 576)), -127, 127)
    return thumbs.astype(np.int8)


def every_pair(thumbs, persons):
    values = thumbs.astype(np.float64)
    values /= np.linalg.norm(values, axis=1, keepdims=True)
    alike = values @ values.T
    pairs = [(a, b) for a in range(len(thumbs)) for b in range(a + 1, len(thumbs))]
    return {(a, b): alike[a, b] for a, b in pairs if persons[a] != persons[b] and alike[a, b] >= 0.965}


@pytest.mark.parametrize("block", [7, 4096])
def test_near__finds_each_pair_once_in_blocks_of_any_size(block, monkeypatch):
    monkeypatch.setattr(duplicates, "_BLOCK", block)
    thumbs = thumbs_with_copies(60)
    persons = [f"p{number % 7}" for number in range(60)]
    wanted = every_pair(thumbs, persons)
    num_pairs, listed = duplicates.near_across_persons(thumbs, persons, max_listed=1000)
    assert num_pairs == len(wanted) == len(listed) > 10
    assert {(a, b) for a, b, _ in listed} == wanted.keys()
    assert [value for *_, value in listed] == sorted((value for *_, value in listed), reverse=True)


def test_near__in_bins_counts_a_pair_of_both_tables_once(monkeypatch):
    monkeypatch.setattr(duplicates, "_ALL_PAIRS_LIMIT", 10)
    thumbs = thumbs_with_copies(300)
    thumbs[-100:] = thumbs[:100]  # equal images share every bin
    persons = [str(number) for number in range(300)]
    num_pairs, listed = duplicates.near_across_persons(thumbs, persons, max_listed=5)
    assert num_pairs == len(every_pair(thumbs, persons)) == 100
    assert len(listed) == 5


def test_near__of_a_thousand_equal_images_lists_no_more_than_asked():
    thumbs = np.tile(thumbs_with_copies(3)[:1], (1000, 1))
    num_pairs, listed = duplicates.near_across_persons(thumbs, list(map(str, range(1000))), max_listed=100)
    assert num_pairs == 1000 * 999 // 2
    assert len(listed) == 100
