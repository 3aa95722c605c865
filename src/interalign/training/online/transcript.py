"""The tokens of a conversation that the policy is part of, as they come up.

Two things always hold. What the policy drew stays as it was drawn: it is never decoded and tokenised again, since
another spelling of the same text would have other log-probabilities. And every message of the template or the user is
tokenised once, when it comes; a template under which that would not give the tokens of the whole chat is refused.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from interalign.errors import TrainingError
from interalign.llm.thinking import without_thinking
from interalign.messages import Chat, Message, as_dicts

__all__ = ["ChatTemplate", "Transcript"]

_PROBE: Chat = (
    Message(role="user", content="Good morning. What is new?"),
    Message(role="assistant", content="Hello, nothing much."),
    Message(role="user", content="I see. And with you?"),
    Message(role="assistant", content="The same as ever."),
    Message(role="user", content="Fine."),
)


@dataclass(frozen=True)
class Transcript:
    """A conversation in tokens: the prompt (system message, first user message, header), then all that came after.

    `mask` and `logprobs` have one entry for each completion token: 1 and its log-probability for a token that the
    policy drew, 0 and 0.0 for one of the user or the template.
    """

    prompt: tuple[int, ...]
    completion: tuple[int, ...] = ()
    mask: tuple[int, ...] = ()
    logprobs: tuple[float, ...] = ()

    @property
    def context(self) -> list[int]:
        """All tokens: what the next reply is drawn after."""
        return [*self.prompt, *self.completion]

    def drawn(self, tokens: Sequence[int], logprobs: Sequence[float]) -> Transcript:
        """With a reply of the policy, as it was drawn."""
        return self._longer(tokens, 1, logprobs)

    def given(self, tokens: Sequence[int]) -> Transcript:
        """With tokens that the policy did not draw."""
        return self._longer(tokens, 0, [0.0] * len(tokens))

    def _longer(self, tokens: Sequence[int], mark: int, logprobs: Sequence[float]) -> Transcript:
        return replace(
            self,
            completion=(*self.completion, *tokens),
            mask=(*self.mask, *[mark] * len(tokens)),
            logprobs=(*self.logprobs, *logprobs),
        )

    def shorter(self) -> Transcript:
        """Without the last completion token."""
        return replace(self, completion=self.completion[:-1], mask=self.mask[:-1], logprobs=self.logprobs[:-1])


class ChatTemplate:
    """A model's chat template, by which a conversation grows at its end only.

    Args:
        tokenizer: a Hugging Face tokenizer with a chat template.
        system: the policy's system message.
        ends: the tokens that end a reply.

    Raises:
        TrainingError: the template has no place for a system message, rewrites earlier messages, or tokenises a chat
            otherwise than its parts.
    """

    def __init__(self, tokenizer: Any, system: str, ends: frozenset[int]) -> None:
        self._tokenizer = tokenizer
        self._system = Message(role="system", content=system)
        self._ends = ends
        self._name = repr(tokenizer.name_or_path)
        self._refuse_unfit()

    def opening(self, first: str) -> Transcript:
        """The transcript of a conversation in which the user has said its first message."""
        return Transcript(tuple(self._ids(self._render((Message(role="user", content=first),), header=True))))

    def answered(self, transcript: Transcript, chat: Chat, user: str) -> Transcript:
        """The transcript with the end of the last reply, the user's next message, and the header of the next reply.

        An end mark that the policy drew and that is not the template's own gives way to the template's, as it would
        in any later use of the chat.

        Args:
            transcript: ends with the reply, as it was drawn.
            chat: ends with the reply, as it is read.
            user: the user's next message.
        """
        following = self._ids(self._after(chat, user))
        last = transcript.completion[-1]
        if last in self._ends and following[:1] == [last]:
            return transcript.given(following[1:])
        return (transcript.shorter() if last in self._ends else transcript).given(following)

    def read(self, tokens: Sequence[int]) -> str:
        """The text of a reply that was drawn, as user and judge get to see it: without thinking."""
        return without_thinking(str(self._tokenizer.decode(list(tokens), skip_special_tokens=True)))

    def _after(self, chat: Chat, user: str) -> str:
        """The template's text from the end of the last reply of `chat` to the header of the next one."""
        before = self._render(chat[:-1], header=True) + chat[-1].content
        whole = self._render((*chat, Message(role="user", content=user)), header=True)
        if not whole.startswith(before):
            raise TrainingError(
                f"The chat template of {self._name} changes earlier messages when the chat goes on, so what the "
                "policy wrote is not what it would read.",
                mend="use a template that leaves earlier turns alone (for a thinking model, one without thinking).",
            )
        return whole[len(before) :]

    def _render(self, chat: Chat, *, header: bool = False) -> str:
        try:
            return str(
                self._tokenizer.apply_chat_template(
                    as_dicts((self._system, *chat)), tokenize=False, add_generation_prompt=header
                )
            )
        except Exception as error:  # templates are programs of their own and raise what they like
            raise TrainingError(
                f"The chat template of {self._name} refuses this conversation: {error}",
                mend="use a model whose template takes a system message and alternating turns.",
            ) from error

    def _ids(self, text: str) -> list[int]:
        return list(self._tokenizer(text, add_special_tokens=False)["input_ids"])

    def _refuse_unfit(self) -> None:
        whole = self._render(_PROBE, header=True)
        if self._system.content.strip() not in whole:
            raise TrainingError(
                f"The chat template of {self._name} leaves out the system message.",
                mend="use a model whose template takes a system message.",
            )
        parts = [
            self._render(_PROBE[:1], header=True),
            *(
                part
                for reply in (1, 3)
                for part in (_PROBE[reply].content, self._after(_PROBE[: reply + 1], _PROBE[reply + 1].content))
            ),
        ]
        if [token for part in parts for token in self._ids(part)] != self._ids(whole):
            raise TrainingError(
                f"The tokenizer of {self._name} splits a chat otherwise than its messages one by one, so tokens that "
                "were drawn cannot be kept.",
                mend="use a model whose template sets messages apart by special tokens.",
            )
