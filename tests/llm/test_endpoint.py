from __future__ import annotations

import asyncio
import json
import logging
import subprocess
import sys
import threading
import traceback
from collections.abc import Iterator
from typing import Any

import pytest
from pydantic import ValidationError

from interalign.errors import InputError, MissingExtra, ModelError
from interalign.llm.endpoint import EndpointConfig, EndpointModel
from interalign.llm.model import Answer, Chance, ChatModel, Request, Sampling, Usage
from interalign.messages import Message
from tests.llm.servers import FaultyServer, Reply, completion, error, raw, serving

KEY = "sk-very-secret-0123456789"
HELLO = Request(messages=(Message(role="system", content="Be kind."), Message(role="user", content="Hello")), seed=11)
# The client waits as long as the server says, and half a second and more when it says nothing.
SOON = {"retry_after_ms": "1"}


@pytest.fixture(autouse=True)
def _environment(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    yield


def config(base_url: str, **changes: Any) -> EndpointConfig:
    return EndpointConfig.model_validate({"base_url": base_url, "model": "asked", "max_retries": 0, **changes})


def complete(server: FaultyServer, request: Request = HELLO, **changes: Any) -> Answer:
    async def once() -> Answer:
        async with EndpointModel(config(server.base_url, **changes)) as model:
            return await model.complete(request)

    return asyncio.run(once())


def failure(server: FaultyServer, **changes: Any) -> ModelError:
    with pytest.raises(ModelError) as caught:
        complete(server, **changes)
    assert f"asked@{server.base_url}" in caught.value.what
    return caught.value


def test_an_answer_is_read_whole() -> None:
    with serving(completion("Good day.")) as server:
        assert complete(server) == Answer(
            text="Good day.",
            finish="stop",
            usage=Usage(prompt_tokens=7, completion_tokens=2, cached_tokens=5),
            model="served",
        )


def test_the_request_is_sent_whole() -> None:
    sampling = Sampling(max_tokens=9, temperature=0, top_p=0.5, stop=("\n",))
    with serving(completion()) as server:
        complete(server, HELLO.model_copy(update={"sampling": sampling}))
        complete(server)
        assert server.bodies[0] == {
            "model": "asked",
            "messages": [{"role": "system", "content": "Be kind."}, {"role": "user", "content": "Hello"}],
            "max_tokens": 9,
            "temperature": 0.0,
            "top_p": 0.5,
            "stop": ["\n"],
            "seed": 11,
        }
        assert "stop" not in server.bodies[1]
        assert server.keys == [f"Bearer {KEY}"] * 2


def test_samples_of_one_request_have_seeds_of_their_own() -> None:
    with serving(completion()) as server:
        for sample in range(3):
            complete(server, HELLO.model_copy(update={"sample": sample, "seed": 2**63 - 1}))
        seeds = [body["seed"] for body in server.bodies]
        assert len(set(seeds)) == 3
        assert all(0 <= seed < 2**31 for seed in seeds)


@pytest.mark.parametrize(
    ("reason", "finish"), [("stop", "stop"), ("length", "length"), ("content_filter", "other"), (None, "other")]
)
def test_the_reason_to_finish_is_kept(reason: str | None, finish: str) -> None:
    with serving(completion(choices=[{"message": {"content": ""}, "finish_reason": reason}])) as server:
        answer = complete(server)
        assert (answer.text, answer.finish) == ("", finish)


@pytest.mark.parametrize("usage", [None, "many", {"prompt_tokens": None, "completion_tokens": -1}])
def test_a_server_that_does_not_count_is_used_all_the_same(usage: object) -> None:
    with serving(completion(usage=usage, model=None)) as server:
        answer = complete(server)
        assert answer.usage == Usage()
        assert answer.model == "asked"


def test_half_a_character_becomes_a_mark_that_can_be_stored() -> None:
    with serving(raw(r'{"choices": [{"message": {"content": "a \ud83d\ude00 b \ud83d"}}]}')) as server:
        text = complete(server).text
        assert text == "a \N{GRINNING FACE} b \N{REPLACEMENT CHARACTER}"


def test_json_under_another_content_type_is_read() -> None:
    with serving(raw(completion("Hello.").body.decode(), "text/plain")) as server:
        assert complete(server).text == "Hello."


@pytest.mark.parametrize("fault", [error(429, retry_after="0"), error(500, **SOON), error(503, **SOON)])
def test_passing_faults_are_tried_again(fault: Reply) -> None:
    with serving(fault, completion("At last.")) as server:
        assert complete(server, max_retries=1).text == "At last."
        assert len(server.bodies) == 2
        assert server.bodies[0] == server.bodies[1]


def test_a_connection_that_breaks_off_is_tried_again() -> None:
    whole = completion()
    broken = Reply(body=whole.body[:20], announced=len(whole.body))
    with serving(broken, whole) as server:
        assert complete(server, max_retries=1).text == "Hello."


@pytest.mark.parametrize(
    ("status", "mend"),
    [
        (400, "these messages and settings"),
        (401, "OPENAI_API_KEY"),
        (403, "OPENAI_API_KEY"),
        (404, "base_url and model"),
        (429, "lower concurrency"),
        (500, "run the same command again later"),
    ],
)
def test_a_refusal_says_what_the_server_said_and_how_to_mend_it(status: int, mend: str) -> None:
    with serving(error(status, "out  of\norder", **SOON)) as server:
        failed = failure(server, max_retries=1 if status >= 429 else 0)
        assert f"refused: Error code: {status} - out of order." in failed.what
        assert mend in (failed.mend or "")
        assert len(server.bodies) == (2 if status >= 429 else 1)


def test_a_refusal_in_another_form_is_quoted_too_and_cut() -> None:
    with serving(Reply(422, b'{"detail": "no such template ' + b"x" * 5000 + b'"}')) as server:
        what = failure(server).what
        assert "no such template" in what
        assert len(what) < 500


@pytest.mark.parametrize(
    ("reply", "why"),
    [
        (raw('{"choices": [{"mess'), "the response is not JSON"),
        (raw("<html>Bad gateway</html>", "text/html"), "the response is not JSON"),
        (raw(""), "the response is not JSON"),
        (raw("[" * 100_000), "the response is not JSON"),
        (raw("[]"), "the response has no choices"),
        (completion(choices=[]), "the response has no choices"),
        (completion(choices=None), "the response has no choices"),
        (completion(choices=["x"]), "the response has no choices"),
        (completion(choices=[{"finish_reason": "length"}]), "the message has no text (finish_reason 'length')"),
        (completion(None), "the message has no text (finish_reason 'stop')"),
        (completion(choices=[{"message": {"content": [{"text": "x"}]}}]), "the message has no text"),
    ],
)
def test_a_response_without_an_answer_is_a_model_error(reply: Reply, why: str) -> None:
    with serving(reply) as server:
        assert f"gave no usable answer: {why}" in failure(server).what
        assert len(server.bodies) == 1


@pytest.mark.parametrize("cut", ['{"choices": [{"mess', "", "<html>Bad gateway</html>"])
def test_a_response_that_was_cut_is_asked_for_again(cut: str) -> None:
    with serving(raw(cut), completion("Good day.")) as server:
        assert complete(server, max_retries=1).text == "Good day."
        assert len(server.bodies) == 2
    with serving(raw(cut)) as server:
        assert "the response is not JSON" in failure(server, max_retries=2).what
        assert len(server.bodies) == 3


def test_a_server_that_is_too_slow_is_a_model_error() -> None:
    with serving(Reply(wait=True)) as server:
        failed = failure(server, timeout_s=0.05)
        assert "did not answer within 0.05 s (1 try)" in failed.what
        assert "timeout_s" in (failed.mend or "")


def test_a_server_that_trickles_is_too_slow_as_well() -> None:
    # Each byte comes in time; the end never does.
    with serving(Reply(body=b" ", announced=10**9, trickle_s=0.05)) as server:
        assert "did not answer within 0.3 s" in failure(server, timeout_s=0.3).what


def test_a_server_that_is_not_there_is_a_model_error() -> None:
    with serving() as server:
        pass
    failed = failure(server)
    assert "cannot be reached" in failed.what
    assert "Does the server run, and is its address right?" in failed.what
    # Whoever named the server finds the place where it was named.
    assert all(place in (failed.mend or "") for place in ("--base-url", "MODEL@URL", "base_url in a recipe"))


def test_no_more_requests_than_agreed_are_in_flight() -> None:
    release = threading.Event()

    async def many(server: FaultyServer) -> None:
        async with EndpointModel(config(server.base_url, concurrency=3)) as model:
            requests = [HELLO.model_copy(update={"sample": sample}) for sample in range(12)]
            tasks = [asyncio.create_task(model.complete(request)) for request in requests]
            while len(server.bodies) < 3:
                await asyncio.sleep(0.005)
            # Time for a fourth one to arrive, if there were one.
            await asyncio.sleep(0.2)
            arrived = len(server.bodies)
            release.set()
            await asyncio.gather(*tasks)
            assert (arrived, len(server.bodies)) == (3, 12)

    with serving(Reply(body=completion().body, before=release.wait)) as server:
        asyncio.run(many(server))


@pytest.mark.parametrize(
    ("limits", "arrived"), [({}, 4), ({"requests_per_minute": 1}, 1), ({"tokens_per_minute": 1}, 0)]
)
def test_what_may_be_asked_in_a_minute_is_shared_by_all_who_ask_the_same_model(
    limits: dict[str, int], arrived: int
) -> None:
    async def both(server: FaultyServer) -> None:
        limited = config(server.base_url, **limits)
        async with EndpointModel(limited) as one, EndpointModel(limited) as other:
            requests = [HELLO.model_copy(update={"sample": sample}) for sample in range(2)]
            tasks = [asyncio.create_task(model.complete(request)) for model in (one, other) for request in requests]
            while len(server.bodies) < arrived:
                await asyncio.sleep(0.005)
            # Time for one more to arrive, if there were one.
            await asyncio.sleep(0.2)
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    with serving(completion()) as server:
        asyncio.run(both(server))
        assert len(server.bodies) == arrived


def test_tokens_are_reserved_by_estimate_and_settled_by_usage() -> None:
    async def once(server: FaultyServer) -> int:
        async with EndpointModel(config(server.base_url, tokens_per_minute=60_000)) as model:
            # Ten by estimate, nine by the server's count.
            await model.complete(HELLO.model_copy(update={"sampling": Sampling(max_tokens=6)}))
            return model._limit._here()._owed

    with serving(completion()) as server:
        assert asyncio.run(once(server)) == -1


def test_other_limits_for_a_model_that_is_open_are_refused() -> None:
    first = EndpointModel(config("http://localhost:1/v1", requests_per_minute=5))
    with pytest.raises(InputError, match=r"limited in two ways.*5 requests per minute, and not at all"):
        EndpointModel(config("http://localhost:1/v1"))
    asyncio.run(first.aclose())


def test_the_key_appears_nowhere(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    replies = [
        error(401, f"Incorrect API key provided: {KEY}."),
        Reply(403, json.dumps({"detail": f"Bearer {KEY} is not known"}).encode()),
        raw("x" * 290 + KEY),
        completion(choices=[{"finish_reason": KEY}]),
    ]
    with serving(*replies) as server:
        for _ in replies:
            failed = failure(server)
            shown = "".join(traceback.format_exception(failed)) + repr(failed)
            assert "sk-very" not in shown
            assert failed.__context__ is None
        model = EndpointModel(config(server.base_url))
        asyncio.run(model.aclose())
    assert caplog.text
    assert KEY not in caplog.text + repr(model) + str(model) + model.name + repr(model._config)


def test_a_key_is_needed_but_not_on_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENAI_API_KEY")
    with pytest.raises(InputError, match="OPENAI_API_KEY, which holds the key") as caught:
        EndpointModel(config("https://api.example.com/v1"))
    assert "export OPENAI_API_KEY" in (caught.value.mend or "")
    with serving(completion()) as server:
        complete(server)
        assert server.keys == ["Bearer none"]
    for url in ("http://localhost:8000/v1", "http://[::1]:8000/v1", "http://box.localhost/v1"):
        asyncio.run(EndpointModel(config(url)).aclose())


def test_the_key_comes_from_the_named_variable_without_its_line_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_KEY", " mine\n")
    with serving(completion()) as server:
        complete(server, api_key_env="MY_KEY")
        assert server.keys == ["Bearer mine"]


@pytest.mark.parametrize("key", ["sk-\N{EM DASH}x", "sk-a\nb"])
def test_a_key_that_no_header_can_hold_is_refused_without_showing_it(key: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", key)
    with pytest.raises(InputError, match="cannot be part of a key") as caught:
        EndpointModel(config("https://api.example.com/v1"))
    assert "sk-" not in str(caught.value)


@pytest.mark.parametrize(
    "broken",
    [
        {"base_url": "api.example.com/v1"},
        {"base_url": "http://"},
        {"base_url": "http://localhost:99999/v1"},
        {"base_url": f"https://user:{KEY}/v1"},
        {"base_url": f"https://user:{KEY}@api.example.com/v1"},
        {"base_url": f"https://api.example.com/v1?key={KEY}"},
        {"api_key_env": KEY},
        {"concurrency": 0},
        {"timeout_s": 0},
        {"max_retries": -1},
        {"model": ""},
        {"requests_per_minute": 0},
        {"tokens_per_minute": 0},
        {"api_key": KEY},
    ],
)
def test_a_config_that_cannot_work_is_refused_without_showing_a_key(broken: dict[str, Any]) -> None:
    with pytest.raises(ValidationError) as caught:
        EndpointConfig.model_validate({"base_url": "http://localhost/v1", "model": "m"} | broken)
    assert KEY not in str(caught.value)


SCHEMA = {"type": "object", "properties": {"a": {"type": "string"}}, "required": ["a"], "additionalProperties": False}
STRUCTURED = HELLO.model_copy(update={"response_schema": SCHEMA})


def test_a_schema_is_asked_for_where_one_is_wanted() -> None:
    with serving(completion()) as server:
        complete(server, STRUCTURED)
        complete(server)
    wanted = {"type": "json_schema", "json_schema": {"name": "answer", "strict": True, "schema": SCHEMA}}
    assert server.bodies[0]["response_format"] == wanted
    assert "response_format" not in server.bodies[1]


@pytest.mark.parametrize("status", [400, 422])
def test_a_server_that_refuses_schemas_is_asked_without_and_not_again(status: int) -> None:
    async def twice(server: FaultyServer) -> list[Answer]:
        async with EndpointModel(config(server.base_url)) as model:
            return [await model.complete(STRUCTURED), await model.complete(STRUCTURED)]

    with serving(error(status, "response_format is not supported"), completion("{}")) as server:
        assert [answer.text for answer in asyncio.run(twice(server))] == ["{}", "{}"]
    assert ["response_format" in body for body in server.bodies] == [True, False, False]


def test_what_a_server_refuses_with_and_without_a_schema_is_a_model_error() -> None:
    with (
        serving(error(400, "no such schema"), error(400, "no such model")) as server,
        pytest.raises(ModelError, match="no such model"),
    ):
        complete(server, STRUCTURED)
    assert len(server.bodies) == 2


def test_a_message_that_is_not_heard_of_is_refused() -> None:
    with serving(error(403, "flagged by moderation")) as server:
        assert failure(server).refused


@pytest.mark.parametrize(("status", "refused"), [(400, True), (413, True), (422, True), (401, False), (500, False)])
def test_a_refusal_of_this_very_request_is_told_from_an_outage(status: int, refused: bool) -> None:
    with serving(error(status, retry_after_ms="1")) as server:
        assert failure(server).refused is refused


@pytest.mark.parametrize(
    ("status", "said", "lasting"),
    [
        (401, "no such key", True),
        (403, "no access", True),
        (403, "Your input was flagged.", False),
        (404, "no such model", True),
        (400, "too long", False),
        (429, "slow down", False),
        (500, "out of order", False),
    ],
)
def test_what_will_not_pass_is_told_from_what_may(status: int, said: str, lasting: bool) -> None:
    with serving(error(status, said)) as server:
        assert failure(server).lasting is lasting


@pytest.mark.parametrize(
    ("reply", "cause"),
    [
        (error(500), "call failed: status 500"),
        (error(400, "too long"), "call failed: status 400"),
        (error(403, "Your input was flagged."), "refused"),
        (Reply(wait=True), "call failed: timeout"),
        (completion(choices=[{"message": {"content": None, "refusal": "No."}, "finish_reason": "stop"}]), "refused"),
        (completion(choices=[{"message": {"content": None}, "finish_reason": "content_filter"}]), "refused"),
        (completion(choices=[{"message": {"content": None}, "finish_reason": "length"}]), "cut at max_tokens"),
        (completion(None), "call failed: no text"),
        (completion(choices=[]), "call failed: no usable answer"),
    ],
)
def test_failures_that_are_alike_have_one_cause(reply: Reply, cause: str) -> None:
    with serving(reply) as server:
        assert failure(server, timeout_s=0.3).cause == cause


def test_where_nobody_is_nobody_will_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_PROXY", "*")
    with serving(completion()) as server:
        pass
    for url in (server.base_url, server.base_url.replace("127.0.0.1", "localhost"), "http://nobody.invalid/v1"):

        async def ask(url: str = url) -> None:
            async with EndpointModel(config(url)) as model:
                await model.complete(HELLO)

        with pytest.raises(ModelError) as caught:
            asyncio.run(ask())
        assert caught.value.cause == "call failed: no connection"
        assert caught.value.lasting


def test_schemas_can_be_switched_off() -> None:
    with serving(completion()) as server:
        complete(server, STRUCTURED, json_schema=False)
    assert "response_format" not in server.bodies[0]


def test_the_name_tells_servers_apart() -> None:
    model = EndpointModel(config("http://localhost:8000/v1/"))
    asyncio.run(model.aclose())
    assert isinstance(model, ChatModel)
    assert model.name == "asked@http://localhost:8000/v1"


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "openai", None)
    with pytest.raises(MissingExtra, match=r"interalign\[endpoint\]"):
        EndpointModel(config("http://localhost/v1"))


def test_the_client_loads_with_the_first_endpoint_only() -> None:
    code = "import sys, interalign.llm; sys.exit('openai' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


PROBED = HELLO.model_copy(update={"top_logprobs": 3})
BOTH = STRUCTURED.model_copy(update={"top_logprobs": 3})


def probed(content: object) -> Reply:
    choice = {"message": {"content": "4."}, "finish_reason": "stop", "logprobs": {"content": content}}
    return completion(choices=[choice])


def token(text: object, logprob: object, *others: object, **more: object) -> dict[str, object]:
    return {"token": text, "logprob": logprob, "top_logprobs": list(others), **more}


def test_chances_are_asked_for_where_they_are_wished_for() -> None:
    with serving(completion()) as server:
        complete(server, PROBED)
        complete(server)
    assert (server.bodies[0]["logprobs"], server.bodies[0]["top_logprobs"]) == (True, 3)
    assert not {"logprobs", "top_logprobs"} & set(server.bodies[1])


def test_chances_are_read_by_place_what_was_written_first() -> None:
    content = [
        token("4", -1.5, {"token": "5", "logprob": -0.3}, {"token": "4", "logprob": -1.5}, bytes=[52]),
        token(".", 1e-9, {"token": "\ud83d", "logprob": -9999}),
    ]
    with serving(probed(content)) as server:
        assert complete(server, PROBED).top == (
            (Chance("4", -1.5), Chance("5", -0.3)),
            (Chance(".", 0.0), Chance("\N{REPLACEMENT CHARACTER}", -9999)),
        )


@pytest.mark.parametrize(
    ("content", "top"),
    [
        (None, ()),
        ([], ()),
        ("4.", ()),
        (["4", "."], ()),
        ([token("4", -1.0), {"token": "."}], ()),
        ([token("4", None)], ()),
        ([token(4, -1.0)], ()),
        ([token("4", float("nan"))], ((Chance("4", -9999),),)),
        ([token("4", float("-inf"))], ((Chance("4", -9999),),)),
        ([token("4", -(10**400))], ((Chance("4", -9999),),)),
        ([token("4", -1, None, "5", {"token": "5"})], ((Chance("4", -1),),)),
        ([{"token": "4", "logprob": -1.0, "top_logprobs": None}], ((Chance("4", -1),),)),
    ],
)
def test_chances_in_another_form_are_none_and_harm_nothing(content: object, top: object) -> None:
    with serving(probed(content)) as server:
        answer = complete(server, PROBED)
    assert (answer.text, answer.top) == ("4.", top)


def told(body: dict[str, Any]) -> tuple[bool, bool]:
    return "response_format" in body, "logprobs" in body


def twice(server: FaultyServer, request: Request) -> list[str]:
    async def ask() -> list[str]:
        async with EndpointModel(config(server.base_url)) as model:
            return [(await model.complete(request)).text for _ in range(2)]

    return asyncio.run(ask())


@pytest.mark.parametrize(
    "refusal", [error(400, "logprobs is not supported"), error(422), error(403, "You may not request logprobs.")]
)
def test_a_server_that_refuses_chances_is_asked_without_and_not_again(refusal: Reply) -> None:
    with serving(refusal, completion("{}")) as server:
        assert twice(server, PROBED) == ["{}", "{}"]
    assert ["logprobs" in body for body in server.bodies] == [True, False, False]


@pytest.mark.parametrize(
    ("refusals", "asked"),
    [
        (1, [(True, True), (True, False), (True, False)]),
        (2, [(True, True), (True, False), (False, True), (False, True)]),
        (3, [(True, True), (True, False), (False, True), (False, False), (False, False)]),
    ],
)
def test_of_two_wishes_the_one_that_is_taken_stays(refusals: int, asked: list[tuple[bool, bool]]) -> None:
    with serving(*[error(400, "no")] * refusals, completion("{}")) as server:
        assert twice(server, BOTH) == ["{}", "{}"]
    assert [told(body) for body in server.bodies] == asked


def test_what_is_refused_without_wishes_too_changes_no_later_request() -> None:
    async def ask(server: FaultyServer) -> str:
        async with EndpointModel(config(server.base_url)) as model:
            with pytest.raises(ModelError, match="too long"):
                await model.complete(BOTH)
            return (await model.complete(BOTH)).text

    with serving(*[error(400, "too long")] * 4, completion("{}")) as server:
        assert asyncio.run(ask(server)) == "{}"
    assert told(server.bodies[4]) == (True, True)


def test_a_key_that_is_not_taken_is_no_refusal_of_chances() -> None:
    with serving(error(403, "no access")) as server, pytest.raises(ModelError) as caught:
        complete(server, PROBED)
    assert caught.value.lasting and len(server.bodies) == 1
