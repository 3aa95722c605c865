from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from interalign.errors import BudgetSpent, InteralignError, ModelError
from interalign.messages import Chat, Message, as_dicts
from interalign.personas.persona import Persona
from interalign.roles.judge import RuleJudge, Verdict, judge_reply
from interalign.roles.ledger import Ledger
from interalign.roles.llm.player import packaged
from interalign.roles.user import RuleUser, UserTurn
from interalign.training.online.conversation import Case
from interalign.training.online.rollout import Played, Rollout
from interalign.training.online.sampling import PolicySampler
from tests.training.online.conftest import SAMPLING
from tests.training.tiny import SYSTEM

Make = Callable[..., Rollout]


@pytest.fixture
def cases(people: tuple[Persona, ...]) -> list[Case]:
    """Two meetings, each of them three times."""
    return [Case(persona=people[number], number=number) for number in (0, 1) for _ in range(3)]


class FailingUser(RuleUser):
    """Fails in one turn; with a reason of its own."""

    def __init__(self, turn: int, error: InteralignError) -> None:
        self._turn, self._error = turn, error

    async def speak(self, persona: Persona, chat: Chat, ledger: Ledger, seed: int) -> UserTurn:
        if len(ledger) + 1 == self._turn:
            raise self._error
        return await super().speak(persona, chat, ledger, seed)


class FailingJudge(RuleJudge):
    """Gives no verdict on the second turn, and fails on the third."""

    async def score(self, persona: Persona, chat: Chat, reply: str, ledger: Ledger, seed: int) -> Verdict | None:
        if len(ledger) == 3:
            raise ModelError("the judge is away")
        return None if len(ledger) == 2 else await super().score(persona, chat, reply, ledger, seed)


def drawn_pieces(played: Played) -> list[list[int]]:
    """The runs of tokens that the policy drew."""
    pieces: list[list[int]] = []
    for place, (token, mark) in enumerate(zip(played.transcript.completion, played.transcript.mask, strict=True)):
        if mark and (place == 0 or not played.transcript.mask[place - 1]):
            pieces.append([])
        if mark:
            pieces[-1].append(token)
    return pieces


def told(played: list[Played]) -> list[Any]:
    """All but the log-probabilities, whose last digits depend on what the model has computed before."""
    return [(one.conversation, one.transcript.context, one.transcript.mask) for one in played]


def test_what_is_trained_on_are_the_replies(
    make_rollout: Make, cases: list[Case], sampler: PolicySampler, tokenizer: Any
) -> None:
    for one in make_rollout().play(cases, sampler):
        replies = [exchange.reply for exchange in one.conversation.exchanges]
        assert [tokenizer.decode(piece, skip_special_tokens=True).strip() for piece in drawn_pieces(one)] == replies
        assert [len(piece) for piece in drawn_pieces(one)] == [e.tokens for e in one.conversation.exchanges]
        assert len(replies) == 3


def test_the_policy_reads_what_the_template_would_show_it(
    make_rollout: Make, cases: list[Case], sampler: PolicySampler, tokenizer: Any
) -> None:
    for one in make_rollout().play(cases, sampler):
        # The replies as they were drawn, with the spaces around them and without their end mark.
        drawn = iter([[t for t in piece if t != tokenizer.eos_token_id] for piece in drawn_pieces(one)])
        chat = [
            message.model_copy(update={"content": tokenizer.decode(next(drawn))})
            if message.role == "assistant"
            else message
            for message in one.conversation.chat
        ]
        system = Message(role="system", content=SYSTEM)
        shown = tokenizer.apply_chat_template(as_dicts((system, *chat)), tokenize=False)
        read = tokenizer.decode(one.transcript.context)
        assert shown.removeprefix(read) in ("\n", "<|im_end|>\n")


def test_logprobs_stand_beside_the_tokens_of_the_policy(
    make_rollout: Make, cases: list[Case], sampler: PolicySampler, model: Any
) -> None:
    import torch

    for one in make_rollout().play(cases, sampler):
        transcript = one.transcript
        model.eval()
        with torch.no_grad():
            logits = model(torch.tensor([transcript.context]), use_cache=False).logits[0, :-1]
        every = (logits / SAMPLING.temperature).log_softmax(-1)
        own = every.gather(-1, torch.tensor(transcript.context[1:])[:, None])[-len(transcript.completion) :, 0]
        mask = torch.tensor(transcript.mask)
        assert torch.allclose(own * mask, torch.tensor(transcript.logprobs), atol=1e-4)


def test_a_group_begins_alike_and_parts(make_rollout: Make, cases: list[Case], sampler: PolicySampler) -> None:
    played = [one.conversation for one in make_rollout().play(cases, sampler)]
    assert [one.sample for one in played] == [0, 1, 2, 0, 1, 2]
    for group in (played[:3], played[3:]):
        assert len({one.exchanges[0].user for one in group}) == 1
        assert len({one.exchanges[0].reply for one in group}) == 3
    assert played[0].exchanges[0].user != played[3].exchanges[0].user


def test_roles_see_what_was_said(make_rollout: Make, cases: list[Case], sampler: PolicySampler) -> None:
    conversation = make_rollout().play(cases, sampler)[4].conversation
    for turn, exchange in enumerate(conversation.exchanges, 1):
        chat, ledger = conversation.chat[: 2 * turn - 1], conversation.ledger[:turn]
        assert exchange.verdict == judge_reply(conversation.case.persona, chat, exchange.reply, ledger)
        assert exchange.disclosure.turn == turn


def test_the_same_seed_plays_the_same(
    make_rollout: Make, cases: list[Case], sampler: PolicySampler, people: tuple[Persona, ...]
) -> None:
    first = make_rollout().play(cases, sampler)
    again = make_rollout()
    # What is played before or beside changes nothing.
    again.play([Case(persona=people[2], number=7)], sampler)
    assert told(again.play(cases, sampler)) == told(first)
    assert told(make_rollout(seed=6).play(cases, sampler)) != told(first)
    meeting_again = [case.model_copy(update={"number": case.number + 10}) for case in cases]
    assert {one.conversation.exchanges[0].user for one in again.play(meeting_again, sampler)}.isdisjoint(
        {one.conversation.exchanges[0].user for one in first}
    )


@pytest.mark.parametrize("turn", [1, 2, 3])
def test_a_conversation_whose_user_fails_breaks_off(
    make_rollout: Make, cases: list[Case], sampler: PolicySampler, turn: int
) -> None:
    played = make_rollout(FailingUser(turn, ModelError("gone")), off_the_record=True).play(cases, sampler)
    for one in played:
        assert one.conversation.failure == "gone"
        assert one.conversation.stated is None
        assert len(one.conversation.exchanges) == len(drawn_pieces(one)) == turn - 1
        assert all(exchange.verdict for exchange in one.conversation.exchanges)


def test_what_stops_the_work_is_no_failure(make_rollout: Make, cases: list[Case], sampler: PolicySampler) -> None:
    for turn in (1, 2):
        with pytest.raises(BudgetSpent):
            make_rollout(FailingUser(turn, BudgetSpent("no money left"))).play(cases, sampler)


def test_a_verdict_that_cannot_be_had_is_missing(make_rollout: Make, cases: list[Case], sampler: PolicySampler) -> None:
    for one in make_rollout(judge=FailingJudge()).play(cases, sampler):
        assert [exchange.verdict is None for exchange in one.conversation.exchanges] == [False, True, True]
        assert one.conversation.failure is None


def test_what_is_said_off_the_record_is_not_trained_on(
    make_rollout: Make, cases: list[Case], sampler: PolicySampler, tokenizer: Any
) -> None:
    prompts: list[list[int]] = []

    def draw(asked: Any, seeds: Any) -> Any:
        prompts.extend(asked)
        return sampler(asked, seeds)

    silent = make_rollout().play(cases, sampler)
    asked = make_rollout(off_the_record=True).play(cases, draw)
    assert [one.transcript.context for one in asked] == [one.transcript.context for one in silent]
    assert [one.transcript.mask for one in asked] == [one.transcript.mask for one in silent]
    assert all(one.conversation.stated is None for one in silent)
    assert len({one.conversation.stated for one in asked}) > 3
    assert all(packaged("induce") in tokenizer.decode(prompt) for prompt in prompts[-len(cases) :])
    assert prompts[-1][: len(asked[-1].transcript.context)] == asked[-1].transcript.context


def test_time_is_told_once(make_rollout: Make, cases: list[Case], sampler: PolicySampler) -> None:
    rollout = make_rollout()
    rollout.play(cases, sampler)
    assert set(rollout.take_seconds()) == {"generation", "user", "judge"}
    assert rollout.take_seconds() == {}
