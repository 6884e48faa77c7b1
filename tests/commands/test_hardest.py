"""The hardest pairs and the errors by person, on embeddings whose answer is known."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import torch

from dsrface.commands.evaluate.hardest import find_hardest
from dsrface.commands.evaluate.result import BICUBIC, DSR, FROZEN, HR, RAW
from dsrface.data.pairs import Pairs


def test_the_worst_pairs_come_first_and_each_error_counts_for_its_persons():
    # Persons a, a, b, b, c as angles: a's second photo looks like b, and c like a.
    degrees = np.deg2rad([0, 80, 90, 95, 5])
    features = np.stack([np.cos(degrees), np.sin(degrees)], axis=1).astype(np.float32)
    keys = ((HR, RAW), (HR, FROZEN), (BICUBIC, FROZEN), (DSR, FROZEN))
    measured = SimpleNamespace(features=dict.fromkeys(keys, features))
    split = SimpleNamespace(labels=torch.tensor([0, 0, 1, 1, 2]), persons=["a", "b", "c"])
    first, second = np.triu_indices(5, k=1)
    labels = split.labels.numpy()
    pairs = Pairs(first, second, labels[first] == labels[second], "all")

    found = find_hardest(measured, split, pairs)
    assert (found.images, found.recogniser) == (DSR, FROZEN)
    genuine = [pair for pair in found.pairs if pair.is_same]
    impostor = [pair for pair in found.pairs if not pair.is_same]
    assert {genuine[0].gallery, genuine[0].probe} == {0, 1}
    assert genuine[0].score < 0.2 < genuine[1].score
    assert {impostor[0].gallery, impostor[0].probe} == {0, 4}
    assert len({frozenset(labels[[pair.gallery, pair.probe]].tolist()) for pair in impostor}) == len(impostor)
    assert set(found.places) <= set(range(5))

    by_name = {item.person: item for item in found.persons}
    assert found.persons[0].person == "a"  # a part in most errors
    assert (by_name["a"].genuine, by_name["b"].genuine, by_name["c"].genuine) == (2, 2, 0)
    assert by_name["c"].impostor == 2 * 4
    assert by_name["a"].missed == 2
