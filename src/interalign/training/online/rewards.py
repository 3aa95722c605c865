"""What a conversation earns: named terms with weights.

A term that cannot be had is missing, never a default. A conversation without any verdict, or one that broke off through
no fault of the policy, earns nothing at all: no reward, and so no advantage. Where only one term is missing, as uptake
is when the user never complained, the mean of the group stands in for it, which leaves the advantage to the other
terms.

The penalties of the verifiable judge (mind-reading, parroting, stuffing, repetition, rambling, degenerate text) are
subtracted inside its score, so they are part of `alignment` already and no term of their own.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from functools import cache
from statistics import fmean
from typing import Annotated, TypeAlias

from pydantic import Field, model_validator

from interalign.messages import Value
from interalign.personas.persona import Fact, Persona
from interalign.personas.vocabulary import SLOTS, slot
from interalign.roles.ledger import Ledger, disclosed_facts
from interalign.roles.llm.grader import Graded
from interalign.roles.measure import mentions
from interalign.training.online.conversation import Conversation, Exchange

__all__ = [
    "TERMS",
    "Earned",
    "RewardConfig",
    "alignment",
    "earned",
    "graded",
    "improvement",
    "induction",
    "scaled_score",
    "terms",
    "uptake",
]

TERMS = ("alignment", "improvement", "induction", "uptake")
"""The names of the terms, in the order in which they are logged."""

_Weight: TypeAlias = Annotated[float, Field(ge=0)]


class RewardConfig(Value):
    """How much each term counts. A term of weight 0 is still logged where it costs nothing."""

    alignment: _Weight = 1.0
    """Mean score of the replies, from 0 (score 1) to 1 (score 5). The judge's penalties are in it."""
    improvement: _Weight = 0.0
    """How much the score rises from the first turn to the last. Keep it below a sixth of `alignment`: up to there, a
    conversation that begins badly on purpose never pays."""
    induction: _Weight = 0.0
    """How well the policy can say, asked off the record, what the user has disclosed. Costs one more reply each."""
    uptake: _Weight = 0.0
    """How often a reply mends what the user has just remarked on. Verifiable judge only."""
    improvement_limit: Annotated[float, Field(gt=0, le=1)] = 0.5
    """A rise or fall counts up to here."""

    @model_validator(mode="after")
    def _check(self) -> RewardConfig:
        if not self.weights:
            raise ValueError("at least one reward term needs a weight above 0")
        return self

    @property
    def weights(self) -> dict[str, float]:
        """The terms that count, with their weights."""
        return {name: weight for name in TERMS if (weight := float(getattr(self, name))) > 0}


class Earned(Value):
    """What one conversation earns."""

    terms: dict[str, float | None]
    """Every term, None where it is missing."""
    rewards: dict[str, float | None]
    """The terms that count; a missing one is the group's mean, or None for the whole group, or None throughout for a
    conversation that earns nothing."""
    total: float | None
    """The weighted sum of `rewards`; None for a conversation that earns nothing."""


def earned(conversations: Sequence[Conversation], config: RewardConfig) -> list[Earned]:
    """What each of the conversations earns beside the others that play the same case."""
    measured = [terms(conversation, config) for conversation in conversations]
    groups: dict[int, list[dict[str, float | None]]] = defaultdict(list)
    for conversation, found in zip(conversations, measured, strict=True):
        groups[conversation.case.number].append(found)
    means = {number: _means(group) for number, group in groups.items()}
    return [
        _earned(found, means[conversation.case.number], config.weights)
        for conversation, found in zip(conversations, measured, strict=True)
    ]


def _means(group: Sequence[dict[str, float | None]]) -> dict[str, float | None]:
    return {name: _mean([found[name] for found in group]) for name in TERMS}


def _earned(found: dict[str, float | None], means: dict[str, float | None], weights: dict[str, float]) -> Earned:
    if found["alignment"] is None:
        return Earned(terms=found, rewards=dict.fromkeys(weights), total=None)
    rewards = {name: means[name] if found[name] is None else found[name] for name in weights}
    total = sum(weights[name] * reward for name, reward in rewards.items() if reward is not None)
    return Earned(terms=found, rewards=rewards, total=total)


def terms(conversation: Conversation, config: RewardConfig) -> dict[str, float | None]:
    """Every term by its name; all missing for a conversation that broke off, or has no verdict."""
    mean = alignment(conversation.exchanges)
    if conversation.failure is not None or mean is None:
        return dict.fromkeys(TERMS)
    return {
        "alignment": mean,
        "improvement": improvement(conversation.exchanges, config.improvement_limit),
        "induction": _induction(conversation),
        "uptake": uptake(conversation.exchanges),
    }


def alignment(exchanges: Sequence[Exchange]) -> float | None:
    """The mean score in [0, 1] of the turns that have a verdict; None when none has."""
    return _mean([scaled_score(exchange) for exchange in exchanges])


def scaled_score(exchange: Exchange) -> float | None:
    """The score of a reply, from 0 (score 1) to 1 (score 5); None without a verdict."""
    return None if exchange.verdict is None else (exchange.verdict.score - 1) / 4


def improvement(exchanges: Sequence[Exchange], limit: float = 1.0) -> float | None:
    """The rise of the scaled score from the first turn to the last on its least-squares line, within ±`limit`.

    None with fewer than two verdicts.
    """
    points = [(turn, score) for turn, one in enumerate(exchanges) if (score := scaled_score(one)) is not None]
    if len(points) < 2:
        return None
    turns, scores = zip(*points, strict=True)
    middle, level = fmean(turns), fmean(scores)
    slope = sum((turn - middle) * (score - level) for turn, score in points) / sum((t - middle) ** 2 for t in turns)
    rise: float = slope * (len(exchanges) - 1)
    return max(-limit, min(limit, rise))


def induction(persona: Persona, ledger: Ledger, stated: str) -> float | None:
    """The harmonic mean of recall and precision of what the policy states about the user, in [0, 1].

    Recall: which share of the disclosed facts it names. Precision: which share of the facts it names, of all that the
    vocabulary of rule-based users knows, are disclosed facts of this persona; listing everything is worth little, and
    so is guessing what the user kept to itself. None when nothing was disclosed.
    """
    disclosed = set(disclosed_facts(ledger))
    if not disclosed:
        return None
    told = {fact.key for fact in disclosed & set(persona.facts)}
    named = {fact.key for fact in _vocabulary() if mentions(stated, fact)}
    named |= {fact.key for fact in persona.facts if mentions(stated, fact)}
    return 2 * len(told & named) / (len(told) + len(named)) if told or named else 0.0


def graded(marks: Graded, statements: int, disclosed: int) -> float | None:
    """The same by a grader: recall is the share of the disclosed things that are found, precision that of true ones.

    None when nothing was disclosed.
    """
    if not disclosed:
        return None
    recall, precision = len(marks.found) / disclosed, len(marks.true) / statements if statements else 0.0
    return 2 * recall * precision / (recall + precision) if recall + precision else 0.0


def _induction(conversation: Conversation) -> float | None:
    persona, stated = conversation.case.persona, conversation.stated
    if conversation.induced is not None or stated is None or not persona.facts:
        return conversation.induced
    return induction(persona, conversation.ledger, stated)


def uptake(exchanges: Sequence[Exchange]) -> float | None:
    """The share of the user's remarks on what a reply missed that the next reply meets.

    None without a remark, or with a judge that does not measure the dimensions of style.
    """
    fits = [
        exchange.verdict.parts.get(reaction.dimension) if exchange.verdict else None
        for exchange in exchanges
        for reaction in exchange.disclosure.missed
    ]
    return _mean(fits)


@cache
def _vocabulary() -> tuple[Fact, ...]:
    return tuple(fact for name in SLOTS for split in ("train", "heldout") for fact in slot(name).facts(split))


def _mean(values: Sequence[float | None]) -> float | None:
    there = [value for value in values if value is not None]
    return fmean(there) if there else None
