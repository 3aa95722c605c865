from __future__ import annotations

import pytest

from interalign.cli.usage import show_usage
from interalign.llm.account import RoleUsage


def row(usd: float | None) -> RoleUsage:
    return RoleUsage(role="judge", model="m", calls=2, prompt_tokens=30, cached_tokens=0, completion_tokens=4, usd=usd)


@pytest.mark.parametrize(("usd", "told"), [(None, True), (0.0, False), (0.5, False)])
def test_an_unknown_price_is_told_with_how_to_mend_it(
    usd: float | None, told: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    show_usage("", [row(usd)], ("judge",))
    said = capsys.readouterr()
    assert ("--prices FILE" in said.err) == told == ("unknown" in said.out)
