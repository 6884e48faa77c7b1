"""`dsrface explain ID`: errors, checks and rules alike, from inside the wheel."""

from __future__ import annotations

import pytest

from dsrface.doctor.checks.registry import all_checks
from dsrface.doctor.scan.rules import RULES
from dsrface.runtime.error_texts import error_texts


@pytest.mark.parametrize("id", ["bad-config", "worker-died", "ds.items", *list(RULES)[:1]])
def test_an_id_is_explained(call, id):
    done = call("explain", id)
    assert done.code == 0
    assert id in done.out
    assert call("explain", id, "--json").document["id"] == id


def test_no_id_means_two_things():
    ids = [*error_texts(), *all_checks(), *RULES]
    assert len(ids) == len(set(ids))


def test_an_error_points_to_a_command_that_explains_it(call):
    done = call("train-dsr", "data", "--set", "epoch=3")
    [about] = [line for line in done.err.splitlines() if line.startswith("  about")]
    command = about.split("about")[1].partition(",")[0].split()
    assert command[0] == "dsrface"
    assert call(*command[1:]).code == 0


def test_an_unknown_id_names_near_ones(call):
    done = call("explain", "bad-confg")
    assert done.code == 2
    assert "Did you mean bad-config" in done.err


def test_every_text_is_complete():
    for text in error_texts().values():
        assert text.what.endswith(".")
        assert text.do.endswith((".", "`", ")"))
        assert "](" not in text.text()


def test_the_text_of_an_error_is_explained(call):
    assert call("explain", "Can't pickle local object").out.startswith("ds.unpicklable")
    assert "Did you mean" in call("explain", "cannot pickle").err
    killed = "RuntimeError: DataLoader worker (pid 97) is killed by signal: Killed."  # with another number
    assert call("explain", killed).out.startswith("env.ram")
    assert call("explain", "DataLoader worker (pid(s) 12, 13) exited unexpectedly").code == 0
