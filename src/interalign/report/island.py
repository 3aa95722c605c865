"""The data that the page's script reads: figures, conversations, trees and the persons in them.

Everything is plain JSON of texts and numbers; the script shows texts as text. The page stays small: a bounded number
of cases and trees, a bounded size, and long texts cut with a mark.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import TypeAlias, TypedDict, TypeVar

from markupsafe import Markup

from interalign.conversations.tree import Fault, Tree
from interalign.evaluation.rows import Counterfactual, Induction, TurnRow
from interalign.evaluation.statistics import Estimate
from interalign.evaluation.summary import ModelSummary, Summary
from interalign.personas.persona import Persona
from interalign.roles.judge import Verdict
from interalign.roles.ledger import Disclosure

__all__ = ["MOST_SHOWN", "Island", "Json", "as_script", "evenly", "island", "person_data", "tree_data"]

Json: TypeAlias = bool | int | float | str | Sequence["Json"] | Mapping[str, "Json"] | None

T = TypeVar("T")

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
    chats = {name: _chats(rows[name]) for name in names}
    cases = _bounded(
        {"person": case, "chats": {name: [_turn(row) for row in chats[name].get(case, [])] for name in names}}
        for case in sorted(chats[summary.baseline])
    )
    shown_trees = _bounded(tree_data(tree) for tree in trees)
    met = dict.fromkeys(str(shown["person"]) for shown in (*cases, *shown_trees))
    return {
        "turns": summary.turns,
        "baseline": summary.baseline,
        "models": [_model(summary.model(name)) for name in names],
        "cases": cases,
        "trees": shown_trees,
        "persons": {name: person_data(personas[name]) for name in met if name in personas},
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


def evenly(items: Sequence[T], most: int) -> list[T]:
    """At most so many items, evenly spaced."""
    if len(items) <= most:
        return list(items)
    return [items[index * len(items) // most] for index in range(most)]


def _bounded(items: Iterable[dict[str, Json]]) -> list[dict[str, Json]]:
    kept: list[dict[str, Json]] = []
    room = _MOST_CHARACTERS
    for item in items:
        room -= len(json.dumps(item))
        if len(kept) == MOST_SHOWN or (room < 0 and kept):
            break
        kept.append(item)
    return kept


def _model(model: ModelSummary) -> dict[str, Json]:
    induction = model.induction
    return {
        "name": model.name,
        "kind": model.kind,
        "al": [_estimate(level) for level in model.al],
        "meanAl": _estimate(model.mean_al),
        "difference": _estimate(model.difference),
        "irDifference": _estimate(model.ir_difference),
        "helpfulness": _estimate(model.helpfulness),
        "precision": [_estimate(one) for one in induction.precision] if induction else None,
        "recall": [_estimate(one) for one in induction.recall] if induction else None,
        "inPlace": {control.name: _estimate(control.difference) for control in model.counterfactuals},
    }


def _chats(rows: Sequence[TurnRow]) -> dict[str, list[TurnRow]]:
    """The rows of each case in their order, without those of repeats."""
    chats: defaultdict[str, list[TurnRow]] = defaultdict(list)
    for row in sorted(rows, key=lambda row: row.turn):
        if row.repeat == 0:
            chats[row.case].append(row)
    return chats


def _turn(row: TurnRow) -> dict[str, Json]:
    """A turn; what was not measured is left out, of most turns nearly everything."""
    shown: dict[str, Json] = {
        "turn": row.turn,
        "user": _cut(row.user),
        "reply": _cut(row.reply),
        "ledger": _ledger(row.disclosure),
        "verdict": _verdict(row.verdict),
        "elsewhere": None if row.swapped is None else row.swapped.score,
        "uptake": row.uptake,
        "failure": None if row.failure is None else _cut(row.failure),
    }
    if row.helpfulness is not None:
        shown["helpfulness"] = row.helpfulness
    if row.mind_reading:
        shown["mindReading"] = True
    if row.controls:
        shown["controls"] = [_control(name, control) for name, control in row.controls.items()]
    if row.induction is not None:
        shown["induction"] = _induction(row.induction)
    if row.faults:
        shown["faults"] = _faults(row.faults)
    return shown


def _control(name: str, control: Counterfactual) -> dict[str, Json]:
    return {"name": name, "reply": _cut(control.reply), "verdict": _verdict(control.verdict)}


def _induction(said: Induction) -> dict[str, Json]:
    return {
        "statements": [_cut(one) for one in said.statements],
        "true": said.true,
        "disclosed": said.disclosed,
        "found": said.found,
    }


def _faults(faults: Iterable[Fault]) -> list[Json]:
    return [{**fault.model_dump(mode="json", exclude={"text"}), "text": _cut(fault.text)} for fault in faults]


def tree_data(tree: Tree) -> dict[str, Json]:
    """A tree, turn by turn. `next` is the place of the turn that follows a reply; faults belong to no branch."""
    places = {node: place for place, node in enumerate(tree.user_turns())}
    return {
        "person": tree.persona_id,
        "failure": None if tree.failure is None else _cut(tree.failure),
        "turns": [_tree_turn(tree, node, places) for node in places],
        "faults": _faults(tree.faults),
    }


def _tree_turn(tree: Tree, index: int, places: Mapping[int, int]) -> dict[str, Json]:
    node, replies = tree.nodes[index], tree.children(index)
    return {
        "root": node.parent is None,
        "turn": tree.turn(index),
        "user": _cut(node.content),
        "model": node.model,
        "ledger": _ledger(node.disclosure),
        "replies": [_reply(tree, child, places) for child in replies],
        "comparisons": [
            {"pair": [replies.index(one.first), replies.index(one.second)], "votes": one.votes}
            for one in tree.comparisons
            if one.first in replies
        ],
    }


def _reply(tree: Tree, index: int, places: Mapping[int, int]) -> dict[str, Json]:
    node, after = tree.nodes[index], tree.children(index)
    return {
        "source": node.source,
        "model": node.model,
        "reply": _cut(node.content),
        "verdict": _verdict(node.verdict),
        "continued": node.continued,
        "next": places[after[0]] if after else None,
    }


def _ledger(entry: Disclosure | None) -> list[list[str]]:
    """The entry in the page's words: label, text and, where it rests on some, the words of the message."""
    if entry is None:
        return []
    lines = [["shows", f"{fact.slot}: {fact.term}"] for fact in entry.facts]
    lines += [["fact" if one.kind == "profile" else "trait", _cut(one.text), _cut(one.words)] for one in entry.stated]
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


def person_data(persona: Persona) -> dict[str, Json]:
    """A person, as the page's panel shows it."""
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
