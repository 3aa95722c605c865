"""A real HTTP server on this machine that speaks the chat protocol, and breaks it on request."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, TypeVar

__all__ = ["FaultyServer", "Reply", "completion", "error", "in_a_thread", "raw", "serving"]

Headers = dict[str, str]


@dataclass(frozen=True)
class Reply:
    """One response: what is sent, and what must happen before."""

    status: int = 200
    body: bytes = b""
    headers: Headers = field(default_factory=dict)
    before: Callable[[], object] | None = None
    """Called before anything is sent."""
    wait: bool = False
    """Send nothing until the server closes."""
    announced: int | None = None
    """Content-Length, when it is not the true one."""
    trickle_s: float | None = None
    """Send the body again and again until the server closes, with a pause of so many seconds."""


def completion(text: str | None = "Hello.", **changes: Any) -> Reply:
    """A whole answer; `changes` replace parts of the response body."""
    body: dict[str, Any] = {
        "model": "served",
        "choices": [{"message": {"role": "assistant", "content": text}, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 7, "completion_tokens": 2, "prompt_tokens_details": {"cached_tokens": 5}},
    }
    return Reply(body=json.dumps(body | changes).encode())


def error(status: int, message: str = "out of order", **headers: str) -> Reply:
    """A refusal in the form of the OpenAI protocol. `retry_after` becomes the header Retry-After."""
    body = json.dumps({"error": {"message": message}}).encode()
    return Reply(status, body, {name.replace("_", "-"): value for name, value in headers.items()})


def raw(body: str, content_type: str = "application/json") -> Reply:
    """These very characters, with status 200."""
    return Reply(body=body.encode(), headers={"Content-Type": content_type})


class FaultyServer:
    """Gives out its replies in order and the last one again and again; remembers what it was asked."""

    def __init__(self, replies: Sequence[Reply]) -> None:
        self.bodies: list[dict[str, Any]] = []
        self.keys: list[str | None] = []
        self.closing = threading.Event()
        self._replies = replies
        self._lock = threading.Lock()
        self._http = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self._http.daemon_threads = True

    @property
    def base_url(self) -> str:
        return f"http://127.0.0.1:{self._http.server_address[1]}/v1"

    def next_reply(self, body: bytes, key: str | None) -> Reply:
        with self._lock:
            self.bodies.append(json.loads(body))
            self.keys.append(key)
            return self._replies[min(len(self.bodies), len(self._replies)) - 1]

    def run(self) -> None:
        self._http.serve_forever(poll_interval=0.02)

    def close(self) -> None:
        self.closing.set()
        self._http.shutdown()
        self._http.server_close()


S = TypeVar("S", bound=FaultyServer)


def _handler(server: FaultyServer) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        # Otherwise a body waits 40 ms for the client to acknowledge the headers.
        disable_nagle_algorithm = True

        def do_POST(self) -> None:
            assert self.path == "/v1/chat/completions"
            body = self.rfile.read(int(self.headers["Content-Length"]))
            reply = server.next_reply(body, self.headers["Authorization"])
            if reply.before is not None:
                reply.before()
            if reply.wait:
                server.closing.wait()
            try:
                self._send(reply)
            except (BrokenPipeError, ConnectionResetError):
                # The client did not wait for the answer.
                self.close_connection = True

        def _send(self, reply: Reply) -> None:
            self.send_response(reply.status)
            for name, value in ({"Content-Type": "application/json"} | reply.headers).items():
                self.send_header(name, value)
            length = len(reply.body) if reply.announced is None else reply.announced
            self.send_header("Content-Length", str(length))
            self.end_headers()
            self.wfile.write(reply.body)
            while reply.trickle_s is not None and not server.closing.wait(reply.trickle_s):
                self.wfile.write(reply.body)
            self.close_connection = length != len(reply.body)

        def log_message(self, format: str, *args: object) -> None:
            """Stay quiet."""

    return Handler


@contextmanager
def in_a_thread(server: S) -> Iterator[S]:
    """Have a server run for the length of the block."""
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        yield server
    finally:
        server.close()
        thread.join()


def serving(*replies: Reply) -> AbstractContextManager[FaultyServer]:
    """A server with these replies, for the length of the block."""
    return in_a_thread(FaultyServer(replies))
