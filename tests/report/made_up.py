"""A made-up evaluation for the report: persons, chats of models and controls, training trees."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from interalign.conversations.tree import Node, Tree
from interalign.evaluation.rows import TurnRow
from interalign.evaluation.summary import Kind, Summary, summarise
from interalign.personas.persona import Fact, Persona, Preference, Trait
from interalign.personas.style import Dimension
from interalign.roles.judge import Verdict
from interalign.roles.ledger import Disclosure, Reaction

MODELS: dict[str, tuple[Kind, float, float]] = {  # kind, score at the first turn, gain per turn
    "base": ("model", 2.2, 0.03),
    "sft": ("model", 2.5, 0.17),
    "sft+dpo": ("model", 2.6, 0.23),
    "oracle": ("control", 4.8, 0.0),
    "oracle (disclosed only)": ("control", 2.9, 0.24),
    "mirror": ("control", 2.4, 0.06),
    "constant": ("control", 2.0, 0.0),
}
PARTS = ("length", "emoji", "formality", "directness", "follow_up", "topic")
REPLIES = (
    "Set aside twenty minutes for sourdough baking before breakfast, and keep a note of the flour that you used. "
    "What drew you to it in the first place?",
    "Sure! Here are some ideas:\n\n1. Start small\n2. Ask a friend to join\n3. Write down what worked\n\nGood luck 😊",
    "Feed the starter the evening before. That is all it needs.",
)


@dataclass(frozen=True)
class Evaluation:
    """What `render` takes."""

    summary: Summary
    rows: Mapping[str, Sequence[TurnRow]]
    trees: Sequence[Tree]
    personas: Mapping[str, Persona]


def evaluation(cases: int = 24, turns: int = 8, hostile: str = "", models: Sequence[str] = tuple(MODELS)) -> Evaluation:
    """An evaluation in which every text, name and id also contains `hostile`."""
    chance = random.Random(7)
    people = [person(index, hostile) for index in range(cases)]
    names = {name: name + (hostile if name != "base" else "") for name in models}
    rows = {
        names[name]: [
            row(one.id, turn, MODELS[name], chance, hostile) for one in people for turn in range(1, turns + 1)
        ]
        for name in models
    }
    summary = summarise(
        rows,
        controls=[names[name] for name in models if MODELS[name][0] == "control"],
        baseline="base",
        world="Rule-based users, rule-based judge" + hostile,
        resamples=400,
        seed=1,
    )
    trees = [tree(one.id, chance, hostile) for one in people[:6]]
    return Evaluation(summary=summary, rows=rows, trees=trees, personas={one.id: one for one in people})


def person(index: int, hostile: str = "") -> Persona:
    """One made-up person; another index is another person."""
    name = ("Mara", "Tomasz", "Ife", "Linh", "Henrik", "Sofía")[index % 6]
    return Persona(
        split="heldout",
        profile=f"{name} is {31 + index} and repairs pianos. {name} spends most free evenings on sourdough baking. "
        f"{name} lives with an old greyhound.{hostile}",
        personality=f"{name} is impatient, curious and dry.{hostile}",
        facts=(Fact(slot="hobby", term="sourdough baking", key="sourdough"),),
        traits=(Trait(name="impatient", difficult=True), Trait(name="curious")),
        manner={"length": "brief", "formality": "casual"},
        preferences={
            "length": Preference(value="brief", weight=2),
            "emoji": Preference(value="none"),
            "question": Preference(value="some", weight=0.5),
            "directness": Preference(value="direct", weight=1.5),
        },
    )


def disclosure(turn: int, hostile: str = "") -> Disclosure:
    """A ledger entry with a fact or a reaction, by turn."""
    length: Dimension = "length"
    return Disclosure(
        turn=turn,
        facts=(Fact(slot="hobby", term="sourdough baking" + hostile, key="sourdough"),) if turn % 2 else (),
        manner={"formality": "casual"} if turn == 1 else {},
        reactions=() if turn % 2 else (Reaction(dimension=length, got="long", wanted="brief"),),
        topic="hobby",
    )


def row(case: str, turn: int, model: tuple[Kind, float, float], chance: random.Random, hostile: str) -> TurnRow:
    _, start, gain = model
    level = start + gain * (turn - 1)
    failed = chance.random() < 0.01
    return TurnRow(
        case=case,
        turn=turn,
        user=f"Sunday disappeared into sourdough baking again. What would be a good next step for my hobby?{hostile}",
        reply="" if failed else chance.choice(REPLIES) + hostile,
        disclosure=disclosure(turn, hostile),
        verdict=None if failed else verdict(level, chance, hostile),
        swapped=None if failed else verdict(level - 0.15 * turn, chance),
        uptake=None if turn % 2 else chance.random() < level / 5,
        failure="the server did not answer in 120 s" + hostile if failed else None,
    )


def verdict(level: float, chance: random.Random, hostile: str = "") -> Verdict:
    """A verdict around `level`, with parts that go with it."""
    score = min(5.0, max(1.0, round(chance.gauss(level, 0.7), 1)))
    parts = {part: 1.0 if chance.random() < score / 5 else chance.choice((0.0, 0.5)) for part in PARTS}
    if hostile:
        parts[hostile] = 0.5
    return Verdict(score=score, parts=parts, penalties={"mind_reading": 0.5} if chance.random() < 0.1 else {})


def tree(persona_id: str, chance: random.Random, hostile: str = "", turns: int = 4) -> Tree:
    """A chain of turns with a tailored and a generic reply each, one of which goes on."""
    nodes: list[Node] = []
    parent: int | None = None
    for turn in range(1, turns + 1):
        user = len(nodes)
        entry = disclosure(turn, hostile)
        nodes.append(Node(parent=parent, role="user", content=f"And now?{hostile}", source="rules", disclosure=entry))
        going_on = chance.randrange(2)
        for place, (source, level) in enumerate((("tailored" + hostile, 4.2), ("generic", 2.4))):
            scored = verdict(level, chance, hostile)
            reply = chance.choice(REPLIES) + hostile
            continued = place == going_on
            nodes.append(
                Node(parent=user, role="assistant", content=reply, source=source, verdict=scored, continued=continued)
            )
        parent = user + 1 + going_on
    return Tree(persona_id=persona_id, seed=3, nodes=tuple(nodes))
