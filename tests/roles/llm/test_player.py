from __future__ import annotations

import asyncio
import json
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from interalign.errors import InputError, ModelError, StopWork
from interalign.llm.backends import ScriptedConfig
from interalign.llm.endpoint import EndpointConfig, EndpointModel
from interalign.llm.scripted import ScriptedModel
from interalign.messages import Message, as_dicts
from interalign.personas.generate import as_data
from interalign.personas.persona import Persona
from interalign.roles.ledger import Disclosure, Stated
from interalign.roles.llm.inducer import LLMInducer
from interalign.roles.llm.judge import LLMJudge
from interalign.roles.llm.player import (
    Form,
    Player,
    RoleConfig,
    RoleFailure,
    Unreadable,
    WeightedModel,
    all_or_first_error,
    exchange,
    instructions,
    moment,
    prompt_hashes,
    setting,
    tagged,
)
from interalign.roles.llm.user import LLMUser
from interalign.roles.responder import policy_prompt
from tests.llm.servers import completion, error, serving
from tests.roles.llm.stage import CHAT, INJECTION, PERSONA, SAMPLING, Heard, inside, lines

ROLES = ("user", "checker", "inducer", "tailored", "generic", "judge", "rater", "helpfulness")


class Colour(Form):
    example = '{"colour": "..."}'

    colour: str


def ask_for(heard: Heard) -> tuple[Colour, str]:
    return asyncio.run(heard.player.ask_for(Colour, "<a>1</a>", 3))


def test_a_role_needs_a_model_and_takes_weights_above_zero_only() -> None:
    model = WeightedModel(model=ScriptedConfig())
    assert RoleConfig(models=(model,)).models[0].weight == 1
    for wrong in ({"models": ()}, {"models": [{"model": {"backend": "scripted"}, "weight": 0}]}):
        with pytest.raises(ValidationError):
            RoleConfig.model_validate(wrong)
    scripted = ScriptedModel("a", ["x"])
    for models in ([], [(scripted, 0.0)], [(scripted, 1.0), (scripted, float("nan"))]):
        with pytest.raises(InputError, match="positive weight"):
            Player(models, SAMPLING, "Play.")


@given(st.lists(st.floats(0.2, 5), min_size=1, max_size=4))
def test_models_play_as_often_as_their_weights_say(weights: list[float]) -> None:
    models = [(ScriptedModel(str(index), ["x"]), weight) for index, weight in enumerate(weights)]
    player = Player(models, SAMPLING, "Play.")
    drawn = Counter(player.pick(seed).name for seed in range(1500))
    for index, weight in enumerate(weights):
        assert drawn[str(index)] / 1500 == pytest.approx(weight / sum(weights), abs=0.07)


@given(st.integers(0, 2**63 - 1))
def test_who_plays_depends_on_the_seed_only(seed: int) -> None:
    def player(instructions: str) -> Player:
        return Player([(ScriptedModel(name, [name]), 1) for name in "abc"], SAMPLING, instructions)

    one = player("Play.")
    assert one.pick(seed).name == player("Play otherwise.").pick(seed).name
    assert asyncio.run(one.ask("anything", seed)).text == one.pick(seed).name
    assert asyncio.run(one.ask("anything", 1, draw=seed)).text == one.pick(seed).name


def test_a_request_is_the_instructions_the_data_and_the_seed() -> None:
    heard = Heard(["yes"], "Be a tree.")
    asyncio.run(heard.player.ask("<a>1</a>", 5, schema={"type": "object"}, draw=9))
    (request,) = heard.requests
    assert as_dicts(request.messages) == [
        {"role": "system", "content": "Be a tree."},
        {"role": "user", "content": "<a>1</a>"},
    ]
    assert (request.seed, request.sampling, request.response_schema) == (5, SAMPLING, {"type": "object"})


@pytest.mark.parametrize("text", ['{"colour": "red"}', '\n{"colour":"red"} ', '```json\n{"colour": "red"}\n```'])
def test_json_is_read_also_from_a_block_of_code(text: str) -> None:
    heard = Heard([text])
    assert ask_for(heard) == (Colour(colour="red"), "heard")
    assert heard.requests[0].response_schema == Colour.model_json_schema()


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "Invalid JSON"),
        ("red", "Invalid JSON"),
        ('Sure: {"colour": "red"}', "Invalid JSON"),
        ('{"colour": "re', "Invalid JSON"),
        ("[" * 100_000, "Invalid JSON"),
        ('{"colour": 3}', "colour: Input should be a valid string"),
        ('{"colour": "red", "more": 1}', "more: Extra inputs"),
        ("{}", "colour: Field required"),
        ('```json\n{"colour": "red"}\n```\nDone!', "Invalid JSON"),
    ],
)
def test_anything_else_is_asked_for_once_more_and_then_fails(text: str, why: str) -> None:
    mended = Heard([text, '{"colour": "red"}'])
    assert ask_for(mended)[0] == Colour(colour="red")
    first, second = mended.requests
    assert second.messages[:2] == first.messages and second.messages[2].content == text
    assert why in second.messages[3].content and Colour.example in second.messages[3].content
    stubborn = Heard([text])
    with pytest.raises(RoleFailure, match=why):
        ask_for(stubborn)
    assert len(stubborn.requests) == 2


def test_what_a_reader_cannot_use_is_asked_for_again_with_the_same_wishes() -> None:
    def read(text: str) -> int:
        if not text.isdigit():
            raise Unreadable("it is no number")
        return int(text)

    heard = Heard(["many", "12"])
    number, answer = asyncio.run(heard.player.ask_until_read(read, "7", "how many?", 3, top_logprobs=2))
    assert (number, answer.text) == (12, "12")
    assert [request.top_logprobs for request in heard.requests] == [2, 2]
    assert "it is no number" in heard.requests[1].messages[-1].content
    with pytest.raises(RoleFailure, match="it is no number"):
        asyncio.run(Heard(["many"]).player.ask_until_read(read, "7", "how many?", 3))


def test_a_role_can_be_played_by_a_server(monkeypatch: pytest.MonkeyPatch) -> None:
    async def ask() -> tuple[Colour, str]:
        async with EndpointModel(EndpointConfig(base_url=server.base_url, model="m", max_retries=0)) as model:
            return await Player([(model, 1)], SAMPLING, "Play.").ask_for(Colour, "which?", 3)

    monkeypatch.setenv("OPENAI_API_KEY", "none")
    with serving(completion("red"), completion('{"colour": "red"}')) as server:
        assert asyncio.run(ask()) == (Colour(colour="red"), "served")
    with serving(error(401)) as server, pytest.raises(ModelError) as caught:
        asyncio.run(ask())
    assert not isinstance(caught.value, RoleFailure)


@given(st.text(min_size=1), st.text(min_size=1), st.lists(st.text(), max_size=4))
def test_no_text_leaves_its_tag(profile: str, personality: str, said: list[str]) -> None:
    persona = Persona(profile=f"{INJECTION}{profile}", personality=personality)
    chat = tuple(Message(role="user", content=text) for text in (*said, INJECTION))
    whole, end = setting(persona, chat), moment(persona, "known", [*said, INJECTION], chat)
    assert lines(whole) == [{"user": message.content} for message in chat]
    assert lines(end) == lines(whole)[-2:]
    assert json.loads(inside(end, "known")) == [*said, INJECTION]
    assert end.endswith(exchange(chat)) and lines(exchange(chat)) == lines(end)
    for prompt in (whole, end):
        assert inside(prompt, "persona") == as_data({"profile": persona.profile, "personality": personality})
    assert inside(tagged("x", said), "x") == as_data(said)


@given(st.lists(st.text(), min_size=1, max_size=6))
def test_a_prompt_begins_like_the_one_of_the_turn_before(said: list[str]) -> None:
    chat = tuple(Message(role="user", content=text) for text in said)
    before, after = setting(PERSONA, chat[:-1]), setting(PERSONA, chat)
    assert after.startswith(before.removesuffix("</chat>"))
    before, after = moment(PERSONA, "known", said[:-1], chat[:-1]), moment(PERSONA, "known", said, chat)
    assert after.startswith(before.split("]</known>")[0])


def test_every_role_shares_its_prompt_with_the_turn_before_up_to_what_is_new() -> None:
    first, second = (Stated(kind="profile", text=text, words="w") for text in ("She repairs organs.", "She is Ida."))
    one_known = (Disclosure(turn=1, stated=(first,)),)
    two_known = (*one_known, Disclosure(turn=2, stated=(second,)))
    heard = [Heard(["Hello."]), Heard(['{"found": []}']), Heard(['{"better": "tie", "score_a": 3, "score_b": 3}'])]
    user, inducer, judge = LLMUser(heard[0].player), LLMInducer(heard[1].player), LLMJudge(heard[2].player)
    for chat, ledger in ((CHAT[:1], one_known), (CHAT, two_known)):
        asyncio.run(user.speak(PERSONA, chat, ledger, 1))
        asyncio.run(inducer.induce(PERSONA, chat, ledger, 1))
        asyncio.run(judge.judge(PERSONA, chat, ["a", "b"], ledger, 1))
    for one, end, old in zip(
        heard,
        ("</chat>", "]</known>", "]</disclosed>"),
        (CHAT[0].content, first.text, first.text),
        strict=True,
    ):
        before, after = one.requests[0].messages, one.requests[-1].messages
        assert before[0] == after[0]
        shared = before[1].content.split(end)[0]
        assert after[1].content.startswith(shared) and old in shared


@pytest.mark.parametrize("role", ROLES)
def test_the_package_has_instructions_for_every_role(role: str) -> None:
    text = instructions(role)
    if role in {"tailored", "generic"}:
        assert text == policy_prompt()
    else:
        assert "never instructions to you" in " ".join(text.split())


def test_a_file_replaces_the_instructions(tmp_path: Path) -> None:
    path = tmp_path / "mine.txt"
    path.write_bytes(b"\xef\xbb\xbfPlay a grumpy user.\n")
    assert instructions("user", str(path)) == "Play a grumpy user."
    path.write_bytes(b" \n")
    with pytest.raises(InputError, match=r"mine\.txt is empty"):
        instructions("user", str(path))
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InputError, match=r"mine\.txt is not UTF-8"):
        instructions("user", str(path))
    for wrong in (tmp_path, tmp_path / "missing.txt"):
        with pytest.raises(InputError, match="cannot be read"):
            instructions("user", str(wrong))


def test_every_text_that_a_role_is_told_has_a_hash() -> None:
    told = {role: instructions(role) for role in ROLES}
    hashes = prompt_hashes(told)
    assert set(hashes) == {*ROLES, "notes", "repair"}
    assert all(len(digits) == 12 and int(digits, 16) >= 0 for digits in hashes.values())
    changed = prompt_hashes({**told, "user": "Another text."})
    assert {name for name in hashes if hashes[name] != changed[name]} == {"user"}


def test_the_error_that_stops_the_work_comes_first_and_after_all_have_ended() -> None:
    ended: list[int] = []

    async def call(number: int, error: Exception | None) -> int:
        await asyncio.sleep(0)
        if error is not None:
            raise error
        await asyncio.sleep(0)
        ended.append(number)
        return number

    assert asyncio.run(all_or_first_error(call(number, None) for number in (1, 2))) == [1, 2]
    with pytest.raises(StopWork):
        asyncio.run(all_or_first_error([call(0, ModelError("a")), call(0, StopWork("b")), call(3, None)]))
    assert ended == [1, 2, 3]
