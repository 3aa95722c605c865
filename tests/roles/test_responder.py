from __future__ import annotations

import asyncio
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from interalign.llm.model import Request, Sampling
from interalign.llm.scripted import ScriptedModel
from interalign.messages import Message
from interalign.personas.persona import Persona
from interalign.personas.style import DIMENSIONS
from interalign.personas.vocabulary import SLOTS, slot
from interalign.roles.inducer import Impression, as_text
from interalign.roles.ledger import disclosed_facts
from interalign.roles.measure import mentions, style_of
from interalign.roles.responder import (
    GENERIC_STYLE,
    ModelResponder,
    Reply,
    RuleResponder,
    compose_reply,
    fitting_fact,
    impression_fit,
    policy_prompt,
    views,
)
from tests.roles.talks import PERSONAS, Talk, any_style, talks

moments = st.builds(lambda persona, turn: talks(persona, 5, 1)[turn], st.sampled_from(PERSONAS[::5]), st.integers(0, 4))


def test_replies_measure_as_wanted_and_name_the_fact() -> None:
    random = Random(8)
    misses = 0
    for seed in range(400):
        style, topic = any_style(random), random.choice(SLOTS)
        fact = random.choice([None, random.choice(slot(topic).facts("heldout"))])
        reply = compose_reply(style, topic, fact, seed)
        measured = style_of(reply)
        misses += any(measured[dimension] != style[dimension] for dimension in DIMENSIONS if dimension != "length")
        assert fact is None or mentions(reply, fact)
        assert "{" not in reply and reply.strip() == reply
    assert misses <= 0.02 * 400


def test_length_is_nearly_always_as_wanted() -> None:
    random = Random(9)
    styles = [any_style(random) for _ in range(200)]
    hits = [
        style_of(compose_reply(style, "home", None, seed))["length"] == style["length"]
        for seed, style in enumerate(styles)
    ]
    assert sum(hits) >= 0.8 * len(hits)


def test_the_same_seed_gives_the_same_reply() -> None:
    replies = [compose_reply(GENERIC_STYLE, "pet", None, seed) for seed in (1, 1, 2, 3, 4)]
    assert replies[0] == replies[1]
    assert len(set(replies)) == 4


def test_what_the_style_leaves_open_is_the_default() -> None:
    assert compose_reply({}, "pet", None, 3) == compose_reply(Impression().style_or_default(), "pet", None, 3)


@given(moments, st.text())
def test_impression_fit_is_a_share(moment: Talk, text: str) -> None:
    for view in views(moment.persona, moment.ledger, 3).values():
        assert 0 <= impression_fit(text, moment.topic, view) <= 1


def test_impression_fit_prefers_what_fits() -> None:
    fact = slot("dish").facts("train")[0]
    impression = Impression(facts=(fact,), style={"emoji": "some", "layout": "list"})
    fitting = compose_reply(impression.style_or_default(), "dish", fact, 1)
    assert impression_fit(fitting, "dish", impression) == 1
    assert impression_fit(fitting.replace(fact.key, "it"), "dish", impression) == pytest.approx(0.8)
    assert impression_fit("I'm glad! Maybe? 🙂", "dish", impression) < 0.5


@given(moments)
def test_views_never_hold_what_was_not_disclosed(moment: Talk) -> None:
    known = set(disclosed_facts(moment.ledger))
    for source, view in views(moment.persona, moment.ledger, 4).items():
        assert set(view.facts) <= known
        if source not in ("tailored", "oracle"):
            assert view.facts == moment.ledger[-1].facts


@given(moments)
def test_only_the_oracle_sees_preferences(moment: Talk) -> None:
    other = next(p for p in PERSONAS if p.preferences != moment.persona.preferences)
    changed = Persona(**{**dict(moment.persona), "id": "", "preferences": other.preferences})
    own, strange = views(moment.persona, moment.ledger, 4), views(changed, moment.ledger, 4)
    assert own.pop("oracle") != strange.pop("oracle")
    assert own == strange


def test_sources_differ_in_style_only_as_they_should() -> None:
    moment = talks(PERSONAS[1], 5, 1)[-1]
    seen = views(moment.persona, moment.ledger, 4)
    assert seen["generic"].style == GENERIC_STYLE
    assert seen["oracle"].style == {d: wish.value for d, wish in moment.persona.preferences.items()}
    assert seen["random"] != views(moment.persona, moment.ledger, 5)["random"]
    assert seen["tailored"] == views(moment.persona, moment.ledger, 5)["tailored"]


def test_the_fitting_fact_fills_the_topics_slot() -> None:
    facts = PERSONAS[0].facts
    assert fitting_fact(facts[2].slot, facts) == facts[2]
    absent = next(name for name in SLOTS if name not in {fact.slot for fact in facts})
    assert fitting_fact(absent, facts) is None


def test_without_an_impression_the_rules_answer_as_to_anybody() -> None:
    reply = asyncio.run(RuleResponder().respond((), "music", None, 6))
    assert reply == compose_reply(GENERIC_STYLE, "music", None, 6)


def test_a_model_is_told_the_impression_and_the_chat() -> None:
    requests: list[Request] = []

    def answer(request: Request) -> str:
        requests.append(request)
        return "  Of course.\n" if request.seed != 3 else "<think>A greeting.</think>\nOf course."

    responder = ModelResponder(ScriptedModel("scripted", answer), Sampling())
    chat = (Message(role="user", content="Hello"),)
    impression = Impression(style={"emoji": "some"})
    assert asyncio.run(responder.respond(chat, "pet", None, 1)) == "Of course."
    assert asyncio.run(responder.respond(chat, "pet", impression, 2)) == "Of course."
    # Who talks with the user shows no thinking; those that measure want to know whether anything else was there.
    assert asyncio.run(responder.answer(chat, None, 3)) == Reply(content="Of course.", model="scripted")
    alone, told, _ = requests
    assert alone.messages == (Message(role="system", content=policy_prompt()), *chat)
    assert told.messages[0].content == f"{policy_prompt()} {as_text(impression)}"
    assert (alone.seed, told.seed) == (1, 2)


def test_a_model_that_takes_notes_sees_its_own_and_shows_none() -> None:
    heard: list[Request] = []

    def answer(request: Request) -> str:
        heard.append(request)
        return f"<think>Notes: emoji none, said {len(heard)}.</think>\nOf course {len(heard)}."

    responder = ModelResponder(ScriptedModel("noting", answer), Sampling())
    hello, more = Message(role="user", content="Hello"), Message(role="user", content="More")
    reply = asyncio.run(responder.answer((hello,), None, 1))
    assert reply.content == "Of course 1."
    shown = Message(role="assistant", content=reply.content)
    other = Message(role="assistant", content="Somebody else's words.")
    asyncio.run(responder.answer((hello, shown, more), None, 2))
    asyncio.run(responder.answer((hello, other, more), None, 3))
    assert [message.content for message in heard[1].messages[1:]] == [
        "Hello",
        "<think>Notes: emoji none, said 1.</think>\nOf course 1.",
        "More",
    ]
    # The conversation went on from another reply.
    assert [message.content for message in heard[2].messages[1:]] == ["Hello", "Somebody else's words.", "More"]


def test_what_a_reasoning_model_thought_is_not_kept() -> None:
    heard: list[Request] = []

    def answer(request: Request) -> str:
        heard.append(request)
        return "<think>Let me see.</think>Of course."

    responder = ModelResponder(ScriptedModel("thinking", answer), Sampling())
    hello, more = Message(role="user", content="Hello"), Message(role="user", content="More")
    shown = Message(role="assistant", content=asyncio.run(responder.answer((hello,), None, 1)).content)
    asyncio.run(responder.answer((hello, shown, more), None, 2))
    assert heard[1].messages[1:] == (hello, shown, more)


@pytest.mark.parametrize("order", [(1, 2), (2, 1)])
def test_of_equal_replies_the_same_notes_are_kept_whichever_comes_first(order: tuple[int, int]) -> None:
    heard: list[Request] = []

    def answer(request: Request) -> str:
        heard.append(request)
        return f"<think>Notes: emoji none, {request.seed}.</think>Yes."

    responder = ModelResponder(ScriptedModel("noting", answer), Sampling())
    hello, more = Message(role="user", content="Hello"), Message(role="user", content="More")
    for seed in order:
        asyncio.run(responder.answer((hello,), None, seed))
    asyncio.run(responder.answer((hello, Message(role="assistant", content="Yes."), more), None, 3))
    assert heard[-1].messages[2].content == "<think>Notes: emoji none, 1.</think>Yes."
