"""The numbers of a simulation's page, computed from its trees.

What cannot be computed is None, never 0: a share of nothing, a mean without verdicts, money at an unknown price.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from math import floor, fsum
from typing import Literal, TypeAlias

from interalign.conversations.cast import ROLES
from interalign.conversations.hygiene import PairHygiene
from interalign.conversations.tree import Tree
from interalign.llm.account import RoleUsage
from interalign.messages import Value
from interalign.roles.judge import Comparison, Vote
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
_USERS = "user turns"
"""Beside the kinds of statements."""
_Votes: TypeAlias = tuple[Vote | None, Vote | None]
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
    trees: Iterable[Tree], *, pairs: int, usage: Sequence[RoleUsage], hygiene: PairHygiene | None
) -> SimulationSummary:
    """Count what is in `trees`, in one pass: of a tree nothing is kept but what it adds to the counts.

    Args:
        trees: Of the whole simulation.
        pairs: How many preferences were made of them.
        usage: What each role has used of each model; empty where that is not known.
        hygiene: What surface tells of the pairs, where it was measured.
    """
    counts = _Counts()
    for tree in trees:
        counts.add(tree)
    return SimulationSummary(
        trees=counts.trees,
        personas=len(counts.personas),
        turns=counts.turns,
        paths=counts.paths,
        pairs=pairs,
        ended_early=_reasons(counts.ended_early),
        unjudged=_reasons(counts.unjudged),
        usage=tuple(sorted(usage, key=lambda row: (_place(row.role), row.role, row.model))),
        total=_total(usage) if usage else None,
        faults=_faults(counts.faults, counts.turns),
        scores=_scores(counts.replies),
        judge=_agreement(counts.votes) if counts.votes else None,
        duels=_duels(counts.duels),
        known=_known(counts.known),
        hygiene=hygiene,
    )


class _Counts:
    """What is counted of trees, one after the other."""

    def __init__(self) -> None:
        self.trees = self.turns = self.paths = 0
        self.personas: set[str] = set()
        self.ended_early: Counter[str] = Counter()
        self.unjudged: Counter[str] = Counter()
        self.faults: Counter[tuple[str, str]] = Counter()
        """By role and check."""
        self.replies: defaultdict[str, Counter[tuple[int, float | None]]] = defaultdict(Counter)
        """By source, then by turn and score; a judge has few scores to give."""
        self.votes: Counter[_Votes] = Counter()
        self.duels: defaultdict[int, Counter[_Outcome]] = defaultdict(Counter)
        """By turn."""
        self.known: defaultdict[int, Counter[str]] = defaultdict(Counter)
        """By turn: statements by kind, and the user turns themselves."""

    def add(self, tree: Tree) -> None:
        self.trees += 1
        self.personas.add(tree.persona_id)
        if tree.failure is not None:
            of_judge = tree.failure.startswith(_OF_JUDGE)
            failures = self.unjudged if of_judge else self.ended_early
            failures[_reason(tree.failure.removeprefix(_OF_JUDGE))] += 1
        self.faults.update((fault.role, fault.check) for fault in tree.faults)
        self.votes.update(one.votes for one in tree.comparisons)
        compared = {frozenset((one.first, one.second)): one for one in tree.comparisons}
        for user in tree.user_turns():
            self._add_turn(tree, user, compared)

    def _add_turn(self, tree: Tree, user: int, compared: Mapping[frozenset[int], Comparison]) -> None:
        turn, replies = tree.turn(user), tree.children(user)
        self.turns += 1
        self.paths += not any(tree.children(reply) for reply in replies)
        for node in map(tree.nodes.__getitem__, replies):
            self.replies[node.source][turn, node.verdict.score if node.verdict else None] += 1
        ours, theirs = ([i for i in replies if tree.nodes[i].source == name] for name in (_TAILORED, _GENERIC))
        self.duels[turn].update(_outcome(tree, one, other, compared) for one in ours for other in theirs)
        self.known[turn].update(one.kind for one in stated_so_far(tree.ledger(user)))
        self.known[turn][_USERS] += 1


def _share(part: int, whole: int) -> float | None:
    return part / whole if whole else None


def _mean(scores: Counter[float]) -> float | None:
    """Of each as often as it came."""
    return fsum(scores.elements()) / scores.total() if scores else None


def _place(role: str) -> int:
    return ROLES.index(role) if role in ROLES else len(ROLES)


def _reason(failure: str) -> str:
    """What went wrong, whichever turn it was."""
    return " ".join(_AT_TURN.sub("", failure).split())


def _reasons(counted: Counter[str]) -> tuple[Reason, ...]:
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


def _faults(counted: Counter[tuple[str, str]], turns: int) -> tuple[FaultCount, ...]:
    ordered = sorted(counted.items(), key=lambda item: (_place(item[0][0]), item[0][0], -item[1], item[0][1]))
    return tuple(
        FaultCount(role=role, check=check, count=count, per_1000=1000 * count / turns if turns else None)
        for (role, check), count in ordered
    )


def _scores(found: Mapping[str, Counter[tuple[int, float | None]]]) -> tuple[SourceScores, ...]:
    """Tailored first, generic next, then whatever else answers."""
    first = (_TAILORED, _GENERIC)
    ordered = sorted(found, key=lambda source: (first.index(source) if source in first else len(first), source))
    return tuple(_of_source(source, found[source]) for source in ordered)


def _of_source(source: str, found: Counter[tuple[int, float | None]]) -> SourceScores:
    scores: Counter[float] = Counter()
    rounded: Counter[int] = Counter()
    by_turn: defaultdict[int, Counter[float]] = defaultdict(Counter)
    for (turn, score), count in found.items():
        of_turn = by_turn[turn]
        if score is not None:
            scores[score] += count
            rounded[floor(score + 0.5)] += count
            of_turn[score] += count
    return SourceScores(
        source=source,
        replies=found.total(),
        missing=found.total() - scores.total(),
        mean=_mean(scores),
        counts=(rounded[1], rounded[2], rounded[3], rounded[4], rounded[5]),
        by_turn=tuple(TurnMean(turn=turn, mean=_mean(of), count=of.total()) for turn, of in sorted(by_turn.items())),
    )


def _agreement(votes: Counter[_Votes]) -> JudgeAgreement:
    """Of the votes of both orders; in the first order `first` is shown first, in the second one `second` is."""
    readable = Counter({both: count for both, count in votes.items() if None not in both})
    agreeing = Counter({both: count for both, count in readable.items() if both[0] == both[1]})
    split = Counter({both: count for both, count in readable.items() if {*both} == {"first", "second"}})
    return JudgeAgreement(
        compared=votes.total(),
        readable=readable.total(),
        unreadable_votes=sum(both.count(None) * count for both, count in votes.items()),
        agreeing=_share(agreeing.total(), readable.total()),
        ties=_share(agreeing["tie", "tie"], agreeing.total()),
        shown_first=_share(split["first", "second"], split.total()),
    )


def _duels(counted: Mapping[int, Counter[_Outcome]]) -> tuple[Duel, ...]:
    return tuple(
        Duel(turn=turn, won=of["won"], lost=of["lost"], tied=of["tied"], undecided=of["undecided"])
        for turn, of in sorted(counted.items())
        if of
    )


def _outcome(tree: Tree, one: int, other: int, compared: Mapping[frozenset[int], Comparison]) -> _Outcome:
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


def _known(counted: Mapping[int, Counter[str]]) -> tuple[Known, ...]:
    return tuple(
        Known(
            turn=turn,
            users=of[_USERS],
            statements=(of.total() - of[_USERS]) / of[_USERS],
            profile=of["profile"] / of[_USERS],
            personality=of["personality"] / of[_USERS],
        )
        for turn, of in sorted(counted.items())
    )
