from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from interalign.personas.persona import Persona
from interalign.roles.judge import Verdict
from interalign.roles.ledger import Disclosure, Reaction
from interalign.training.online.conversation import Case, Conversation, Exchange
from interalign.training.online.rewards import (
    RewardConfig,
    alignment,
    earned,
    improvement,
    induction,
    terms,
    uptake,
)

scores = st.lists(st.none() | st.floats(1, 5), min_size=1, max_size=8)


def exchanges_of(scores: list[float | None], **parts: float) -> tuple[Exchange, ...]:
    return tuple(
        Exchange(
            user="Hi",
            disclosure=Disclosure(turn=turn),
            reply="Good",
            tokens=1,
            cut=False,
            verdict=None if score is None else Verdict(score=score, parts=parts),
        )
        for turn, score in enumerate(scores, 1)
    )


@pytest.fixture
def case(people: tuple[Persona, ...]) -> Case:
    return Case(persona=people[0], number=3)


def conversation_of(case: Case, scores: list[float | None], **fields: object) -> Conversation:
    return Conversation.model_validate({"case": case, "sample": 0, "exchanges": exchanges_of(scores), **fields})


def test_alignment_is_the_mean_of_the_verdicts_there_are() -> None:
    assert alignment(exchanges_of([1, 5, 3])) == 0.5
    assert alignment(exchanges_of([None, 5, None])) == 1
    assert alignment(exchanges_of([None, None])) is None


def test_improvement_is_the_rise_from_first_to_last() -> None:
    assert improvement(exchanges_of([1, 2, 3])) == pytest.approx(0.5)
    assert improvement(exchanges_of([1, None, 3])) == pytest.approx(0.5)
    assert improvement(exchanges_of([5, 3, 1])) == pytest.approx(-1)
    assert improvement(exchanges_of([1, 5]), limit=0.3) == 0.3
    assert improvement(exchanges_of([3, None])) is None


@given(st.lists(st.floats(1, 5), min_size=2, max_size=10), st.data())
def test_a_bad_beginning_never_pays(given_scores: list[float], data: st.DataObject) -> None:
    turn = data.draw(st.integers(0, len(given_scores) - 1))
    worse = [*given_scores]
    worse[turn] = data.draw(st.floats(1, worse[turn]))

    def reward(of: list[float]) -> float:
        mean, rise = alignment(exchanges_of([*of])), improvement(exchanges_of([*of]))
        assert mean is not None
        assert rise is not None
        return mean + rise / 6

    assert reward(worse) <= reward(given_scores) + 1e-9


def test_uptake_is_the_fit_to_remarks() -> None:
    remarks = (
        Reaction(dimension="emoji", got="some", wanted="none"),
        Reaction(dimension="length", got="long", wanted="shorter"),
        Reaction(dimension="warmth", got="warm", wanted="warm", met=True),
    )
    first, second = exchanges_of([3, 3], emoji=1.0, length=0.5, warmth=0.0)
    answering = second.model_copy(update={"disclosure": Disclosure(turn=2, reactions=remarks)})
    assert uptake((first, answering)) == 0.75
    assert uptake((first, second)) is None
    assert uptake((answering.model_copy(update={"verdict": Verdict(score=3)}),)) is None


def test_induction_rewards_what_was_disclosed_and_nothing_else(people: tuple[Persona, ...]) -> None:
    told, also, hidden = people[0].facts[:3]
    foreign = next(fact for fact in people[1].facts if fact.key not in {one.key for one in people[0].facts})
    ledger = (Disclosure(turn=1, facts=(told,)), Disclosure(turn=2, facts=(also, told)))

    def stated(*keys: str) -> float | None:
        return induction(people[0], ledger, "".join(f"- something about {key}\n" for key in keys))

    assert stated(told.key, also.key) == 1
    assert stated(told.key) == pytest.approx(2 / 3)
    assert stated(told.key, also.key, foreign.key) == pytest.approx(4 / 5)
    assert stated(told.key, also.key, hidden.key) == pytest.approx(4 / 5)
    assert stated("nothing of this kind") == 0
    assert induction(people[0], (Disclosure(turn=1),), "a dog") is None


def test_all_terms_are_missing_where_nothing_can_be_earned(case: Case) -> None:
    config = RewardConfig(improvement=0.1, induction=1)
    assert set(terms(conversation_of(case, [None, None], stated="a dog"), config).values()) == {None}
    assert set(terms(conversation_of(case, [3, 4], failure="gone"), config).values()) == {None}
    assert terms(conversation_of(case, [3, 4]), config) == {
        "alignment": 0.625,
        "improvement": pytest.approx(0.25),
        "induction": None,
        "uptake": None,
    }


def test_what_earns_nothing_has_no_reward(case: Case) -> None:
    full, silent = earned([conversation_of(case, [5, 5]), conversation_of(case, [None])], RewardConfig())
    assert (full.rewards, full.total) == ({"alignment": 1.0}, 1.0)
    assert (silent.rewards, silent.total) == ({"alignment": None}, None)


@given(st.lists(scores, min_size=2, max_size=6))
def test_a_missing_term_moves_no_advantage(people: tuple[Persona, ...], group: list[list[float | None]]) -> None:
    case = Case(persona=people[0], number=3)
    config = RewardConfig(alignment=1, improvement=0.1)
    found = earned([conversation_of(case, one) for one in group], config)
    scored = [one for one in found if one.total is not None]
    for name in config.weights:
        there = [one.terms[name] for one in scored if one.terms[name] is not None]
        mean = sum(there) / len(there) if there else None  # type: ignore[arg-type]
        for one in scored:
            expected = one.terms[name] if one.terms[name] is not None else mean
            assert one.rewards[name] == (None if expected is None else pytest.approx(expected))


def test_groups_stand_for_themselves(people: tuple[Persona, ...]) -> None:
    one, other = (Case(persona=people[0], number=number) for number in (1, 2))
    conversations = [
        conversation_of(one, [1, 5]),
        conversation_of(one, [3]),
        conversation_of(other, [5, 1]),
        conversation_of(other, [3]),
    ]
    rises = [reward.rewards["improvement"] for reward in earned(conversations, RewardConfig(improvement=0.1))]
    assert rises == [0.5, 0.5, -0.5, -0.5]


def test_a_reward_of_nothing_is_refused() -> None:
    with pytest.raises(ValidationError, match="at least one reward term"):
        RewardConfig(alignment=0)
