"""The data that the page's script reads: figures, conversations, trees and the persons in them.

Everything is plain JSON of texts and numbers; the script shows texts as text. The page stays small: a bounded number
of cases and trees, a bounded size, and long texts cut with a mark.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import TypeAlias, TypedDict

from markupsafe import Markup

from interalign.conversations.tree import Node, Tree
from interalign.evaluation.statistics import Estimate
from interalign.evaluation.summary import Summary, TurnRow
from interalign.personas.persona import Persona
from interalign.roles.judge import Verdict
from interalign.roles.ledger import Disclosure

__all__ = ["MOST_SHOWN", "Island", "Json", "as_script", "island"]

Json: TypeAlias = bool | int | float | str | Sequence["Json"] | Mapping[str, "Json"] | None

MOST_SHOWN = 60
"""At most this many cases, and this many trees, are embedded."""

_MOST_CHARACTERS = 2_500_000
_LONGEST_TEXT = 4_000


class Island(TypedDict):
    """The data under the names that the script knows. Models stand in the order of the summary, models first."""

    turns: int
    baseline: str
    models: list[Json]
    cases: list[dict[str, Json]]
    trees: list[dict[str, Json]]
    persons: dict[str, Json]


def island(
    summary: Summary,
    rows: Mapping[str, Sequence[TurnRow]],
    trees: Sequence[Tree],
    personas: Mapping[str, Persona],
) -> Island:
    """All data of the page: the first cases by id, the first trees, and the persons whom they show."""
    names = [model.name for model in (*summary.of_kind("model"), *summary.of_kind("control"))]
    cases = _bounded(_case(case, names, rows) for case in sorted({row.case for row in rows[summary.baseline]}))
    shown_trees = _bounded(_tree(tree) for tree in trees)
    met = dict.fromkeys(str(shown["person"]) for shown in (*cases, *shown_trees))
    return {
        "turns": summary.turns,
        "baseline": summary.baseline,
        "models": [
            {
                "name": model.name,
                "kind": model.kind,
                "al": [_estimate(level) for level in model.al],
                "difference": _estimate(model.difference),
                "irDifference": _estimate(model.ir_difference),
            }
            for model in (summary.model(name) for name in names)
        ],
        "cases": cases,
        "trees": shown_trees,
        "persons": {name: _person(personas[name]) for name in met if name in personas},
    }


def as_script(data: object) -> Markup:
    """JSON that cannot end the script element it stands in, whatever its texts say.

    No `<`, `>` or `&` is left, and no character outside ASCII, so neither `</script>`, `<!--` nor a line separator can
    be read as anything but data.
    """
    text = json.dumps(data, ensure_ascii=True, allow_nan=False, separators=(",", ":"))
    for character in "<>&":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return Markup(text)


def _bounded(items: Iterable[dict[str, Json]]) -> list[dict[str, Json]]:
    kept: list[dict[str, Json]] = []
    room = _MOST_CHARACTERS
    for item in items:
        room -= len(json.dumps(item))
        if len(kept) == MOST_SHOWN or (room < 0 and kept):
            break
        kept.append(item)
    return kept


def _case(case: str, names: Sequence[str], rows: Mapping[str, Sequence[TurnRow]]) -> dict[str, Json]:
    chats: dict[str, Json] = {}
    for name in names:
        of_case = sorted((row for row in rows[name] if row.case == case), key=lambda row: row.turn)
        chats[name] = [_turn(row) for row in of_case]
    return {"person": case, "chats": chats}


def _turn(row: TurnRow) -> dict[str, Json]:
    return {
        "turn": row.turn,
        "user": _cut(row.user),
        "reply": _cut(row.reply),
        "ledger": _ledger(row.disclosure),
        "verdict": _verdict(row.verdict),
        "elsewhere": None if row.swapped is None else row.swapped.score,
        "uptake": row.uptake,
        "failure": row.failure,
    }


def _tree(tree: Tree) -> dict[str, Json]:
    turns: list[Json] = [
        {
            "turn": tree.turn(index),
            "user": _cut(tree.nodes[index].content),
            "ledger": _ledger(tree.nodes[index].disclosure),
            "replies": [_reply(tree.nodes[child]) for child in tree.children(index)],
        }
        for index in tree.user_turns()
    ]
    return {"person": tree.persona_id, "failure": tree.failure, "turns": turns}


def _reply(node: Node) -> dict[str, Json]:
    return {
        "source": node.source,
        "reply": _cut(node.content),
        "verdict": _verdict(node.verdict),
        "continued": node.continued,
    }


def _ledger(entry: Disclosure | None) -> list[list[str]]:
    """The entry as (label, text) pairs in the page's words."""
    if entry is None:
        return []
    lines = [["shows", f"{fact.slot}: {fact.term}"] for fact in entry.facts]
    if entry.manner:
        lines.append(["writes", ", ".join(f"{dimension} {value}" for dimension, value in entry.manner.items())])
    for reaction in entry.reactions:
        wish = "as wanted" if reaction.met else f"wants {reaction.wanted}"
        lines.append(["reacts", f"{reaction.dimension} was {reaction.got}, {wish}"])
    if entry.topic:
        lines.append(["asks about", entry.topic])
    return lines


def _verdict(verdict: Verdict | None) -> Json:
    if verdict is None:
        return None
    return {
        "score": verdict.score,
        "parts": [[name, value] for name, value in verdict.parts.items()],
        "penalties": [[name, points] for name, points in verdict.penalties.items() if points],
    }


def _person(persona: Persona) -> dict[str, Json]:
    return {
        "profile": _cut(persona.profile),
        "personality": _cut(persona.personality),
        "traits": [trait.name for trait in persona.traits],
        "preferences": [
            [dimension, preference.value, preference.weight] for dimension, preference in persona.preferences.items()
        ],
    }


def _estimate(estimate: Estimate | None) -> Json:
    return None if estimate is None else [estimate.value, estimate.low, estimate.high]


def _cut(text: str) -> str:
    if len(text) <= _LONGEST_TEXT:
        return text
    return text[:_LONGEST_TEXT] + f" [... {len(text) - _LONGEST_TEXT} more characters]"
