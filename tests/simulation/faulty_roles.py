"""A server on this machine that plays every role of a conversation by script, and spoils some of its answers."""

from __future__ import annotations

import asyncio
import hashlib
import json
import sqlite3
import threading
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import AbstractContextManager, closing
from pathlib import Path
from random import Random
from typing import Any

from interalign.conversations.simulate import SimulateConfig, roles_played_by
from interalign.llm.endpoint import EndpointConfig, seed_of
from interalign.llm.model import Answer, Request
from interalign.messages import Message, as_dicts
from interalign.personas.persona import Persona
from interalign.personas.seeds import seeds
from interalign.recipe import Recipe, recipe_toml
from interalign.roles.llm.player import instructions
from interalign.roles.llm.script import scripts
from interalign.run import RunFolder, derive_seed, write_jsonl, write_text
from tests.llm.servers import FaultyServer, Reply, completion, error, in_a_thread, raw

__all__ = ["REFUSAL", "RoleServer", "journalled_calls", "people", "playing", "same_call", "start_folder"]

REFUSAL = "I'm sorry, but as an AI language model I can't help with that."
WRONG_FORM = '{"answer": 42}'
HANG_S = 10.0

_TOLD = {instructions(role): role for role in ("user", "inducer", "judge", "rater", "helpfulness", "grader")}
_IN_TRANSIT = ("busy", "broken", "cut off", "hang")
_IN_CONTENT = ("not JSON", "empty", "refusal")


class RoleServer(FaultyServer):
    """Answers as the scripts do, after a delay, and spoils a share of the answers.

    The seed, the request and how often it came decide what is spoilt, and how; when it comes decides nothing.
    """

    def __init__(self, *, spoilt: float = 0, seed: int = 1, delay_s: float = 0) -> None:
        super().__init__([])
        # The usual five would make a client wait whose connections come at once.
        self._http.socket.listen(128)
        # A client that is killed, or tired of waiting, is nothing to report.
        self._http.handle_error = lambda request, address: None  # type: ignore[method-assign]
        self.given: set[str] = set()
        """Texts that were sent in answers."""
        self.faults: Counter[tuple[str, str]] = Counter()
        """What was spoilt, by role and kind."""
        self.answered = 0
        """How many whole answers were sent."""
        self.held = threading.Event()
        """Cleared, it keeps answers back."""
        self.held.set()
        self._tries: Counter[str] = Counter()
        self._spoilt = spoilt
        self._seed = seed
        self.delay_s = delay_s
        """How long each answer takes."""
        self._scripts = scripts()

    def forget(self) -> None:
        """Begin anew for another test."""
        self.bodies.clear()
        self.answered, self.delay_s = 0, 0
        self.held.set()

    def next_reply(self, body: bytes, key: str | None) -> Reply:
        asked = json.loads(body)
        # The tailored script answers as the generic one does where it finds no notes.
        role = _TOLD.get(asked["messages"][0]["content"], "policy")
        digest = hashlib.sha256(body).hexdigest()
        with self._lock:
            self.bodies.append(asked)
            self._tries[digest] += 1
            random = Random(derive_seed(self._seed, digest, self._tries[digest]))
            kind = random.choice(_kinds(role)) if random.random() < self._spoilt else None
            if kind is not None:
                self.faults[role, kind] += 1
        if kind in ("busy", "broken"):
            return error(429, retry_after=random.choice("01")) if kind == "busy" else error(500, retry_after_ms="1")
        answer = self._answer(role, asked)
        text = {"empty": "", "refusal": REFUSAL, "wrong form": WRONG_FORM}.get(kind or "", answer.text)
        whole = completion(text, usage=answer.usage.model_dump())
        if kind == "not JSON":
            return raw(whole.body[: len(whole.body) // 2].decode(errors="ignore"))
        if kind == "cut off":
            return Reply(body=whole.body[: len(whole.body) // 2], announced=len(whole.body))
        if kind == "hang":
            return Reply(body=whole.body, before=lambda: self.closing.wait(HANG_S))
        return Reply(body=whole.body, before=lambda: self._wait(text))

    def _answer(self, role: str, asked: dict[str, Any]) -> Answer:
        script = self._scripts["tailored" if role == "policy" else role]
        messages = tuple(Message(**message) for message in asked["messages"])
        return asyncio.run(script.complete(Request(messages=messages, seed=asked["seed"])))

    def _wait(self, text: str) -> None:
        time.sleep(self.delay_s)
        self.held.wait()
        with self._lock:
            self.given.add(text)
            self.answered += 1

    def close(self) -> None:
        self.held.set()
        super().close()


def _kinds(role: str) -> tuple[str, ...]:
    free = role in ("user", "policy")
    return (*_IN_TRANSIT, *_IN_CONTENT) if free else (*_IN_TRANSIT, *_IN_CONTENT, "wrong form")


def playing(*, spoilt: float = 0, seed: int = 1, delay_s: float = 0) -> AbstractContextManager[RoleServer]:
    """A server that plays all roles, for the length of the block."""
    return in_a_thread(RoleServer(spoilt=spoilt, seed=seed, delay_s=delay_s))


def people(count: int) -> list[Persona]:
    """Personas of the package's seeds, each profile with one personality after the other."""
    # Two of the profiles begin with a sentence that the script cannot tell in the first person.
    profiles = [one for place, one in enumerate(seeds("profile")) if place not in (13, 18)]
    personalities = seeds("personality")
    return [
        Persona(
            profile=profiles[i % len(profiles)].text,
            personality=personalities[(i + i // len(profiles)) % len(personalities)].text,
        )
        for i in range(count)
    ]


def start_folder(root: Path, server: RoleServer, personas: Sequence[Persona], **endpoint: Any) -> RunFolder:
    """A run folder with these personas and a recipe by which the server plays every role, for three turns."""
    run = RunFolder(root)
    roles = roles_played_by(EndpointConfig(base_url=server.base_url, model="served", **endpoint))
    write_text(root / "recipe.toml", recipe_toml(Recipe(simulate=SimulateConfig(turns=3, roles=roles))))
    write_jsonl(run.personas, personas)
    return run


def same_call(asked: dict[str, Any]) -> str:
    """What tells one call from another, in the body of a request."""
    return json.dumps([asked["messages"], asked["seed"], asked["max_tokens"]])


def journalled_calls(run: RunFolder) -> dict[str, Answer]:
    """What the journal holds, by `same_call`; it is read only, as a killed process has left it."""
    if not run.journal.exists():
        return {}
    with closing(sqlite3.connect(f"file:{run.journal}?mode=ro", uri=True)) as connection:
        if not connection.execute("SELECT count(*) FROM sqlite_master WHERE name = 'calls'").fetchone()[0]:
            return {}
        rows = connection.execute("SELECT request, answer FROM calls").fetchall()
    calls = {}
    for written, answer in rows:
        request = Request.model_validate_json(written)
        body = {
            "messages": as_dicts(request.messages),
            "seed": seed_of(request),
            "max_tokens": request.sampling.max_tokens,
        }
        calls[same_call(body)] = Answer.model_validate_json(answer)
    return calls
