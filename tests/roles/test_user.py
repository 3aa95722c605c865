from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest

from interalign.errors import InputError
from interalign.messages import Message
from interalign.personas.compose import _PREFERENCE_TEXT, WorldConfig, compose_personas
from interalign.personas.persona import Persona
from interalign.personas.vocabulary import slot
from interalign.roles.judge import style_fit
from interalign.roles.ledger import disclosed_facts
from interalign.roles.measure import mentions, style_of, topicality, words
from interalign.roles.phrases import user_phrases
from interalign.roles.user import RuleUser, refuse_unplayable, user_turn
from tests.roles.talks import PERSONAS, Talk, opening, talks


def moments(turns: int = 8) -> Iterator[Talk]:
    for persona in PERSONAS[::2]:
        yield from talks(persona, turns, 1)


def said(talk: Talk) -> str:
    return talk.chat[-1].content


def plan(replies: list[str]) -> list[tuple[tuple[str, ...], str]]:
    talk = opening(PERSONAS[3], 7)
    for reply in replies:
        talk = talk.answered(reply, 7)
    return [(tuple(fact.key for fact in entry.facts), entry.topic) for entry in talk.ledger]


def test_the_same_seed_gives_the_same_words() -> None:
    last = talks(PERSONAS[0], 4, 1)[-1]
    again = user_turn(last.persona, last.chat[:-1], last.ledger[:-1], 1)
    assert again.content == said(last)
    assert again.disclosure == last.ledger[-1]
    assert asyncio.run(RuleUser().speak(last.persona, last.chat[:-1], last.ledger[:-1], 1)) == again
    assert user_turn(last.persona, last.chat[:-1], last.ledger[:-1], 2).content != said(last)


def test_the_plan_does_not_depend_on_replies_that_ask_nothing() -> None:
    plans = [plan([text] * 6) for text in ("Do it.", "I'm so glad! 🙂", "- one\n- two\n- three", "word " * 80)]
    assert all(other == plans[0] for other in plans)
    assert len(plans[0]) == 7


def test_the_ledger_says_which_facts_the_text_names() -> None:
    for talk in moments():
        before = disclosed_facts(talk.ledger[:-1])
        told = talk.ledger[-1].facts
        assert {fact for fact in talk.persona.facts if mentions(said(talk), fact)} == set(told)
        assert not set(told) & set(before)


def test_the_ledger_says_what_the_writing_shows() -> None:
    phrases = user_phrases()
    for talk in moments():
        manner, text = talk.ledger[-1].manner, said(talk)
        measured = style_of(text)
        assert {d: manner[d] for d in ("emoji", "exclamation", "formality")} == {
            d: measured[d] for d in ("emoji", "exclamation", "formality")
        }
        if manner["formality"] == "formal":  # casual words replace parts of phrases
            hedged = any(hedge.casefold() in text.casefold() for hedge in phrases.hedge)
            pleasant = any(
                pleasantry.casefold() in text.casefold()
                for pleasantry in (*phrases.pleasantry, *phrases.pleasantry_first)
            )
            assert hedged or manner["directness"] == "direct"
            assert pleasant == (manner["warmth"] == "warm")


@pytest.mark.parametrize("dimension", ["emoji", "exclamation", "formality", "directness", "warmth"])
def test_manner_shows_often_and_slips_seldom(dimension: str) -> None:
    presence = {"emoji": "some", "exclamation": "some", "formality": "casual", "directness": "gentle", "warmth": "warm"}
    present = presence[dimension]
    own: dict[bool, list[bool]] = {True: [], False: []}
    for talk in moments():
        own[talk.persona.manner[dimension] == present].append(talk.ledger[-1].manner[dimension] == present)
    assert 0.4 < sum(own[True]) / len(own[True]) < 0.8
    assert sum(own[False]) / len(own[False]) < 0.15


def test_people_who_write_long_write_more() -> None:
    counts: dict[str, list[int]] = {"brief": [], "medium": [], "long": []}
    for talk in moments():
        counts[talk.ledger[-1].manner["length"]].append(len(words(said(talk))))
    brief, medium, long = (sum(counts[length]) / len(counts[length]) for length in counts)
    assert brief < medium < long


def test_users_never_say_what_they_want() -> None:
    outright = [text.casefold() for text in _PREFERENCE_TEXT.values()]
    for talk in moments():
        text = said(talk).casefold()
        assert not [phrase for phrase in outright if phrase in text]


def test_reactions_are_to_what_the_last_reply_did() -> None:
    seen = 0
    for talk in moments():
        if len(talk.chat) == 1:
            assert talk.ledger[-1].reactions == ()
            continue
        reply = talk.chat[-2].content
        fits, got = style_fit(talk.persona, reply), style_of(reply)
        for reaction in talk.ledger[-1].reactions:
            seen += 1
            assert reaction.got == got[reaction.dimension]
            assert fits[reaction.dimension] == 1 if reaction.met else fits[reaction.dimension] < 0.5
            if reaction.dimension != "length":
                assert reaction.wanted == talk.persona.preferences[reaction.dimension].value
            remarks = user_phrases().reaction[reaction.dimension].get(reaction.wanted)
            if remarks is not None:
                said_so = remarks.praise if reaction.met else (*remarks.plain, *remarks.polite, *remarks.blunt)
                assert reaction.words in said_so
            # The person's own hand may change some words of it.
            remark, message = words(reaction.words.casefold()), talk.chat[-1].content.casefold()
            assert sum(word in message for word in remark) > len(remark) / 2
        assert len(talk.ledger[-1].missed) <= 2
    assert seen > 50


def test_praise_comes_after_complaint_and_once() -> None:
    for talk in moments():
        complained: set[str] = set()
        praised: set[str] = set()
        for entry in talk.ledger:
            for reaction in entry.reactions:
                if reaction.met:
                    assert reaction.dimension in complained - praised
            complained |= {reaction.dimension for reaction in entry.missed}
            praised |= {reaction.dimension for reaction in entry.reactions if reaction.met}


def test_a_reply_that_meets_everything_draws_no_complaint() -> None:
    for persona in PERSONAS[::6]:
        for talk in talks(persona, 6, 4, "oracle")[1:]:
            if min(style_fit(persona, talk.chat[-2].content).values()) == 1:
                assert talk.ledger[-1].missed == ()


def test_questions_about_an_undisclosed_fact_are_answered() -> None:
    for persona in PERSONAS[:10]:
        talk = opening(persona, 2)
        without = talk.answered("Do it.", 2).ledger[-1].facts
        hidden = next(fact for fact in persona.facts if fact not in {*talk.ledger[-1].facts, *without})
        first, second = slot(hidden.slot).keywords[0], slot(hidden.slot).keywords[4]
        question = f"Do it. What about the {first} and the {second}?"
        assert topicality(question, slot(hidden.slot)) == 1
        answered = talk.answered(question, 2)
        told = answered.ledger[-1].facts
        assert len(told) == len(without) + 1
        assert mentions(said(answered), told[-1])


def test_a_question_about_nothing_known_draws_no_fact() -> None:
    talk = opening(PERSONAS[0], 2)
    assert talk.answered("Why?", 2).ledger[-1].facts == talk.answered("So.", 2).ledger[-1].facts


def test_people_ask_about_what_they_have_told() -> None:
    for talk in moments():
        assert talk.topic in {fact.slot for fact in disclosed_facts(talk.ledger)}


def test_people_go_on_when_everything_is_told() -> None:
    talk = talks(PERSONAS[0], 14, 1)[-1]
    assert set(disclosed_facts(talk.ledger)) == set(PERSONAS[0].facts)
    assert talk.ledger[-1].facts == ()
    assert said(talk)


def test_a_persona_from_text_alone_is_refused_with_a_way_on() -> None:
    with pytest.raises(InputError, match="cannot be played by rules") as refused:
        refuse_unplayable(Persona(profile="She keeps bees.", personality="She is calm."))
    assert refused.value.mend is not None
    assert "`interalign personas compose`" in refused.value.mend and "language models" in refused.value.mend


def test_openings_are_diverse() -> None:
    users = compose_personas(WorldConfig(train=200, heldout=2), seed=6)[:200]
    openings = [user_turn(persona, (), (), 1).content for persona in users]
    assert len(set(openings)) == 200
    bigrams = [pair for text in openings for pair in zip(words(text), words(text)[1:], strict=False)]
    assert len(set(bigrams)) / len(bigrams) > 0.4


def test_speech_has_no_loose_ends() -> None:
    for talk in moments():
        assert not {"{", "}"} & set(said(talk))
        assert "  " not in said(talk) and said(talk) == said(talk).strip()
        assert talk.chat[-1] == Message(role="user", content=said(talk))
