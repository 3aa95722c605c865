"""Stored replies judged anew by another judge, and how far the two judges agree.

Nobody is talked to: users and tested models have said what they said. What the new judge is shown is what the old one
was shown, in the same order and under the same seeds, so the judge of the evaluation, asked again, says the same.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeAlias

import numpy as np
from rich.table import Table
from rich.text import Text

from interalign.conversations.side_by_side import as_done
from interalign.conversations.tree import Fault
from interalign.errors import InputError, InteralignError, ModelError, StopWork, StorageError
from interalign.evaluation.benchmark import BenchmarkConfig, claims_undisclosed, line_up, uptake
from interalign.evaluation.groups import clusters_of_people
from interalign.evaluation.judging.agreement import spearman
from interalign.evaluation.judging.resampling import Places, floats, interval, mean_interval
from interalign.evaluation.missing import NEVER_PLAYED
from interalign.evaluation.notation import interval as ends
from interalign.evaluation.notation import number
from interalign.evaluation.ranking import stability
from interalign.evaluation.rows import Counterfactual, TurnRow
from interalign.evaluation.statistics import Estimate
from interalign.messages import Chat, Message, Value
from interalign.personas.persona import Persona
from interalign.roles.judge import Judge, Verdict
from interalign.roles.ledger import Disclosure
from interalign.roles.llm.player import RoleFailure, all_or_first_error
from interalign.run import derive_seed

__all__ = ["JudgeAgreement", "agreement_table", "judge_agreement", "rescored"]

_Key: TypeAlias = tuple[str, int, int]
"""Case, repeat and turn."""

_RESAMPLES = 500


class JudgeAgreement(Value):
    """How far two judges agree on the same replies; the first is that of the evaluation."""

    replies: int
    """Scored by both."""
    lost: int
    """Scored by the first and not by the second."""
    gained: int
    """Scored by the second and not by the first."""
    spearman: Estimate
    """Rank correlation of the scores of single replies."""
    difference: Estimate
    """The second's score minus the first's, on average."""
    tau: Estimate
    """Kendall's tau-b of the two rankings of the models by mean AL, over the replies that both have scored; undefined
    with one model."""


async def rescored(
    rows: Sequence[TurnRow],
    people: Sequence[Persona],
    judge: Judge,
    config: BenchmarkConfig,
    seed: int,
    *,
    on_row: Callable[[], None] | None = None,
) -> list[TurnRow]:
    """The rows of one model with the verdicts of another judge; everything else in them stays.

    Judged are the reply and those of controls, and under the stranger's persona those that were judged so before.
    Helpfulness and induction are not the judge's, and are kept. A verdict that the judge cannot give is missing.

    Args:
        rows: What the evaluation wrote down.
        people: All its cases, in their order: they decide who is whose stranger.
        judge: Who judges now.
        config: That of the evaluation; `in_flight` conversations are judged side by side.
        seed: Of its run.
        on_row: Called once for each row.

    Raises:
        InputError: a case is not among the people.
        StopWork: the budget is spent, a server will answer nothing, or the user asked to stop. What was in flight is
            finished before.
        StorageError: the journal cannot be written.
    """
    known = {case.persona.id: case for case in line_up(people, config, seed)}
    absent = sorted({row.case for row in rows} - known.keys())
    if absent:
        raise InputError(
            f"{len(absent)} of the people in the results are not among the cases of the run; the first is {absent[0]}.",
            mend="put back the persona file that the evaluation was made with.",
        )
    swapping = any(row.swapped is not None or "swapped" in row.missing for row in rows)
    talks: defaultdict[tuple[str, int], list[TurnRow]] = defaultdict(list)
    for row in rows:
        talks[row.case, row.repeat].append(row)
    begun = (
        partial(
            _talk,
            sorted(talk, key=lambda row: row.turn),
            known[case].persona,
            known[case].stranger if swapping and not repeat else None,
            judge,
            seed,
            on_row,
        )
        for (case, repeat), talk in talks.items()
    )
    again: dict[_Key, TurnRow] = {}
    async with aclosing(as_done(begun, config.in_flight)) as done:
        async for judged in done:
            again |= judged
    return [again[_key(row)] for row in rows]


def _key(row: TurnRow) -> _Key:
    return row.case, row.repeat, row.turn


async def _talk(
    talk: Sequence[TurnRow],
    persona: Persona,
    stranger: Persona | None,
    judge: Judge,
    seed: int,
    on_row: Callable[[], None] | None,
) -> dict[_Key, TurnRow]:
    """One conversation, all its turns side by side: what was said before each of them is known."""
    base = derive_seed(seed, "repeat", talk[0].repeat) if talk[0].repeat else seed
    chat: Chat = ()
    ledger: tuple[Disclosure, ...] = ()
    judged: list[Awaitable[TurnRow]] = []
    for row in talk:
        asked = (*chat, Message(role="user", content=row.user))
        ledger = (*ledger, row.disclosure)
        place = _Place(judge, asked, ledger, derive_seed(base, persona.id, row.turn), [])
        judged.append(_row(row, persona, stranger, place, on_row))
        chat = (*asked, Message(role="assistant", content=row.reply))
    return {_key(row): row for row in await all_or_first_error(judged)}


@dataclass(frozen=True)
class _Place:
    """A reply's place in a conversation, and who judges it."""

    judge: Judge
    chat: Chat
    """Up to the user's message."""
    ledger: Sequence[Disclosure]
    seed: int
    found: list[Fault]
    """What was wrong with the judge's answers."""

    async def judged(self, what: str, persona: Persona, reply: str, missing: dict[str, str]) -> Verdict | None:
        """None where the judge has no verdict, or does not answer; `missing` takes up why, by what it is about."""
        try:
            return await self.judge.score(persona, self.chat, reply, self.ledger, self.seed)
        except (StopWork, StorageError):
            raise
        except InteralignError as error:
            turn, check = self.ledger[-1].turn, "unreadable" if isinstance(error, RoleFailure) else "no answer"
            self.found.append(Fault(role="judge", turn=turn, check=check, attempt=0, text=str(error)))
            missing[what] = error.cause if isinstance(error, ModelError) else "call failed"
            return None

    async def control(self, one: Counterfactual, persona: Persona, stranger: Persona | None) -> Counterfactual:
        """A control's reply judged anew, and under the stranger's persona where it was before."""
        missing: dict[str, str] = {}
        asked = [self.judged("verdict", persona, one.reply, missing)]
        if stranger is not None and (one.swapped is not None or "swapped" in one.missing):
            asked.append(self.judged("swapped", stranger, one.reply, missing))
        verdict, swapped = (*await all_or_first_error(asked), None)[:2]
        return Counterfactual(reply=one.reply, verdict=verdict, swapped=swapped, missing=dict(sorted(missing.items())))


async def _row(
    row: TurnRow, persona: Persona, stranger: Persona | None, place: _Place, on_row: Callable[[], None] | None
) -> TurnRow:
    if row.failure is None:
        missing = {what: why for what, why in row.missing.items() if what not in ("verdict", "swapped")}
        asked: list[Awaitable[Any]] = [place.judged("verdict", persona, row.reply, missing)]
        asked += [] if stranger is None else [place.judged("swapped", stranger, row.reply, missing)]
        asked += [place.control(one, persona, stranger) for one in row.controls.values()]
        verdict, *more = await all_or_first_error(asked)
        swapped = None if stranger is None else more.pop(0)
        row = row.model_copy(
            update={
                "verdict": verdict,
                "swapped": swapped,
                "uptake": uptake(row.disclosure, verdict),
                "mind_reading": claims_undisclosed(verdict),
                "controls": dict(zip(row.controls, more, strict=True)),
                # In whatever order the answers came.
                "missing": dict(sorted(missing.items())),
                # Those of the first judge are its own.
                "faults": (*(fault for fault in row.faults if fault.role != "judge"), *place.found),
            }
        )
    else:
        row = row.model_copy(update={"missing": {"verdict": NEVER_PLAYED}})
    if on_row is not None:
        on_row()
    return row


def judge_agreement(
    before: Mapping[str, Sequence[TurnRow]],
    after: Mapping[str, Sequence[TurnRow]],
    people: Mapping[str, Persona] | None = None,
    *,
    ranked: Collection[str] | None = None,
    seed: int = 0,
) -> JudgeAgreement:
    """How far two judges agree on the same replies of the same models; repeats do not count.

    Args:
        before: The rows with the first judge's verdicts, by model.
        after: The same rows with the second judge's.
        people: The cases by id. With them, intervals respect shared profiles and personalities.
        ranked: The models that are ranked; left out, all.
        seed: Of the resamples.
    """
    pairs = [
        (row.case, row.verdict, other)
        for name, rows in before.items()
        for verdicts in [{_key(one): one.verdict for one in after[name]}]
        for row in rows
        if not row.repeat
        for other in [verdicts[_key(row)]]
    ]
    both = [(case, one.score, other.score) for case, one, other in pairs if one and other]
    first, second = floats(one for _, one, _ in both), floats(other for _, _, other in both)
    cases = [case for case, _, _ in both]
    shared = clusters_of_people(list(dict.fromkeys(cases)), people or {})
    names = [name for name in before if ranked is None or name in ranked]

    def correlation(places: Places) -> float:
        found = spearman(list(first[places]), list(second[places]))
        return np.nan if found is None else found

    return JudgeAgreement(
        replies=len(both),
        lost=sum(one is not None and other is None for _, one, other in pairs),
        gained=sum(one is None and other is not None for _, one, other in pairs),
        spearman=interval(correlation, cases, shared=shared, bounds=(-1, 1), resamples=_RESAMPLES, seed=seed),
        difference=mean_interval(list(second - first), cases, shared=shared, resamples=_RESAMPLES, seed=seed),
        tau=_tau({name: (before[name], after[name]) for name in names}, people, seed),
    )


def _tau(
    rows: Mapping[str, tuple[Sequence[TurnRow], Sequence[TurnRow]]], people: Mapping[str, Persona] | None, seed: int
) -> Estimate:
    """Of the rankings before and after, over the same replies."""
    if len(rows) < 2:
        return Estimate()
    before = {name: _where_scored(one, other) for name, (one, other) in rows.items()}
    after = {name: _where_scored(other, one) for name, (one, other) in rows.items()}
    return stability({"before": before, "after": after}, people=people, seed=seed).agreements[0].tau


def _where_scored(rows: Sequence[TurnRow], others: Sequence[TurnRow]) -> list[TurnRow]:
    """The rows, without a verdict where the others have none."""
    scored = {_key(other) for other in others if other.verdict is not None}
    return [row if _key(row) in scored else row.model_copy(update={"verdict": None}) for row in rows]


def agreement_table(found: JudgeAgreement) -> Table:
    """The agreement for a terminal."""
    table = Table.grid(padding=(0, 2))
    rows = {
        "Spearman's correlation, reply by reply": _told(found.spearman),
        "Kendall's tau-b of the rankings of models": _told(found.tau),
        "Second score minus first": _told(found.difference, signed=True),
        "Replies that both have scored": f"{found.replies:,}",
        "Missing now, scored before": f"{found.lost:,}",
        "Scored now, missing before": f"{found.gained:,}",
    }
    for name, value in rows.items():
        table.add_row(name, Text(value))
    return table


def _told(estimate: Estimate, *, signed: bool = False) -> str:
    value = number(estimate.value, signed=signed)
    if estimate.low is None or estimate.high is None:
        return value
    return f"{value} ({ends(estimate.low, estimate.high, signed=signed)})"
