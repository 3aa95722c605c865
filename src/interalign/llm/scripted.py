"""A model that says what it was told to say: for tests, documentation and dry runs, with no network and no weights."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

from interalign.errors import InputError
from interalign.llm.model import Answer, Chance, Request, Usage, call_key

__all__ = ["ScriptedModel"]

_TOKEN = re.compile(r"\d|\s+|[^\d\s]+")


class ScriptedModel:
    """Answers by a function of the request, or from a list of replies.

    From a list, the content of the request picks the reply, not the order of the calls: the same request always gets
    the same one, whatever else is in flight. Sampling is ignored. Usage counts words between white space. A
    script has no doubts: where chances are wished for, each token of its answer has probability 1.

    Raises:
        InputError: the list is empty, or one text stands where a list of texts belongs.
    """

    def __init__(self, name: str, reply: Callable[[Request], str] | Sequence[str]) -> None:
        # A text is a sequence of texts too, and would be given out letter by letter.
        if isinstance(reply, str):
            raise InputError(f"The scripted model '{name}' got one text.", mend="give a list of replies: [text].")
        if not callable(reply) and not reply:
            raise InputError(f"The scripted model '{name}' has no replies.", mend="give at least one.")
        self._name = name
        self._reply = reply if callable(reply) else tuple(reply)

    def __repr__(self) -> str:
        return f"ScriptedModel({self._name!r})"

    @property
    def name(self) -> str:
        """The name it was given."""
        return self._name

    async def complete(self, request: Request) -> Answer:
        """The scripted answer; whatever a reply function raises passes through."""
        text = self._text(request)
        usage = Usage(
            prompt_tokens=sum(len(message.content.split()) for message in request.messages),
            completion_tokens=len(text.split()),
        )
        top = tuple((Chance(token, 0.0),) for token in _TOKEN.findall(text)) if request.top_logprobs else ()
        return Answer(text=text, finish="stop", usage=usage, model=self._name, top=top)

    def _text(self, request: Request) -> str:
        if callable(self._reply):
            return self._reply(request)
        return self._reply[int(call_key(self._name, request), 16) % len(self._reply)]
