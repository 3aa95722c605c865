"""What growing conversations costs besides the models: time, calls per second, prompt tokens, CPU and memory.

    python benchmarks/conversations.py                 # six minutes on two idle cores
    python benchmarks/conversations.py --quick         # seconds: whether everything runs; its numbers say little

Scripts play all roles on a local server in a process of its own (`delayed_server.py`), which answers after a set
delay: what is measured is what the client makes of it. Personas come from the rule-based world. Runs are journalled,
metered and can be stopped, as those of `interalign simulate`.

The order of the paper's release: one conversation at a time and, in a turn, one role after the other. It is run here
with this package's roles and client on a few conversations and reckoned per conversation. This package's judge asks
in both orders at once, which costs that order no time.

The prompts of the release are laid out over the same conversations as its code has it: the user's is a chat that begins
with instructions and persona, and each reply in it carries a reminder; the inducer's has two worked examples, then
instructions around the whole chat as text and the persona; the responders' is the chat, with a reminder after each
message, in the tailored one's also with the notes of every earlier turn; the judge's, one a turn, has the persona and
the two replies, without the chat. Words of its own that the release puts there stand as fillers of as many tokens.
"""

from __future__ import annotations

import asyncio
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from math import exp
from multiprocessing import get_context
from pathlib import Path
from statistics import mean, median
from typing import Any

import numpy as np
from measuring import (
    console,
    delayed_server,
    measure_and_tell,
    new_table,
    note,
    personas,
    rounded,
    summary,
)
from numpy.typing import NDArray
from rich.table import Table

from interalign.conversations.cast import open_cast
from interalign.conversations.simulate import SimulateConfig, grow_trees, roles_played_by
from interalign.conversations.tree import Tree
from interalign.conversations.turn import Cast
from interalign.errors import InteralignError
from interalign.llm.account import Account
from interalign.llm.backends import ScriptedConfig
from interalign.llm.endpoint import EndpointConfig
from interalign.llm.journal import Journal, journalled
from interalign.llm.model import Answer, ChatModel, Request
from interalign.llm.prices import load_prices
from interalign.messages import Message, as_dicts
from interalign.personas.persona import Persona
from interalign.pipeline.stopping import Gate
from interalign.roles.ledger import Disclosure, stated_so_far
from interalign.run import derive_seed

RESULT = Path(__file__).parent / "results" / "conversations.json"
FILLER = " so"  # one token, however often it is said
FAMILIES = {"user": "user", "inducer": "inducer", "tailored": "responders", "generic": "responders", "judge": "judge"}

# Tokens of the release's own words, by SmolLM2's tokenizer: before and after the persona, and so on.
USER_WORDS, USER_REMINDER = (33, 189), 21
INDUCER_EXAMPLES = ((351, 17), (475, 45))
INDUCER_WORDS = (44, 21, 143)  # before the chat, between chat and persona, after the persona
NOTES_WORDS, REPLY_REMINDER = 72, 28
JUDGE_WORDS = (62, 65)

Tokens = NDArray[np.int32]


@dataclass(frozen=True)
class Sizes:
    """How much is measured. Delays are in milliseconds."""

    conversations: int = 100
    turns: int = 10
    concurrency: int = 64
    slow: int = 500
    fast: int = 50
    sigma: float = 0.5
    repeats: int = 3
    """Of what takes seconds; what takes a minute is done once."""
    slow_in_a_row: int = 1
    """Conversations that are had in the release's order."""
    fast_in_a_row: int = 3
    bare_calls: int = 3000
    scales: tuple[int, ...] = (10, 100, 1000)
    scale_turns: int = 3
    counted: int = 20
    """Conversations whose prompts are counted."""
    reply_tokens: tuple[int, ...] = (0, 120)
    """Replies are made at least so long before their prompts are counted."""


QUICK = Sizes(
    conversations=6,
    turns=3,
    concurrency=4,
    slow=40,
    fast=10,
    repeats=2,
    fast_in_a_row=1,
    bare_calls=60,
    scales=(2, 4),
    scale_turns=2,
    counted=2,
)


def main() -> None:
    measure_and_tell("What growing conversations costs besides the models.", RESULT, measure, show)


def measure(quick: bool, seed: int) -> dict[str, Any]:
    sizes = QUICK if quick else Sizes()
    people = personas(max(sizes.conversations, sizes.counted), seed)
    bench = Bench(sizes, people, seed)
    with delayed_server() as root:
        note(f"{sizes.conversations} conversations of {sizes.turns} turns")
        same, drawn = f"{sizes.slow}", f"{sizes.slow}-{sizes.sigma}"
        side_by_side = [
            bench.side_by_side(f"{root}/{same}/v1", sizes.slow / 1000, 1),
            bench.side_by_side(f"{root}/{drawn}/v1", sizes.slow / 1000, 1, sizes.sigma),
            bench.side_by_side(f"{root}/{sizes.fast}/v1", sizes.fast / 1000, sizes.repeats),
        ]
        note("conversations alone, in this package's order and in the release's")
        alone = [
            bench.alone(f"{root}/{sizes.slow}/v1", sizes.slow / 1000, sizes.slow_in_a_row),
            bench.alone(f"{root}/{sizes.fast}/v1", sizes.fast / 1000, sizes.fast_in_a_row),
        ]
        note("the client library by itself")
        bare = bench.bare(f"{root}/{sizes.fast}/v1", sizes.fast / 1000)
        note(f"up to {max(sizes.scales):,} personas")
        scale = bench.scaled(f"{root}/{sizes.fast}/v1", sizes.fast / 1000)
    note(f"prompts of {sizes.counted} conversations")
    return {
        "personas": "of the rule-based world",
        "turns": sizes.turns,
        "siblings": ["tailored", "generic"],
        "concurrency": sizes.concurrency,
        "side_by_side": side_by_side,
        "alone": [{**one, "gain": gain(one, side_by_side)} for one in alone],
        "bare_client": bare,
        "scale": scale,
        "prompts": bench.prompts(),
    }


def gain(alone: Mapping[str, Any], side_by_side: Sequence[Mapping[str, Any]]) -> float:
    """How many times as long a conversation takes in the release's order as one of many side by side."""
    (same,) = [one for one in side_by_side if one["delay_s"] == alone["delay_s"] and not one["sigma"]]
    per_conversation = same["seconds"]["median"] / same["conversations"]
    return rounded(alone["release_seconds_per_conversation"] / per_conversation)


# Conversations with a server.


def played_on(url: str, turns: int, concurrency: int) -> SimulateConfig:
    server = EndpointConfig(base_url=url, model="scripts", concurrency=concurrency)
    return SimulateConfig(turns=turns, roles=roles_played_by(server))


@asynccontextmanager
async def as_in_a_run(config: SimulateConfig, journal: Journal) -> AsyncIterator[Cast]:
    account, gate = Account(None, load_prices(None)), Gate()

    def wrap(model: ChatModel, role: str, free: bool) -> ChatModel:
        return account.metered(gate.guarded(journalled(model, journal)), role, free=free)

    async with open_cast(config, wrap) as cast:
        yield cast


def grown(people: Sequence[Persona], config: SimulateConfig, seed: int) -> tuple[float, float, int]:
    """Seconds on the clock, seconds of this process's CPU, and calls of conversations that nobody keeps."""

    async def grow(journal: Journal) -> None:
        async with as_in_a_run(config, journal) as cast:
            async for tree in grow_trees(people, config, seed, cast):
                refuse_failed(tree)

    with (
        tempfile.TemporaryDirectory(prefix="conversations-") as folder,
        Journal.open(Path(folder) / "journal.sqlite") as journal,
    ):
        clock, cpu = time.perf_counter(), time.process_time()
        asyncio.run(grow(journal))
        return time.perf_counter() - clock, time.process_time() - cpu, len(journal)


def refuse_failed(tree: Tree) -> None:
    if tree.failure or tree.faults:
        raise RuntimeError(f"a conversation did not go as it should: {tree.failure or tree.faults}")


class Bench:
    """What is measured of the same people."""

    def __init__(self, sizes: Sizes, people: Sequence[Persona], seed: int) -> None:
        self._sizes = sizes
        self._people = people
        self._seed = seed
        import openai  # noqa: F401  (what importing it takes is not measured)

    def side_by_side(self, url: str, delay: float, repeats: int, sigma: float = 0) -> dict[str, Any]:
        sizes = self._sizes
        config = played_on(url, sizes.turns, sizes.concurrency)
        runs = [grown(self._people[: sizes.conversations], config, self._seed) for _ in range(repeats)]
        (calls,) = {calls for _, _, calls in runs}
        seconds = summary([run[0] for run in runs])
        # The mean of a log-normal distribution lies above its median.
        ideal = calls * delay * exp(sigma**2 / 2) / sizes.concurrency
        return {
            "delay_s": delay,
            "sigma": sigma,
            "conversations": sizes.conversations,
            "calls": calls,
            "seconds": seconds,
            "cpu_seconds": summary([run[1] for run in runs]),
            "ideal_seconds": rounded(ideal),
            "of_ideal": rounded(ideal / seconds["median"]),
            "calls_per_second": rounded(calls / seconds["median"]),
        }

    def alone(self, url: str, delay: float, in_a_row: int) -> dict[str, Any]:
        """One conversation by itself, and some in the release's order."""
        sizes = self._sizes
        config = played_on(url, sizes.turns, sizes.concurrency)
        ours, _, _ = grown(self._people[:1], config, self._seed)
        release = asyncio.run(one_after_the_other(self._people[:in_a_row], config, self._seed)) / in_a_row
        return {
            "delay_s": delay,
            "seconds": rounded(ours),
            "delays_per_turn": rounded(ours / delay / sizes.turns),
            "release_conversations": in_a_row,
            "release_seconds_per_conversation": rounded(release),
            "release_delays_per_turn": rounded(release / delay / sizes.turns),
        }

    def bare(self, url: str, delay: float) -> dict[str, Any]:
        """The requests of real conversations through the client library alone."""
        sizes = self._sizes
        bodies = [body for person in self._people for body in bodies_of(person, sizes.turns, self._seed)]
        bodies = bodies[: sizes.bare_calls]
        seconds = [asyncio.run(posted(bodies, url, sizes.concurrency)) for _ in range(sizes.repeats)]
        return {
            "delay_s": delay,
            "calls": len(bodies),
            "seconds": summary(seconds),
            "calls_per_second": rounded(len(bodies) / median(seconds)),
        }

    def scaled(self, url: str, delay: float) -> list[dict[str, Any]]:
        """CPU and memory of the client with more and more personas, each number in a process of its own."""
        sizes = self._sizes
        config = played_on(url, sizes.scale_turns, sizes.concurrency)
        found = []
        for count in sizes.scales:
            with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as process:
                one = process.submit(grown_alone, count, config, self._seed).result()
            found.append({"personas": count, "turns": sizes.scale_turns, "delay_s": delay, **one})
        return found

    def prompts(self) -> dict[str, Any]:
        """Tokens of the prompts of both layouts, and how much of them begins like an earlier prompt."""
        try:
            tokenize = tokenizer()
        except (ImportError, InteralignError) as error:
            return {"skipped": str(error)}
        sizes = self._sizes
        people = self._people[: sizes.counted]
        found = []
        for least in sizes.reply_tokens:
            heard = [overheard(person, sizes.turns, self._seed, least) for person in people]
            ours = [[(FAMILIES[role], as_dicts(asked.messages)) for role, asked in calls] for _, calls in heard]
            release = [list(release_prompts(who, tree)) for who, (tree, _) in zip(people, heard, strict=True)]
            replies = [node.content for tree, _ in heard for node in tree.nodes if node.role == "assistant"]
            counted = {name: counts(prompts, tokenize) for name, prompts in (("ours", ours), ("release", release))}
            found.append(
                {
                    "mean_reply_tokens": rounded(mean(len(tokenize(reply)) for reply in replies)),
                    **counted,
                    "ours_to_release": rounded(counted["ours"]["tokens"] / counted["release"]["tokens"]),
                }
            )
        return {"tokenizer": "SmolLM2-135M-Instruct", "conversations": len(people), "turns": sizes.turns, "of": found}


async def one_after_the_other(people: Sequence[Persona], config: SimulateConfig, seed: int) -> float:
    """Seconds that conversations take in the release's order."""
    async with open_cast(config, lambda model, role, free: model) as cast:
        start = time.perf_counter()
        for persona in people:
            await converse(persona, cast, config.turns, seed)
        return time.perf_counter() - start


async def converse(persona: Persona, cast: Cast, turns: int, seed: int) -> None:
    """User, inducer, tailored reply, generic reply, judge; then the next turn."""
    chat: tuple[Message, ...] = ()
    ledger: tuple[Disclosure, ...] = ()
    for turn in range(1, turns + 1):
        here = partial(derive_seed, seed, persona.id, turn)
        user = await cast.user.speak(persona, chat, ledger, seed)
        chat = (*chat, Message(role="user", content=user.content))
        impression = await cast.inducer.induce(persona, chat, ledger, here("inducer"))
        tailored = await cast.writers["tailored"].answer(chat, impression, here("tailored"))
        generic = await cast.writers["generic"].answer(chat, None, here("generic"))
        replies = [tailored.content, generic.content]
        stated = impression.stated[len(stated_so_far(ledger)) :]
        ledger = (*ledger, user.disclosure.model_copy(update={"stated": stated}))
        await cast.judge.judge(persona, chat, replies, ledger, here("judge"))  # type: ignore[union-attr]
        chat = (*chat, Message(role="assistant", content=replies[here("continue") % 2]))


async def posted(bodies: Sequence[Mapping[str, Any]], url: str, concurrency: int) -> float:
    """Seconds that the client library takes, called as `EndpointModel` calls it."""
    from openai import AsyncOpenAI

    slots = asyncio.Semaphore(concurrency)
    async with AsyncOpenAI(api_key="none", base_url=url) as client:

        async def post(body: Mapping[str, Any]) -> None:
            async with slots:
                await client.post("/chat/completions", body=body, cast_to=str)

        start = time.perf_counter()
        await asyncio.gather(*map(post, bodies))
        return time.perf_counter() - start


def grown_alone(count: int, config: SimulateConfig, seed: int) -> dict[str, Any]:
    people = personas(count, seed)
    import openai  # noqa: F401

    before = peak_bytes()
    seconds, cpu, calls = grown(people, config, seed)
    after = peak_bytes()
    return {
        "calls": calls,
        "seconds": rounded(seconds),
        "cpu_seconds": rounded(cpu),
        "cpu_seconds_per_1000_calls": rounded(1000 * cpu / calls),
        "before_bytes": before,
        "peak_bytes": after,
    }


# Prompts, ours and those of the release.


class Overheard:
    """A scripted model that is listened to; a reply is made longer where it is short."""

    def __init__(self, model: ChatModel, role: str, calls: list[tuple[str, Request]], least: int) -> None:
        self._model = model
        self._role = role
        self._calls = calls
        self._least = least if role in ("tailored", "generic") else 0

    @property
    def name(self) -> str:
        return self._model.name

    async def complete(self, request: Request) -> Answer:
        self._calls.append((self._role, request))
        answer = await self._model.complete(request)
        # Words of a script have about four tokens to three words.
        missing = self._least - len(answer.text.split()) * 4 // 3
        return answer.model_copy(update={"text": answer.text + FILLER * max(0, missing)})


def overheard(persona: Persona, turns: int, seed: int, least: int = 0) -> tuple[Tree, list[tuple[str, Request]]]:
    """A scripted conversation, and what each role was asked in it, in order."""
    calls: list[tuple[str, Request]] = []
    config = SimulateConfig(turns=turns, roles=roles_played_by(ScriptedConfig()))

    async def grow() -> Tree:
        async with open_cast(config, lambda model, role, free: Overheard(model, role, calls, least)) as cast:
            (tree,) = [tree async for tree in grow_trees([persona], config, seed, cast)]
            return tree

    tree = asyncio.run(grow())
    refuse_failed(tree)
    return tree, calls


def bodies_of(persona: Persona, turns: int, seed: int) -> list[dict[str, Any]]:
    """The requests of a conversation in the form in which a server gets them."""
    _, calls = overheard(persona, turns, seed)
    bodies = []
    for _, asked in calls:
        body: dict[str, Any] = {
            "model": "scripts",
            "messages": as_dicts(asked.messages),
            **asked.sampling.model_dump(include={"max_tokens", "temperature", "top_p"}),
            "seed": asked.seed % 2**31,
        }
        if asked.response_schema is not None:
            schema = {"name": "answer", "strict": True, "schema": asked.response_schema}
            body["response_format"] = {"type": "json_schema", "json_schema": schema}
        bodies.append(body)
    return bodies


def release_prompts(persona: Persona, tree: Tree) -> Iterator[tuple[str, list[dict[str, str]]]]:
    """The prompts that the release would have sent for the path of a tree, with the family of each."""
    person = f"Profile: {persona.profile}\nPersonalities: {persona.personality}\n"
    text = ""
    user = [f"{filled(USER_WORDS[0])}{person}{filled(USER_WORDS[1])}"]
    tailored: list[str] = []
    generic: list[str] = []
    for index in tree.user_turns():
        yield "user", chat_of(user)
        said = tree.nodes[index].content
        text += f"A: {said}\n"
        yield "inducer", chat_of([*worked_examples(), inducer_prompt(person, text)])
        tailored.append(f"{said}\n{notes_of(tree, index)}{filled(NOTES_WORDS)}\n{filled(REPLY_REMINDER)}")
        generic.append(f"{said}\n{filled(REPLY_REMINDER)}")
        yield "responders", chat_of(tailored)
        yield "responders", chat_of(generic)
        replies = [tree.nodes[reply] for reply in tree.children(index)]
        texts = "\n".join(reply.content for reply in replies)
        yield "judge", chat_of([f"{filled(JUDGE_WORDS[0])}{person}{texts}{filled(JUDGE_WORDS[1])}"])
        continued = next(reply.content for reply in replies if reply.continued)
        text += f"B: {continued}\n"
        user += [said, f"{continued}\n{filled(USER_REMINDER)}"]
        tailored.append(continued)
        generic.append(continued)


def worked_examples() -> Iterator[str]:
    for asked, answered in INDUCER_EXAMPLES:
        yield filled(asked)
        yield filled(answered)


def inducer_prompt(person: str, text: str) -> str:
    before, between, after = map(filled, INDUCER_WORDS)
    return f"{before}\n{text}{between}\n{person}{after}"


def notes_of(tree: Tree, index: int) -> str:
    stated = stated_so_far(tree.ledger(index))
    profile, personality = (" ".join(s.text for s in stated if s.kind == kind) for kind in ("profile", "personality"))
    return f"Profile: {profile}\nPersonalities: {personality or 'None'}"


def filled(tokens: int) -> str:
    return FILLER * tokens


def chat_of(texts: Sequence[str]) -> list[dict[str, str]]:
    """Texts that the user and the assistant say in turns."""
    return [{"role": "assistant" if place % 2 else "user", "content": text} for place, text in enumerate(texts)]


def tokenizer() -> Callable[[str], list[int]]:
    """Raises ImportError or InputError where there is none."""
    from tokenizers import Tokenizer

    from interalign.llm.offline import OFFLINE_MODEL, resolve_model

    loaded = Tokenizer.from_file(str(Path(resolve_model(OFFLINE_MODEL)) / "tokenizer.json"))
    return lambda text: list(loaded.encode(text, add_special_tokens=False).ids)


def counts(
    conversations: Sequence[Sequence[tuple[str, list[dict[str, str]]]]], tokenize: Callable[[str], list[int]]
) -> dict[str, Any]:
    """Per conversation: calls, tokens, and tokens that begin like an earlier prompt of the conversation and family."""
    calls, tokens, shared = 0, dict.fromkeys(FAMILIES.values(), 0), 0
    for prompts in conversations:
        earlier: dict[str, list[Tokens]] = {}
        for family, messages in prompts:
            prompt = np.array(tokenize(as_text(messages)), dtype=np.int32)
            before = earlier.setdefault(family, [])
            shared += max((common(prompt, one) for one in before), default=0)
            before.append(prompt)
            tokens[family] += len(prompt)
            calls += 1
    whole, count = sum(tokens.values()), len(conversations)
    return {
        "calls": rounded(calls / count),
        "tokens": rounded(whole / count),
        "tokens_by_family": {family: rounded(of_family / count) for family, of_family in tokens.items()},
        "reusable": rounded(shared / whole),
        "not_reusable_tokens": rounded((whole - shared) / count),
    }


def as_text(messages: Sequence[Mapping[str, str]]) -> str:
    """A chat in SmolLM2's template, without the words that it adds of its own accord."""
    said = "".join(f"<|im_start|>{one['role']}\n{one['content']}<|im_end|>\n" for one in messages)
    return f"{said}<|im_start|>assistant\n"


def common(one: Tokens, other: Tokens) -> int:
    """How many tokens two prompts share from the first on."""
    length = min(len(one), len(other))
    differing = np.flatnonzero(one[:length] != other[:length])
    return int(differing[0]) if len(differing) else length


# Memory.


def peak_bytes() -> int | None:
    """The most memory that was resident in this process; None where the system does not tell."""
    status = Path("/proc/self/status")
    if not status.exists():
        return None
    lines = status.read_text(encoding="utf-8").splitlines()
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM:")), None)


# What is shown.


def show(found: Mapping[str, Any]) -> None:
    console.print(side_by_side_table(found))
    console.print(alone_table(found["alone"]))
    console.print(scale_table(found["scale"]))
    if "skipped" in found["prompts"]:
        console.print(f"Prompts are not counted: {found['prompts']['skipped']}")
    else:
        console.print(prompts_table(found["prompts"]))


def side_by_side_table(found: Mapping[str, Any]) -> Table:
    runs, bare = found["side_by_side"], found["bare_client"]
    title = f"{runs[0]['conversations']} conversations, {found['turns']} turns, {found['concurrency']} calls at once"
    table = new_table(title, "delay", "calls", "ideal, s", "wall, s", "of ideal", "calls/s")
    for one in runs:
        spread = f", sigma {one['sigma']}" if one["sigma"] else ""
        table.add_row(
            f"{1000 * one['delay_s']:.0f} ms{spread}",
            f"{one['calls']:,}",
            f"{one['ideal_seconds']:.1f}",
            f"{one['seconds']['median']:.1f}",
            f"{one['of_ideal']:.1%}",
            f"{one['calls_per_second']:,.0f}",
        )
    calls, seconds, rate = bare["calls"], bare["seconds"]["median"], bare["calls_per_second"]
    delay = f"{1000 * bare['delay_s']:.0f} ms, bare client"
    table.add_row(delay, f"{calls:,}", "", f"{seconds:.1f}", "", f"{rate:,.0f}")
    return table


def alone_table(found: Sequence[Mapping[str, Any]]) -> Table:
    table = new_table("One conversation alone", "delay", "s", "delays a turn", "release, s", "delays a turn", "gain")
    for one in found:
        table.add_row(
            f"{1000 * one['delay_s']:.0f} ms",
            f"{one['seconds']:.1f}",
            f"{one['delays_per_turn']:.2f}",
            f"{one['release_seconds_per_conversation']:.1f}",
            f"{one['release_delays_per_turn']:.2f}",
            f"{one['gain']:.0f}",
        )
    table.caption = "gain: a conversation in the release's order / one of many side by side"
    return table


def scale_table(found: Sequence[Mapping[str, Any]]) -> Table:
    table = new_table("The client", "personas", "calls", "wall, s", "CPU s/1,000 calls", "before, MB", "peak, MB")
    for one in found:
        table.add_row(
            f"{one['personas']:,}",
            f"{one['calls']:,}",
            f"{one['seconds']:.1f}",
            f"{one['cpu_seconds_per_1000_calls']:.2f}",
            *("–" if count is None else f"{count / 1e6:.0f}" for count in (one["before_bytes"], one["peak_bytes"])),
        )
    return table


def prompts_table(found: Mapping[str, Any]) -> Table:
    table = new_table("Prompts of one conversation", "layout, tokens a reply", "calls", "tokens", "reusable", "not")
    for one in found["of"]:
        for name in ("ours", "release"):
            of = one[name]
            table.add_row(
                f"{name}, {one['mean_reply_tokens']:.0f}",
                f"{of['calls']:.0f}",
                f"{of['tokens']:,.0f}",
                f"{of['reusable']:.1%}",
                f"{of['not_reusable_tokens']:,.0f}",
            )
    table.caption = "reusable: begins like an earlier prompt of the conversation and role"
    return table


if __name__ == "__main__":
    main()
