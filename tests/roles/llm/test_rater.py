from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from interalign.errors import ModelError
from interalign.llm.endpoint import EndpointConfig, EndpointModel
from interalign.llm.model import Answer, Request, Sampling
from interalign.llm.scripted import ScriptedModel
from interalign.messages import Chat, Message
from interalign.personas.persona import Fact, Persona
from interalign.roles.judge import Judge, Verdict
from interalign.roles.ledger import Disclosure, Ledger, Stated
from interalign.roles.llm.player import FREELY, Player, RoleFailure, instructions, prompt_hashes
from interalign.roles.llm.rater import HelpfulnessRater, LLMRater
from interalign.roles.llm.script import scripts
from tests.llm.servers import FaultyServer, Reply, completion, error, serving
from tests.roles.llm.stage import CHAT, INJECTION, LEDGER, PERSONA, SAMPLING, Heard, inside, lines


def rating(score: object = 4, style: object = 5, content: object = 2, honest: object = True, **more: object) -> str:
    return json.dumps({"score": score, "style": style, "content": content, "honest": honest, **more})


def rated(player: Player, reply: str = "Rest.", ledger: Ledger = LEDGER, seed: int = 4, **how: bool) -> Verdict | None:
    """The verdict; None where the answer could not be read."""
    try:
        return asyncio.run(LLMRater(player, **how).score(PERSONA, CHAT, reply, ledger, seed))
    except RoleFailure:
        return None


def helped(player: Player, reply: str = "Rest.", chat: Chat = CHAT, **how: bool) -> float | None:
    """The score; None where the answer could not be read."""
    try:
        return asyncio.run(HelpfulnessRater(player, **how).helpfulness(chat, reply, 4))
    except RoleFailure:
        return None


def why(player: Player, **how: bool) -> str:
    """Why there is no verdict."""
    with pytest.raises(RoleFailure) as failure:
        asyncio.run(LLMRater(player, **how).score(PERSONA, CHAT, "Rest.", LEDGER, 4))
    return failure.value.cause


def test_it_is_a_judge() -> None:
    judge: Judge = LLMRater(Heard([rating()]).player)
    assert asyncio.run(judge.score(PERSONA, CHAT, "Rest.", LEDGER, 4)) == rated(Heard([rating()]).player)


def test_parts_go_from_0_to_1_and_change_nothing_in_the_score() -> None:
    for number in range(1, 6):
        for honest in (True, False):
            verdict = rated(Heard([rating(4, number, 6 - number, honest)]).player)
            parts = {"style": (number - 1) / 4, "content": (5 - number) / 4, "honest": float(honest)}
            assert verdict == Verdict(score=4, parts=parts)


def test_persona_disclosed_last_exchange_and_reply_are_shown_in_this_order() -> None:
    heard = Heard([rating()])
    rated(heard.player, INJECTION)
    (prompt,) = heard.data
    places = [prompt.index(f"<{tag}>") for tag in ("persona", "disclosed", "chat", "reply")]
    assert places == sorted(places)
    assert json.loads(inside(prompt, "persona"))["profile"] == PERSONA.profile
    assert lines(prompt) == [{one.role: one.content} for one in CHAT[-2:]]
    assert json.loads(inside(prompt, "reply")) == INJECTION


def test_it_is_told_what_the_person_has_given_away_by_rules_and_by_models() -> None:
    stated = (Stated(kind="profile", text="She repairs organs.", words="w"),)
    ledger = (
        Disclosure(turn=1, facts=(Fact(slot="pet", term="a cat", key="cat"),), stated=stated),
        Disclosure(turn=2, stated=(*stated, Stated(kind="profile", text=INJECTION, words="w"))),
    )
    heard = Heard([rating()])
    rated(heard.player, ledger=ledger)
    assert json.loads(inside(heard.data[0], "disclosed")) == ["pet: a cat", "She repairs organs.", INJECTION]


def test_nobody_is_known_to_the_rater_of_helpfulness() -> None:
    heard = Heard(['{"score": 3}'])
    assert helped(heard.player, INJECTION) == 3
    (prompt,) = heard.data
    assert "<persona>" not in prompt and "<disclosed>" not in prompt and PERSONA.profile not in prompt
    assert lines(prompt) == [{one.role: one.content} for one in CHAT[-2:]]
    assert json.loads(inside(prompt, "reply")) == INJECTION


def test_a_request_is_the_same_bytes_with_every_reply_up_to_the_reply() -> None:
    heard = Heard([rating()], instructions("rater"))
    for reply in ("One.", "Two."):
        rated(heard.player, reply)
    begun = {request.messages[1].content.split("<reply>")[0] for request in heard.requests}
    assert len(begun) == 1
    assert {request.messages[0].content for request in heard.requests} == {instructions("rater")}


@pytest.mark.parametrize("role", ["rater", "helpfulness"])
def test_the_instructions_ask_for_the_form_and_name_each_tag(role: str) -> None:
    heard = Heard([rating() if role == "rater" else '{"score": 4}'])
    rated(heard.player) if role == "rater" else helped(heard.player)
    text = instructions(role)
    schema = heard.requests[0].response_schema
    assert schema is not None
    asked = text.rpartition("\n")[2]
    assert all(f'"{field}"' in asked for field in schema["required"])
    tags = ("persona", "disclosed", "chat", "reply")
    assert all((f"<{tag}>" in text) == (f"<{tag}>" in heard.data[0]) for tag in tags)


@pytest.mark.parametrize("role", ["rater", "helpfulness"])
def test_free_text_is_told_to_end_in_a_rating_and_all_before_is_the_same(role: str) -> None:
    free, plain = instructions(role + FREELY), instructions(role)
    assert free.endswith("\nRating: N") and "JSON and nothing else" in plain and "JSON and nothing" not in free
    assert free.rpartition("\n\n")[0] == plain.rpartition("\n\n")[0]
    assert prompt_hashes({"judge": free})["judge"] != prompt_hashes({"judge": plain})["judge"]
    assert "repair_free" in prompt_hashes({"judge": free}, free_text=True)
    assert "repair_free" not in prompt_hashes({"judge": plain})


def test_a_file_of_ones_own_is_not_touched_by_free_text(tmp_path: Path) -> None:
    path = tmp_path / "own.txt"
    path.write_text("Rate it.\n\nAnswer with JSON.\n", encoding="utf-8")
    assert (
        instructions("rater" + FREELY, str(path)) == instructions("rater", str(path)) == "Rate it.\n\nAnswer with JSON."
    )


UNREADABLE = [
    "",
    "4",
    "Score: 4/5",
    "{}",
    '{"score": 4}',
    rating(0),
    rating(6),
    rating("4"),
    rating(4.5),
    rating(True),
    rating(None),
    rating(style=0),
    rating(content=True),
    rating(honest="true"),
    rating(honest=1),
    rating(reason="warm"),
    rating()[:-5],
    f"I think so: {rating()}",
]


@pytest.mark.parametrize("text", UNREADABLE)
def test_an_answer_that_cannot_be_read_is_missing_after_one_repair(text: str) -> None:
    heard = Heard([text])
    assert rated(heard.player) is None
    assert len(heard.requests) == 2
    mended = Heard([text, rating(2)])
    verdict = rated(mended.player)
    assert verdict is not None and verdict.score == 2
    assert '"honest": true|false' in mended.requests[1].messages[-1].content


@pytest.mark.parametrize(
    ("text", "cause"),
    [
        (" ", "empty"),
        ("I give it a four.", "no JSON"),
        (rating()[:-5], "no JSON"),
        ("I’m sorry, but I can’t rate people.", "refused"),
        ("As an AI language model, I cannot evaluate this.", "refused"),
        (rating(6), "unfit score in its JSON"),
        (rating("4"), "unfit score in its JSON"),
        ('{"score": 4}', "no style in its JSON"),
        (rating(reason="warm"), "JSON of another form"),
        ("[4]", "JSON of another form"),
    ],
)
def test_why_there_is_no_verdict_is_told_in_words_that_can_be_counted(text: str, cause: str) -> None:
    assert why(Heard([text]).player) == cause
    # The last answer decides: the first one was asked for again.
    assert why(Heard(["3", text]).player) == cause


@pytest.mark.parametrize(
    ("text", "cause"),
    [
        ("", "empty"),
        ("I cannot give a score.", "refused"),
        ("It is fine.", "names no score"),
        ("7", "no whole number from 1 to 5"),
        ('{"score": 7}', "no whole number from 1 to 5"),
        ("Between 3 and 4.", "names more than one number"),
        ("8/10", "score is on another scale than 1 to 5"),
        ('{"style": 3}', "JSON has no score"),
    ],
)
def test_why_free_text_is_no_verdict(text: str, cause: str) -> None:
    assert why(Heard([text]).player, free_text=True) == cause


@pytest.mark.parametrize("text", ["", rating()[:-5], "I cannot say: the"])
@pytest.mark.parametrize("free_text", [True, False])
def test_an_answer_that_was_cut_is_told_of_before_all_else(
    text: str, free_text: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    cut = completion(choices=[{"message": {"content": text}, "finish_reason": "length"}])
    with serving(cut, cut) as server, pytest.raises(RoleFailure, match="cut off at max_tokens") as failure:
        asked(server, monkeypatch, free_text=free_text)
    assert failure.value.cause == "cut at max_tokens"


@pytest.mark.parametrize("text", ["", "4", "{}", '{"score": 0}', '{"score": true}', '{"score": 4, "style": 3}'])
def test_helpfulness_that_cannot_be_read_is_missing_after_one_repair(text: str) -> None:
    heard = Heard([text])
    assert helped(heard.player) is None
    assert len(heard.requests) == 2
    assert helped(Heard([text, '{"score": 5}']).player) == 5


@given(st.text() | st.recursive(st.none() | st.integers() | st.text(), st.lists).map(json.dumps), st.booleans())
def test_no_text_breaks_it_or_becomes_a_score_by_default(text: str, free_text: bool) -> None:
    verdict = rated(Heard([text]).player, free_text=free_text)
    assert verdict is None or (free_text and str(int(verdict.score)) in text and not verdict.parts)


def test_free_text_is_read_where_that_was_agreed_and_only_there() -> None:
    heard = Heard(["Score: 4/5, it fits."])
    assert rated(heard.player, free_text=True) == Verdict(score=4)
    assert heard.requests[0].response_schema is None and len(heard.requests) == 1
    assert rated(Heard(["Score: 4/5, it fits."]).player) is None
    assert helped(Heard(["**4**"]).player, free_text=True) == 4
    assert helped(Heard(["**4**"]).player) is None


def test_whole_json_in_a_free_answer_keeps_its_parts() -> None:
    for text in (rating(4), f"```json\n{rating(4)}\n```"):
        verdict = rated(Heard([text]).player, free_text=True)
        assert verdict == rated(Heard([text]).player) and verdict is not None and verdict.parts
    assert rated(Heard([rating(4, reason="warm")]).player, free_text=True) == Verdict(score=4)


def test_a_free_answer_that_is_not_plain_is_asked_for_once_more_with_the_reason() -> None:
    heard = Heard(["Between 3 and 4.", "I'd say 3"])
    assert rated(heard.player, free_text=True) == Verdict(score=3)
    repair = heard.requests[1].messages[-1].content
    assert "more than one number" in repair and "Rating: N" in repair and "JSON" not in repair
    stubborn = Heard(["Between 3 and 4."])
    assert rated(stubborn.player, free_text=True) is None
    assert len(stubborn.requests) == 2


class Unreachable:
    name = "unreachable"

    async def complete(self, request: Request) -> Answer:
        raise ModelError("nobody there")


@pytest.mark.parametrize("free_text", [True, False])
def test_a_server_that_fails_is_no_missing_score(free_text: bool) -> None:
    player = Player([(Unreachable(), 1)], SAMPLING, "Rate.")
    for ask in (rated, helped):
        with pytest.raises(ModelError, match="nobody there"):
            ask(player, free_text=free_text)


def test_which_model_rates_depends_on_the_seed_alone() -> None:
    models = [(ScriptedModel(str(score), [rating(score)]), 1.0) for score in (1, 3, 5)]
    player = Player(models, SAMPLING, "Rate.")
    scores = [[rated(player, reply, seed=seed) for reply in ("One.", "Two.")] for seed in range(30)]
    assert all(one == two for one, two in scores)
    assert {one.score for one, _ in scores if one is not None} == {1, 3, 5}


def told(text: str, *places: tuple[str, dict[str, float]]) -> Reply:
    """An answer of a server with log-probabilities: at each place the token that was written, and the others."""
    content = [
        {
            "token": token,
            "logprob": others.get(token, 0.0),
            "top_logprobs": [{"token": other, "logprob": logprob} for other, logprob in others.items()],
        }
        for token, others in places
    ]
    choice = {"message": {"content": text}, "finish_reason": "stop", "logprobs": {"content": content}}
    return completion(choices=[choice])


WEIGHTED = told(
    rating(4),
    ('{"score":', {}),
    (" ", {}),
    ("4", {"4": -0.6931471805599453, "5": -0.6931471805599453}),
    (rating(4).removeprefix('{"score": 4'), {}),
)


def asked(server: FaultyServer, monkeypatch: pytest.MonkeyPatch, **how: Any) -> Verdict | None:
    async def ask() -> Verdict | None:
        async with EndpointModel(EndpointConfig(base_url=server.base_url, model="m", max_retries=0)) as model:
            rater = LLMRater(Player([(model, 1)], SAMPLING, "Rate."), **how)
            return await rater.score(PERSONA, CHAT, "Rest.", LEDGER, 4)

    monkeypatch.setenv("OPENAI_API_KEY", "none")
    return asyncio.run(ask())


def test_a_score_is_weighted_by_what_a_server_tells(monkeypatch: pytest.MonkeyPatch) -> None:
    with serving(WEIGHTED) as server:
        verdict = asked(server, monkeypatch, weighted=True)
    assert verdict == Verdict(score=4.5, parts={"style": 1, "content": 0.25, "honest": 1})
    assert server.bodies[0]["top_logprobs"] == 5
    with serving(WEIGHTED) as server:
        verdict = asked(server, monkeypatch)
    assert verdict is not None and verdict.score == 4 and "logprobs" not in server.bodies[0]


def test_a_free_score_is_weighted_too(monkeypatch: pytest.MonkeyPatch) -> None:
    free = told("**4**/5", ("**", {}), ("4", {"4": -0.1, "2": -0.1}), ("**/5", {}))
    with serving(free) as server:
        assert asked(server, monkeypatch, weighted=True, free_text=True) == Verdict(score=3)


@pytest.mark.parametrize("first", [error(400, "no logprobs"), completion(rating(4)), told(rating(4), ("4", {"5": 0}))])
def test_where_chances_are_not_told_the_score_stands_as_said(first: Reply, monkeypatch: pytest.MonkeyPatch) -> None:
    with serving(first, completion(rating(4))) as server:
        verdict = asked(server, monkeypatch, weighted=True)
    assert verdict is not None and verdict.score == 4


def scripted(role: str) -> Player:
    return Player([(scripts()[role], 1)], Sampling(), instructions(role))


def known(*told: str) -> Ledger:
    return (
        Disclosure(turn=1, stated=tuple(Stated(kind="profile", text=text, words="w") for text in told)),
        Disclosure(turn=2),
    )


ORGANS = "She repairs church organs in Turku."
FITTING = "As you said, you repair church organs in Turku: that is hard on a back. Kneel less, and rest it for a day."
GENERIC = "There are a few ways to look at this. Begin with the smallest step and see where it takes things."
CLAIMING = f"{FITTING} Your two deaf cats, with whom you live, laugh at it."
STUFFED = (
    "You repair church organs in Turku! You are 52 years old! You live with two deaf cats! You laugh at your own "
    "mistakes! You are impatient with small talk!"
)
WHOLE = (ORGANS, "Ida is 52 years old.", "She lives with two deaf cats.", "She laughs at her own mistakes.")


def scores(replies: Sequence[str], ledger: Ledger, persona: Persona = PERSONA) -> list[Verdict]:
    rater = LLMRater(scripted("rater"))
    verdicts = [asyncio.run(rater.score(persona, CHAT, reply, ledger, 1)) for reply in replies]
    return [verdict for verdict in verdicts if verdict is not None]


def test_the_script_tells_a_fitting_reply_from_others() -> None:
    fitting, generic, claiming, stuffed = scores([FITTING, GENERIC, CLAIMING, STUFFED], known(ORGANS))
    assert fitting.score > generic.score > stuffed.score and fitting.score > claiming.score
    assert [one.parts["honest"] for one in (fitting, generic, claiming, stuffed)] == [1, 1, 0, 0]
    fitting, stuffed = scores([FITTING, STUFFED], known(*WHOLE))
    assert fitting.score > stuffed.score and stuffed.parts["honest"] == 1 and stuffed.parts["content"] == 0


def test_the_script_sees_for_whom_a_reply_is() -> None:
    other = Persona(profile="Otto is 19 years old. He sells cars.", personality="He is talkative and cheerful.")
    (own,), (swapped,) = scores([FITTING], known(ORGANS)), scores([FITTING], known(), other)
    assert own.score > swapped.score
    short = "Kneel less."
    assert scores([short], known())[0].parts["style"] < 1
    assert scores(["Kneel less, rest it."], known())[0].parts["style"] == 1
    assert scores(["Kneel less, rest it."], known(), other)[0].parts["style"] < 1


def test_the_script_of_helpfulness_wants_words_on_the_message() -> None:
    player = scripted("helpfulness")
    on_it = helped(player, "To skip small talk, say long before what you want, and smile as you say it to them.")
    general, circles, nothing = (helped(player, text) for text in (GENERIC, "talk " * 30, "Ok."))
    assert on_it is not None and general is not None
    assert on_it > general > 1 and circles == nothing == 1


def test_scripts_are_certain_so_that_weights_change_nothing() -> None:
    for free_text in (True, False):
        plain, weighted = (
            asyncio.run(
                LLMRater(scripted("rater"), weighted, free_text).score(PERSONA, CHAT, FITTING, known(ORGANS), 1)
            )
            for weighted in (False, True)
        )
        assert plain is not None and plain == weighted


@given(st.text(max_size=40), st.text(min_size=1, max_size=40), st.lists(st.text(max_size=20), max_size=3))
def test_any_reply_can_be_rated_by_script(reply: str, text: str, told: list[str]) -> None:
    persona = Persona(profile=text, personality=text)
    assert len(scores([reply], known(*told), persona)) == 1
    assert helped(scripted("helpfulness"), reply) is not None
    assert helped(scripted("helpfulness"), reply, chat=()) is not None


def test_the_script_gives_less_for_much_told_and_nothing_used() -> None:
    (early,), (late,) = scores([GENERIC], known(ORGANS)), scores([GENERIC], known(*WHOLE))
    assert early.score > late.score
    (fitting,) = scores([FITTING], known(*WHOLE))
    assert fitting.score >= 4


def test_the_script_likes_a_reply_no_longer_than_the_message() -> None:
    said = "My knees hurt."
    short, long = "You might rest your knees for a good long day.", "Rest. " * 8
    first = (Message(role="user", content=said),)
    other = Persona(profile="Otto is 19 years old.", personality="He is talkative and cheerful.")
    rater = LLMRater(scripted("rater"))
    styles = [
        verdict.parts["style"]
        for chat in (first, (Message(role="user", content=f"{said} {long * 3}"),))
        if (verdict := asyncio.run(rater.score(other, chat, short, known(), 1)))
    ]
    assert styles[0] < styles[1] == 1
