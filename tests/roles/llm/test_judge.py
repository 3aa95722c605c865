from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from interalign.errors import ModelError
from interalign.llm.model import Answer, Request
from interalign.llm.scripted import ScriptedModel
from interalign.personas.persona import Fact
from interalign.roles.judge import Comparison, Judgement, SiblingJudge, Verdict, Vote
from interalign.roles.ledger import Disclosure, Ledger, Stated
from interalign.roles.llm.judge import LLMJudge
from interalign.roles.llm.player import Player
from tests.roles.llm.stage import CHAT, INJECTION, LEDGER, PERSONA, SAMPLING, Heard, inside, lines


def shown(request: Request) -> tuple[str, str]:
    a, b = (json.loads(inside(request.messages[1].content, tag)) for tag in ("reply_a", "reply_b"))
    return a, b


def ballot(better: object, score_a: object = 3, score_b: object = 3) -> str:
    return json.dumps({"better": better, "score_a": score_a, "score_b": score_b})


def judged(player: Player, replies: Sequence[str], seed: int = 4, ledger: Ledger = LEDGER) -> Judgement:
    return asyncio.run(LLMJudge(player).judge(PERSONA, CHAT, replies, ledger, seed))


def longest(request: Request) -> str:
    """A judge that holds with length, wherever it stands, and scores it."""
    a, b = map(len, shown(request))
    return ballot("tie" if a == b else "A" if a > b else "B", min(a, 5), min(b, 5))


def test_it_is_a_judge_of_siblings() -> None:
    assert isinstance(LLMJudge(Heard(["x"]).player), SiblingJudge)


def test_every_two_replies_are_shown_in_both_orders_after_persona_and_last_exchange() -> None:
    heard = Heard(longest)
    judgement = judged(heard.player, ["abcd", "ab", INJECTION])
    assert sorted(map(shown, heard.requests)) == sorted(
        (a, b) for a in ("abcd", "ab", INJECTION) for b in ("abcd", "ab", INJECTION) if a != b
    )
    for prompt in heard.data:
        tags = ("persona", "disclosed", "chat", "reply_a", "reply_b")
        places = [prompt.index(f"<{tag}>") for tag in tags]
        assert places == sorted(places)
        assert lines(prompt) == [{one.role: one.content} for one in CHAT[-2:]]
    assert [(one.first, one.second) for one in judgement.comparisons] == [(0, 1), (0, 2), (1, 2)]
    assert len({request.seed for request in heard.requests}) == 6


def test_it_is_told_what_the_person_has_given_away_by_rules_and_by_models() -> None:
    def stated(text: str) -> Stated:
        return Stated(kind="profile", text=text, words="w")

    ledger = (
        Disclosure(turn=1, stated=(stated("She repairs organs."),), facts=(Fact(slot="pet", term="a cat", key="cat"),)),
        Disclosure(turn=2, stated=(stated("She lives in Turku."), stated("She repairs organs."), stated(INJECTION))),
    )
    heard = Heard(longest)
    judged(heard.player, ["abcd", "ab"], ledger=ledger)
    for prompt in heard.data:
        told = json.loads(inside(prompt, "disclosed"))
        assert told == ["pet: a cat", "She repairs organs.", "She lives in Turku.", INJECTION]


@given(st.lists(st.integers(1, 5), min_size=2, max_size=4))
def test_votes_name_the_reply_wherever_it_stood(lengths: list[int]) -> None:
    judgement = judged(Heard(longest).player, ["x" * length for length in lengths])
    assert judgement.verdicts == tuple(Verdict(score=length) for length in lengths)
    for one in judgement.comparisons:
        first, second = lengths[one.first], lengths[one.second]
        vote: Vote = "tie" if first == second else "first" if first > second else "second"
        assert one == Comparison(first=one.first, second=one.second, votes=(vote, vote), model="heard")


def test_a_judge_that_prefers_a_place_contradicts_itself() -> None:
    judgement = judged(Heard([ballot("A", 5, 1)]).player, ["one", "two"])
    (comparison,) = judgement.comparisons
    assert comparison.votes == ("first", "second") and comparison.winner is None
    assert judgement.verdicts == (Verdict(score=3), Verdict(score=3))


UNREADABLE = [
    "A",
    "The first reply is better.",
    ballot("a"),
    ballot("first"),
    ballot(None),
    ballot("A", 0),
    ballot("A", 6),
    ballot("A", "4"),
    ballot("A", 3.5),
    ballot("A", 3, True),
    ballot("A", None),
    '{"better": "A"}',
    '{"better": "A", "score_a": 4, "score_b": 2, "reason": "warm"}',
    f"I think so: {ballot('A')}",
    "",
]


@pytest.mark.parametrize("text", UNREADABLE)
def test_an_answer_that_cannot_be_read_gives_no_verdict(text: str) -> None:
    heard = Heard([text])
    assert judged(heard.player, ["one", "two"]) == Judgement(
        verdicts=(None, None), comparisons=(Comparison(first=0, second=1, votes=(None, None)),)
    )
    assert len(heard.requests) == 4


@given(st.text() | st.recursive(st.none() | st.integers() | st.text(), st.lists).map(json.dumps))
def test_no_text_but_the_form_is_a_vote(text: str) -> None:
    judgement = judged(Heard([text]).player, ["one", "two"])
    assert judgement.verdicts == (None, None) and judgement.comparisons[0].votes == (None, None)


def test_the_readable_half_counts() -> None:
    def half(request: Request) -> str:
        return ballot("A", 5, 2) if shown(request)[0] == "one" else "Hm."

    judgement = judged(Heard(half).player, ["one", "two"])
    assert judgement.verdicts == (Verdict(score=5), Verdict(score=2))
    assert judgement.comparisons[0].votes == ("first", None) and not judgement.comparisons[0].readable


def test_a_mended_answer_counts() -> None:
    def mended(request: Request) -> str:
        return longest(request) if len(request.messages) > 2 else "Let me think."

    assert judged(Heard(mended).player, ["four", "a"]).verdicts == (Verdict(score=4), Verdict(score=1))


@pytest.mark.parametrize("replies", [[], ["alone"]])
def test_nothing_to_compare_is_no_verdict(replies: list[str]) -> None:
    heard = Heard(longest)
    assert judged(heard.player, replies) == Judgement(verdicts=(None,) * len(replies))
    assert not heard.requests


def test_one_model_judges_all_replies_to_a_turn() -> None:
    models = [(ScriptedModel(name, [ballot("tie")]), 1) for name in "abc"]
    player = Player(models, SAMPLING, "Judge.")
    by_seed = [{one.model for one in judged(player, ["x", "y", "z"], seed).comparisons} for seed in range(30)]
    assert all(len(names) == 1 for names in by_seed) and set.union(*by_seed) == set("abc")


class Unreachable:
    name = "unreachable"

    def __init__(self) -> None:
        self.asked: list[Any] = []

    async def complete(self, request: Request) -> Answer:
        self.asked.append(request)
        raise ModelError("nobody there")


def test_a_server_that_fails_is_no_missing_vote() -> None:
    model = Unreachable()
    with pytest.raises(ModelError, match="nobody there"):
        judged(Player([(model, 1)], SAMPLING, "Judge."), ["one", "two"])
    assert len(model.asked) == 2
