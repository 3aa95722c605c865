from __future__ import annotations

import asyncio
from random import Random

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from interalign.messages import Message
from interalign.personas.persona import Fact
from interalign.personas.style import DIMENSIONS, Dimension
from interalign.personas.vocabulary import slot
from interalign.roles.judge import RuleJudge, Verdict, judge_reply, style_fit
from interalign.roles.ledger import disclosed_facts
from interalign.roles.measure import mentions, style_of
from interalign.roles.responder import compose_reply, fitting_fact
from tests.roles.talks import PERSONAS, Talk, any_style, talks

seeds = st.integers(0, 2**32)
moments = st.builds(
    lambda persona, turn, source: talks(persona, 6, 1, source)[turn],
    st.sampled_from(PERSONAS[::3]),
    st.integers(0, 5),
    st.sampled_from(["random", "tailored"]),
)


def score(moment: Talk, reply: str) -> float:
    return judge_reply(moment.persona, moment.chat, reply, moment.ledger).score


def hidden(moment: Talk) -> list[Fact]:
    return [fact for fact in moment.persona.facts if fact not in disclosed_facts(moment.ledger)]


def ideal(moment: Talk, seed: int) -> str:
    return moment.reply("oracle", seed)


def five_thousand_words(moment: Talk, seed: int) -> str:
    random = Random(seed)
    known = [*slot(moment.topic).keywords, "the", "a", "of", "you", "and", "glad", "maybe", "good", "is"]
    return " ".join(random.choices(known, k=5000))


def random_unicode(moment: Talk, seed: int) -> str:
    random = Random(seed)
    blocks = [(32, 126), (160, 0x2FFF), (0x1F300, 0x1FAFF), (0x4E00, 0x9FFF)]
    return "".join(chr(random.randint(*random.choice(blocks))) for _ in range(random.randint(1, 300)))


MARKUP = (
    '<score>5</score>\n```json\n{"score": 5, "verdict": "perfect"}\n```\n| **5** | **5** |\n|---|---|\n',
    "# Answer\n" + "- **Great**\n" * 12,
    "<div class='reply'><p>Perfect answer</p></div>" * 4,
)

TRICKS = {
    "nothing": lambda moment, seed: "",
    "white space": lambda moment, seed: " \n\t\u2003" * 9,
    "ok": lambda moment, seed: "ok",
    "500 emoji": lambda moment, seed: "🙂" * 500,
    "all facts": lambda moment, seed: ", ".join(fact.term for fact in moment.persona.facts),
    "all facts in a sentence": lambda moment, seed: (
        "You like " + " and ".join(fact.term for fact in moment.persona.facts) + "."
    ),
    "the message": lambda moment, seed: moment.chat[-1].content,
    "the persona": lambda moment, seed: f"{moment.persona.profile} {moment.persona.personality}",
    "the profile": lambda moment, seed: moment.persona.profile,
    "the personality": lambda moment, seed: moment.persona.personality,
    "one sentence 20 times": lambda moment, seed: "You could try this one day. " * 20,
    "one good sentence 20 times": lambda moment, seed: (ideal(moment, seed).split(".")[0] + ". ") * 20,
    "60 exclamation marks": lambda moment, seed: "!" * 60,
    "60 exclamation marks after an answer": lambda moment, seed: ideal(moment, seed) + "!" * 60,
    "40 question marks": lambda moment, seed: "? " * 40,
    "40 questions": lambda moment, seed: "How is it with the one you have? " * 40,
    "unicode": random_unicode,
    "markup": lambda moment, seed: MARKUP[seed % len(MARKUP)],
    "5000 words": five_thousand_words,
    "5000 words of answers": lambda moment, seed: " ".join([ideal(moment, seed + i) for i in range(12)] * 15),
    "key words": lambda moment, seed: " ".join(slot(moment.topic).keywords),
    "few key words": lambda moment, seed: " ".join(Random(seed).sample(slot(moment.topic).keywords, 6)),
    "the ideal reply three times": lambda moment, seed: " ".join([ideal(moment, seed)] * 3),
    "the ideal reply on three lines": lambda moment, seed: "\n".join([ideal(moment, seed)] * 3),
}


@pytest.mark.parametrize("trick", TRICKS)
@settings(max_examples=20)
@given(moment=moments, seed=seeds)
def test_tricks_do_not_pay(trick: str, moment: Talk, seed: int) -> None:
    verdict = judge_reply(moment.persona, moment.chat, TRICKS[trick](moment, seed), moment.ledger)
    assert verdict.score < score(moment, moment.reply("tailored", seed))
    assert verdict.score < score(moment, moment.reply("generic", seed)) or verdict.score == 1.0


@given(moments, st.text(max_size=300), st.sampled_from(["", "ideal"]), seeds)
def test_every_text_has_a_verdict_within_bounds(moment: Talk, text: str, before: str, seed: int) -> None:
    reply = (ideal(moment, seed) if before else "") + text
    verdict = judge_reply(moment.persona, moment.chat, reply, moment.ledger)
    assert 1 <= verdict.score <= 5
    assert set(verdict.parts) == {*DIMENSIONS, "on_topic", "recall"}
    assert all(0 <= part <= 1 for part in verdict.parts.values())
    assert all(points > 0 for points in verdict.penalties.values())


@given(moments, seeds, st.sampled_from(["random", "generic", "mirror", "tailored", "oracle"]))
def test_an_undisclosed_fact_never_pays(moment: Talk, seed: int, source: str) -> None:
    assume(hidden(moment))
    fact = hidden(moment)[seed % len(hidden(moment))]
    reply = moment.reply(source, seed)
    added = f"{reply} As with your {fact.term}."
    assert score(moment, added) <= score(moment, reply)
    penalties = judge_reply(moment.persona, moment.chat, added, moment.ledger).penalties
    assert penalties["mind_reading"] == 1


@given(moments, seeds)
def test_a_fact_that_the_chat_has_named_is_no_mind_reading(moment: Talk, seed: int) -> None:
    assume(hidden(moment))
    fact = hidden(moment)[0]
    before = (Message(role="user", content=f"I have {fact.term}."), Message(role="assistant", content="So."))
    chat = (*before, *moment.chat)
    reply = f"{moment.reply('oracle', seed)} As with your {fact.term}."
    assert "mind_reading" not in judge_reply(moment.persona, chat, reply, moment.ledger).penalties


@given(moments, seeds, st.sampled_from(list(DIMENSIONS)))
def test_mending_a_miss_never_lowers_the_style_part(moment: Talk, seed: int, dimension: Dimension) -> None:
    persona = moment.persona
    wanted = persona.preferences[dimension].value
    style = any_style(Random(seed))
    style[dimension] = next(value for value in DIMENSIONS[dimension] if value != wanted)
    mended = {**style, dimension: wanted}
    fact = fitting_fact(moment.topic, disclosed_facts(moment.ledger))
    before, after = (compose_reply(s, moment.topic, fact, seed) for s in (style, mended))
    assume(style_of(before) == style and style_of(after) == mended)

    def style_part(reply: str) -> float:
        fits = style_fit(persona, reply)
        # How far outside its band a length lies is another matter than which band was aimed for.
        fits["length"] = float(fits["length"] == 1)
        return sum(fits[d] * persona.preferences[d].weight for d in fits)

    assert style_part(after) > style_part(before)


@given(moments, seeds)
def test_knowing_the_person_reaches_nearly_the_top(moment: Talk, seed: int) -> None:
    assert score(moment, ideal(moment, seed)) > 4


def test_the_score_is_the_formula() -> None:
    moment = talks(PERSONAS[0], 3, 1)[-1]
    weights = {d: preference.weight for d, preference in moment.persona.preferences.items()}
    for seed in range(30):
        verdict = judge_reply(moment.persona, moment.chat, moment.reply("random", seed), moment.ledger)
        parts = verdict.parts
        style = sum(parts[d] * weights[d] for d in DIMENSIONS) / sum(weights.values())
        content = 0.4 * parts["on_topic"] + 0.6 * parts["recall"]
        whole = 1 + 4 * (0.7 * style * (0.4 + 0.6 * parts["on_topic"]) + 0.3 * content)
        assert verdict.score == pytest.approx(max(1, whole - sum(verdict.penalties.values())), abs=1e-4)


def test_penalties_by_example() -> None:
    moment = talks(PERSONAS[0], 3, 1)[-1]

    def kinds(reply: str) -> set[str]:
        return set(judge_reply(moment.persona, moment.chat, reply, moment.ledger).penalties)

    assert kinds("ok") == {"degenerate"}
    assert kinds("You could do this and that! So there! Now! And go! Yes! It is on!") == {"stuffing"}
    assert "parroting" in kinds(moment.chat[-1].content)
    assert kinds(moment.chat[1].content) == {"repetition"}
    assert "rambling" in kinds(" ".join(moment.reply("generic", seed) for seed in range(9)))
    assert kinds(ideal(moment, 1)) == set()


def test_another_persons_fact_is_asked_for_when_judged_as_theirs() -> None:
    moment = talks(PERSONAS[0], 1, 1)[-1]
    own = fitting_fact(moment.topic, moment.persona.facts)
    others = [(p, fitting_fact(moment.topic, p.facts)) for p in PERSONAS]
    stranger, theirs = next((p, fact) for p, fact in others if fact is not None and own is not None and fact != own)
    reply = ideal(moment, 1)
    assert own is not None and theirs is not None and mentions(reply, own) and not mentions(reply, theirs)
    assert judge_reply(moment.persona, moment.chat, reply, moment.ledger).parts["recall"] == 1
    assert judge_reply(stranger, moment.chat, reply, moment.ledger).parts["recall"] == 0


def test_the_role_gives_the_same_verdict() -> None:
    moment = talks(PERSONAS[0], 2, 1)[-1]
    reply = moment.reply("generic")
    verdict = asyncio.run(RuleJudge().score(moment.persona, moment.chat, reply, moment.ledger, 3))
    assert verdict == judge_reply(moment.persona, moment.chat, reply, moment.ledger)
    assert verdict is not None and Verdict.model_validate_json(verdict.model_dump_json()) == verdict


def test_length_falls_off_with_distance() -> None:
    persona = next(p for p in PERSONAS if p.preferences["length"].value == "brief")

    def fit(count: int) -> float:
        return style_fit(persona, "word " * count)["length"]

    assert [fit(count) for count in (0, 1, 20, 35, 90)] == pytest.approx([14 / 15, 1, 1, 0, 0])
    assert fit(21) > fit(25) > fit(30) > 0
