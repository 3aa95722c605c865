"""A local server of the OpenAI protocol that plays all roles of a conversation, each answer after a set delay.

    python benchmarks/delayed_server.py        # prints its port, and ends when its standard input does

It stands for a machine elsewhere that computes: the answers are those of the scripts of `interalign.roles.llm.script`,
worked out while the delay runs, and remembered. The address says how long an answer takes, in milliseconds:
`http://127.0.0.1:PORT/500/v1` for always the same, `http://127.0.0.1:PORT/500-0.5/v1` for a log-normal distribution
with this median and this sigma; the request draws its delay, so it has the same one every time.
"""

from __future__ import annotations

import asyncio
import json
import sys
import threading
from hashlib import blake2b
from math import log
from random import Random
from typing import Any

from interalign.llm.model import Answer, Request
from interalign.messages import Message
from interalign.roles.llm.player import instructions
from interalign.roles.llm.script import scripts

TOLD = {instructions(role): role for role in ("user", "inducer", "judge", "rater", "helpfulness", "grader")}


def main() -> None:
    asyncio.run(serve())


async def serve() -> None:
    loop, ended, actors = asyncio.get_running_loop(), asyncio.Event(), Actors()
    server = await loop.create_server(lambda: Connection(actors), "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)

    def wait() -> None:
        sys.stdin.read()
        loop.call_soon_threadsafe(ended.set)

    threading.Thread(target=wait, daemon=True).start()
    await ended.wait()
    server.close()


class Actors:
    """The scripts, and what they have answered."""

    def __init__(self) -> None:
        self._scripts = scripts()
        self._said: dict[bytes, bytes] = {}

    def response(self, key: bytes, body: bytes) -> bytes:
        if key not in self._said:
            content = json.dumps(self._completion(json.loads(body))).encode()
            head = f"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {len(content)}\r\n\r\n"
            self._said[key] = head.encode() + content
        return self._said[key]

    def _completion(self, body: dict[str, Any]) -> dict[str, Any]:
        messages = tuple(Message(**message) for message in body["messages"])
        # The tailored script answers as the generic one does where it finds no notes.
        role = TOLD.get(messages[0].content, "tailored")
        answer = at_once(self._scripts[role].complete(Request(messages=messages, seed=body["seed"])))
        return {
            "object": "chat.completion",
            "model": body["model"],
            "choices": [
                {"index": 0, "message": {"role": "assistant", "content": answer.text}, "finish_reason": answer.finish}
            ],
            "usage": answer.usage.model_dump(),
        }


def at_once(answering: Any) -> Answer:
    """The result of a coroutine that waits for nothing."""
    try:
        answering.send(None)
    except StopIteration as end:
        answer: Answer = end.value
        return answer
    raise RuntimeError("a script waits for something")


class Connection(asyncio.Protocol):
    """As much of HTTP as the client speaks: one request after the other, each with its length."""

    def __init__(self, actors: Actors) -> None:
        self._actors = actors
        self._received = b""
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._received += data
        head, end, rest = self._received.partition(b"\r\n\r\n")
        if not end:
            return
        length = int(head.lower().split(b"content-length:", 1)[1].split(b"\r\n", 1)[0])
        if len(rest) < length:
            return
        self._received = rest[length:]
        self._answer(head.split(b" ", 2)[1].decode(), rest[:length])

    def _answer(self, path: str, body: bytes) -> None:
        loop, key = asyncio.get_running_loop(), blake2b(body, digest_size=16).digest()
        due = loop.time() + delay_s(path.split("/")[1], key)
        response = self._actors.response(key, body)
        loop.call_at(due, self._send, response)

    def _send(self, response: bytes) -> None:
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(response)


def delay_s(said: str, key: bytes) -> float:
    """The delay that an address asks for, in seconds, for the request of this key."""
    median_ms, _, sigma = said.partition("-")
    if not sigma:
        return float(median_ms) / 1000
    return Random(key).lognormvariate(log(float(median_ms) / 1000), float(sigma))


if __name__ == "__main__":
    main()
