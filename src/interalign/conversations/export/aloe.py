"""The published conversation format of ALOE (Wu et al. 2025), read and written.

A file is JSONL, one conversation a line: `profile`, `personality`, and `conversations`, a list of turns with `user`,
`assistant` (`preferred` and `rejected`), `chosen` (which of the two the conversation went on from) and, as text, what
was inferred of the person so far (`inferred_profile`, `inferred_personality`; "None" where that is nothing).

A conversation is one path with two replies a turn. A tree of that shape whose replies are all decided comes through
unchanged but for scores, sources and models, which the format has no place for. Of other trees each path that was
continued is written, with that reply at each turn that is furthest from the one continued. A turn that nobody could
decide stays, for the rest of the conversation rests on it: it has the continued reply in both places, and is no pair.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ValidationError

from interalign.conversations.preferences import PreferenceConfig, preference_between, preferred
from interalign.conversations.tree import Node, Tree
from interalign.errors import InputError, LeakError
from interalign.messages import Value, well_formed
from interalign.personas.description import Kind
from interalign.personas.exchange import Problem
from interalign.personas.exchange.containers import Record, Refused, json_values, shown, stored
from interalign.personas.persona import Persona, Split
from interalign.roles.judge import Comparison
from interalign.roles.ledger import Disclosure, Ledger, Stated, disclosed_facts, stated_so_far
from interalign.run import write_jsonl

__all__ = ["AloeRecord", "AloeReplies", "AloeTurn", "ReadAloe", "aloe_records", "read_aloe", "write_aloe"]

_NOTHING = "None"
_SOURCE = "published"
_LABELS = (
    "a published label says which reply is preferred, not whether both orders were asked: it stands as both votes, and "
    "without scores; set preferences.min_margin to 0 to train on it"
)


class AloeReplies(Value):
    """The two replies to a user message, by the judge's label."""

    preferred: str
    rejected: str

    @property
    def decided(self) -> bool:
        """Whether there are two replies to tell apart."""
        return self.preferred != self.rejected


class AloeTurn(Value):
    """One turn in the published form."""

    user: str
    assistant: AloeReplies
    chosen: Literal["preferred", "rejected"]
    """The reply that the conversation went on from."""
    inferred_profile: str = _NOTHING
    inferred_personality: str = _NOTHING


class AloeRecord(Value):
    """One conversation in the published form."""

    profile: str
    personality: str
    conversations: tuple[AloeTurn, ...]

    @property
    def undecided(self) -> int:
        """Turns whose two replies are the same."""
        return sum(not turn.assistant.decided for turn in self.conversations)


class ReadAloe(Value):
    """What a published-form file held."""

    personas: tuple[Persona, ...]
    """Each once, in the order in which they come."""
    trees: tuple[Tree, ...]
    """One for each conversation; its seed is its place among them, from 0."""
    problems: tuple[Problem, ...] = ()
    notes: tuple[str, ...] = ()


def write_aloe(path: Path, trees: Sequence[Tree], personas: Sequence[Persona], config: PreferenceConfig) -> int:
    """Write trees in the published form, and return the number of conversations; see `aloe_records`.

    Raises:
        InputError: a tree's persona is not among `personas`, or no reply is preferred to the one continued or
            it to another.
        StorageError: the disk is full or cannot be written.
    """
    records = list(aloe_records(trees, personas, config))
    if not records:
        raise InputError(
            "In no conversation is a reply preferred to another, so there is nothing to write.",
            mend="lower preferences.min_margin in the recipe, or simulate more conversations.",
        )
    write_jsonl(path, records)
    return len(records)


def aloe_records(trees: Sequence[Tree], personas: Sequence[Persona], config: PreferenceConfig) -> Iterator[AloeRecord]:
    """Yield one conversation for each path that was continued to its end.

    Conversations in which no turn is decided are left out. `config.length_match` is not looked at: whoever filters by
    length must not take turns out of a conversation.

    Raises:
        InputError: a tree's persona is not among `personas`.
    """
    by_id = {persona.id: persona for persona in personas}
    for tree in trees:
        if tree.persona_id not in by_id:
            raise InputError(
                f"Persona {tree.persona_id} of a tree is not among the personas.",
                mend="give the personas of the trees.",
            )
        persona = by_id[tree.persona_id]
        for end in _ends(tree, config):
            turns = tuple(_written_turns(tree, end, config))
            if any(turn.assistant.decided for turn in turns):
                yield AloeRecord(profile=persona.profile, personality=persona.personality, conversations=turns)


def read_aloe(path: Path, split: Split = "train") -> ReadAloe:
    """Read conversations in the published form as trees of one path, with their personas.

    A line that cannot be used is a problem, and those around it come in. Fields that the form does not have are left
    out and noted. What is inferred becomes the ledger: each turn states what its text has beyond that of the turn
    before. The words of the message that it rests on are not known.

    Args:
        path: a `.jsonl` file, or a folder of them.
        split: what the personas are for, unless the name of a file says that they are held out.

    Raises:
        InputError: the path does not exist, or holds no conversation that can be used.
    """
    personas: dict[str, Persona] = {}
    trees: list[Tree] = []
    problems: list[Problem] = []
    counts: Counter[str] = Counter()
    for item in stored(path):
        if isinstance(item, Problem):
            problems.append(item)
        if not isinstance(item, Record):
            continue
        try:
            record, left_out = _understood(item.value)
            persona = Persona(split=item.source.split or split, profile=record.profile, personality=record.personality)
            tree = _tree(record, persona, seed=len(trees))
        except Refused as refused:
            problems.append(Problem(place=item.place, what=str(refused)))
            continue
        if personas.setdefault(persona.id, persona).split != persona.split:
            raise LeakError(
                f"{item.place}: persona {persona.id} is in both splits of {path}.",
                mend="leave it out of one of them.",
            )
        trees.append(tree)
        counts.update(f"unknown field {shown(name)}, left out" for name in left_out)
        counts["turns whose two replies are the same, so no pair"] += record.undecided
    if not trees:
        why = f": {problems[0].place}: {problems[0].what}" if problems else ""
        raise InputError(
            f"{path} holds no conversation that can be used{why}.",
            mend="give JSON lines with the fields profile, personality and conversations.",
        )
    notes = [_LABELS, *(f"{what}: {number:,}" for what, number in counts.items() if number)]
    return ReadAloe(personas=tuple(personas.values()), trees=tuple(trees), problems=tuple(problems), notes=tuple(notes))


def _ends(tree: Tree, config: PreferenceConfig) -> Iterator[int]:
    """The replies that the conversation went as far as."""
    ends: dict[int, None] = {}
    for leaf in tree.leaves():
        parent = tree.nodes[leaf].parent
        if parent is None:
            continue
        if tree.nodes[leaf].role == "user":
            ends[parent] = None
        elif tree.nodes[leaf].continued:
            ends[leaf] = None
        elif not any(tree.nodes[sibling].continued for sibling in tree.siblings(leaf)):
            ends.update(dict.fromkeys(preferred(tree, parent, config)[:1]))
    yield from ends


def _written_turns(tree: Tree, end: int, config: PreferenceConfig) -> Iterator[AloeTurn]:
    path = tree.path(end)
    for user_node, reply in zip(path[::2], path[1::2], strict=True):
        pairs = (preference_between(tree, reply, other, config) for other in tree.siblings(reply) if other != reply)
        best = max((pair for pair in pairs if pair), key=lambda pair: pair.margin, default=None)
        chosen, rejected = (best.chosen, best.rejected) if best else (reply, reply)
        ledger = tree.ledger(user_node)
        yield AloeTurn(
            user=tree.nodes[user_node].content,
            assistant=AloeReplies(preferred=tree.nodes[chosen].content, rejected=tree.nodes[rejected].content),
            chosen="preferred" if chosen == reply else "rejected",
            inferred_profile=_inferred(ledger, "profile"),
            inferred_personality=_inferred(ledger, "personality"),
        )


def _inferred(ledger: Ledger, kind: Kind) -> str:
    """All that has been disclosed so far, one line each; rule-based users disclose facts and no words on themselves."""
    facts = [f"{fact.slot}: {fact.term}" for fact in disclosed_facts(ledger)] if kind == "profile" else []
    stated = [one.text for one in stated_so_far(ledger) if one.kind == kind]
    lines = dict.fromkeys(" ".join(text.split()) for text in (*facts, *stated))
    return "\n".join(filter(None, lines)) or _NOTHING


def _understood(value: object) -> tuple[AloeRecord, list[str]]:
    """The record and the names of its fields that the form does not have; raises Refused."""
    if not isinstance(value, dict):
        raise Refused("is no object with the fields profile, personality and conversations")
    left_out: list[str] = []
    known = _known(value, AloeRecord, left_out)
    turns = known.get("conversations")
    if isinstance(turns, list):
        known["conversations"] = [_known_turn(turn, left_out) for turn in turns]
    for name in ("profile", "personality"):
        known[name] = _plain(known.get(name))
    try:
        record = AloeRecord.model_validate(known)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False, include_input=False)[0]
        raise Refused(f"{'.'.join(map(str, first['loc']))}: {first['msg']}") from None
    if not record.profile or not record.personality or not record.conversations:
        raise Refused("has an empty profile, an empty personality or no turns")
    return record, left_out


def _known_turn(turn: object, left_out: list[str]) -> object:
    if not isinstance(turn, dict):
        return turn
    known = _known(turn, AloeTurn, left_out)
    replies = known.get("assistant")
    if isinstance(replies, dict):
        known["assistant"] = _known(replies, AloeReplies, left_out)
    return known


def _known(fields: Mapping[str, object], kind: type[BaseModel], left_out: list[str]) -> dict[str, object]:
    left_out += [name for name in fields if name not in kind.model_fields]
    return {
        name: well_formed(value) if isinstance(value, str) else value
        for name, value in fields.items()
        if name in kind.model_fields
    }


def _plain(text: object) -> object:
    """The text itself, where a line of a JSONL file was stored with its quotes and its line end."""
    if not isinstance(text, str):
        return text
    text = text.strip()
    try:
        values = json_values(text) if text.startswith('"') else []
    except Refused:
        values = []
    return values[0].strip() if len(values) == 1 and isinstance(values[0], str) else text


def _tree(record: AloeRecord, persona: Persona, seed: int) -> Tree:
    nodes: list[Node] = []
    comparisons: list[Comparison] = []
    parent: int | None = None
    before: AloeTurn | None = None
    for number, turn in enumerate(record.conversations, 1):
        at = len(nodes)
        disclosure = Disclosure(turn=number, stated=tuple(_stated(before, turn)))
        nodes.append(Node(parent=parent, role="user", content=turn.user, source="user", disclosure=disclosure))
        replies = {"preferred": turn.assistant.preferred, "rejected": turn.assistant.rejected}
        if not turn.assistant.decided:
            replies = {turn.chosen: turn.assistant.preferred}
        for label, content in replies.items():
            continued = label == turn.chosen
            nodes.append(Node(parent=at, role="assistant", content=content, source=_SOURCE, continued=continued))
            parent = len(nodes) - 1 if continued else parent
        if turn.assistant.decided:
            comparisons.append(Comparison(first=at + 1, second=at + 2, votes=("first", "first")))
        before = turn
    return Tree(persona_id=persona.id, seed=seed, nodes=tuple(nodes), comparisons=tuple(comparisons))


def _stated(before: AloeTurn | None, turn: AloeTurn) -> Iterator[Stated]:
    texts: tuple[tuple[Kind, str, str], ...] = (
        ("profile", before.inferred_profile if before else "", turn.inferred_profile),
        ("personality", before.inferred_personality if before else "", turn.inferred_personality),
    )
    for kind, then, now in texts:
        yield from (Stated(kind=kind, text=text, words="") for text in _added(_lines(then), _lines(now)))


def _added(then: Sequence[str], now: Sequence[str]) -> Iterator[str]:
    """The lines that are new; of a line that an earlier one was prolonged to, what it was prolonged by."""
    gone = [line for line in then if line not in now]
    for line in now:
        if line not in then:
            beginning = max((old for old in gone if line.startswith(f"{old} ")), key=len, default="")
            yield line[len(beginning) :].strip()


def _lines(text: str) -> list[str]:
    lines = [" ".join(line.split()) for line in text.split("\n")]
    return [line for line in lines if line and line.rstrip(".") != _NOTHING]
