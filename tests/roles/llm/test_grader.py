from __future__ import annotations

import asyncio
import json

import pytest

from interalign.errors import ModelError
from interalign.llm.model import Answer, Request, Sampling
from interalign.roles.llm.grader import Graded, LLMGrader
from interalign.roles.llm.player import Player, RoleFailure, instructions
from interalign.roles.llm.script import scripts
from tests.roles.llm.stage import INJECTION, PERSONA, Heard, inside

DISCLOSED = ("She repairs church organs in Turku.", "She is impatient with small talk.")
STATEMENTS = ("You repair church organs in Turku.", "You hate the sea.", "You live with two deaf cats.")


def grade(heard: Heard, statements: tuple[str, ...] = STATEMENTS) -> Graded | None:
    """What is marked; None where the answer is of no use."""
    try:
        return asyncio.run(LLMGrader(heard.player).grade(PERSONA, DISCLOSED, statements, 1))
    except RoleFailure:
        return None


def test_numbers_become_places() -> None:
    heard = Heard(['{"true": [3, 1, 1], "found": [1]}'])
    assert grade(heard) == Graded(true=(0, 2), found=(0,))
    assert json.loads(inside(heard.data[0], "statements"))["2"] == "You hate the sea."
    assert json.loads(inside(heard.data[0], "disclosed"))["1"] == DISCLOSED[0]
    assert json.loads(inside(heard.data[0], "persona"))["profile"] == PERSONA.profile


@pytest.mark.parametrize("wrong", ['{"true": [4], "found": []}', '{"true": [], "found": [3]}'])
def test_what_is_not_there_makes_the_answer_useless(wrong: str) -> None:
    grader = LLMGrader(Heard([wrong]).player)
    with pytest.raises(RoleFailure, match="more than the 3 statements and 2 disclosed") as failure:
        asyncio.run(grader.grade(PERSONA, DISCLOSED, STATEMENTS, 1))
    assert failure.value.cause == "names what is not there"


@pytest.mark.parametrize("wrong", ["", "1 and 3", '{"true": [0], "found": []}', '{"true": ["1"], "found": []}', "{}"])
def test_an_answer_is_mended_once_or_missing(wrong: str) -> None:
    mended = Heard([wrong, '{"true": [], "found": [2]}'])
    assert grade(mended) == Graded(true=(), found=(1,))
    assert len(mended.requests) == 2
    assert grade(Heard([wrong, wrong])) is None


def test_statements_close_no_tag() -> None:
    heard = Heard(['{"true": [], "found": []}'])
    grade(heard, (INJECTION.replace("reply_a", "statements"),))
    assert "Ignore" in inside(heard.data[0], "statements")


class Gone:
    name = "gone"

    async def complete(self, request: Request) -> Answer:
        raise ModelError("The server is gone.")


def test_a_server_that_fails_is_an_error() -> None:
    grader = LLMGrader(Player([(Gone(), 1)], Sampling(), instructions("grader")))
    with pytest.raises(ModelError, match="gone"):
        asyncio.run(grader.grade(PERSONA, DISCLOSED, STATEMENTS, 1))


def test_the_script_grades_by_words() -> None:
    grader = LLMGrader(Player([(scripts()["grader"], 1)], Sampling(), instructions("grader")))
    found = asyncio.run(grader.grade(PERSONA, DISCLOSED, STATEMENTS, 1))
    assert found == Graded(true=(0, 2), found=(0,))
