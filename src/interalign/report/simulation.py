"""The page of a simulation: what language models said in their roles, what it cost, and how far it can be trusted.

It follows the rules of every page, see `shell`, and numbers are the summary's. Of many conversations some are drawn
evenly, and the page says how many.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypedDict

from interalign.conversations.cast import roles_of
from interalign.conversations.hygiene import Cue, PairHygiene
from interalign.conversations.simulate import RolesConfig
from interalign.conversations.tree import Tree
from interalign.llm.backends import ScriptedConfig, label
from interalign.messages import Value
from interalign.personas.persona import Persona
from interalign.report.growth import counted
from interalign.report.island import Json, evenly, person_data, tree_data
from interalign.report.shell import fill, percent
from interalign.report.simulation_summary import FaultCount, Reason, SimulationSummary, SourceScores
from interalign.roles.llm.player import RoleConfig
from interalign.run import write_text

__all__ = ["MOST_CONVERSATIONS", "SimulationIsland", "SimulationPage", "render", "simulation_island", "write"]

MOST_CONVERSATIONS = 50
"""At most this many conversations are embedded."""

_MOST_CHARACTERS = 2_500_000
_MOST_REASONS = 8
_LONGEST_REASON = 300


@dataclass(frozen=True)
class SimulationPage:
    """What the page of a simulation is made from."""

    summary: SimulationSummary
    """All numbers of the page."""
    trees: Sequence[Tree]
    personas: Mapping[str, Persona]
    """By id; at least those of the trees."""
    roles: RolesConfig
    """Who played which role."""
    prompts: Mapping[str, str]
    """Hashes of the instructions, by role."""
    title: str
    facts: Mapping[str, str]
    """How the conversations came about (recipe, seed, versions), in the order in which it is shown."""
    unfinished: int = 0
    """Conversations that are still to come, since the simulation was stopped."""


def write(path: Path, page: SimulationPage) -> None:
    """Render the page and put it at `path`, whole or not at all.

    Raises:
        StorageError: the page cannot be written.
    """
    write_text(path, render(page))


def render(page: SimulationPage) -> str:
    """The page as one string."""
    summary, data = page.summary, simulation_island(page)
    players = roles_of(page.roles)
    return fill(
        "simulation.html.jinja",
        # The bars are those of a pool.
        styles=["page.css", "pool.css", "simulation.css"],
        scripts=["trees.js", "simulation.js"],
        data=data,
        title=page.title,
        facts=page.facts,
        players={role: _players(config) for role, config in players.items()},
        prompts=page.prompts,
        summary=summary,
        headline=_headline(summary),
        unfinished=page.unfinished,
        scripted=[role for role, config in players.items() if any(_scripts(config))],
        all_scripted=all(all(_scripts(config)) for config in players.values()),
        ended_early=_shown_reasons(summary.ended_early),
        unjudged=_shown_reasons(summary.unjudged),
        early=sum(one.count for one in summary.ended_early),
        of_judge=sum(one.count for one in summary.unjudged),
        faults=_faults_by_role(summary.faults),
        scores=_scores(summary.scores),
        leans=_leans(summary.hygiene) if summary.hygiene else (),
        meaning=_meaning(summary.hygiene) if summary.hygiene else "",
        shown_trees=len(data["trees"]),
        percent=percent,
        counted=counted,
        money=_money,
        amount="{:,}".format,
    )


# -- What the script reads --------------------------------------------------------------------------------------


class SimulationIsland(TypedDict):
    """The data of the page's script: the curves, the conversations and the persons in them."""

    scores: list[Json]
    duels: list[Json]
    known: list[Json]
    trees: list[dict[str, Json]]
    persons: dict[str, Json]


def simulation_island(page: SimulationPage) -> SimulationIsland:
    """Curves by turn, and conversations drawn evenly, bounded in number and in size."""
    summary = page.summary
    trees = _drawn(page.trees)
    met = dict.fromkeys(str(tree["person"]) for tree in trees)
    return {
        "scores": [{"source": one.source, "turns": [_dumped(at) for at in one.by_turn]} for one in summary.scores],
        "duels": [{**_dumped(one), "share": one.share} for one in summary.duels],
        "known": [_dumped(one) for one in summary.known],
        "trees": trees,
        "persons": {name: person_data(page.personas[name]) for name in met if name in page.personas},
    }


def _dumped(value: Value) -> dict[str, Json]:
    return value.model_dump(mode="json")


def _drawn(trees: Sequence[Tree]) -> list[dict[str, Json]]:
    most = MOST_CONVERSATIONS
    while True:
        drawn = [tree_data(tree) for tree in evenly(trees, most)]
        size = len(json.dumps(drawn))
        if size <= _MOST_CHARACTERS or most == 1:
            return drawn
        most = max(1, min(most - 1, most * _MOST_CHARACTERS // size))


# -- What stands in the markup ----------------------------------------------------------------------------------


class FaultBar(Value):
    """One check and how often it was failed; the length is a share of the longest bar."""

    check: str
    count: int
    per_1000: float | None
    length: float


class ScoreView(Value):
    """The scores of one source, with a bar for each whole score and one for what is missing."""

    source: str
    scores: SourceScores
    bars: tuple[tuple[str, int, float | None, float], ...]
    """Label, count, share of the source's replies, length of the bar."""


class Lean(Value):
    """A share beside an even half, as a bar that begins at the half."""

    label: str
    share: float | None
    start: float
    length: float
    aside: str


def _headline(summary: SimulationSummary) -> tuple[str, str]:
    """In two halves, between which a narrow page breaks the line."""
    return (
        f"{counted(summary.trees, 'conversation')} with {counted(summary.personas, 'persona')};",
        f"{counted(summary.turns, 'user turn')}, {counted(summary.pairs, 'preference pair')}",
    )


def _scripts(config: RoleConfig) -> list[bool]:
    return [isinstance(one.model, ScriptedConfig) for one in config.models]


def _players(config: RoleConfig) -> str:
    whole = sum(one.weight for one in config.models)
    alone = len(config.models) == 1
    return ", ".join(label(one.model) + ("" if alone else f" ({percent(one.weight / whole)})") for one in config.models)


def _shown_reasons(reasons: Sequence[Reason]) -> list[tuple[str, int]]:
    """The commonest, cut to a length that can be read; what is left is one more line."""
    shown = [(_short(one.text), one.count) for one in reasons[:_MOST_REASONS]]
    left = reasons[_MOST_REASONS:]
    if left:
        shown.append((f"for {counted(len(left), 'other reason')}", sum(one.count for one in left)))
    return shown


def _short(text: str) -> str:
    return text if len(text) <= _LONGEST_REASON else text[: _LONGEST_REASON - 1] + "\N{HORIZONTAL ELLIPSIS}"


def _faults_by_role(faults: Sequence[FaultCount]) -> dict[str, list[FaultBar]]:
    longest = max((one.count for one in faults), default=1)
    shown: dict[str, list[FaultBar]] = {}
    for one in faults:
        bar = FaultBar(check=one.check, count=one.count, per_1000=one.per_1000, length=one.count / longest)
        shown.setdefault(one.role, []).append(bar)
    return shown


def _scores(scores: Sequence[SourceScores]) -> list[ScoreView]:
    longest = max((max(*one.counts, one.missing) / one.replies for one in scores), default=0) or 1
    views = []
    for one in scores:
        counts = {str(score): one.counts[score - 1] for score in (5, 4, 3, 2, 1)} | {"no verdict": one.missing}
        shares = {name: count / one.replies for name, count in counts.items()}
        bars = tuple((name, count, shares[name], shares[name] / longest) for name, count in counts.items())
        views.append(ScoreView(source=one.source, scores=one, bars=bars))
    return views


def _leans(hygiene: PairHygiene) -> tuple[Lean, ...]:
    cues = {
        "more words": hygiene.longer,
        "more emoji": hygiene.emoji,
        "more questions": hygiene.questions,
        "more exclamations": hygiene.exclamations,
    }
    leans = [_lean(name, cue.wins, _differing(hygiene, cue)) for name, cue in cues.items()]
    aside = "too few pairs or personas" if hygiene.surface_guess is None else f"of {hygiene.pairs:,} pairs"
    return (*leans, _lean("guess from all surface", hygiene.surface_guess, aside))


def _differing(hygiene: PairHygiene, cue: Cue) -> str:
    differing = hygiene.pairs - cue.ties
    return (
        f"of {counted(differing, 'pair')} that differ{'s' if differing == 1 else ''}"
        if differing
        else "no pair differs"
    )


def _lean(name: str, share: float | None, aside: str) -> Lean:
    at = 0.5 if share is None else share
    return Lean(label=name, share=share, start=min(at, 0.5), length=abs(at - 0.5), aside=aside)


def _meaning(hygiene: PairHygiene) -> str:
    """What the surface guess says of the pairs. Two standard errors of a coin are what chance brings now and then."""
    guess = hygiene.surface_guess
    if guess is None:
        return (
            "There are too few pairs, or too few personas, to say how far a guess from surface alone would come: it "
            "takes 30 pairs of two personas."
        )
    found = (
        f"Fitted on other personas, a guess from words, emoji, questions, exclamations and list lines alone finds "
        f"{percent(guess)} of the chosen replies; {percent(0.5)} is chance."
    )
    if guess - 0.5 <= hygiene.pairs**-0.5:
        return f"{found} That is no more than chance can bring with so many pairs: surface does not tell them apart."
    return (
        f"{found} As far as that is above chance, these pairs can be told apart without knowing the person, and a "
        "model that is trained on them can learn that surface instead. To keep pairs of like length only, set "
        "preferences.length_match."
    )


def _money(usd: float | None) -> str:
    return "unknown" if usd is None else f"{usd:,.4f}" if 0 < usd < 0.01 else f"{usd:,.2f}"
