from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from interalign.conversations.policy import PolicyConfig
from interalign.conversations.simulate import SimulateConfig
from interalign.personas.persona import Persona
from interalign.training.iterated import IteratedConfig, anchor_round, met_in_round, simulation_of


@given(st.integers(1, 6), st.integers(1, 9), st.integers(0, 99))
def test_everybody_is_met_before_anybody_is_met_again(
    people: tuple[Persona, ...], count: int, rounds: int, seed: int
) -> None:
    config = IteratedConfig(rounds=rounds, personas=count)
    met = [persona.id for number in range(1, rounds + 1) for persona in met_in_round(people, config, number, seed)]
    assert len(met) == rounds * min(count, len(people))
    for lap in range(0, len(met), len(people)):
        one = met[lap : lap + len(people)]
        assert len(set(one)) == len(one)


def test_without_a_number_everybody_is_met_in_every_round(people: tuple[Persona, ...]) -> None:
    rounds = [met_in_round(people, IteratedConfig(), number, 1) for number in (1, 2)]
    assert all({one.id for one in met} == {one.id for one in people} for met in rounds)


def test_only_comal_moves_its_anchor() -> None:
    config = IteratedConfig(rounds=5, anchor_every=2)
    assert [anchor_round("inpo", config, number) for number in range(1, 6)] == [0, 0, 0, 0, 0]
    assert [anchor_round("comal", config, number) for number in range(1, 6)] == [0, 0, 2, 2, 4]


def test_a_round_is_grown_as_the_run_is_but_for_who_answers() -> None:
    base = SimulateConfig(turns=9, policy_samples=3, in_flight=5)
    config = simulation_of(IteratedConfig(turns=4, siblings=("policy", "tailored")), base)
    assert (config.turns, config.sources, config.policy_samples, config.in_flight) == (4, ("policy", "tailored"), 0, 5)


def test_a_round_goes_on_from_the_policy_and_from_whom_the_run_goes_on() -> None:
    base = SimulateConfig(siblings=("tailored", "random"), policy=PolicyConfig(continue_from=("random",)))
    for siblings, kept in {
        ("policy", "policy"): ("policy",),
        ("tailored", "policy", "random"): ("policy", "random"),
    }.items():
        assert simulation_of(IteratedConfig(siblings=siblings), base).policy.continue_from == kept
    assert simulation_of(IteratedConfig(), SimulateConfig()).policy.continue_from is None


@pytest.mark.parametrize(("wrong", "says"), [
    ({"siblings": ("tailored", "generic")}, "one of the siblings is the policy"),
    ({"tau": 0.1, "eta": 0.05}, "tau is at most eta"),
])  # fmt: skip
def test_settings_that_make_no_sense(wrong: dict[str, object], says: str) -> None:
    with pytest.raises(ValidationError, match=says):
        IteratedConfig.model_validate(wrong)
