"""Commands of `interalign`, run in this process: a process of its own costs a second, and far more with torch."""

from __future__ import annotations

import sys
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from io import StringIO
from pathlib import Path

import pytest

from interalign.cli import main
from interalign.cli.console import err, out

__all__ = ["Done", "interalign"]


@dataclass(frozen=True)
class Done:
    """What a command came to."""

    returncode: int
    stdout: str
    stderr: str

    @property
    def said(self) -> str:
        """All that was printed."""
        return self.stdout + self.stderr


def interalign(*words: str | Path, width: int = 200) -> Done:
    """Run `interalign` with these words, as if they were typed in a terminal of so many columns."""
    printed, told = StringIO(), StringIO()
    with pytest.MonkeyPatch.context() as patched, redirect_stdout(printed), redirect_stderr(told):
        patched.setattr(sys, "argv", ["interalign", *map(str, words)])
        for console in (out, err):
            # The variable COLUMNS is read when a console is made, which another test may have done.
            patched.setattr(console, "_width", width)
        with pytest.raises(SystemExit) as end:
            main()
    code = end.value.code
    return Done(code if isinstance(code, int) else int(code is not None), printed.getvalue(), told.getvalue())
