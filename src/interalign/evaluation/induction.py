"""What a model has learnt about the user: it is asked beside the conversation, and its statements are checked.

The question and the answer are no part of the chat, so that asking changes nothing.
"""

from __future__ import annotations

from collections.abc import Sequence

from interalign.conversations.environment import Grader
from interalign.evaluation.candidates import Instructable
from interalign.evaluation.rows import Induction
from interalign.messages import Chat, Message
from interalign.personas.persona import Persona
from interalign.roles.ledger import Ledger, disclosed_facts, disclosed_texts
from interalign.roles.llm.grader import statements_in
from interalign.roles.llm.player import packaged
from interalign.roles.measure import mentions
from interalign.run import derive_seed

__all__ = ["induction", "marked_by_rules"]

_LEAST_TOKENS = 300


async def induction(
    candidate: Instructable, grader: Grader | None, persona: Persona, chat: Chat, ledger: Ledger, seed: int
) -> Induction | None:
    """Ask the model after `chat`, which ends with its own reply, and check what it says.

    Without a grader rules check it (`marked_by_rules`). None: the model cannot be asked, or the grader's answer could
    not be read.

    Raises:
        ModelError: there is no usable answer; silence is none, and not the same as to have learnt nothing.
    """
    asked = (*chat, Message(role="user", content=packaged("induce")))
    said = await candidate.instructed(asked, "", derive_seed(seed, "induction"), least_tokens=_LEAST_TOKENS)
    if said is None:
        return None
    statements = statements_in(said)
    if grader is None:
        return marked_by_rules(persona, ledger, statements)
    disclosed = disclosed_texts(ledger)
    if not statements:
        return Induction(statements=(), true=0, disclosed=len(disclosed), found=0)
    marks = await grader.grade(persona, disclosed, statements, derive_seed(seed, "grader"))
    if marks is None:
        return None
    return Induction(statements=statements, true=len(marks.true), disclosed=len(disclosed), found=len(marks.found))


def marked_by_rules(persona: Persona, ledger: Ledger, statements: Sequence[str]) -> Induction:
    """What the statements come to by the names of facts alone.

    A statement is true when it names a fact of the persona, so one about manner never is: the precision is a lower
    bound. Disclosed are the facts that the ledger holds; one is found when a statement names it.
    """
    disclosed = disclosed_facts(ledger)
    return Induction(
        statements=tuple(statements),
        true=sum(any(mentions(one, fact) for fact in persona.facts) for one in statements),
        disclosed=len(disclosed),
        found=sum(any(mentions(one, fact) for one in statements) for fact in disclosed),
    )
