from __future__ import annotations

import asyncio
from collections import Counter, defaultdict
from statistics import fmean

import pytest

from interalign.errors import BudgetSpent, ModelError
from interalign.evaluation.judging.probes import (
    QUALITIES,
    Probe,
    exact,
    honesty_probes,
    judged,
    length_probes,
    moments,
    padded,
    person_probes,
    quality_probes,
    temptation_probes,
)
from interalign.messages import Chat
from interalign.personas.persona import Persona
from interalign.roles.judge import Verdict
from interalign.roles.ledger import Ledger
from interalign.roles.llm.rater import LLMRater
from interalign.roles.measure import mentions, style_of, words
from tests.evaluation.judging.judges import Always, Counting, Noisy
from tests.roles.llm.stage import Heard

MOMENTS = moments(36, 1)


class Fails:
    """A judge that fails at some replies."""

    def __init__(self, error: Exception, *, at: str = "") -> None:
        self._error, self._at = error, at

    async def score(self, persona: Persona, chat: Chat, reply: str, ledger: Ledger, seed: int) -> Verdict | None:
        if self._at in reply:
            raise self._error
        return Verdict(score=3)


def by_kind(probes: tuple[Probe, ...]) -> dict[str, dict[str, Probe]]:
    found: defaultdict[str, dict[str, Probe]] = defaultdict(dict)
    for probe in probes:
        found[probe.kind][probe.case] = probe
    return found


def test_moments_come_from_the_seed() -> None:
    assert moments(5, 1) == moments(5, 1) != moments(5, 2)
    assert [one.persona for one in moments(3, 1)] == [one.persona for one in MOMENTS[:3]]
    assert [one.chat for one in moments(3, 1)] == [one.chat for one in MOMENTS[:3]]


def test_a_moment_is_a_user_message_with_its_ledger() -> None:
    for moment in MOMENTS:
        users = [message for message in moment.chat if message.role == "user"]
        assert moment.chat[-1].role == "user"
        assert len(users) == len(moment.ledger) <= 5
        assert moment.persona != moment.stranger
    assert len({len(moment.ledger) for moment in MOMENTS}) > 2
    assert len({moment.persona.id for moment in MOMENTS}) == len(MOMENTS)


def test_replies_are_worth_about_what_their_place_says() -> None:
    probes = quality_probes(MOMENTS)
    worth = {kind: fmean(exact(one).score for one in of.values()) for kind, of in by_kind(probes).items()}
    assert set(worth) == set(QUALITIES)
    assert worth["oracle"] > worth["tailored"] > worth["generic"] > worth["off topic"] > worth["key words"] == 1
    assert worth["oracle"] > worth["stranger"] + 1
    assert len(probes) == 4 * len(MOMENTS)


def test_the_same_reply_is_judged_for_its_person_and_for_a_stranger() -> None:
    found = by_kind(person_probes(MOMENTS))
    for case, own in found["own"].items():
        stranger = found["stranger"][case]
        assert own.reply == stranger.reply
        assert (own.reader, stranger.reader) == (own.moment.persona, own.moment.stranger)
    assert fmean(exact(one).score for one in found["stranger"].values()) < 4


def test_filler_lengthens_and_changes_nothing_else() -> None:
    found = by_kind(length_probes(MOMENTS))
    assert len(found["filler 0"]) > len(MOMENTS) / 3
    for case, base in found["filler 0"].items():
        longest = found["filler 6"][case]
        assert len(words(longest.reply)) > len(words(base.reply)) + 40
        assert exact(longest).score == pytest.approx(exact(base).score, abs=0.1)
        assert base.moment.persona.preferences["length"].value != "medium"


def test_filler_has_no_manner() -> None:
    bare = style_of("Water the plants.")
    filled = style_of(padded("Water the plants.", 9))
    assert {name for name in bare if bare[name] != filled[name]} == {"length"}


def test_temptations_and_claims_have_as_many_words_as_the_filler_beside_them() -> None:
    for probes in (temptation_probes(MOMENTS), honesty_probes(MOMENTS)):
        found = by_kind(probes)
        for kind in [kind for kind in found if f"{kind} filler" in found]:
            for case, probe in found[kind].items():
                beside = found[f"{kind} filler"][case]
                assert abs(len(words(probe.reply)) - len(words(beside.reply))) <= 3


def test_claims_are_of_what_nothing_has_shown() -> None:
    found = by_kind(honesty_probes(MOMENTS))
    for case, probe in found["undisclosed"].items():
        hidden = [fact for fact in probe.moment.hidden if mentions(probe.reply, fact)]
        assert len(hidden) >= 2
        assert "mind_reading" in exact(probe).penalties
        assert "mind_reading" not in exact(found["undisclosed filler"][case]).penalties
        false = found["false"][case]
        assert not any(mentions(false.reply, fact) for fact in probe.moment.hidden)


def test_what_is_asked_alike_is_asked_once() -> None:
    judge = Counting()
    probes = [*person_probes(MOMENTS[:4]), *person_probes(MOMENTS[:4])]
    verdicts = asyncio.run(judged(judge, probes))
    assert verdicts == [exact(probe) for probe in probes]
    assert len(judge.asked) == len(set(judge.asked)) == 8
    asyncio.run(judged(judge, probes, repeat=1))
    assert len(set(judge.asked)) == 16


def test_a_failure_is_a_missing_verdict_unless_everything_fails() -> None:
    probes = quality_probes(MOMENTS[:6])
    reply = probes[3].reply
    verdicts = asyncio.run(judged(Fails(ModelError("gone"), at=reply), probes))
    assert [place for place, one in enumerate(verdicts) if one is None] == [3]
    with pytest.raises(ModelError, match="gone"):
        asyncio.run(judged(Fails(ModelError("gone")), probes))
    with pytest.raises(BudgetSpent):
        asyncio.run(judged(Fails(BudgetSpent("spent"), at=reply), probes))


def test_why_verdicts_are_missing_is_counted_once_a_question() -> None:
    probes, lacking = quality_probes(MOMENTS[:6]), Counter[str]()
    reply = probes[3].reply
    slow = Fails(ModelError("gone", cause="call failed: timeout"), at=reply)
    asyncio.run(judged(slow, [*probes, probes[3]], lacking=lacking))
    assert lacking == {"call failed: timeout": 1}
    # A judge whose every answer is unreadable has answered: that is no error.
    unread = Counter[str]()
    mute = LLMRater(Heard(["Hm."]).player)
    assert asyncio.run(judged(mute, probes, lacking=unread)) == [None] * len(probes)
    assert unread == {"no JSON": len({(one.case, one.of_stranger, one.reply) for one in probes})}
    told = Counter[str]()
    verdicts = asyncio.run(judged(Noisy(missing=0.5), probes, lacking=told))
    assert told == {"no reason told": sum(one is None for one in verdicts)} and told.total()


def test_nothing_is_asked_of_nothing() -> None:
    assert asyncio.run(judged(Always(), ())) == []
