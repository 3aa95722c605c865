"""The numbers of a simulation's page, computed from its trees.

What cannot be computed is None, never 0: a share of nothing, a mean without verdicts, money at an unknown price.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from math import floor, fsum
from typing import Literal, TypeAlias

from interalign.conversations.cast import ROLES
from interalign.conversations.hygiene import PairHygiene
from interalign.conversations.tree import Tree
from interalign.llm.account import RoleUsage
from interalign.messages import Value
from interalign.roles.judge import Comparison
from interalign.roles.ledger import stated_so_far

__all__ = [
    "Duel",
    "FaultCount",
    "JudgeAgreement",
    "Known",
    "Reason",
    "SimulationSummary",
    "SourceScores",
    "Total",
    "TurnMean",
    "summarise_simulation",
]

_AT_TURN = re.compile(r"^turn \d+: ")
_OF_JUDGE = "judge: "
_TAILORED, _GENERIC = "tailored", "generic"
_Outcome: TypeAlias = Literal["won", "lost", "tied", "undecided"]


class Reason(Value):
    """Why conversations ended early, and how many did for it."""

    text: str
    count: int


class Total(Value):
    """What all roles have used together."""

    calls: int
    prompt_tokens: int
    cached_tokens: int
    completion_tokens: int
    usd: float | None
    """None where one price is not known."""
    estimated: int


class FaultCount(Value):
    """How often a role failed a check."""

    role: str
    check: str
    count: int
    per_1000: float | None
    """In 1,000 user turns of the trees; None where there is no turn."""


class TurnMean(Value):
    """A mean over what there is at one turn."""

    turn: int
    mean: float | None
    count: int


class SourceScores(Value):
    """The scores of the replies of one source."""

    source: str
    replies: int
    missing: int
    """Replies without a verdict."""
    mean: float | None
    counts: tuple[int, int, int, int, int]
    """Scores from 1 to 5, rounded to whole points, halves up."""
    by_turn: tuple[TurnMean, ...]


class Duel(Value):
    """How the tailored replies of one turn did against their generic siblings."""

    turn: int
    won: int
    lost: int
    tied: int
    undecided: int
    """The judge's two orders disagree, or what it said could not be read."""

    @property
    def share(self) -> float | None:
        """Won, of those with a winner."""
        return _share(self.won, self.won + self.lost)


class JudgeAgreement(Value):
    """How far a judge that compares siblings in both orders agrees with itself."""

    compared: int
    readable: int
    """Compared with two votes that could be read."""
    unreadable_votes: int
    agreeing: float | None
    """Share of the readable ones whose orders agree."""
    ties: float | None
    """Share of the agreeing ones that are ties."""
    shown_first: float | None
    """Of those whose orders name different replies: the share in which both name the one that was shown first."""


class Known(Value):
    """How much had been disclosed at a turn: statements known after the user's message, on average over user turns."""

    turn: int
    users: int
    statements: float
    profile: float
    personality: float


class SimulationSummary(Value):
    """All numbers of a simulation's page."""

    trees: int
    personas: int
    turns: int
    """User turns in all trees."""
    paths: int
    """Conversations from the first message to a last one; more than `trees` where trees branch on."""
    pairs: int
    ended_early: tuple[Reason, ...]
    """By reason, the commonest first."""
    unjudged: tuple[Reason, ...]
    """Conversations that went to their end, but whose judge failed."""
    usage: tuple[RoleUsage, ...]
    """In the order of the roles."""
    total: Total | None
    """None where the usage is not known."""
    faults: tuple[FaultCount, ...]
    """User simulators first, the commonest first."""
    scores: tuple[SourceScores, ...]
    judge: JudgeAgreement | None
    """None where nothing was compared."""
    duels: tuple[Duel, ...]
    """By turn; empty without both kinds of replies."""
    known: tuple[Known, ...]
    """By turn."""
    hygiene: PairHygiene | None

    @property
    def replies(self) -> int:
        """Replies in all trees."""
        return sum(one.replies for one in self.scores)

    @property
    def missing(self) -> int:
        """Replies without a verdict."""
        return sum(one.missing for one in self.scores)

    @property
    def duel(self) -> Duel:
        """All turns together, under the turn 0."""
        names = ("won", "lost", "tied", "undecided")
        return Duel(turn=0, **{name: sum(getattr(one, name) for one in self.duels) for name in names})


def summarise_simulation(
    trees: Sequence[Tree], *, pairs: int, usage: Sequence[RoleUsage], hygiene: PairHygiene | None
) -> SimulationSummary:
    """Count what is in `trees`.

    Args:
        trees: Of the whole simulation.
        pairs: How many preferences were made of them.
        usage: What each role has used of each model; empty where that is not known.
        hygiene: What surface tells of the pairs, where it was measured.
    """
    turns = sum(1 for tree in trees for _ in tree.user_turns())
    failures = [tree.failure for tree in trees if tree.failure is not None]
    comparisons = [one for tree in trees for one in tree.comparisons]
    return SimulationSummary(
        trees=len(trees),
        personas=len({tree.persona_id for tree in trees}),
        turns=turns,
        paths=sum(_paths(tree) for tree in trees),
        pairs=pairs,
        ended_early=_reasons(one for one in failures if not one.startswith(_OF_JUDGE)),
        unjudged=_reasons(one.removeprefix(_OF_JUDGE) for one in failures if one.startswith(_OF_JUDGE)),
        usage=tuple(sorted(usage, key=lambda row: (_place(row.role), row.role, row.model))),
        total=_total(usage) if usage else None,
        faults=_faults(trees, turns),
        scores=_scores(trees),
        judge=_agreement(comparisons) if comparisons else None,
        duels=_duels(trees),
        known=_known(trees),
        hygiene=hygiene,
    )


def _share(part: int, whole: int) -> float | None:
    return part / whole if whole else None


def _mean(values: Sequence[float]) -> float | None:
    return fsum(values) / len(values) if values else None


def _place(role: str) -> int:
    return ROLES.index(role) if role in ROLES else len(ROLES)


def _paths(tree: Tree) -> int:
    return sum(not any(tree.children(reply) for reply in tree.children(user)) for user in tree.user_turns())


def _reasons(failures: Iterable[str]) -> tuple[Reason, ...]:
    """Failures by what went wrong, whichever turn it was."""
    counted = Counter(" ".join(_AT_TURN.sub("", one).split()) for one in failures)
    ordered = sorted(counted.items(), key=lambda item: (-item[1], item[0]))
    return tuple(Reason(text=text, count=count) for text, count in ordered)


def _total(usage: Sequence[RoleUsage]) -> Total:
    money = [row.usd for row in usage if row.usd is not None]
    return Total(
        calls=sum(row.calls for row in usage),
        prompt_tokens=sum(row.prompt_tokens for row in usage),
        cached_tokens=sum(row.cached_tokens for row in usage),
        completion_tokens=sum(row.completion_tokens for row in usage),
        usd=fsum(money) if len(money) == len(usage) else None,
        estimated=sum(row.estimated for row in usage),
    )


def _faults(trees: Sequence[Tree], turns: int) -> tuple[FaultCount, ...]:
    counted = Counter((fault.role, fault.check) for tree in trees for fault in tree.faults)
    ordered = sorted(counted.items(), key=lambda item: (_place(item[0][0]), item[0][0], -item[1], item[0][1]))
    return tuple(
        FaultCount(role=role, check=check, count=count, per_1000=1000 * count / turns if turns else None)
        for (role, check), count in ordered
    )


def _scores(trees: Sequence[Tree]) -> tuple[SourceScores, ...]:
    """Tailored first, generic next, then whatever else answers."""
    found: defaultdict[str, list[tuple[int, float | None]]] = defaultdict(list)
    for tree in trees:
        for user in tree.user_turns():
            turn = tree.turn(user)
            for reply in map(tree.nodes.__getitem__, tree.children(user)):
                found[reply.source].append((turn, reply.verdict.score if reply.verdict else None))
    first = (_TAILORED, _GENERIC)
    ordered = sorted(found, key=lambda source: (first.index(source) if source in first else len(first), source))
    return tuple(_of_source(source, found[source]) for source in ordered)


def _of_source(source: str, found: Sequence[tuple[int, float | None]]) -> SourceScores:
    scores = [score for _, score in found if score is not None]
    rounded = Counter(floor(score + 0.5) for score in scores)
    by_turn = []
    for turn in sorted({turn for turn, _ in found}):
        of_turn = [score for at, score in found if at == turn and score is not None]
        by_turn.append(TurnMean(turn=turn, mean=_mean(of_turn), count=len(of_turn)))
    return SourceScores(
        source=source,
        replies=len(found),
        missing=len(found) - len(scores),
        mean=_mean(scores),
        counts=(rounded[1], rounded[2], rounded[3], rounded[4], rounded[5]),
        by_turn=tuple(by_turn),
    )


def _agreement(comparisons: Sequence[Comparison]) -> JudgeAgreement:
    readable = [one for one in comparisons if one.readable]
    agreeing = [one for one in readable if one.consistent]
    split = [one for one in readable if {*one.votes} == {"first", "second"}]
    return JudgeAgreement(
        compared=len(comparisons),
        readable=len(readable),
        unreadable_votes=sum(vote is None for one in comparisons for vote in one.votes),
        agreeing=_share(len(agreeing), len(readable)),
        ties=_share(sum(one.votes[0] == "tie" for one in agreeing), len(agreeing)),
        # In the first order `first` is shown first, in the second one `second` is.
        shown_first=_share(sum(one.votes == ("first", "second") for one in split), len(split)),
    )


def _duels(trees: Sequence[Tree]) -> tuple[Duel, ...]:
    counted: defaultdict[int, Counter[_Outcome]] = defaultdict(Counter)
    for tree in trees:
        compared = {frozenset((one.first, one.second)): one for one in tree.comparisons}
        for user in tree.user_turns():
            replies = tree.children(user)
            ours, theirs = ([i for i in replies if tree.nodes[i].source == name] for name in (_TAILORED, _GENERIC))
            turn = tree.turn(user)
            counted[turn].update(_outcome(tree, one, other, compared) for one in ours for other in theirs)
    return tuple(
        Duel(turn=turn, won=of["won"], lost=of["lost"], tied=of["tied"], undecided=of["undecided"])
        for turn, of in sorted(counted.items())
        if of
    )


def _outcome(tree: Tree, one: int, other: int, compared: dict[frozenset[int], Comparison]) -> _Outcome:
    """Where the judge compared the two, what both orders say; else what the scores say."""
    comparison = compared.get(frozenset((one, other)))
    if comparison is not None:
        if not comparison.consistent:
            return "undecided"
        return "tied" if comparison.winner is None else "won" if comparison.winner == one else "lost"
    ours, theirs = tree.nodes[one].verdict, tree.nodes[other].verdict
    if ours is None or theirs is None:
        return "undecided"
    return "tied" if ours.score == theirs.score else "won" if ours.score > theirs.score else "lost"


def _known(trees: Sequence[Tree]) -> tuple[Known, ...]:
    kinds: defaultdict[int, list[Counter[str]]] = defaultdict(list)
    for tree in trees:
        for user in tree.user_turns():
            kinds[tree.turn(user)].append(Counter(one.kind for one in stated_so_far(tree.ledger(user))))
    return tuple(
        Known(
            turn=turn,
            users=len(of_turn),
            statements=sum(one.total() for one in of_turn) / len(of_turn),
            profile=sum(one["profile"] for one in of_turn) / len(of_turn),
            personality=sum(one["personality"] for one in of_turn) / len(of_turn),
        )
        for turn, of_turn in sorted(kinds.items())
    )
