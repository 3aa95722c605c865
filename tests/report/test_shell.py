from __future__ import annotations

import re
from typing import Any

import pytest
from jinja2 import UndefinedError

from interalign.report.shell import fill, policy


def filled(**shown: Any) -> str:
    facts = {"title": "T", "facts": {}, "headline": (), "kinds": [], "all_rejected": 0} | shown
    return fill("pool.html.jinja", styles=["page.css", "pool.css"], scripts=["pool.js"], data={"kinds": []}, **facts)


def summary(**values: Any) -> dict[str, Any]:
    return {"calls": 0, "scripted": False, "encoder": "", "per_profile": "", "per_personality": ""} | values


def test_what_pages_share_runs_before_their_own_script_and_under_one_strict_head() -> None:
    page = filled(summary=summary(contradictions=0), span=str)
    script = re.findall(r"<script>(.*?)</script>", page, flags=re.DOTALL)[-1]
    assert script.startswith('"use strict";')
    assert script.index("function element(") < script.index("function drawGrowth(")


def test_styles_stand_in_the_given_order() -> None:
    page = filled(summary=summary(contradictions=0), span=str)
    assert page.index("--paper: #faf9f6") < page.index("--level-0: #0b7a75")


def test_a_name_that_nobody_gave_is_refused() -> None:
    with pytest.raises(UndefinedError, match="span"):
        filled(summary=summary(contradictions=0))


def test_a_policy_without_scripts_runs_none() -> None:
    assert policy([]).startswith("default-src 'none'; script-src ;")
    assert policy(["1"]) != policy(["2"])
