from __future__ import annotations

from interalign.evaluation.candidates import CONTROLS
from interalign.evaluation.controls import COUNTERFACTUALS
from interalign.evaluation.legend import meanings


def test_levels_are_explained_together_and_nothing_twice() -> None:
    told = meanings(["AL(1)", "AL(2)", "mean AL", "gap", "gap", "share"])
    assert [name for name, _ in told] == ["AL", "gap"]


def test_every_control_is_explained() -> None:
    names = [*CONTROLS, *COUNTERFACTUALS]
    assert {name for name, _ in meanings(names)} == set(names)


def test_a_meaning_fits_beside_the_longest_name() -> None:
    names = [
        "AL(1)",
        "to baseline",
        "gap",
        "uptake",
        "listening",
        "IR",
        "N-IR",
        "R2",
        "first 4",
        "never 4",
        "true",
        "noticed",
        "p",
    ]
    told = meanings([*names, "gap beyond it", *CONTROLS, *COUNTERFACTUALS])
    longest = max(len(name) for name, _ in told)
    assert all(longest + 2 + len(meaning) <= 80 for _, meaning in told)
