from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from interalign.evaluation.missing import (
    NEVER_PLAYED,
    NOT_PLAYED,
    CutReplies,
    cut_replies,
    cut_warning,
    mend_of,
    most_often,
    reasons_of,
)
from interalign.evaluation.rows import TurnRow
from interalign.roles.judge import NOT_TOLD, Verdict
from interalign.roles.ledger import Disclosure


def row(turn: int = 1, why: str | None = None, cut_at: int | None = None, **more: object) -> TurnRow:
    missing = {} if why is None else {"verdict": why}
    known = {"case": "a", "turn": turn, "user": "Hi.", "reply": "Ho.", "disclosure": Disclosure(turn=turn)}
    return TurnRow.model_validate({**known, "missing": missing, "cut_at": cut_at, **more})


JUDGED = row(verdict=Verdict(score=3))
REASONS = st.lists(st.sampled_from(["no JSON", "refused", "call failed: timeout", None]))


@given(REASONS, st.integers(0, 5), st.integers(0, 5), st.integers(0, 5))
def test_the_reasons_add_up_to_what_is_missing(reasons: list[str | None], judged: int, failed: int, lost: int) -> None:
    rows = [*(row(why=why) for why in reasons), *[JUDGED] * judged, *[row(failure="gone")] * failed]
    found = reasons_of(rows, len(rows) + lost)
    assert sum(found.values()) == len(reasons) + failed + lost
    assert found.get(NOT_PLAYED, 0) == failed + lost
    assert found.get(NOT_TOLD, 0) == reasons.count(None)
    assert list(found.values()) == sorted(found.values(), reverse=True) and all(found.values())


def test_a_reason_for_something_else_is_none_for_the_verdict() -> None:
    helpless = row(missing={"helpfulness": "no JSON", "swapped": "refused"})
    assert reasons_of([helpless], 1) == {NOT_TOLD: 1}
    assert reasons_of([JUDGED.model_copy(update={"missing": {"swapped": "refused"}})], 1) == {}


def test_the_commonest_is_told_with_what_mends_it() -> None:
    assert most_often({"refused": 2, "no JSON": 12, NOT_PLAYED: 1}) == "most often: no JSON, 12 of 15"
    assert (most_often({"no JSON": 3}), most_often({NOT_TOLD: 3}), most_often({})) == (
        "reason: no JSON",
        NOT_TOLD,
        "",
    )
    assert "raise max_tokens of the judge" in mend_of({"refused": 2, "cut at max_tokens": 3})
    assert "--free-text" in mend_of({"no JSON": 1}) and "--free-text" in mend_of({"too few of a panel: no JSON": 1})
    assert "timeout_s" in mend_of({"call failed: timeout": 1})
    assert mend_of({"call failed: status 500": 1}).startswith("run the same command again")
    assert "--judge" in mend_of({"names no score": 1}) and "--judge" in mend_of({"refused": 1})
    assert mend_of({NOT_TOLD: 3}) == mend_of({}) == ""


def test_turns_that_were_not_played_are_mended_by_what_changes_them() -> None:
    said = mend_of({NOT_PLAYED: 3})
    # What was answered comes from the journal again.
    assert "run the same command again" not in said and "only for what a server did not answer" in said
    assert all(word in said for word in ("eval/MODEL/verdicts.jsonl", "--max-tokens", "--user", "--out"))
    judged_anew = row(failure="gone", why=NEVER_PLAYED)
    assert reasons_of([judged_anew], 1) == {NEVER_PLAYED: 1} and mend_of({NEVER_PLAYED: 1}) == ""


@pytest.mark.parametrize(
    ("cuts", "found"),
    [
        ([], None),
        ([None, None], None),
        ([0, 0, None], CutReplies(share=0)),
        ([0, 400, None, 400, 90], CutReplies(share=0.75, tokens=400)),
    ],
)
def test_replies_that_were_cut_are_counted_where_it_is_known(cuts: list[int | None], found: CutReplies | None) -> None:
    assert cut_replies([row(turn, cut_at=cut) for turn, cut in enumerate(cuts, 1)]) == found


def test_above_a_twentieth_there_is_a_warning() -> None:
    assert cut_warning("tuned", None) is None
    assert cut_warning("tuned", CutReplies(share=0.05, tokens=400)) is None
    said = cut_warning("tuned", CutReplies(share=0.12, tokens=400))
    assert said is not None and said.startswith("12% of the replies of tuned were cut at 400 tokens")
    assert "--max-tokens" in said


def test_rows_of_an_earlier_version_tell_nothing_of_either() -> None:
    old = {name: value for name, value in row().model_dump().items() if name not in ("missing", "cut_at")}
    read = TurnRow.model_validate(old)
    assert (read.missing, read.cut_at) == ({}, None)
