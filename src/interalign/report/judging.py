"""Who played user and judge, and what the scores themselves say of the judge.

A language model that judges may be weak: it may give the same score to everything, or not look at the person. Some of
that shows in its scores, and the page says so; the rest only a test of the judge can tell.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

from pydantic import Field

from interalign.evaluation.notation import number
from interalign.evaluation.rows import TurnRow
from interalign.evaluation.summary import Summary
from interalign.messages import Value
from interalign.report.shell import percent

__all__ = ["Judging", "Players", "faults_of", "judging"]

_MOSTLY = 0.8
"""From this share of equal scores on a judge hardly tells replies apart."""

_LEAST_VERDICTS = 20
"""Of fewer verdicts, many are equal by chance."""


class Players(Value):
    """Who sat at the table beside the tested models, in words; None where rules played."""

    user: str | None = None
    judge: str | None = None
    others: dict[str, str] = Field(default_factory=dict)
    """Further roles that language models played."""
    scripted: bool = False
    """The judge is a script that stands in for a model: its scores try out the way and say nothing of the models."""

    @property
    def by_rules(self) -> bool:
        """Whether rules were both user and judge."""
        return self.user is None and self.judge is None

    @property
    def roles(self) -> dict[str, str]:
        """Every role and who played it; nothing where all of it was rules."""
        if self.by_rules:
            return {}
        return {"user": self.user or "rules", "judge": self.judge or "rules", **self.others}


class Judging(Value):
    """How a language model as the judge did: how many replies it saw, and on how many it gave no verdict."""

    judge: str
    scripted: bool
    replies: int
    unjudged: int
    signs: tuple[str, ...] = ()
    """What its scores say against it, in sentences."""

    @property
    def share(self) -> float | None:
        """The share of the replies that have no verdict."""
        return self.unjudged / self.replies if self.replies else None


def judging(summary: Summary, rows: Mapping[str, Sequence[TurnRow]], players: Players) -> Judging | None:
    """What there is to tell of the judge; None where rules judged."""
    if players.judge is None:
        return None
    seen = [row for of_model in rows.values() for row in of_model if row.failure is None and row.repeat == 0]
    return Judging(
        judge=players.judge,
        scripted=players.scripted,
        replies=len(seen),
        unjudged=sum(row.verdict is None for row in seen),
        signs=(*_all_alike(seen), *_no_eye_for_persons(summary), *_no_use_for_personas(summary)),
    )


def faults_of(rows: Mapping[str, Sequence[TurnRow]]) -> dict[str, int]:
    """What was refused or could not be had, by role and check; none of it counts against a model."""
    counts = Counter(
        f"{fault.role}: {fault.check}" for of_model in rows.values() for row in of_model for fault in row.faults
    )
    return dict(sorted(counts.items()))


def _all_alike(rows: Sequence[TurnRow]) -> tuple[str, ...]:
    scores = Counter(row.verdict.score for row in rows if row.verdict is not None)
    if scores.total() < _LEAST_VERDICTS:
        return ()
    ((score, count),) = scores.most_common(1)
    share = count / scores.total()
    if share < _MOSTLY:
        return ()
    digits = 0 if score.is_integer() else 2
    return (f"It gave {number(score, digits)} to {percent(share)} of all replies, so it hardly tells them apart.",)


def _no_eye_for_persons(summary: Summary) -> tuple[str, ...]:
    gaps = [model.gap for model in summary.of_kind("model") if model.gap.value is not None]
    if not gaps:
        return ()
    if any(gap.low is not None and gap.low > 0 for gap in gaps):
        return _no_eye_beyond_the_chat(summary)
    return (
        "It is not shown that it rates any model's replies higher for the person they were written for than for "
        "somebody else: either no model adapts, or it does not look at the person.",
    )


def _no_eye_beyond_the_chat(summary: Summary) -> tuple[str, ...]:
    above = [model.gap_above for model in summary.of_kind("model") if model.gap_above]
    if not above or any(gap.low is not None and gap.low > 0 for gap in above):
        return ()
    return (
        "It rates replies higher for the person they were written for than for somebody else, but replies that look at "
        "nobody as well: either no model adapts, or it only sees that the chat is not that of the other person.",
    )


def _no_use_for_personas(summary: Summary) -> tuple[str, ...]:
    differences = [
        control.difference
        for model in summary.models
        for control in model.counterfactuals
        if "persona" in control.name.lower() and control.difference.value is not None
    ]
    if not differences or any(one.high is not None and one.high < 0 for one in differences):
        return ()
    return (
        "It is not shown that any model is rated higher when it is told the whole persona: either none can use it, or "
        "the judge does not see it.",
    )
