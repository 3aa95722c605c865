"""Other replies to the same message, which tell what a score under language models as users and judges is worth.

Each is asked of the tested model itself, in the place of its reply, and judged like it; it is never said, so the
conversation goes on without it. What differs between them is what the model is told:

* the whole persona: how well it could answer, if it knew all there is to know (the ceiling of its skill);
* what the user has shown so far: how well, if it had taken in everything it could have;
* to be brief and warm, and not to look at the person: what a judge gives for mere style.

Whole conversations of each would cost several times as much. That the reply is judged under another person's persona
as well (`TurnRow.swapped`) is the control that costs least.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from interalign.evaluation.candidates import Instructable
from interalign.evaluation.rows import Counterfactual
from interalign.messages import Chat
from interalign.personas.generate import as_data
from interalign.personas.persona import Persona
from interalign.roles.judge import Judge
from interalign.roles.ledger import Ledger, disclosed_texts
from interalign.roles.llm.player import packaged
from interalign.run import derive_seed

__all__ = ["CONTROL_PROMPTS", "COUNTERFACTUALS", "calls_of_controls", "counterfactual", "default_turns"]

_MOST_TURNS = 3
_ROLES = 3
"""Calls of a turn that make a conversation: the user's, the model's, the judge's."""
_OF_INDUCTION = 2


def _whole_persona(persona: Persona, ledger: Ledger) -> str:
    person = {"profile": persona.profile, "personality": persona.personality}
    return packaged("control_persona").format(person=as_data(person))


def _what_was_shown(persona: Persona, ledger: Ledger) -> str:
    return packaged("control_disclosed").format(shown=as_data(disclosed_texts(ledger)))


COUNTERFACTUALS: Mapping[str, Callable[[Persona, Ledger], str]] = {
    "oracle persona": _whole_persona,
    "disclosed-only oracle": _what_was_shown,
    "generic-nice": lambda persona, ledger: packaged("control_nice"),
}
"""What the tested model is told in each control, by the names that the rows give them."""


CONTROL_PROMPTS = ("control_persona", "control_disclosed", "control_nice")
"""The prompt files that this is told from."""


def default_turns(turns: int) -> tuple[int, ...]:
    """At which of `turns` turns controls are asked for: first, middle and last, or fewer of them.

    They are as many as keep the controls, persona swap and one induction included, within the calls that a conversation
    without any takes: none in fewer than four turns, all three from ten on.
    """
    room = _ROLES * turns - turns - _OF_INDUCTION
    count = min(_MOST_TURNS, room // (2 * len(COUNTERFACTUALS)))
    wanted = {0: (), 1: (turns,), 2: (1, turns), 3: (1, (turns + 1) // 2, turns)}
    return wanted[max(0, count)]


def calls_of_controls(turns: int, control_turns: Sequence[int], induction_turns: Sequence[int]) -> int:
    """How many calls the controls of one conversation take: the persona swap, other replies, and induction."""
    return turns + 2 * len(COUNTERFACTUALS) * len(control_turns) + _OF_INDUCTION * len(induction_turns)


async def counterfactual(
    name: str, candidate: Instructable, judge: Judge, persona: Persona, chat: Chat, ledger: Ledger, seed: int
) -> Counterfactual | None:
    """The reply of one of `COUNTERFACTUALS` to the last message of `chat`, judged.

    None: the candidate cannot be instructed.

    Raises:
        ModelError: there is no usable answer.
    """
    told = COUNTERFACTUALS[name](persona, ledger)
    reply = await candidate.instructed(chat, told, derive_seed(seed, "control", name))
    if reply is None:
        return None
    # The judge's seed is that of the model's own reply, so that the same judge sees both.
    return Counterfactual(reply=reply, verdict=await judge.score(persona, chat, reply, ledger, seed))
