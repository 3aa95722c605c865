"""A made-up simulation for its page: trees of language models with faults, votes and verdicts, some of them missing."""

from __future__ import annotations

import random
from collections.abc import Sequence

from interalign.conversations.hygiene import Cue, PairHygiene
from interalign.conversations.simulate import RolesConfig
from interalign.conversations.tree import Fault, Node, Tree
from interalign.llm.account import RoleUsage
from interalign.llm.backends import LocalConfig, ScriptedConfig
from interalign.personas.persona import Persona
from interalign.report.simulation import SimulationPage
from interalign.report.simulation_summary import summarise_simulation
from interalign.roles.judge import Comparison, Verdict, Vote
from interalign.roles.ledger import Disclosure, Stated
from interalign.roles.llm.player import RoleConfig, WeightedModel

HABITS = ("tunes pianos", "keeps an old greyhound", "bakes on Sundays", "hates the phone", "walks to work")
REPLIES = (
    "Since you bake on Sundays, feed the starter on Saturday night. It will be ready before the oven is.",
    "There are several ways to begin. Write down what you have, what you want, and what stands between the two.",
    "That sounds like a long week! Would a walk help?\n\n- Leave the phone at home\n- Take the dog",
)
CHECKS = ("role flip", "restart", "over-disclosure", "no disclosure", "assistant-speak")
VOTES: tuple[tuple[Vote | None, Vote | None], ...] = (
    ("first", "first"), ("first", "first"), ("second", "second"), ("tie", "tie"), ("first", "second"), ("first", None),
)  # fmt: skip
FAILURES = (
    "turn 3: The user simulator gave no usable message in 3 tries: role flip, restart.",
    "turn 2: The user simulator gave no usable message in 3 tries: role flip, restart.",
    "turn 2: a-model-of-8B did not answer within 120 s in 4 tries. Try this: raise timeout_s, or lower concurrency.",
    "judge: a-judge cannot be reached: connection refused.",
)


def simulation(
    personas: int = 24, turns: int = 5, hostile: str = "", *, branches: bool = False, faults: bool = True
) -> SimulationPage:
    """A simulation in which every text and name also contains `hostile`."""
    chance = random.Random(11)
    people = [person(index, hostile) for index in range(personas)]
    trees = [tree(one, turns, chance, hostile, branches=branches) for one in people]
    if faults:
        trees = [broken(one, place, chance, hostile) for place, one in enumerate(trees)]
    return SimulationPage(
        summary=summarise_simulation(trees, pairs=97, usage=usage(hostile), hygiene=hygiene()),
        trees=trees,
        personas={one.id: one for one in people},
        roles=roles(hostile),
        prompts={"user": "645d4a0999dc", "judge": "32dd71d5446d"},
        title="made up" + hostile,
        facts={"Recipe": "made up" + hostile, "Seed": "7"},
    )


def roles(hostile: str = "", *, scripted: Sequence[str] = ()) -> RolesConfig:
    """All roles played by one model, the judge by two; or by scripts."""
    big, small = (LocalConfig(checkpoint=name + hostile) for name in ("a-model-of-70B", "a-model-of-8B"))

    def played(role: str) -> RoleConfig:
        if role in scripted:
            return RoleConfig(models=(WeightedModel(model=ScriptedConfig()),))
        if role == "judge":
            return RoleConfig(models=(WeightedModel(model=big, weight=3), WeightedModel(model=small)))
        return RoleConfig(models=(WeightedModel(model=small),))

    return RolesConfig(
        user=played("user"),
        inducer=played("inducer"),
        tailored=played("tailored"),
        generic=played("generic"),
        judge=played("judge"),
    )


def usage(hostile: str = "", *, price: float | None = 2.5) -> tuple[RoleUsage, ...]:
    """What the roles have used, in no order."""
    small, big = "a-model-of-8B" + hostile, "a-model-of-70B" + hostile
    rows = [("judge", big, 180, price), ("judge", small, 60, 0.004), ("user", small, 130, 0.31)]
    rows += [("tailored", small, 118, 0.2), ("generic", small, 118, 0.12), ("inducer", small, 118, 0.4)]
    return tuple(
        RoleUsage(
            role=role,
            model=model,
            calls=calls,
            prompt_tokens=calls * 1_100,
            cached_tokens=calls * 700,
            completion_tokens=calls * 90,
            usd=usd,
            estimated=3 if role == "generic" else 0,
        )
        for role, model, calls, usd in rows
    )


def hygiene(surface_guess: float | None = 0.71) -> PairHygiene:
    """What surface tells; no pair differs in emoji."""
    return PairHygiene(
        pairs=97,
        longer=Cue(wins=0.72, ties=4),
        emoji=Cue(wins=None, ties=97),
        questions=Cue(wins=0.44, ties=61),
        exclamations=Cue(wins=1.0, ties=96),
        compared=118,
        disagreements=0.2,
        unreadable_votes=20,
        surface_guess=surface_guess,
    )


def person(index: int, hostile: str = "") -> Persona:
    """One made-up person; another index is another person."""
    return Persona(
        profile=f"Mara is {25 + index} and {HABITS[index % 5]}. Mara {HABITS[(index + 1) % 5]}.{hostile}",
        personality=f"Mara is impatient, curious and dry, and says so.{hostile}",
    )


def tree(who: Persona, turns: int, chance: random.Random, hostile: str = "", *, branches: bool = False) -> Tree:
    """Turns with a tailored and a generic reply; with `branches`, both replies to the first message go on."""
    nodes: list[Node] = []
    comparisons: list[Comparison] = []
    ends: list[int | None] = [None]
    for turn in range(1, turns + 1):
        after: list[int | None] = []
        for end in ends:
            user = len(nodes)
            onward = (0, 1) if branches and turn == 1 else (chance.randrange(2),)
            nodes += _turn(end, user, turn, onward, chance, hostile)
            comparisons.append(
                Comparison(first=user + 1, second=user + 2, votes=chance.choice(VOTES), model="a-model-of-70B")
            )
            after += [user + 1 + place for place in onward]
        ends = after
    return Tree(persona_id=who.id, seed=3, nodes=tuple(nodes), comparisons=tuple(comparisons))


def _turn(
    end: int | None, user: int, turn: int, onward: Sequence[int], chance: random.Random, hostile: str
) -> list[Node]:
    habit = HABITS[turn % 5]
    stated = (
        Stated(kind="profile", text=f"Mara {habit}{hostile}", words=f"somebody who {habit}{hostile}"),
        Stated(kind="personality", text="Mara is impatient" + hostile, words="get to the point" + hostile),
    )
    said = f"I am somebody who {habit}, so get to the point. What now?{hostile}"
    entry = Disclosure(turn=turn, stated=stated)
    small = "a-model-of-8B" + hostile
    nodes = [Node(parent=end, role="user", content=said, source="user", disclosure=entry, model=small)]
    for place, (source, level) in enumerate((("tailored", 3.2 + turn / 4), ("generic", 2.9))):
        score = min(5.0, max(1.0, round(2 * chance.gauss(level, 0.7)) / 2))
        nodes.append(
            Node(
                parent=user,
                role="assistant",
                content=chance.choice(REPLIES) + hostile,
                source=source,
                verdict=None if chance.random() < 0.06 else Verdict(score=score),
                continued=place in onward,
                model=small,
            )
        )
    return nodes


def broken(whole: Tree, place: int, chance: random.Random, hostile: str = "") -> Tree:
    """The tree with a fault now and then; every sixth one ended early."""
    faults = [
        Fault(turn=chance.randint(1, 3), check=chance.choice(CHECKS), attempt=0, text="How can I help you?" + hostile)
        for _ in range(place % 3)
    ]
    if place % 4 == 0:
        faults.append(Fault(role="inducer", turn=2, check="unreadable", attempt=0, text="It was no JSON" + hostile))
    if place % 6:
        return whole.model_copy(update={"faults": tuple(faults)})
    failure = FAILURES[place // 6 % len(FAILURES)]
    if not failure.startswith("judge"):
        # Before the third user turn.
        users = list(whole.user_turns())
        stop = next((node for node in users if whole.turn(node) == 3), len(whole.nodes))
        kept = tuple(one for one in whole.comparisons if one.first < stop)
        whole = Tree(persona_id=whole.persona_id, seed=3, nodes=whole.nodes[:stop], comparisons=kept)
        faults += [
            Fault(turn=3, check=check, attempt=attempt, text="As an AI, I cannot." + hostile)
            for attempt in range(3)
            for check in ("role flip", "restart")
        ]
    return whole.model_copy(update={"faults": tuple(faults), "failure": failure + hostile})
