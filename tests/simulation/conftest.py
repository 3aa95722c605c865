from __future__ import annotations

import sys
from collections.abc import Callable

import pytest

from interalign.cli import main
from interalign.run import RunFolder


@pytest.fixture
def simulate(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str]]:
    """Run `interalign simulate` in this process; gives its exit code and all it printed."""

    def once(folder: RunFolder, *options: str) -> tuple[int, str]:
        monkeypatch.setattr(sys, "argv", ["interalign", "simulate", "--out", str(folder.root), *options])
        monkeypatch.setenv("COLUMNS", "200")
        with pytest.raises(SystemExit) as end:
            main()
        captured = capsys.readouterr()
        code = end.value.code
        return (code if isinstance(code, int) else int(code is not None)), captured.out + captured.err

    return once
