"""Why verdicts are missing and which replies have no end, counted and told, with what mends it.

Nothing that was paid for vanishes without a reason: the reasons of a model's missing verdicts add up to their number.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

from interalign.evaluation.rows import TurnRow
from interalign.llm.model import CUT, REFUSED
from interalign.messages import Value
from interalign.roles.judge import NOT_TOLD

__all__ = [
    "MOST_CUT",
    "NEVER_PLAYED",
    "NOT_PLAYED",
    "CutReplies",
    "cut_replies",
    "cut_warning",
    "mend_of",
    "most_often",
    "reasons_of",
]

MOST_CUT = 0.05
"""From this share of cut replies on there is a warning."""

NOT_PLAYED = "turn not played"
"""Why a turn has no verdict that a role or the tested model has failed in; the row's `failure` tells more."""

NEVER_PLAYED = "turn not played in the evaluation"
"""The same, where stored replies are judged anew: no judge can mend it."""

_OF_PANEL = "too few of a panel: "
_ANOTHER = "name another judge (--judge), or test this one with `interalign judge test`"
_MENDS = {
    CUT: "raise max_tokens of the judge (benchmark.roles.judge.sampling in the recipe, or `interalign rescore "
    "--max-tokens`, which judges the stored replies anew)",
    "no JSON": "let the judge answer in free text (--free-text; `interalign rescore` judges the stored replies anew)",
    REFUSED: "name another judge (--judge; `interalign rescore` judges the stored replies anew)",
    # Only answers are in the journal, so only what had none is asked for again.
    NOT_PLAYED: "see `failure` in eval/MODEL/verdicts.jsonl. The same command asks again only for what a server did "
    "not answer; an empty reply, or a user all of whose messages were refused, comes from the journal as before: let "
    "replies be longer (--max-tokens), or name another user (--user), in another folder (--out)",
    NEVER_PLAYED: "",
    NOT_TOLD: "",
    "call failed: timeout": "raise timeout_s of the judge's model or lower its concurrency in the recipe, and run the "
    "same command again",
}
_CALL_FAILED = "call failed"


class CutReplies(Value):
    """How many replies were cut, of those of which it is known, and at how many tokens most of them."""

    share: float
    tokens: int | None = None


def reasons_of(rows: Sequence[TurnRow], turns: int) -> dict[str, int]:
    """How many of `turns` have no verdict, by the reason, the commonest first.

    Args:
        rows: Those of one model, without repeats.
        turns: Of all cases; one without a row was not played.
    """
    counts = Counter(_reason(row) for row in rows if row.verdict is None)
    counts[NOT_PLAYED] += turns - len(rows)
    return {reason: count for reason, count in counts.most_common() if count}


def _reason(row: TurnRow) -> str:
    return row.missing.get("verdict", NOT_PLAYED if row.failure is not None else NOT_TOLD)


def most_often(reasons: Mapping[str, int]) -> str:
    """The commonest reason, and of how many missing verdicts it is that where others have another; "" without any."""
    if not reasons:
        return ""
    reason, count = max(reasons.items(), key=lambda one: one[1])
    if len(reasons) > 1:
        return f"most often: {reason}, {count:,} of {sum(reasons.values()):,}"
    return reason if reason == NOT_TOLD else f"reason: {reason}"


def mend_of(reasons: Mapping[str, int]) -> str:
    """What mends the commonest reason, as the end of a sentence; "" where that is not known."""
    if not reasons:
        return ""
    reason = max(reasons, key=lambda one: reasons[one]).removeprefix(_OF_PANEL)
    if reason.startswith(_CALL_FAILED):
        return _MENDS.get(reason, "run the same command again, which asks anew what was not answered")
    return _MENDS.get(reason, _ANOTHER)


def cut_replies(rows: Sequence[TurnRow]) -> CutReplies | None:
    """How many replies were cut; None where it is known of none."""
    known = [row.cut_at for row in rows if row.cut_at is not None]
    if not known:
        return None
    cut = Counter(tokens for tokens in known if tokens)
    return CutReplies(share=cut.total() / len(known), tokens=cut.most_common(1)[0][0] if cut else None)


def cut_warning(name: str, cut: CutReplies | None) -> str | None:
    """What is to be known of a model many of whose replies were cut, in a sentence."""
    if cut is None or cut.share <= MOST_CUT:
        return None
    return (
        f"{cut.share:.0%} of the replies of {name} were cut at {cut.tokens:,} tokens and judged without their end: let "
        "replies be longer (--max-tokens)."
    )
