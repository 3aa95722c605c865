from __future__ import annotations

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from interalign.evaluation.candidates import ModelCandidate
from interalign.evaluation.induction import induction, marked_by_rules, statements_in
from interalign.llm.model import Request, Sampling
from interalign.llm.scripted import ScriptedModel
from interalign.messages import Message
from interalign.personas.compose import WorldConfig, compose_personas
from interalign.personas.persona import Persona
from interalign.roles.ledger import Disclosure
from interalign.roles.llm.grader import Graded
from interalign.roles.responder import ModelResponder, RuleResponder

PERSONA = compose_personas(WorldConfig(train=1, heldout=2), seed=2)[-1]
SHOWN, HIDDEN = PERSONA.facts[0], PERSONA.facts[-1]
LEDGER = (Disclosure(turn=1, facts=(SHOWN,)),)
CHAT = (Message(role="user", content="Hello."), Message(role="assistant", content="Hello."))


@pytest.mark.parametrize(
    ("text", "statements"),
    [
        ("You live in Turku.\nYou like short answers.", ("You live in Turku.", "You like short answers.")),
        ("- one\n* two\n1. three\n2) four\n(3) five\n", ("one", "two", "three", "four", "five")),
        ("Here is what I know:\n\n**Life**: organs\n# You are curt", ("Life: organs", "You are curt")),
        ("nothing", ()),
        ("Nothing.", ()),
        ("", ()),
        ("twice\ntwice", ("twice",)),
        ("- You have 3 cats.", ("You have 3 cats.",)),
        ("4 children live with you", ("4 children live with you",)),
    ],
)
def test_a_statement_is_a_line(text: str, statements: tuple[str, ...]) -> None:
    assert statements_in(text) == statements


@given(st.text(max_size=300))
def test_any_text_has_statements_or_none(text: str) -> None:
    found = statements_in(text)
    assert len(found) <= 20 and len(set(found)) == len(found)
    assert all(one == one.strip() and one in text for one in found if "*" not in text and "_" not in text)


def test_rules_know_a_fact_by_its_key() -> None:
    said = (f"The user has to do with {SHOWN.key}.", f"There is {HIDDEN.key} too.", "The user likes it brief.")
    found = marked_by_rules(PERSONA, LEDGER, said)
    assert (found.true, found.disclosed, found.found) == (2, 1, 1)
    assert (found.precision, found.recall) == (2 / 3, 1.0)
    assert marked_by_rules(PERSONA, (), ()).recall is None


class Marks:
    """A grader that finds the first of everything, and says what it was given."""

    def __init__(self, marks: Graded | None) -> None:
        self.asked: list[tuple[tuple[str, ...], tuple[str, ...]]] = []
        self._marks = marks

    async def grade(
        self, persona: Persona, disclosed: tuple[str, ...], statements: tuple[str, ...], seed: int
    ) -> Graded | None:
        self.asked.append((tuple(disclosed), tuple(statements)))
        return self._marks


def candidate(text: str, heard: list[Request] | None = None) -> ModelCandidate:
    def answer(request: Request) -> str:
        if heard is not None:
            heard.append(request)
        return text

    return ModelCandidate(ModelResponder(ScriptedModel("model", answer), Sampling(max_tokens=20)))


def test_the_grader_sees_statements_and_what_was_shown() -> None:
    heard: list[Request] = []
    marks = Marks(Graded(true=(0,), found=()))
    asked = induction(candidate("- one\n- two", heard), marks, PERSONA, CHAT, LEDGER, 1)
    found = asyncio.run(asked)
    assert found is not None
    assert (found.statements, found.true, found.disclosed, found.found) == (("one", "two"), 1, 1, 0)
    assert marks.asked == [((f"{SHOWN.slot}: {SHOWN.term}",), ("one", "two"))]
    (request,) = heard
    assert request.messages[1:3] == CHAT and request.messages[3].role == "user"
    assert PERSONA.profile not in str(request.messages)
    # A short reply's room would cut the list.
    assert request.sampling.max_tokens == 300


def test_what_cannot_be_marked_is_missing() -> None:
    assert asyncio.run(induction(candidate("one"), Marks(None), PERSONA, CHAT, LEDGER, 1)) is None
    silent = asyncio.run(induction(candidate("Nothing."), Marks(None), PERSONA, CHAT, LEDGER, 1))
    assert silent is not None and (silent.precision, silent.recall) == (None, 0.0)
    scripted = ModelCandidate(RuleResponder())
    assert asyncio.run(induction(scripted, Marks(None), PERSONA, CHAT, LEDGER, 1)) is None


def test_thoughts_are_no_statements() -> None:
    found = asyncio.run(induction(candidate("<think>They\nlie.</think>You sing."), None, PERSONA, CHAT, LEDGER, 1))
    assert found is not None and found.statements == ("You sing.",)
