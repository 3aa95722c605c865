"""A made-up evaluation for the report: persons, chats of models and controls, training trees."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from interalign.conversations.tree import Fault, Node, Tree
from interalign.evaluation.rows import Counterfactual, Induction, TurnRow
from interalign.evaluation.summary import Kind, Summary, summarise
from interalign.personas.persona import Fact, Persona, Preference, Trait
from interalign.personas.style import Dimension
from interalign.report.judging import Players
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


RULES = Players()


@dataclass(frozen=True)
class Evaluation:
    """What `render` takes."""

    summary: Summary
    rows: Mapping[str, Sequence[TurnRow]]
    trees: Sequence[Tree]
    personas: Mapping[str, Persona]
    players: Players = RULES


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


LLM_MODELS: dict[str, tuple[Kind, float, float]] = {
    "base": ("model", 2.4, 0.04),
    "base+reminder": ("model", 2.6, 0.06),
    "sft": ("model", 2.8, 0.09),
    "dpo": ("model", 2.7, 0.16),
}
CONTROLS = {"oracle persona": 1.0, "disclosed-only oracle": 0.5, "generic-nice": -0.2}


def llm_evaluation(
    profiles: int = 8,
    personalities: int = 3,
    turns: int = 10,
    hostile: str = "",
    lost: Mapping[str, float] | None = None,
    models: Mapping[str, tuple[Kind, float, float]] = LLM_MODELS,
) -> Evaluation:
    """An evaluation by language models in which everything is measured; `lost` is each model's share of no verdicts."""
    chance = random.Random(5)
    people = [crossed_person(one, other, hostile) for one in range(profiles) for other in range(personalities)]
    rows = {
        name + hostile * (name != "base"): [
            llm_row(one.id, turn, turns, model, chance, hostile, (lost or {}).get(name, 0.01), repeat)
            for place, one in enumerate(people)
            for repeat in ((0, 1) if place % 5 == 0 else (0,))
            for turn in range(1, turns + 1)
        ]
        for name, model in models.items()
    }
    summary = summarise(
        rows,
        baseline="base",
        world="Users played by a-model-of-8B, judged by a-model-of-70B, not human beings" + hostile,
        resamples=400,
        seed=1,
        people={one.id: one for one in people},
    )
    said = {"inducer": "a-model-of-8B (temperature 0)", "grader": "a-model-of-70B (temperature 0)"}
    players = Players(
        user="a-model-of-8B (temperature 0.9)", judge="a-model-of-70B (temperature 0)" + hostile, others=said
    )
    return Evaluation(summary=summary, rows=rows, trees=[], personas={one.id: one for one in people}, players=players)


def crossed_person(profile: int, personality: int, hostile: str = "") -> Persona:
    """A person who shares the profile with some and the personality with others."""
    age, keeps = 19 + 9 * profile % 60, ("bees", "a diary", "goats", "records")[profile % 4]
    names = (("impatient", True), ("cheerful", False), ("suspicious", True), ("curious", False))[personality % 4]
    return Persona(
        split="heldout",
        profile=f"A {age}-year-old who keeps {keeps} ({profile}).{hostile}",
        personality=f"Answers like somebody {names[0]} ({personality}).{hostile}",
        traits=(Trait(name=names[0] + hostile, difficult=names[1]), Trait(name="talkative" + hostile)),
    )


def llm_row(
    case: str,
    turn: int,
    turns: int,
    model: tuple[Kind, float, float],
    chance: random.Random,
    hostile: str,
    lost: float,
    repeat: int = 0,
) -> TurnRow:
    """A row in which everything is measured that language models measure, at the turns where they do."""
    level = model[1] + model[2] * (turn - 1)
    missing = chance.random() < lost
    fault = Fault(role="judge", turn=turn, check="unreadable", attempt=0, text="Well, I would say four." + hostile)
    asked = repeat == 0 and turn in (1, (turns + 1) // 2, turns)
    return TurnRow(
        case=case,
        turn=turn,
        user=f"The swarm has left again. What do I do with the empty hive?{hostile}",
        reply=chance.choice(REPLIES) + hostile,
        disclosure=disclosure(turn, hostile),
        verdict=None if missing else rating(level, chance),
        swapped=None if repeat else rating(level - 0.05 * turn, chance),
        mind_reading=chance.random() < 0.08 + model[2],
        helpfulness=None if repeat else rating(4.6 - 6 * model[2], chance).score,
        induction=learnt(turn, model[2], chance, hostile) if asked else None,
        controls={
            name: Counterfactual(reply=chance.choice(REPLIES) + hostile, verdict=rating(level + more, chance))
            for name, more in CONTROLS.items()
            if asked
        },
        repeat=repeat,
        faults=(fault,) if missing else (),
        missing={"verdict": f"no JSON{hostile}"} if missing else {},
    )


def rating(level: float, chance: random.Random) -> Verdict:
    """A verdict as language models give it."""
    score = min(5, max(1, round(chance.gauss(level, 0.8))))
    return Verdict(score=score, parts={"style": score / 5, "content": (score - 1) / 4, "honest": 1.0})


def learnt(turn: int, gain: float, chance: random.Random, hostile: str = "") -> Induction:
    """What is said to have been learnt."""
    statements = tuple(f"The user keeps bees and has lost swarm {number}.{hostile}" for number in range(4))
    true = sum(chance.random() < 0.5 + gain + turn / 40 for _ in statements)
    return Induction(statements=statements, true=true, disclosed=5, found=min(true, 4))
