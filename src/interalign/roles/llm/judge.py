"""A language model as the judge: siblings in pairs, each pair in both orders, for one person.

An answer that cannot be read is a missing vote and no score. Nothing stands in for it.

Of the chat the judge is shown the last exchange, and for the rest what the person has given away of themselves (the
ledger), which bounds what an honest reply can claim of them. What it cannot see is earlier talk about anything else:
whether a reply forgets or misquotes that goes unjudged, while "the second one" points into the message that is shown.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations, permutations
from typing import ClassVar, Literal, TypeAlias

from interalign.messages import Chat
from interalign.personas.persona import Persona
from interalign.roles.judge import Comparison, Judgement, Verdict, Vote
from interalign.roles.ledger import Ledger, disclosed_texts
from interalign.roles.llm.player import Form, Player, RoleFailure, Score, all_or_first_error, moment, tagged
from interalign.run import derive_seed

__all__ = ["LLMJudge"]


class _Ballot(Form):
    example: ClassVar[str] = '{"better": "A"|"B"|"tie", "score_a": 1-5, "score_b": 1-5}'

    better: Literal["A", "B", "tie"]
    score_a: Score
    score_b: Score


_Ballots: TypeAlias = Mapping[tuple[int, int], tuple[_Ballot, str] | None]
"""By the places of the replies that were shown as A and as B: the answer and the model that gave it."""


class LLMJudge:
    """Compares and scores the replies to one user turn; one model judges all of them."""

    def __init__(self, player: Player) -> None:
        self._player = player

    async def judge(self, persona: Persona, chat: Chat, replies: Sequence[str], ledger: Ledger, seed: int) -> Judgement:
        """Ask about every two of `replies`, which all answer the last message of `chat`, in both orders at once.

        `ledger` goes as far as that message. What rules disclosed and what a model found there are told alike.
        A reply's score is the mean over all answers that could be read; its verdict is None when there is none.

        Raises:
            ModelError: the server refused or was silent.
        """
        place = moment(persona, "disclosed", disclosed_texts(ledger), chat)
        orders = list(permutations(range(len(replies)), 2))
        answers = await all_or_first_error(
            self._ballot(place, replies[a], replies[b], derive_seed(seed, a, b), seed) for a, b in orders
        )
        ballots = dict(zip(orders, answers, strict=True))
        return Judgement(
            verdicts=tuple(_verdict(ballots, reply) for reply in range(len(replies))),
            comparisons=tuple(_comparison(ballots, *pair) for pair in combinations(range(len(replies)), 2)),
        )

    async def _ballot(self, place: str, a: str, b: str, seed: int, draw: int) -> tuple[_Ballot, str] | None:
        data = f"{place}\n\n{tagged('reply_a', a)}\n\n{tagged('reply_b', b)}"
        try:
            return await self._player.ask_for(_Ballot, data, seed, draw=draw)
        except RoleFailure:
            return None


def _verdict(ballots: _Ballots, reply: int) -> Verdict | None:
    as_a = [one[0].score_a for (a, _), one in ballots.items() if a == reply and one is not None]
    as_b = [one[0].score_b for (_, b), one in ballots.items() if b == reply and one is not None]
    scores = [*as_a, *as_b]
    return Verdict(score=sum(scores) / len(scores)) if scores else None


def _comparison(ballots: _Ballots, first: int, second: int) -> Comparison:
    straight, swapped = ballots[first, second], ballots[second, first]
    model = next((one[1] for one in (straight, swapped) if one is not None), None)
    votes = (_vote(straight, a="first", b="second"), _vote(swapped, a="second", b="first"))
    return Comparison(first=first, second=second, votes=votes, model=model)


def _vote(ballot: tuple[_Ballot, str] | None, *, a: Vote, b: Vote) -> Vote | None:
    if ballot is None:
        return None
    meant: dict[str, Vote] = {"A": a, "B": b, "tie": "tie"}
    return meant[ballot[0].better]
