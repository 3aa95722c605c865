"""Judges with known faults, to see whether the tests of judges find them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from random import Random

from interalign.messages import Chat
from interalign.personas.persona import Persona
from interalign.roles.judge import Comparison, Judgement, Verdict, judge_reply
from interalign.roles.ledger import Ledger
from interalign.roles.measure import count_emoji, words


@dataclass(frozen=True)
class Always:
    """Says the same of everything."""

    says: float = 4.0

    async def score(self, persona: Persona, chat: Chat, reply: str, ledger: Ledger, seed: int) -> Verdict | None:
        return Verdict(score=self.says)


class Longer:
    """The longer the better."""

    async def score(self, persona: Persona, chat: Chat, reply: str, ledger: Ledger, seed: int) -> Verdict | None:
        return Verdict(score=min(5.0, 1 + len(words(reply)) / 30))


class Dazzled:
    """Likes emoji, and sees nothing else."""

    async def score(self, persona: Persona, chat: Chat, reply: str, ledger: Ledger, seed: int) -> Verdict | None:
        return Verdict(score=min(5.0, 2 + count_emoji(reply) / 2))


@dataclass(frozen=True)
class Noisy:
    """Measures as the rules do, `kind` points too kindly and with noise; some verdicts are missing."""

    noise: float = 0.5
    kind: float = 0.0
    missing: float = 0.0

    async def score(self, persona: Persona, chat: Chat, reply: str, ledger: Ledger, seed: int) -> Verdict | None:
        random = Random(f"{persona.id} {reply} {seed}")
        if random.random() < self.missing:
            return None
        exact = judge_reply(persona, chat, reply, ledger).score
        return Verdict(score=min(5.0, max(1.0, exact + self.kind + random.gauss(0, self.noise))))


@dataclass
class Counting:
    """Measures as the rules do, and counts how often it is asked."""

    asked: list[tuple[str, str, int]] = field(default_factory=list)

    async def score(self, persona: Persona, chat: Chat, reply: str, ledger: Ledger, seed: int) -> Verdict | None:
        self.asked.append((persona.id, reply, seed))
        return judge_reply(persona, chat, reply, ledger)


class FirstShown:
    """A comparing judge that always prefers what it is shown first."""

    async def judge(self, persona: Persona, chat: Chat, replies: Sequence[str], ledger: Ledger, seed: int) -> Judgement:
        return Judgement(verdicts=(None, None), comparisons=(Comparison(first=0, second=1, votes=("first", "second")),))
