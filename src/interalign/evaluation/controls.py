"""Other replies to the same message, which tell what a score under language models as users and judges is worth.

Each is asked of the tested model itself, in the place of its reply, and judged like it; it is never said, so the
conversation goes on without it. What differs between them is what the model is told:

* the whole persona: how well it could answer, if it knew all there is to know (the ceiling of its skill);
* what the user has shown so far: how well, if it had taken in everything it could have;
* to be brief and warm, and not to look at the person: what a judge gives for mere style.

Whole conversations of each would cost several times as much. That the reply is judged under another person's persona
as well (`TurnRow.swapped`) is the control that costs least. But the stranger's persona meets the chat of the own
person there, and a judge may take points from any reply for that: the last of the replies, which looks at nobody, is
judged under the stranger, too (`Counterfactual.swapped`), and what it loses is the zero point of the gap.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from interalign.evaluation.candidates import Instructable
from interalign.evaluation.rows import Counterfactual
from interalign.messages import Chat
from interalign.personas.generate import as_data
from interalign.personas.persona import Persona
from interalign.roles.judge import Judge
from interalign.roles.ledger import Ledger, disclosed_texts
from interalign.roles.llm.player import RoleFailure, packaged
from interalign.run import derive_seed

__all__ = ["COUNTERFACTUALS", "Control", "counterfactual", "default_turns"]

_MOST_TURNS = 3
_ROLES = 3
"""Calls of a turn that make a conversation: the user's, the model's, the judge's."""
_OF_INDUCTION = 2


@dataclass(frozen=True)
class Control:
    """What the tested model is told in one control."""

    prompt: str
    """The file that it is told from."""
    _told: Callable[[Persona, Ledger], Mapping[str, str]] = field(repr=False)
    """What is put into that."""
    swapped: bool = False
    """Whether the reply is judged under the stranger's persona as well."""

    def told(self, persona: Persona, ledger: Ledger) -> str:
        """The instructions for a conversation with this person, of whom so much has been shown."""
        return packaged(self.prompt).format(**self._told(persona, ledger))


def _whole_persona(persona: Persona, ledger: Ledger) -> dict[str, str]:
    return {"person": as_data({"profile": persona.profile, "personality": persona.personality})}


def _what_was_shown(persona: Persona, ledger: Ledger) -> dict[str, str]:
    return {"shown": as_data(disclosed_texts(ledger))}


def _nothing(persona: Persona, ledger: Ledger) -> dict[str, str]:
    return {}


COUNTERFACTUALS: Mapping[str, Control] = {
    "oracle persona": Control("control_persona", _whole_persona),
    "disclosed-only oracle": Control("control_disclosed", _what_was_shown),
    "generic-nice": Control("control_nice", _nothing, swapped=True),
}
"""The controls by the names that the rows give them."""

_OF_A_TURN = sum(2 + control.swapped for control in COUNTERFACTUALS.values())
"""Calls of a turn at which there are controls: each reply, and its verdicts."""


def default_turns(turns: int) -> tuple[int, ...]:
    """At which of `turns` turns controls are asked for: first, middle and last, or fewer of them.

    They are as many as keep the controls, persona swap and one induction included, within the calls that a conversation
    without any takes: none in fewer than five turns, first and last from eight on, all three from twelve on.
    """
    room = _ROLES * turns - turns - _OF_INDUCTION
    count = min(_MOST_TURNS, room // _OF_A_TURN)
    wanted = {0: (), 1: (turns,), 2: (1, turns), 3: (1, (turns + 1) // 2, turns)}
    return wanted[max(0, count)]


async def counterfactual(
    name: str, candidate: Instructable, judge: Judge, persona: Persona, chat: Chat, ledger: Ledger, seed: int
) -> Counterfactual | None:
    """The reply of one of `COUNTERFACTUALS` to the last message of `chat`, judged.

    None: the candidate cannot be instructed.

    Raises:
        ModelError: there is no usable answer.
    """
    told = COUNTERFACTUALS[name].told(persona, ledger)
    reply = await candidate.instructed(chat, told, derive_seed(seed, "control", name))
    if reply is None:
        return None
    try:
        # The judge's seed is that of the model's own reply, so that the same judge sees both.
        return Counterfactual(reply=reply, verdict=await judge.score(persona, chat, reply, ledger, seed))
    except RoleFailure as error:
        # The reply is there; only the verdict is not.
        return Counterfactual(reply=reply, missing={"verdict": error.cause})
