from __future__ import annotations

import pytest

from interalign.evaluation.notation import UNDEFINED, p_in_words, p_value


@pytest.mark.parametrize(
    ("value", "shown", "told"),
    [
        (None, UNDEFINED, "p not known"),
        (0.0, "<0.001", "p <0.001"),
        (0.0002, "<0.001", "p <0.001"),
        (0.001, "0.001", "p = 0.001"),
        (0.0204, "0.020", "p = 0.020"),
        (1.0, "1.000", "p = 1.000"),
    ],
)
def test_a_p_value_is_never_zero(value: float | None, shown: str, told: str) -> None:
    assert (p_value(value), p_in_words(value)) == (shown, told)
